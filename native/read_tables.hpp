// Probability tables from side information.
#pragma once

#include <cstddef>
#include <cstdint>

#include "side.hpp"
#include "tables.hpp"

namespace attar {

// What the tables of one array share: 0 <= mode < alphabet - escape; kind 0 is geometric, 1 to 4 are ladders.
struct TableForm {
    int alphabet;
    int mode;
    bool escape;
    int kind;
};

// Fills out [tables, alphabet]; throws Malformed where the mode is left without a share, or a number is out of bounds.
void read_tables(SideDecoder& coder, size_t tables, const TableForm& form, uint16_t* out);

}  // namespace attar
