#include "tally.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "target.hpp"

namespace attar {

namespace {

constexpr size_t kBlock = 64, kTile = 16;
// The smallest magnitude of each bucket.
constexpr uint8_t kEdges[kBucketCount] = {0, 1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 56, 80, 112, 160};

// to[j][i] = from[i][j] for 16 by 16 bytes.
void transpose(const uint8_t* from, size_t from_stride, uint8_t* to, size_t to_stride) {
#if ATTAR_X86
    __m128i line[kTile], next[kTile];
    for (size_t i = 0; i < kTile; ++i) line[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i * from_stride));
    // Each round of interleaving turns the eight bits of row and column by one.
    for (int round = 0; round < 4; ++round) {
        for (size_t i = 0; i < kTile / 2; ++i) {
            next[2 * i] = _mm_unpacklo_epi8(line[i], line[i + 8]);
            next[2 * i + 1] = _mm_unpackhi_epi8(line[i], line[i + 8]);
        }
        std::copy(next, next + kTile, line);
    }
    for (size_t i = 0; i < kTile; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i * to_stride), line[i]);
#else
    for (size_t i = 0; i < kTile; ++i) {
        for (size_t j = 0; j < kTile; ++j) to[j * to_stride + i] = from[i * from_stride + j];
    }
#endif
}

size_t padded(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

// Vectors of as many bytes as the processor's: longer ones fall apart into single bytes.
#if defined(__GNUC__) || defined(__clang__)
using Bytes16 = uint8_t __attribute__((vector_size(16), aligned(1), may_alias));
using Bytes32 = uint8_t __attribute__((vector_size(32), aligned(1), may_alias));
using Bytes64 = uint8_t __attribute__((vector_size(64), aligned(1), may_alias));

// out[b][j] = how many of the lines have bucket b in column j of 64; at most 255 lines.
template <class Bytes>
ATTAR_INLINE void count_block(const uint8_t* data, size_t stride, const uint32_t* lines, size_t count, size_t buckets,
                              uint8_t (*out)[kBlock]) {
    for (size_t at = 0; at < kBlock; at += sizeof(Bytes)) {
        for (size_t b = 0; b < buckets; b += 4) {
            Bytes sums[4] = {}, wanted[4] = {};
            for (size_t k = 0; k < 4; ++k) wanted[k] += static_cast<uint8_t>(b + k);
            for (size_t i = 0; i < count; ++i) {
                const Bytes line = *reinterpret_cast<const Bytes*>(data + lines[i] * stride + at);
                for (size_t k = 0; k < 4; ++k) sums[k] -= reinterpret_cast<Bytes>(line == wanted[k]);
            }
            for (size_t k = 0; k < 4; ++k) std::memcpy(out[b + k] + at, &sums[k], sizeof(Bytes));
        }
    }
}
#else
struct Bytes16 {};

template <class Bytes>
void count_block(const uint8_t* data, size_t stride, const uint32_t* lines, size_t count, size_t buckets,
                 uint8_t (*out)[kBlock]) {
    std::memset(out, 0, buckets * kBlock);
    for (size_t i = 0; i < count; ++i) {
        for (size_t j = 0; j < kBlock; ++j) {
            const uint8_t b = data[lines[i] * stride + j];
            if (b < buckets) ++out[b][j];
        }
    }
}
#endif

template <class Bytes>
ATTAR_INLINE void tally_plain(const Grid& grid, const uint8_t* level, size_t levels, size_t columns, int16_t* counts) {
    std::vector<std::vector<uint32_t>> of(levels);
    for (size_t i = 0; i < grid.lines; ++i) of[level[i]].push_back(static_cast<uint32_t>(i));
    alignas(64) uint8_t sums[kBucketCount][kBlock] = {};
    for (size_t at = 0; at < columns; at += kBlock) {
        for (size_t l = 0; l < levels; ++l) {
            for (size_t first = 0; first < of[l].size(); first += 255) {
                const size_t count = std::min<size_t>(255, of[l].size() - first);
                count_block<Bytes>(grid.line(0) + at, grid.stride, &of[l][first], count, grid.buckets, sums);
                for (size_t tile = at; tile < std::min(at + kBlock, columns); tile += kTile) {
                    uint8_t turned[kTile][kBucketCount];
                    transpose(sums[0] + (tile - at), kBlock, turned[0], kBucketCount);
                    for (size_t c = tile; c < std::min(tile + kTile, columns); ++c) {
                        int16_t* to = counts + (c * levels + l) * kBucketCount;
                        for (size_t b = 0; b < kBucketCount; ++b) to[b] = static_cast<int16_t>(to[b] + turned[c - tile][b]);
                    }
                }
            }
        }
    }
}

template <size_t kEdgeCount>
ATTAR_INLINE void buckets_up_to(const uint8_t* ATTAR_ALONE symbols, size_t count, uint8_t zero, uint8_t* ATTAR_ALONE out) {
    for (size_t c = 0; c < count; ++c) {
        const uint8_t magnitude = static_cast<uint8_t>(symbols[c] > zero ? symbols[c] - zero : zero - symbols[c]);
        uint8_t bucket = 0;
        for (size_t b = 1; b < kEdgeCount; ++b) bucket = static_cast<uint8_t>(bucket + (magnitude >= kEdges[b]));
        out[c] = bucket;
    }
}

ATTAR_INLINE void buckets_plain(const uint8_t* symbols, size_t count, uint8_t zero, size_t buckets, uint8_t* out) {
    if (buckets <= 4) return buckets_up_to<4>(symbols, count, zero, out);
    if (buckets <= 8) return buckets_up_to<8>(symbols, count, zero, out);
    if (buckets <= 12) return buckets_up_to<12>(symbols, count, zero, out);
    buckets_up_to<kBucketCount>(symbols, count, zero, out);
}

#if ATTAR_X86
ATTAR_AVX2 void buckets_avx2(const uint8_t* symbols, size_t count, uint8_t zero, size_t buckets, uint8_t* out) {
    buckets_plain(symbols, count, zero, buckets, out);
}
ATTAR_AVX512 void buckets_avx512(const uint8_t* symbols, size_t count, uint8_t zero, size_t buckets, uint8_t* out) {
    buckets_plain(symbols, count, zero, buckets, out);
}
ATTAR_AVX2 void tally_avx2(const Grid& grid, const uint8_t* level, size_t levels, size_t columns, int16_t* counts) {
    tally_plain<Bytes32>(grid, level, levels, columns, counts);
}
ATTAR_AVX512 void tally_avx512(const Grid& grid, const uint8_t* level, size_t levels, size_t columns, int16_t* counts) {
    tally_plain<Bytes64>(grid, level, levels, columns, counts);
}
#endif

void to_buckets(const uint8_t* symbols, size_t count, uint8_t zero, size_t buckets, uint8_t* out, Path path) {
#if ATTAR_X86
    if (path == Path::avx512) return buckets_avx512(symbols, count, zero, buckets, out);
    if (path == Path::avx2) return buckets_avx2(symbols, count, zero, buckets, out);
#endif
    (void)path;
    buckets_plain(symbols, count, zero, buckets, out);
}

// How many buckets symbols below `size` have.
size_t buckets_below(int zero, int size) {
    const int largest = std::max(zero, size - 1 - zero);
    size_t buckets = 1;
    while (buckets < kBucketCount && largest >= kEdges[buckets]) ++buckets;
    return buckets;
}

}  // namespace

