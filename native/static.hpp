// The chunks of a static array into a matrix: docs/format.md, "Order of symbols". Each thread decodes the rows of one level
// at a time into a buffer of its own, and puts them where they belong while they are in the cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "bytes.hpp"
#include "crew.hpp"
#include "plan.hpp"
#include "rans.hpp"
#include "scale.hpp"

namespace attar {

constexpr size_t kChunk = size_t{1} << 19;  // symbols, about

// The rows of a chunk, or of an array of one row the columns.
struct Part {
    size_t start, stop;
    Source source;
};

// Equal parts of at most so many of `count` lines, the last one perhaps smaller.
size_t part_of(size_t count, size_t most);
// Rows of a chunk, or of an array of one row columns. Where levels stand in streams there is an even number of chunks, so that
// two threads are done together.
size_t step_of(const Shape& shape, bool streams);

// As many of some threads as its chunks are worth: to start one takes as long as half a chunk.
size_t threads_for(const Shape& shape, bool streams, size_t threads);

// The chunks of an array from their bytes; throws Malformed.
std::vector<Part> split(const Plan& plan, Source source);

// Adds place(i) to `found` for each symbols[i] that is the escape; throws Malformed where there are more than `most`.
template <class Place>
void find_escapes(const uint8_t* symbols, size_t count, size_t escape, size_t most, std::vector<int64_t>& found, Place place) {
    const uint8_t* at = symbols;
    const uint8_t* end = symbols + count;
    while ((at = static_cast<const uint8_t*>(std::memchr(at, static_cast<int>(escape), static_cast<size_t>(end - at)))) != nullptr) {
        if (found.size() == most) throw Malformed("every escape must have its value");
        found.push_back(static_cast<int64_t>(place(static_cast<size_t>(at - symbols))));
        if (++at == end) return;
    }
}

// What the whole array has: out [rows, cols] in integers of 1, 2, 4 or 8 bytes or in floats, and places[escapes], which
// become the places of the escapes in the matrix in the order of coding.
struct Places {
    int64_t* data;
    size_t size;
};

// out[row][column] = low + symbol modulo the size of its integers, of `bytes` each. Throws Malformed, also where the
// escapes are not as many as the places.
void decode_integers(const Plan& plan, Source source, void* out, size_t bytes, Places places, Crew& crew, Path path);

// out[row][column] = ((low + symbol) * column) * row, each product rounded to float32, then to the format; low lies within
// 2^30 of zero.
void decode_floats(const Plan& plan, Source source, void* out, Format format, const Scales& scales, Places places,
                   Crew& crew, Path path);

}  // namespace attar
