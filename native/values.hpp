// The whole of a `rans` array, of any form: docs/format.md, "rans". The twin is attar/coding/values.py.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"
#include "plan.hpp"
#include "rans.hpp"

namespace attar {

// An array of integers of 1, 2, 4 or 8 bytes that hold lowest .. highest; those of 8 bytes hold any 64 bits.
struct Numbers {
    void* data;
    size_t bytes;
    int64_t lowest, highest;
};

// Fills all rows * cols numbers, at least one; throws Malformed, also where there are bytes left.
void decode_values(Source source, Shape shape, const Numbers& out, size_t threads, Path path);

// The escaped values of a static array, as 64 bits in the order of coding; none where its alphabet has no escape.
std::vector<uint64_t> take_escapes(Reader& reader, const Alphabet& alphabet, size_t most, size_t depth, Path path);

// What a form, the first byte of a static array, says.
Sides sides_of(uint8_t form);

// The plan of a static array of one of the sixteen forms.
Plan take_plan(Reader& reader, uint8_t form, Shape shape, Path path, Crew& crew);

// With row levels one more, with column levels two more, with levels in streams four more, with wide tables eight more.
constexpr uint8_t kStatic = 3;

}  // namespace attar
