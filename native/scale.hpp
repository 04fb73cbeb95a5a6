// Symbols of one row into the numbers that they stand for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rans.hpp"

namespace attar {

enum class Format { float32, float16, bfloat16 };

// column [groups, width]: row r of the matrix uses line r / (height / groups); row [height].
struct Scales {
    const float* column;
    size_t groups;
    const float* row;
};

// count numbers as ((low + symbol) * column) * row in a format, each product rounded to float32 first.
void scale(const uint8_t* symbols, size_t count, int32_t low, const float* column, float row, Format format, void* out,
           Path path);

// count numbers as low + symbol, modulo the size of T.
template <class T>
void shift(const uint8_t* symbols, size_t count, T low, T* out, Path path);

}  // namespace attar
