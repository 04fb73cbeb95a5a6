#include "sorting.hpp"

#include <algorithm>
#include <utility>

namespace attar {

namespace {

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

Sorting::Sorting(const std::vector<uint8_t>& levels) : levels_(levels), size_(level_block(levels.size())) {
    next_.resize((levels.size() + size_ - 1) / size_);
}

template <class Act>
void Sorting::in_turn(size_t block, Act act) const {
    const size_t start = block * size_, stop = std::min(start + size_, levels_.size()), size = (stop - start) / kParts;
    for (size_t i = start; i < start + size; ++i) {
        for (size_t part = 0; part < kParts; ++part) act(part, part * size + i);
    }
    for (size_t line = start + kParts * size; line < stop; ++line) act(kParts - 1, line);
}

void Sorting::count(size_t block) {
    auto& next = next_[block];
    in_turn(block, [&](size_t part, size_t line) { ++next[part][levels_[line]]; });
}

void Sorting::share_out() {
    lines.resize(levels_.size());
    widths_.reserve(kLevels);
    first_.reserve(kLevels + 1);
    first_.push_back(0);
    uint32_t start = 0;
    for (size_t level = 0; start < levels_.size(); ++level) {
        for (auto& next : next_) {
            for (auto& part : next) start += std::exchange(part[level], start);
        }
        widths_.push_back(start - first_.back());
        first_.push_back(start);
    }
}

void Sorting::put(size_t block) {
    auto& next = next_[block];
    in_turn(block, [&](size_t part, size_t line) { lines[next[part][levels_[line]]++] = static_cast<uint32_t>(line); });
}

SortedLines sorted_lines(Sorting& rows, Sorting& columns, const std::vector<size_t>& table_of) {
    SortedLines order{std::move(rows.lines), std::move(columns.lines), rows.first(), {}};
    for (size_t level = 0; level < rows.widths().size(); ++level) order.spans.push_back(spans_of(level, columns.widths(), table_of));
    return order;
}

SortedLines sort_lines(const std::vector<uint8_t>& rows, const std::vector<uint8_t>& cols, const std::vector<size_t>& table_of) {
    Sorting by_row(rows), by_column(cols);
    for (Sorting* side : {&by_row, &by_column}) {
        for (size_t block = 0; block < side->blocks(); ++block) side->count(block);
        side->share_out();
        for (size_t block = 0; block < side->blocks(); ++block) side->put(block);
    }
    return sorted_lines(by_row, by_column, table_of);
}

}  // namespace attar
