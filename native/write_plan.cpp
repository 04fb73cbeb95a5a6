// The side information of a plan, as plan.cpp reads it.
#include <algorithm>
#include <array>
#include <cstdlib>

#include "choose_plan.hpp"
#include "level_code.hpp"
#include "log2.hpp"
#include "side.hpp"

namespace attar {

namespace {

constexpr uint64_t kWidest = 255;
constexpr int kModels = 3;
// Streams may take 1 byte in so many of the code more: they are read several times as fast.
constexpr int64_t kStreaming = 1024;
// Side information with streams that is below 1 in so many is not compared, because writing levels bit by bit takes longest;
// unless more than 1 in kFar levels lie beyond all tables' reach, where the level before may say more than a stream knows.
constexpr int64_t kUnasked = 96;
constexpr size_t kFar = 8;

// The model that takes the fewest bytes for numbers -2 kHighestLevel .. 2 kHighestLevel.
int shortest_model(const std::vector<int16_t>& values) {
    std::array<size_t, kModels> sizes{};
    for (int model = 0; model < kModels; ++model) {
        SideEncoder coder;
        std::vector<int16_t> copy = values;
        coder.bits(2, static_cast<uint64_t>(model));
        coder.run(kValueKey, model, copy.data(), copy.size(), 2 * kHighestLevel);
        sizes[static_cast<size_t>(model)] = coder.finish().size();
    }
    return static_cast<int>(std::min_element(sizes.begin(), sizes.end()) - sizes.begin());
}

void write_levels(SideEncoder& coder, const std::vector<uint8_t>& levels) {
    std::array<size_t, kHighestLevel + 1> counts{};
    for (uint8_t level : levels) ++counts[level];
    const auto centre = std::max_element(counts.begin(), counts.end()) - counts.begin();
    coder.natural(kCentreKey, static_cast<uint64_t>(centre), kHighestLevel);
    std::vector<int16_t> values;
    for (uint8_t level : levels) values.push_back(static_cast<int16_t>(level - centre));
    const int model = shortest_model(values);
    coder.bits(2, static_cast<uint64_t>(model));
    coder.run(kValueKey, model, values.data(), values.size(), 2 * kHighestLevel);
}

// How many classes each table serves, in order.
void write_ranges(SideEncoder& coder, const std::vector<size_t>& table_of) {
    for (size_t start = 0; start < table_of.size();) {
        size_t stop = start;
        while (stop < table_of.size() && table_of[stop] == table_of[start]) ++stop;
        coder.natural(kClassesKey, stop - start - 1, table_of.size() - start - 1);
        start = stop;
    }
}

// Streams, which stand behind all that the coder writes, and how many levels are more than kMostReach from their centre.
struct Streams {
    std::vector<uint8_t> bytes;
    size_t far = 0;

    void write(SideEncoder& coder, std::vector<uint8_t> levels) {
        for (const LevelBlock& block : level_blocks(levels)) {
            LevelModel model = fit_level_model(block);
            describe(coder, model);
            encode_levels(model, block, bytes);
            for (size_t i = 0; i < block.count; ++i) far += std::abs(block.levels[i] - model.centre) > kMostReach;
        }
    }
};

// The side information, with levels in streams where there are such.
std::vector<uint8_t> written(const Chosen& plan, Streams* streams) {
    SideEncoder coder;
    const auto write = [&](bool used, const std::vector<uint8_t>& levels) {
        if (!used) return;
        if (streams != nullptr) streams->write(coder, levels);
        else write_levels(coder, levels);
    };
    const bool negative = static_cast<int64_t>(plan.alphabet.low) < 0;
    coder.integer(kLowKey, {negative, negative ? 0 - plan.alphabet.low : plan.alphabet.low}, uint64_t{1} << 63);
    coder.natural(kWidthKey, plan.alphabet.width - 1, kWidest - 1);
    coder.bits(1, plan.alphabet.escape);
    write(plan.sides.row, plan.levels.rows);
    write(plan.sides.column, plan.levels.cols);
    if (plan.sides.any()) write_ranges(coder, plan.table_of);
    coder.number(kModeKey, plan.form.mode - static_cast<int64_t>(plan.alphabet.width / 2), 256);
    coder.bits(3, static_cast<uint64_t>(plan.form.kind));
    write_tables(coder, plan.form, plan.fit.specs.data(), plan.table_of.back() + 1, plan.fit.width);
    std::vector<uint8_t> text = coder.finish();
    if (streams == nullptr) return text;
    std::vector<uint8_t> side;
    put_varint(side, text.size());
    side.insert(side.end(), text.begin(), text.end());
    side.insert(side.end(), streams->bytes.begin(), streams->bytes.end());
    return side;
}

}  // namespace

void write_plan(Chosen& plan) {
    const int64_t code = plan.fit.code >> (kFraction + 3);
    const auto size = [](const std::vector<uint8_t>& side) { return static_cast<int64_t>(side.size()); };
    Streams streams;
    if (plan.sides.any()) plan.side = written(plan, &streams);
    const size_t levels = (plan.sides.row ? plan.levels.rows.size() : 0) + (plan.sides.column ? plan.levels.cols.size() : 0);
    plan.sides.streams = plan.sides.any() && size(plan.side) <= code / kUnasked && kFar * streams.far <= levels;
    if (plan.sides.streams) return;
    std::vector<uint8_t> plain = written(plan, nullptr);
    plan.sides.streams = plan.sides.any() && size(plan.side) <= size(plain) + code / kStreaming;
    if (!plan.sides.streams) plan.side = std::move(plain);
}

}  // namespace attar
