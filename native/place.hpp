// From a chunk's order of symbols to a matrix and back: docs/format.md, "Order of symbols".
#pragma once

#include <cstddef>
#include <cstdint>

#include <vector>

#include "rans.hpp"
#include "target.hpp"

namespace attar {

// Which sorted rows a chunk holds, where the sorted columns belong, and the runs of the chunk. rows [row_count] and
// columns [width] are indices into a matrix [height, width]; the runs of a group of rows add up to all columns.
struct Order {
    const int32_t* rows;
    size_t row_count;
    const int32_t* columns;
    size_t width;
    size_t height;
    Runs runs;
};

// to[i] = from[index[i]] for a fixed index below `count`, again and again: on processors with AVX-512 VBMI by vector
// permutations, whose cost grows with the square of the width, so only up to kWidest columns.
class Permutation {
  public:
    explicit Permutation(std::vector<uint32_t> index, Path path);
    // `from` must be readable, and `to` writable, up to the next multiple of 128 bytes.
    void apply(const uint8_t* from, uint8_t* to) const;

  private:
    std::vector<uint32_t> index_;
    std::vector<uint8_t> low_;    // index modulo 128, 64 a vector
    std::vector<uint64_t> pair_;  // [vectors][pairs]: which of the 64 lie in each 128 bytes of `from`
    size_t pairs_ = 0;
};

constexpr size_t kWidest = 4096;

bool permutes(Path path);
void permute_vectors(const uint8_t* low, const uint64_t* pair, size_t vectors, size_t pairs, const uint8_t* from, uint8_t* to);

// Symbols of source [height, width] in the chunk's order.
void collect(const uint8_t* source, const Order& order, uint8_t* symbols, Path path);

// out[row][column] = low + symbol, modulo the size of T; rows of other chunks are left alone.
template <class T>
void place(const uint8_t* symbols, const Order& order, int64_t low, T* out, Path path);

enum class Format { float32, float16, bfloat16 };

// column [groups, width]: row r of the matrix uses line r / (height / groups); row [height].
struct Scales {
    const float* column;
    size_t groups;
    const float* row;
};

// out[r][c] = ((low + symbol) * column) * row, each product rounded to float32, then to the format.
void place_scaled(const uint8_t* symbols, const Order& order, int32_t low, const Scales& scales, Format format, void* out,
                  Path path);

// count numbers as ((low + symbol) * column) * row in a format; see place_scaled.
void scale(const uint8_t* symbols, size_t count, int32_t low, const float* column, float row, Format format, void* out,
           Path path);

}  // namespace attar
