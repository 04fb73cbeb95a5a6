// The same permutation of the bytes of many rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "rans.hpp"

namespace attar {

constexpr size_t kRowsAtOnce = 8;

// Rows [kRowsAtOnce, stride] of bytes in whole cache lines, with room behind `width` of them for what vectors touch.
class Rows {
  public:
    explicit Rows(size_t width)
        : width_(width), stride_((width + 127) / 128 * 128 + 64), held_(new Line[kRowsAtOnce * stride_ / sizeof(Line)]),
          columns_(stride_) {}
    uint8_t* row(size_t i) { return reinterpret_cast<uint8_t*>(held_.get()) + i * stride_; }
    const uint8_t* row(size_t i) const { return reinterpret_cast<const uint8_t*>(held_.get()) + i * stride_; }
    // Room for the bytes of all rows, column by column.
    uint64_t* columns() { return columns_.data(); }
    size_t width() const { return width_; }
    size_t stride() const { return stride_; }

  private:
    struct alignas(64) Line {
        uint8_t bytes[64];
    };
    size_t width_, stride_;
    std::unique_ptr<Line[]> held_;
    std::vector<uint64_t> columns_;
};

// Sorted rows start .. start + count - 1 of `rows`, from where they are coded span by span: widths[spans]. What lies beyond
// a row's last span is of any value.
void join_spans(const size_t* widths, size_t spans, const uint8_t* symbols, size_t rows, size_t start, size_t count,
                Rows& sorted, Path path);

// to[i] = from[index[i]] for a fixed index, a permutation: on processors with AVX-512 VBMI by vector permutations, whose
// cost grows with the square of the width, so only up to kWidest columns; else by moving the eight bytes of a column.
class Permutation {
  public:
    Permutation(std::vector<uint32_t> index, Path path);
    // All rows, those that are of no use too.
    void apply(const Rows& from, Rows& to) const;
    // The rows of as many bytes as the index that `from` points to, kRowsAtOnce of them; nothing beyond them is read.
    void apply(const uint8_t* const* from, Rows& to) const;
    // Whether `put` and rows by their addresses may be asked for.
    bool direct() const { return pairs_ != 0; }
    // The first rows, `add` added to their bytes, to where to[row] says.
    void put(const Rows& from, uint8_t add, uint8_t* const* to, size_t rows) const;

  private:
    std::vector<uint32_t> index_;
    size_t count_;
    std::vector<uint8_t> low_;    // index modulo 128, 64 a vector
    std::vector<uint64_t> pair_;  // [vectors][pairs]: which of the 64 lie in each 128 bytes of `from`
    size_t pairs_ = 0;
};

}  // namespace attar
