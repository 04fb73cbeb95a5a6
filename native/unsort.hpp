// Symbols of the rows of one level, as they are coded span by span, back into the order of the matrix.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "permute.hpp"
#include "plan.hpp"

namespace attar {

constexpr size_t kSlack = 128;  // bytes beyond a buffer that vectors may touch

// Bytes that are not set before they are used.
class Buffer {
  public:
    uint8_t* reserve(size_t size) {
        if (size > size_) {
            size_ = 0;
            data_.reset();
            data_.reset(new uint8_t[size + kSlack]);
            size_ = size;
        }
        return data_.get();
    }

  private:
    std::unique_ptr<uint8_t[]> data_;
    size_t size_ = 0;
};

// Rows of one level as they are coded, span by span, back to the order of the matrix.
class Unsorting {
  public:
    Unsorting(const SortedLines& order, Path path)
        : straight_(std::is_sorted(order.columns.begin(), order.columns.end())), back_(ranks(order.columns), path) {}

    // Rows start .. start + count - 1 of `rows`, in one of the two.
    const Rows& apply(const std::vector<Span>& spans, const uint8_t* symbols, size_t rows, size_t start, size_t count,
                      Rows& sorted, Rows& plain) const {
        for (size_t i = 0; i < count; ++i) join(spans, symbols, rows, start + i, sorted.row(i));
        if (straight_) return sorted;
        back_.apply(sorted, plain);
        return plain;
    }

  private:
    static std::vector<uint32_t> ranks(const std::vector<uint32_t>& columns) {
        std::vector<uint32_t> rank(columns.size());
        for (size_t j = 0; j < columns.size(); ++j) rank[columns[j]] = static_cast<uint32_t>(j);
        return rank;
    }

    // Whole vectors are copied: what they write beyond a span comes before anything that belongs there.
    static void join(const std::vector<Span>& spans, const uint8_t* symbols, size_t rows, size_t i, uint8_t* to) {
        for (const Span& span : spans) {
            const uint8_t* from = symbols + i * span.width;
            for (size_t k = 0; k < span.width; k += 64) std::memcpy(to + k, from + k, 64);
            symbols += rows * span.width;
            to += span.width;
        }
    }

    bool straight_;
    Permutation back_;
};

}  // namespace attar
