// How often each of a few bytes occurs in each column of some lines of 64, by vectors across the lines.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rans.hpp"

namespace attar {

constexpr size_t kTile = 64;
constexpr size_t kBins = 16;
constexpr size_t kMostLines = 255;  // that are counted in a byte

using Sums = uint8_t[kBins][kTile];

// Lines of at least kTile bytes: line[i] * stride from the first byte on, `count` of them, at most kMostLines.
struct Strip {
    const uint8_t* data;
    size_t stride;
    const uint32_t* line;
    size_t count;
};

// out[b][j] = how often the byte first + b, modulo 256, occurs in column j; b < number, at most kBins. What out has beyond
// `number` is of any value.
void count_bins(const Strip& strip, uint8_t first, size_t number, Sums& out, Path path);
// The same with first = 0, where all bytes of columns that count are below kBins.
void count_buckets(const Strip& strip, size_t number, Sums& out, Path path);

// to[b][kBinLanes], together, += what bin b has in the columns whose byte of the mask [kTile] is 255, not 0.
constexpr size_t kBinLanes = 8;
void add_columns(const Sums& sums, size_t number, const uint8_t* mask, uint64_t* to, Path path);

// Where bytes lie that are none of first .. first + width - 1, modulo 256; their number.
size_t find_outside(const uint8_t* data, size_t count, uint8_t first, uint8_t width, uint32_t* places, Path path);

}  // namespace attar
