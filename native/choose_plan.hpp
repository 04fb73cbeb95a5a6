// What the chunks of one static array share, chosen for the shortest file: attar/coding/choosing.py in C++.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "counts.hpp"
#include "fit_tables.hpp"
#include "plan.hpp"

namespace attar {

// Levels 0 .. 28 of the lines; all ones where that side is not used.
struct Levels {
    std::vector<uint8_t> rows, cols;
    size_t classes() const;
};

// The sides, the table of each class, the tables with the bits of the code in 1/2^16, and the side
// information.
struct Chosen {
    Alphabet alphabet;
    Sides sides;
    Levels levels;
    std::vector<size_t> table_of;
    TableForm form;
    Fit fit;
    std::vector<uint8_t> side;
};

// The plan with the fewest bits for symbols of an alphabet, which occur as often as counts[alphabet] says.
Chosen choose_plan(SymbolMatrix symbols, const Alphabet& alphabet, const int64_t* counts, Path path);

// Fills in the side information, which read_plan reads, and whether levels stand in streams.
void write_plan(Chosen& plan);

}  // namespace attar
