// Numbers from their byte planes: docs/format.md, "planes". The twin is attar/coding/planes.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bytes.hpp"
#include "rans.hpp"

namespace attar {

// The planes of some numbers, which hold their bytes less `low`, modulo 256.
struct PlaneBytes {
    const uint8_t* data[8];
    uint8_t low[8];
};

// out[i] has byte k of planes.data[k][i] + planes.low[k], its bits then rotated right by one; width is 1, 2, 4 or 8.
void join_planes(const PlaneBytes& planes, size_t width, size_t count, void* out, Path path);

// An array's bytes, and where its `count` words of `width` bytes go; at least one.
struct PlaneArray {
    Source source;
    size_t width, count;
    uint8_t* out;
};

// Fills the words of one array; throws Malformed.
void decode_planes(const PlaneArray& array, size_t threads, Path path);

// The same of many, each by one thread; throws Malformed.
void decode_planes(const std::vector<PlaneArray>& arrays, size_t threads, Path path);

}  // namespace attar
