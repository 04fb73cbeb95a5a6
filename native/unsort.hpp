// Symbols of the rows of one level, as they are coded span by span, back into the order of the matrix.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "permute.hpp"
#include "plan.hpp"

namespace attar {

// Rows of one level as they are coded, span by span, back to the order of the matrix.
class Unsorting {
  public:
    Unsorting(const SortedLines& order, Path path)
        : straight_(std::is_sorted(order.columns.begin(), order.columns.end())), path_(path), back_(ranks(order.columns), path) {
        for (const std::vector<Span>& spans : order.spans) {
            widths_.emplace_back();
            for (const Span& span : spans) widths_.back().push_back(span.width);
        }
    }

    // Rows start .. start + count - 1 of the `rows` of a level, in one of the two.
    const Rows& apply(size_t level, const uint8_t* symbols, size_t rows, size_t start, size_t count, Rows& sorted,
                      Rows& plain) const {
        join_spans(widths_[level].data(), widths_[level].size(), symbols, rows, start, count, sorted, path_);
        if (straight_) return sorted;
        back_.apply(sorted, plain);
        return plain;
    }

    // Whether `put` may be called, which needs no second pass over the rows: each goes to where to[row] says, `add` added.
    bool direct() const { return !straight_ && back_.direct(); }
    void put(size_t level, const uint8_t* symbols, size_t rows, size_t start, size_t count, Rows& sorted, uint8_t add,
             uint8_t* const* to) const {
        join_spans(widths_[level].data(), widths_[level].size(), symbols, rows, start, count, sorted, path_);
        back_.put(sorted, add, to, count);
    }

  private:
    static std::vector<uint32_t> ranks(const std::vector<uint32_t>& columns) {
        std::vector<uint32_t> rank(columns.size());
        for (size_t j = 0; j < columns.size(); ++j) rank[columns[j]] = static_cast<uint32_t>(j);
        return rank;
    }

    bool straight_;
    Path path_;
    std::vector<std::vector<size_t>> widths_;  // of the spans, by level
    Permutation back_;
};

}  // namespace attar
