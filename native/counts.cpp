#include "counts.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "target.hpp"

namespace attar {

void histogram(const uint8_t* symbols, size_t count, int64_t* counts) {
    // Eight tables in turn: the same symbol again and again would wait for its own last increment.
    std::vector<uint32_t> part(8 * 256);
    constexpr size_t kBlock = size_t{1} << 30;
    for (size_t at = 0; at < count; at += kBlock) {
        const size_t stop = std::min(at + kBlock, count);
        size_t i = at;
        for (; i + 8 <= stop; i += 8) {
            uint64_t word;
            std::memcpy(&word, symbols + i, 8);
            for (size_t k = 0; k < 8; ++k) ++part[256 * k + (word >> (8 * k) & 255)];
        }
        for (; i < stop; ++i) ++part[symbols[i]];
        for (size_t k = 0; k < part.size(); ++k) counts[k & 255] += part[k];
        std::fill(part.begin(), part.end(), 0);
    }
}

size_t window(const uint8_t* ATTAR_ALONE bytes, size_t count, uint8_t low, uint8_t width, uint8_t* ATTAR_ALONE symbols) {
    constexpr size_t kBlock = 128;
    size_t outside = 0;
    for (size_t at = 0; at < count; at += kBlock) {
        // Few enough for a byte, so that the loop runs over bytes alone.
        const size_t stop = std::min(at + kBlock, count);
        uint8_t here = 0;
        for (size_t i = at; i < stop; ++i) {
            const uint8_t distance = static_cast<uint8_t>(bytes[i] - low);
            symbols[i] = distance < width ? distance : width;
            here = static_cast<uint8_t>(here + (distance >= width));
        }
        outside += here;
    }
    return outside;
}

void count_classes(SymbolMatrix symbols, const uint8_t* rows, const uint8_t* cols, size_t alphabet, int64_t* out) {
    const size_t top = *std::max_element(rows, rows + symbols.rows);
    const size_t classes = 1 + top + *std::max_element(cols, cols + symbols.cols);
    // Four tables in turn: the same symbol again and again would wait for its own last increment.
    const size_t size = classes * alphabet;
    std::vector<uint32_t> part(4 * size), base(symbols.cols);
    auto flush = [&] {
        for (size_t t = 0; t < 4; ++t) {
            for (size_t k = 0; k < size; ++k) out[k] += part[t * size + k];
        }
        std::fill(part.begin(), part.end(), 0);
    };
    uint64_t held = 0;
    // Level by level, so that the class of a column is looked up and not computed.
    for (size_t level = 0; level <= top; ++level) {
        for (size_t c = 0; c < symbols.cols; ++c) {
            base[c] = static_cast<uint32_t>((c & 3) * size + (level != 0 && cols[c] != 0 ? level + cols[c] : 0) * alphabet);
        }
        for (size_t r = 0; r < symbols.rows; ++r) {
            if (rows[r] != level) continue;
            const uint8_t* line = symbols.data + r * symbols.cols;
            for (size_t c = 0; c < symbols.cols; ++c) ++part[base[c] + line[c]];
            held += symbols.cols;
            if (held >> 31 == 0) continue;
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
