// The choice of row and column levels for the shortest code: attar/coding/fit_levels.py in C++.
#pragma once

#include <cstddef>
#include <cstdint>

#include "counts.hpp"
#include "rans.hpp"

namespace attar {

// What the levels are fitted to: symbols below `size`, and the one of the smallest magnitude.
struct LevelTask {
    SymbolMatrix symbols;
    int zero;
    int size;
    bool by_row;
    bool by_column;
    int rounds;
    Path path;
};

// Bits of the buckets' code in 1/2^16 without levels, with the row levels alone, the column levels alone, and both.
struct LevelBits {
    int64_t none, row, column, both;
};

// Fills rows [symbols.rows] and cols [symbols.cols] with levels 0 .. 28; ones on a side without.
LevelBits fit_levels(const LevelTask& task, uint8_t* rows, uint8_t* cols);

}  // namespace attar
