// Histograms of a symbol matrix, for the choice of levels and tables: attar/coding/levels.py.
#pragma once

#include <cstddef>
#include <cstdint>

namespace attar {

constexpr size_t kBucketCount = 16;

struct SymbolMatrix {
    const uint8_t* data;
    size_t rows;
    size_t cols;
};

// out[row][level][bucket]: how often each bucket occurs in each row in columns of each level; other[cols] < levels.
void count_rows(SymbolMatrix symbols, const uint8_t* bucket, const uint8_t* other, size_t levels, uint32_t* out);

// out[column][level][bucket]: likewise for columns in rows of each level; other[rows] < levels.
void count_columns(SymbolMatrix symbols, const uint8_t* bucket, const uint8_t* other, size_t levels, uint32_t* out);

// out[class][256]: how often each symbol occurs in each class, row + column level, or 0 where one of them is 0.
void count_classes(SymbolMatrix symbols, const uint8_t* rows, const uint8_t* cols, int64_t* out);

// Where a symbol stands, at most `limit` places; the number of places, limit + 1 where there are more.
size_t find(const uint8_t* symbols, size_t count, uint8_t symbol, int64_t* out, size_t limit);

}  // namespace attar
