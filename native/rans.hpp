// Static rANS (Duda 2013) over interleaved lanes: 32-bit states, 16-bit renormalisation, 12-bit probabilities.
//
// Symbols come in runs of one table each. With one lane the state starts at 0 and is written in as few bytes as it takes
// (3 or 4 where words follow, told apart by the parity of the length): nothing is lost on tiny arrays. With 32, 64
// or 128 lanes every state starts at 2^16 + 16 bits of a one-lane stream that holds the chunk's last symbols, so that lanes
// cost one byte each and not three. docs/format.md gives the order of lanes and words.
// The decoder ends where the encoder began, in the states and in the words, or the bytes are refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tables.hpp"

namespace attar {

constexpr uint32_t kLow = 1u << 16;
constexpr size_t kMaxLanes = 128;

// runs[size][3]: rows, width and table of rows * width symbols.
struct Runs {
    const int32_t* data;
    size_t size;
};

enum class Path { scalar, avx2, avx512, neon };

// The best path of this processor that is no better than the wished one.
Path available(Path wish);

// Where decoding stands: states by lane, and the next word.
struct Cursor {
    alignas(64) uint32_t state[kMaxLanes];
    const uint8_t* word;
    const uint8_t* end;
};

// `lanes` is 1, 32, 64 or 128; what does not need them is written with one.
std::vector<uint8_t> encode(const uint8_t* symbols, size_t count, Runs runs, const EncodeTables& tables, size_t lanes,
                            Path path);

void decode(const uint8_t* data, size_t size, uint8_t* symbols, size_t count, Runs runs, const DecodeTables& tables,
            Path path);

// Decode steps of `lanes` (32, 64 or 128) symbols while words are plentiful; the number of symbols done, a multiple of lanes
// or, where a path can, all of them.
size_t decode_avx512(const Alias& alias, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor);
size_t decode_avx2(const uint32_t* entries, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor);
size_t decode_neon(const uint32_t* entries, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor);

// Encodes `count` symbols, a multiple of lanes (32, 64 or 128), with one table, the last first; words go before `first`.
// Not zero where a symbol is missing from the table.
uint32_t encode_avx512(const EncodeTables& tables, size_t table, const uint8_t* symbols, size_t count, size_t lanes,
                       uint32_t* state, uint16_t*& first);

}  // namespace attar
