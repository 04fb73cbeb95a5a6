// From a chunk's order of symbols to a matrix and back: docs/format.md, "Order of symbols".
#pragma once

#include <cstddef>
#include <cstdint>

#include "rans.hpp"

namespace attar {

// Which sorted rows a chunk holds, where the sorted columns belong, and the runs of the chunk. rows [row_count] and
// columns [width] are indices into a matrix [height, width]; the runs of a group of rows add up to all columns.
struct Order {
    const int32_t* rows;
    size_t row_count;
    const int32_t* columns;
    size_t width;
    size_t height;
    Runs runs;
};

// Symbols of source [height, width] in the chunk's order.
void collect(const uint8_t* source, const Order& order, uint8_t* symbols, Path path);

}  // namespace attar
