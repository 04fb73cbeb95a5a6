// Numbers from their byte planes: coding/planes.py.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rans.hpp"

namespace attar {

// out[i] has byte k of planes[k][i], its bits then rotated right by one; width is 1, 2, 4 or 8.
void join_planes(const uint8_t* const* planes, size_t width, size_t count, void* out, Path path);

}  // namespace attar
