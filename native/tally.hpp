// How often each bucket of magnitudes occurs in each line of a matrix, by vectors down the lines.
#pragma once

#include <cstddef>
#include <cstdint>

#include "counts.hpp"
#include "pages.hpp"
#include "rans.hpp"

namespace attar {

constexpr size_t kBucketCount = 16;

// Buckets of the magnitudes |symbol - zero|, lines down and columns beside each other: [lines][stride]. What lies beyond
// the columns is any number.
struct Grid {
    size_t lines = 0;
    size_t stride = 0;
    size_t buckets = 0;  // in use
    Kept<uint8_t> bytes;
    const uint8_t* line(size_t i) const { return bytes.data.data() + i * stride; }
};

// Fills a grid with every step-th row of symbols below `size`, or with every step-th column as a line of its own.
void rows_of(SymbolMatrix symbols, int zero, int size, size_t step, Path path, Grid& grid);
void columns_of(SymbolMatrix symbols, int zero, int size, size_t step, Path path, Grid& grid);

// counts[column][levels][kBucketCount] += how often each bucket occurs in a column of the grid, of `columns`, in lines of
// each level; level[lines] < levels, and no column has more than 2^15 - 1 lines.
void tally(const Grid& grid, const uint8_t* level, size_t levels, size_t columns, int16_t* counts, Path path);

}  // namespace attar