void rows_of(SymbolMatrix symbols, int zero, int size, size_t step, Path path, Grid& grid) {
    grid.lines = (symbols.rows + step - 1) / step;
    grid.stride = padded(symbols.cols, kBlock);
    grid.buckets = buckets_below(zero, size);
    grid.bytes.room(grid.lines * grid.stride);
    for (size_t i = 0; i < grid.lines; ++i) {
        const uint8_t* line = symbols.data + i * step * symbols.cols;
        to_buckets(line, symbols.cols, static_cast<uint8_t>(zero), grid.buckets, &grid.bytes.data[i * grid.stride], path);
    }
}

void columns_of(SymbolMatrix symbols, int zero, int size, size_t step, Path path, Grid& grid) {
    grid.lines = (symbols.cols + step - 1) / step;
    grid.stride = padded(symbols.rows, kBlock);
    grid.buckets = buckets_below(zero, size);
    const size_t width = padded(grid.lines, kTile);
    grid.bytes.room(width * grid.stride);
    // Sixteen rows at a time, of which 16 by 16 tiles are turned.
    std::vector<uint8_t> strip(kTile * width), line(symbols.cols);
    for (size_t r = 0; r < symbols.rows; ++r) {
        const size_t i = r % kTile;
        uint8_t* const sampled = &strip[i * width];
        uint8_t* const all = step == 1 ? sampled : line.data();
        to_buckets(symbols.data + r * symbols.cols, symbols.cols, static_cast<uint8_t>(zero), grid.buckets, all, path);
        for (size_t c = 0; c < grid.lines && step != 1; ++c) sampled[c] = line[c * step];
        if (i + 1 != kTile && r + 1 != symbols.rows) continue;
        uint8_t* const to = &grid.bytes.data[r - i];
        for (size_t c = 0; c < width; c += kTile) transpose(&strip[c], width, to + c * grid.stride, grid.stride);
    }
}

void tally(const Grid& grid, const uint8_t* level, size_t levels, size_t columns, int16_t* counts, Path path) {
#if ATTAR_X86
    if (path == Path::avx512) return tally_avx512(grid, level, levels, columns, counts);
    if (path == Path::avx2) return tally_avx2(grid, level, levels, columns, counts);
#endif
    (void)path;
    tally_plain<Bytes16>(grid, level, levels, columns, counts);
}

}  // namespace attar
