// Histograms of a symbol matrix, for the choice of levels and tables: attar/coding/static.py.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rans.hpp"

namespace attar {

struct SymbolMatrix {
    const uint8_t* data;
    size_t rows;
    size_t cols;
};

// counts[byte] += how often it occurs.
void histogram(const uint8_t* symbols, size_t count, int64_t* counts, Path path);

// symbols[i] = bytes[i] - low modulo 256, at most width, which stands for all bytes outside; the number of these.
size_t window(const uint8_t* bytes, size_t count, uint8_t low, uint8_t width, uint8_t* symbols, Path path);

// out[class][alphabet] += how often each symbol occurs in each class, row + column level, or 0 where one of them is 0; the
// symbols must be below `alphabet`, or it throws Malformed. `whole` [alphabet] is how often each occurs at all, or null.
void count_classes(SymbolMatrix symbols, const uint8_t* rows, const uint8_t* cols, size_t alphabet, const int64_t* whole,
                   int64_t* out, Path path);

}  // namespace attar
