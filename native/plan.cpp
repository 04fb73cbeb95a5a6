#include "plan.hpp"

#include <algorithm>
#include <numeric>

#include "read_tables.hpp"

namespace attar {

namespace {

constexpr uint64_t kWidest = 255;
constexpr int64_t kHighest = 28;  // level
constexpr int kModels = 3, kKinds = 5;

Alphabet read_alphabet(SideDecoder& coder) {
    const SideDecoder::Signed low = coder.integer(kLowKey, {false, 0}, uint64_t{1} << 63);
    const size_t width = 1 + static_cast<size_t>(coder.natural(kWidthKey, 0, kWidest - 1));
    return {low.negative ? 0 - low.size : low.size, width, coder.bits(1) != 0};
}

std::vector<uint8_t> read_levels(SideDecoder& coder, size_t count) {
    const int64_t centre = static_cast<int64_t>(coder.natural(kCentreKey, 0, kHighest));
    const int model = static_cast<int>(coder.bits(2));
    if (model >= kModels) throw Malformed("the level model must be 0, 1 or 2");
    std::vector<int16_t> differences(count);
    coder.run(kValueKey, model, differences.data(), count, 2 * kHighest);
    const auto [lowest, highest] = std::minmax_element(differences.begin(), differences.end());
    if (centre + *lowest < 0 || centre + *highest > kHighest) throw Malformed("a level must be 0 to 28");
    std::vector<uint8_t> levels(count);
    for (size_t i = 0; i < count; ++i) levels[i] = static_cast<uint8_t>(centre + differences[i]);
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

size_t highest(const std::vector<uint8_t>& levels) { return *std::max_element(levels.begin(), levels.end()); }

// How many lines have each level.
std::vector<size_t> counted(const std::vector<uint8_t>& levels) {
    std::vector<size_t> count(highest(levels) + 1);
    for (uint8_t level : levels) ++count[level];
    return count;
}

// Where each level begins among the sorted lines, and where the last one ends.
std::vector<size_t> starts(const std::vector<size_t>& count) {
    std::vector<size_t> first(count.size() + 1);
    std::partial_sum(count.begin(), count.end(), first.begin() + 1);
    return first;
}

std::vector<uint32_t> sorted(const std::vector<uint8_t>& levels, std::vector<size_t> next) {
    std::vector<uint32_t> lines(levels.size());
    for (size_t i = 0; i < levels.size(); ++i) lines[next[levels[i]]++] = static_cast<uint32_t>(i);
    return lines;
}

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
    const std::vector<size_t> widths = counted(cols);
    SortedLines order;
    order.first = starts(counted(rows));
    order.rows = sorted(rows, order.first);
    order.columns = sorted(cols, starts(widths));
    for (size_t level = 0; level + 1 < order.first.size(); ++level) order.spans.push_back(spans_of(level, widths, table_of));
    return order;
}

Plan read_plan(const uint8_t* side, size_t size, Shape shape, bool by_row, bool by_column, bool entries) {
    SideDecoder coder(side, size);
    const Alphabet alphabet = read_alphabet(coder);
    // One row may be long, and is not sorted: its levels are read to be thrown away.
    const bool line = shape.rows == 1;
    const std::vector<uint8_t> rows = by_row ? read_levels(coder, shape.rows) : std::vector<uint8_t>(shape.rows, 1);
    const std::vector<uint8_t> cols = by_column ? read_levels(coder, shape.cols) : std::vector<uint8_t>(line ? 1 : shape.cols, 1);
    const size_t classes = highest(rows) + highest(cols) + 1;
    const std::vector<size_t> table_of = by_row || by_column ? read_ranges(coder, classes) : std::vector<size_t>(classes, 0);
    DecodeTables tables = read_all_tables(coder, alphabet, table_of.back() + 1, entries);
    coder.finish();
    return {alphabet, shape, line ? SortedLines{} : sort_lines(rows, cols, table_of), std::move(tables)};
}

}  // namespace attar
