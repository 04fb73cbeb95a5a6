// A static array's side information and chunks: attar/coding/static.py in C++.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "choose_plan.hpp"
#include "counts.hpp"

namespace attar {

// The bits of the symbols' code in 1/2^16 are an estimate. places are those of the escapes in the matrix, in the order of
// coding.
struct StaticCode {
    bool by_row, by_column;
    int64_t bits;
    std::vector<uint8_t> side;
    std::vector<int64_t> places;
    std::vector<std::vector<uint8_t>> chunks;
};

// Symbols of an alphabet, which occur as often as counts[alphabet] says; `laned` where lanes are worth a byte each even in
// a chunk that is short. Throws Malformed where the counts are wrong.
StaticCode encode_static(SymbolMatrix symbols, const Alphabet& alphabet, const int64_t* counts, bool laned, size_t threads,
                         Path path);

}  // namespace attar
