#include "counts.hpp"

#include <algorithm>
#include <vector>

namespace attar {

void count_rows(SymbolMatrix symbols, const uint8_t* bucket, const uint8_t* other, size_t levels, uint32_t* out) {
    // Four tables in turn: the same bucket again and again would wait for its own last increment.
    const size_t cell = levels * kBucketCount;
    std::vector<uint32_t> part(4 * cell);
    std::vector<uint32_t> base(symbols.cols);
    for (size_t c = 0; c < symbols.cols; ++c) base[c] = static_cast<uint32_t>((c & 3) * cell + other[c] * kBucketCount);
    for (size_t r = 0; r < symbols.rows; ++r, out += cell) {
        std::fill(part.begin(), part.end(), 0);
        const uint8_t* line = symbols.data + r * symbols.cols;
        for (size_t c = 0; c < symbols.cols; ++c) ++part[base[c] + bucket[line[c]]];
        for (size_t k = 0; k < cell; ++k) out[k] = part[k] + part[k + cell] + part[k + 2 * cell] + part[k + 3 * cell];
    }
}

void count_columns(SymbolMatrix symbols, const uint8_t* bucket, const uint8_t* other, size_t levels, uint32_t* out) {
    // Level by level, so that the counters in use stay in the cache.
    std::vector<uint32_t> part(symbols.cols * kBucketCount);
    for (size_t level = 0; level < levels; ++level) {
        std::fill(part.begin(), part.end(), 0);
        for (size_t r = 0; r < symbols.rows; ++r) {
            if (other[r] != level) continue;
            const uint8_t* line = symbols.data + r * symbols.cols;
            for (size_t c = 0; c < symbols.cols; ++c) ++part[c * kBucketCount + bucket[line[c]]];
        }
        for (size_t c = 0; c < symbols.cols; ++c) {
            std::copy_n(&part[c * kBucketCount], kBucketCount, out + (c * levels + level) * kBucketCount);
        }
    }
}

void count_classes(SymbolMatrix symbols, const uint8_t* rows, const uint8_t* cols, int64_t* out) {
    size_t classes = 1 + size_t{*std::max_element(rows, rows + symbols.rows)} + *std::max_element(cols, cols + symbols.cols);
    std::vector<uint32_t> part(2 * classes * 256);
    auto flush = [&] {
        for (size_t k = 0; k < classes * 256; ++k) out[k] += int64_t{part[k]} + part[k + classes * 256];
        std::fill(part.begin(), part.end(), 0);
    };
    uint64_t held = 0;
    for (size_t r = 0; r < symbols.rows; ++r) {
        const uint8_t* line = symbols.data + r * symbols.cols;
        for (size_t c = 0; c < symbols.cols; ++c) {
            size_t of = rows[r] != 0 && cols[c] != 0 ? size_t{rows[r]} + cols[c] : 0;
            ++part[(of + (c & 1) * classes) * 256 + line[c]];
        }
        held += symbols.cols;
        if (held >> 31 != 0) {
            flush();
            held = 0;
        }
    }
    flush();
}

size_t find(const uint8_t* symbols, size_t count, uint8_t symbol, int64_t* out, size_t limit) {
    // Block by block, because nearly all of them hold none and are seen through by vector instructions.
    constexpr size_t kBlock = 256;
    size_t found = 0;
    for (size_t at = 0; at < count; at += kBlock) {
        const size_t stop = std::min(at + kBlock, count);
        uint8_t any = 0;
        for (size_t i = at; i < stop; ++i) any |= static_cast<uint8_t>(symbols[i] == symbol);
        for (size_t i = at; i < stop && any; ++i) {
            if (symbols[i] != symbol) continue;
            if (found == limit) return limit + 1;
            out[found++] = static_cast<int64_t>(i);
        }
    }
    return found;
}

}  // namespace attar
