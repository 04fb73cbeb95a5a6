#include "plan.hpp"

#include <algorithm>
#include <array>

#include "level_code.hpp"
#include "read_tables.hpp"

namespace attar {

namespace {

constexpr uint64_t kWidest = 255;
constexpr int kModels = 3, kKinds = 5;

Alphabet read_alphabet(SideDecoder& coder) {
    const SideDecoder::Signed low = coder.integer(kLowKey, {false, 0}, uint64_t{1} << 63);
    const size_t width = 1 + static_cast<size_t>(coder.natural(kWidthKey, 0, kWidest - 1));
    return {low.negative ? 0 - low.size : low.size, width, coder.bits(1) != 0};
}

std::vector<uint8_t> read_levels(SideDecoder& coder, size_t count) {
    const int64_t centre = static_cast<int64_t>(coder.natural(kCentreKey, 0, kHighestLevel));
    const int model = static_cast<int>(coder.bits(2));
    if (model >= kModels) throw Malformed("the level model must be 0, 1 or 2");
    std::vector<int16_t> differences(count);
    coder.run(kValueKey, model, differences.data(), count, 2 * kHighestLevel);
    const auto [lowest, highest] = std::minmax_element(differences.begin(), differences.end());
    if (centre + *lowest < 0 || centre + *highest > kHighestLevel) throw Malformed("a level must be 0 to 28");
    std::vector<uint8_t> levels(count);
    for (size_t i = 0; i < count; ++i) levels[i] = static_cast<uint8_t>(centre + differences[i]);
    return levels;
}

std::vector<uint8_t> read_streams(SideDecoder& coder, Reader& reader, size_t count) {
    std::vector<uint8_t> levels(count);
    for (const LevelBlock& block : level_blocks(levels)) {
        LevelModel model;
        describe(coder, model);
        decode_levels(model, reader, block);
    }
    return levels;
}

// The table of each class: contiguous ranges, until no class is left.
std::vector<size_t> read_ranges(SideDecoder& coder, size_t classes) {
    std::vector<size_t> table_of;
    size_t tables = 0;
    for (; table_of.size() < classes; ++tables) {
        const uint64_t most = classes - table_of.size() - 1;
        table_of.insert(table_of.end(), 1 + static_cast<size_t>(coder.natural(kClassesKey, 0, most)), tables);
    }
    if (tables > kMaxTables) throw Malformed("there must be 1 to 64 tables");
    return table_of;
}

DecodeTables read_all_tables(SideDecoder& coder, const Alphabet& alphabet, size_t count, bool entries) {
    const int size = static_cast<int>(alphabet.width + alphabet.escape), width = static_cast<int>(alphabet.width);
    const int64_t mode = width / 2 + coder.number(kModeKey, 0, 256);
    const int kind = static_cast<int>(coder.bits(3));
    if (mode < 0 || mode >= width || kind >= kKinds) throw Malformed("the mode must be a symbol and the kind 0 to 4");
    std::vector<uint16_t> frequencies(count * static_cast<size_t>(size));
    read_tables(coder, count, {size, static_cast<int>(mode), alphabet.escape, kind}, frequencies.data());
    return DecodeTables({frequencies.data(), count, static_cast<size_t>(size)}, entries);
}

size_t highest(const std::vector<uint8_t>& levels) {
    // In vectors, which std::max_element does without.
    uint8_t most = 0;
    for (uint8_t level : levels) most = std::max(most, level);
    return most;
}

// Lines by level, in four parts that are counted and put in turn: a count that goes up again and again waits for itself.
class Sorting {
  public:
    explicit Sorting(const std::vector<uint8_t>& levels) : levels_(levels), widths_(highest(levels) + 1), first_(widths_.size() + 1) {
        in_turn([&](size_t part, size_t line) { ++next_[part][levels_[line]]; });
        uint32_t start = 0;
        for (size_t level = 0; level < widths_.size(); ++level) {
            for (auto& next : next_) {
                const uint32_t count = next[level];
                next[level] = start;
                start += count;
            }
            first_[level + 1] = start;
            widths_[level] = start - first_[level];
        }
    }

    // How many lines have each level.
    const std::vector<size_t>& widths() const { return widths_; }
    // Where each level begins among the sorted lines, and where the last one ends.
    const std::vector<size_t>& first() const { return first_; }
    // Once.
    std::vector<uint32_t> lines() {
        std::vector<uint32_t> lines(levels_.size());
        in_turn([&](size_t part, size_t line) { lines[next_[part][levels_[line]]++] = static_cast<uint32_t>(line); });
        return lines;
    }

  private:
    static constexpr size_t kParts = 4;
    template <class Act>
    void in_turn(Act act) {
        const size_t size = levels_.size() / kParts;
        for (size_t i = 0; i < size; ++i) {
            for (size_t part = 0; part < kParts; ++part) act(part, part * size + i);
        }
        for (size_t line = kParts * size; line < levels_.size(); ++line) act(kParts - 1, line);
    }

    const std::vector<uint8_t>& levels_;
    std::vector<size_t> widths_, first_;
    std::array<std::array<uint32_t, kLevels>, kParts> next_{};
};

std::vector<Span> spans_of(size_t level, const std::vector<size_t>& widths, const std::vector<size_t>& table_of) {
    std::vector<Span> spans;
    for (size_t other = 0; other < widths.size(); ++other) {
        if (widths[other] == 0) continue;
        const size_t table = table_of[level != 0 && other != 0 ? level + other : 0];
        if (!spans.empty() && spans.back().table == table) spans.back().width += widths[other];
        else spans.push_back({widths[other], table});
    }
    return spans;
}

}  // namespace

SortedLines sort_lines(const std::vector<uint8_t>& rows, const std::vector<uint8_t>& cols, const std::vector<size_t>& table_of) {
    Sorting by_row(rows), by_column(cols);
    SortedLines order;
    order.rows = by_row.lines();
    order.columns = by_column.lines();
    order.first = by_row.first();
    for (size_t level = 0; level < by_row.widths().size(); ++level) order.spans.push_back(spans_of(level, by_column.widths(), table_of));
    return order;
}

Plan read_plan(Source side, Shape shape, Sides sides, bool entries) {
    Reader reader(side);
    const Source text = sides.streams ? reader.sized() : reader.rest();
    SideDecoder coder(text.data, text.size);
    const Alphabet alphabet = read_alphabet(coder);
    // One row may be long, and is not sorted: its levels are read to be thrown away.
    const bool line = shape.rows == 1;
    const auto levels = [&](bool used, size_t count, size_t flat) {
        if (!used) return std::vector<uint8_t>(flat, 1);
        return sides.streams ? read_streams(coder, reader, count) : read_levels(coder, count);
    };
    const std::vector<uint8_t> rows = levels(sides.row, shape.rows, shape.rows);
    const std::vector<uint8_t> cols = levels(sides.column, shape.cols, line ? 1 : shape.cols);
    const size_t classes = highest(rows) + highest(cols) + 1;
    const std::vector<size_t> table_of = sides.any() ? read_ranges(coder, classes) : std::vector<size_t>(classes, 0);
    DecodeTables tables = read_all_tables(coder, alphabet, table_of.back() + 1, entries);
    coder.finish();
    reader.finish();
    return {alphabet, shape, sides.streams, line ? SortedLines{} : sort_lines(rows, cols, table_of), std::move(tables)};
}

}  // namespace attar
