// The choice of probability tables for counts, and their description: attar/coding/fit_tables.py in C++.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "read_tables.hpp"
#include "side.hpp"

namespace attar {

// counts[rows][alphabet].
struct Counts {
    const int64_t* data;
    size_t rows;
    size_t alphabet;
    const int64_t* row(size_t r) const { return data + r * alphabet; }
};

// Contiguous ranges of classes with the fewest bits of code and tables: the first class of each, in order.
std::vector<size_t> merge_classes(Counts counts);

// Tables of one kind: what describes them, `width` numbers each, their frequencies, the bits of the code in 1/2^16,
// the bytes of the description.
struct Fit {
    int kind;
    size_t width;
    int64_t code;
    size_t bytes;
    std::vector<int32_t> specs;
    std::vector<uint16_t> frequencies;  // [rows][alphabet]
};

// The kind of tables whose description and code are shortest together; form.kind is not looked at.
Fit fit_tables(Counts counts, TableForm form);

// Describes tables as read_tables reads them.
void write_tables(SideEncoder& coder, const TableForm& form, const int32_t* specs, size_t tables, size_t width);

}  // namespace attar
