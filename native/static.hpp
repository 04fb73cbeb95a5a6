// The chunks of a static array into a matrix: docs/format.md, "Order of symbols". Each thread decodes the rows of one level
// at a time into a buffer of its own, and puts them where they belong while they are in the cache.
#pragma once

#include <cstddef>
#include <cstdint>

#include "plan.hpp"
#include "rans.hpp"
#include "scale.hpp"

namespace attar {

// The chunks' bytes, and what the whole array has: out [rows, cols] in integers of 1, 2, 4 or 8 bytes or in floats, and
// places[escapes], which become the places of the escapes in the matrix in the order of coding.
struct Source {
    const uint8_t* data;
    size_t size;
};

struct Places {
    int64_t* data;
    size_t size;
};

// out[row][column] = low + symbol modulo the size of its integers, of `bytes` each. Throws Malformed, also where the
// escapes are not as many as the places.
void decode_integers(const Plan& plan, Source source, void* out, size_t bytes, Places places, size_t threads, Path path);

// out[row][column] = ((low + symbol) * column) * row, each product rounded to float32, then to the format; low lies within
// 2^30 of zero.
void decode_floats(const Plan& plan, Source source, void* out, Format format, const Scales& scales, Places places,
                   size_t threads, Path path);

}  // namespace attar
