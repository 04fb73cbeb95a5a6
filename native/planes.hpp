// Numbers from their byte planes: docs/format.md, "planes". The twin is attar/coding/planes.py.
#pragma once

#include <cstddef>
#include <cstdint>

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

// Fills out, `count` words of `width` bytes, at least one; throws Malformed.
void decode_planes(Source source, size_t width, size_t count, void* out, size_t threads, Path path);

}  // namespace attar
