// Static rANS (Duda 2013) over interleaved lanes: 32-bit states, 16-bit renormalisation, 12-bit probabilities.
//
// Symbol i belongs to lane i % lanes and is coded with table contexts[i] (table 0 where there are no contexts).
// With several lanes every state starts at 2^16, and the bytes are all final states (4 bytes each), then the words in
// the order in which the decoder reads them. With one lane the state starts at 0 and is written in as few bytes as it
// takes (3 or 4 where words follow, told apart by the parity of the length): nothing is lost on tiny arrays.
// The decoder ends where the encoder began, in the state and in the words, or the bytes are refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace attar {

constexpr uint32_t kBits = 12;
constexpr uint32_t kTotal = 1u << kBits;
constexpr uint32_t kLow = 1u << 16;
constexpr size_t kMaxLanes = 32;
constexpr size_t kMaxTables = 64;

// Bytes or arguments that cannot be right; a ValueError in Python.
struct Malformed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// frequencies[tables][alphabet], each row summing to kTotal; zero means that the symbol does not occur.
struct Frequencies {
    const uint16_t* data;
    size_t tables;
    size_t alphabet;
};

// The symbols' tables; data is null where all symbols use table 0.
struct Contexts {
    const uint8_t* data;
    size_t size;
};

enum class Path { scalar, avx2 };

bool avx2_supported();

// Where decoding stands: states, the next word, and the next symbol to write.
struct Cursor {
    uint32_t state[kMaxLanes];
    const uint8_t* word;
    const uint8_t* end;
    size_t position;
};

std::vector<uint8_t> encode(const uint8_t* symbols, size_t count, Contexts contexts, Frequencies frequencies,
                            size_t lanes);

void decode(const uint8_t* data, size_t size, uint8_t* symbols, size_t count, Contexts contexts,
            Frequencies frequencies, size_t lanes, Path path);

// Decodes whole steps of `lanes` (a multiple of 8) symbols while 16 bytes per vector can be read; leaves the rest.
void decode_avx2(const uint32_t* table, const uint8_t* contexts, uint8_t* symbols, size_t count, size_t lanes,
                 Cursor& cursor);

// out[i] = table_of[clip(rows[r] + cols[c], 0, size - 1)] for the positions start + i = r * columns + c.
void fill_contexts(uint8_t* out, size_t count, size_t start, const int16_t* rows, size_t row_count,
                   const int16_t* cols, size_t column_count, const uint8_t* table_of, size_t size);

}  // namespace attar
