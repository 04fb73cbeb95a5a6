// Bytes one by one under mixed contexts, each a choice of earlier bytes; the twin is attar/sets/mixed_twin.py.
//
// Text is one column, whose contexts are the last one, two, three .. bytes; a table of codes has as many columns as codes in
// a row, and contexts are other codes of the row or of the row before. Bits are mixed as in native/mixing.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "rans.hpp"

namespace attar {

constexpr size_t kReach = 6;           // bytes that a context looks at, at most
constexpr size_t kMixedMost = 1 << 24; // bytes of a call, at most
constexpr size_t kColumnsMost = 4096;  // columns, each of which has a thousand mixtures
constexpr int32_t kWord = -1;          // a distance that stands for the letters since the last other byte

// limit, 1 to 1023: uses that a counter remembers, fewer where symbols change their ways; bits[columns], 1 to 8: of a
// symbol; distances[columns][kContexts][kReach] back in the symbols, 0 for none, or kWord.
struct MixedPlan {
    size_t columns;
    uint32_t limit;
    const uint8_t* bits;
    const int32_t* distances;
};

// The bytes of symbols[n], where symbol i is of column i mod columns; throws Malformed where one has more bits.
std::vector<uint8_t> mixed_encode(const MixedPlan& plan, const uint8_t* symbols, size_t n);

// Fills symbols[n]; throws Malformed where the bytes are not those of so many symbols.
void mixed_decode(const MixedPlan& plan, const uint8_t* data, size_t size, uint8_t* symbols, size_t n);

}  // namespace attar
