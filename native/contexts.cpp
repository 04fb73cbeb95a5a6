#include "rans.hpp"

#include <algorithm>

namespace attar {

void fill_contexts(uint8_t* out, size_t count, size_t start, const int16_t* rows, size_t row_count,
                   const int16_t* cols, size_t column_count, const uint8_t* table_of, size_t size) {
    if (size == 0) throw Malformed("there must be at least one class");
    if (count == 0) return;
    if (column_count == 0 || row_count == 0) throw Malformed("an empty matrix has no positions");
    size_t last = start + count - 1;
    if (last < start || last / column_count >= row_count) throw Malformed("a position lies outside the matrix");
    size_t row = start / column_count;
    size_t column = start % column_count;
    int top = static_cast<int>(size) - 1;
    while (count != 0) {
        size_t run = std::min(count, column_count - column);
        int level = rows[row];
        for (size_t k = 0; k < run; ++k) out[k] = table_of[std::clamp(level + cols[column + k], 0, top)];
        out += run;
        count -= run;
        column = 0;
        ++row;
    }
}

}  // namespace attar
