// What the chunks of one static array share, from its side information: docs/format.md, "Side information".
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bytes.hpp"
#include "crew.hpp"
#include "side.hpp"
#include "sorting.hpp"
#include "tables.hpp"

namespace attar {

// Symbol s < width is the value low + s (two's complement); symbol `width` is the escape, where there is one.
struct Alphabet {
    uint64_t low;
    size_t width;
    bool escape;
};

struct Shape {
    size_t rows, cols;
};

struct Plan {
    Alphabet alphabet;
    Shape shape;
    bool streams;  // of levels
    SortedLines order;
    DecodeTables tables;
};

// Which sides have levels, whether these stand in streams of their own, and whether tables are wide: bits of the form's number.
struct Sides {
    bool row, column, streams, wide;
    constexpr explicit Sides(int form)
        : row((form & 1) != 0), column((form & 2) != 0), streams((form & 4) != 0), wide((form & 8) != 0) {}
    constexpr Sides(bool row_, bool column_, bool streams_, bool wide_)
        : row(row_), column(column_), streams(streams_), wide(wide_) {}
    int form() const { return row + 2 * column + 4 * streams + 8 * wide; }
    bool any() const { return row || column; }
};

// The plan of a matrix, neither axis empty; `entries` as for DecodeTables. Throws Malformed.
Plan read_plan(Source side, Shape shape, Sides sides, bool entries, Crew& crew);

}  // namespace attar
