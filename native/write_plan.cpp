// The side information of a plan, as plan.cpp reads it.
#include <algorithm>
#include <array>

#include "choose_plan.hpp"
#include "side.hpp"

namespace attar {

namespace {

constexpr uint64_t kWidest = 255;
constexpr int64_t kHighest = 28;  // level
constexpr int kModels = 3;

// The model that takes the fewest bytes for numbers -2 kHighest .. 2 kHighest.
int shortest_model(const std::vector<int16_t>& values) {
    std::array<size_t, kModels> sizes{};
    for (int model = 0; model < kModels; ++model) {
        SideEncoder coder;
        std::vector<int16_t> copy = values;
        coder.bits(2, static_cast<uint64_t>(model));
        coder.run(kValueKey, model, copy.data(), copy.size(), 2 * kHighest);
        sizes[static_cast<size_t>(model)] = coder.finish().size();
    }
    return static_cast<int>(std::min_element(sizes.begin(), sizes.end()) - sizes.begin());
}

void write_levels(SideEncoder& coder, const std::vector<uint8_t>& levels) {
    std::array<size_t, kHighest + 1> counts{};
    for (uint8_t level : levels) ++counts[level];
    const auto centre = std::max_element(counts.begin(), counts.end()) - counts.begin();
    coder.natural(kCentreKey, static_cast<uint64_t>(centre), kHighest);
    std::vector<int16_t> values;
    for (uint8_t level : levels) values.push_back(static_cast<int16_t>(level - centre));
    const int model = shortest_model(values);
    coder.bits(2, static_cast<uint64_t>(model));
    coder.run(kValueKey, model, values.data(), values.size(), 2 * kHighest);
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

}  // namespace

std::vector<uint8_t> write_plan(const Chosen& plan) {
    SideEncoder coder;
    const bool negative = static_cast<int64_t>(plan.alphabet.low) < 0;
    coder.integer(kLowKey, {negative, negative ? 0 - plan.alphabet.low : plan.alphabet.low}, uint64_t{1} << 63);
    coder.natural(kWidthKey, plan.alphabet.width - 1, kWidest - 1);
    coder.bits(1, plan.alphabet.escape);
    if (plan.by_row) write_levels(coder, plan.levels.rows);
    if (plan.by_column) write_levels(coder, plan.levels.cols);
    if (plan.by_row || plan.by_column) write_ranges(coder, plan.table_of);
    coder.number(kModeKey, plan.form.mode - static_cast<int64_t>(plan.alphabet.width / 2), 256);
    coder.bits(3, static_cast<uint64_t>(plan.form.kind));
    write_tables(coder, plan.form, plan.fit.specs.data(), plan.table_of.back() + 1, plan.fit.width);
    return coder.finish();
}

}  // namespace attar
