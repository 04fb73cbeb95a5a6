// Numbers that are packed bit by bit, most significant bit of a byte first: docs/format.md, "packed" and "Order of symbols".
#pragma once

#include <cstddef>
#include <cstdint>

namespace attar {

// out[count]: numbers of `width` bits, 1 to 64, without gaps. Throws Malformed where the bytes are not as many as that takes.
void unpack(const uint8_t* data, size_t size, size_t width, uint64_t* out, size_t count);

// values[count] outside of the window low .. low + width - 1, from the bits below each leading one: plane by plane from the
// lowest. Throws Malformed where a length is beyond 64, or the bytes are not as many as the lengths ask for.
void read_escapes(const uint8_t* data, size_t size, const uint8_t* lengths, uint64_t low, uint64_t width, uint64_t* values,
                  size_t count);

}  // namespace attar
