// How often each bucket of magnitudes occurs in each line of a matrix, by vectors across the lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bins.hpp"
#include "counts.hpp"
#include "pages.hpp"
#include "rans.hpp"

namespace attar {

constexpr size_t kBucketCount = kBins;

// Buckets of the magnitudes |symbol - zero|: columns side by side in tiles of 64, lines down: [tiles][lines][kTile]. What
// lies beyond the columns is any number.
struct Grid {
    size_t lines = 0;
    size_t tiles = 0;
    size_t buckets = 0;  // in use, and one more where they are odd
    Kept<uint8_t> bytes;
    uint8_t* tile(size_t t) { return bytes.data.data() + t * lines * kTile; }
    const uint8_t* tile(size_t t) const { return bytes.data.data() + t * lines * kTile; }
};

struct Magnitudes {
    std::vector<uint64_t> by_row, by_column;
};

// Fills `turned` with every step-th column of symbols below `size` as a line, and `straight`, where there is one, with every
// straight_step-th row. The sums of the magnitudes.
Magnitudes fill_grids(SymbolMatrix symbols, int zero, int size, size_t step, Grid& turned, size_t straight_step, Grid* straight,
                      Path path);

// counts[buckets][kTile] = how often each bucket occurs in each column of a tile in some of its lines, 2^15 - 1 at most.
void tally(const Grid& grid, size_t tile, const std::vector<uint32_t>& lines, int16_t* counts, Path path);
// The same less and more than there was.
void tally_moved(const Grid& grid, size_t tile, const std::vector<uint32_t>& left, const std::vector<uint32_t>& came,
                 int16_t* counts, Path path);

}  // namespace attar
