#include "tally.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "target.hpp"

namespace attar {

namespace {

constexpr size_t kTurned = 16;
// The smallest magnitude of each bucket.
constexpr uint8_t kEdges[kBucketCount] = {0, 1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 56, 80, 112, 160};

size_t padded(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

// to[j][i] = from[i][j] for 16 by 16 bytes.
void transpose(const uint8_t* from, size_t from_stride, uint8_t* to, size_t to_stride) {
#if ATTAR_X86
    __m128i line[kTurned], next[kTurned];
    for (size_t i = 0; i < kTurned; ++i) line[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i * from_stride));
    // Each round of interleaving turns the eight bits of row and column by one.
    for (int round = 0; round < 4; ++round) {
        for (size_t i = 0; i < kTurned / 2; ++i) {
            next[2 * i] = _mm_unpacklo_epi8(line[i], line[i + 8]);
            next[2 * i + 1] = _mm_unpackhi_epi8(line[i], line[i + 8]);
        }
        std::copy(next, next + kTurned, line);
    }
    for (size_t i = 0; i < kTurned; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i * to_stride), line[i]);
#else
    for (size_t i = 0; i < kTurned; ++i) {
        for (size_t j = 0; j < kTurned; ++j) to[j * to_stride + i] = from[i * from_stride + j];
    }
#endif
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

// The buckets of a row; its magnitudes are added to their columns, and up.
ATTAR_INLINE uint32_t row_plain(const uint8_t* ATTAR_ALONE symbols, size_t count, uint8_t zero, size_t buckets,
                                uint16_t* ATTAR_ALONE columns, uint8_t* ATTAR_ALONE out) {
    if (buckets <= 4) buckets_up_to<4>(symbols, count, zero, out);
    else if (buckets <= 8) buckets_up_to<8>(symbols, count, zero, out);
    else if (buckets <= 12) buckets_up_to<12>(symbols, count, zero, out);
    else buckets_up_to<kBucketCount>(symbols, count, zero, out);
    uint32_t sum = 0;
    for (size_t c = 0; c < count; ++c) {
        const uint8_t magnitude = static_cast<uint8_t>(symbols[c] > zero ? symbols[c] - zero : zero - symbols[c]);
        columns[c] = static_cast<uint16_t>(columns[c] + magnitude);
        sum += magnitude;
    }
    return sum;
}

#if ATTAR_X86
// A table of 16 bytes in each half.
ATTAR_AVX2 ATTAR_INLINE __m256i twice(const uint8_t* table) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
}

// Below 16 a magnitude has its bucket from a table, below 64 a quarter of it, else a sixteenth: no edge lies between.
struct BucketTables {
    uint8_t one[16], four[16], sixteen[16];
    BucketTables() {
        for (uint8_t k = 0; k < 16; ++k) {
            one[k] = of(k);
            four[k] = of(static_cast<uint8_t>(4 * k));
            sixteen[k] = of(static_cast<uint8_t>(16 * k));
        }
    }
    static uint8_t of(uint8_t magnitude) {
        return static_cast<uint8_t>(std::upper_bound(kEdges, kEdges + kBucketCount, magnitude) - kEdges - 1);
    }
};

ATTAR_AVX2 uint32_t row_avx2(const uint8_t* symbols, size_t count, uint8_t zero, size_t buckets, uint16_t* columns, uint8_t* out) {
    static const BucketTables tables;
    const __m256i ones = twice(tables.one), fours = twice(tables.four), sixteens = twice(tables.sixteen);
    const __m256i middle = _mm256_set1_epi8(static_cast<char>(zero)), low4 = _mm256_set1_epi8(15);
    __m256i sum = _mm256_setzero_si256();
    size_t at = 0;
    for (; at + 32 <= count; at += 32) {
        const __m256i line = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(symbols + at));
        const __m256i size = _mm256_or_si256(_mm256_subs_epu8(line, middle), _mm256_subs_epu8(middle, line));
        sum = _mm256_add_epi64(sum, _mm256_sad_epu8(size, _mm256_setzero_si256()));
        __m256i* const to = reinterpret_cast<__m256i*>(columns + at);
        _mm256_storeu_si256(to, _mm256_add_epi16(_mm256_loadu_si256(to), _mm256_cvtepu8_epi16(_mm256_castsi256_si128(size))));
        _mm256_storeu_si256(to + 1, _mm256_add_epi16(_mm256_loadu_si256(to + 1), _mm256_cvtepu8_epi16(_mm256_extracti128_si256(size, 1))));
        const __m256i quarter = _mm256_and_si256(_mm256_srli_epi16(size, 2), _mm256_set1_epi8(63));
        const __m256i sixteenth = _mm256_and_si256(_mm256_srli_epi16(size, 4), low4);
        __m256i bucket = _mm256_shuffle_epi8(sixteens, sixteenth);
        bucket = _mm256_blendv_epi8(bucket, _mm256_shuffle_epi8(fours, quarter), _mm256_cmpgt_epi8(_mm256_set1_epi8(16), quarter));
        bucket = _mm256_blendv_epi8(bucket, _mm256_shuffle_epi8(ones, size), _mm256_cmpeq_epi8(sixteenth, _mm256_setzero_si256()));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + at), bucket);
    }
    const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    const uint32_t whole = static_cast<uint32_t>(_mm_cvtsi128_si64(half) + _mm_extract_epi64(half, 1));
    return whole + row_plain(symbols + at, count - at, zero, buckets, columns + at, out + at);
}
#endif

#if ATTAR_X86
ATTAR_AVX512 ATTAR_INLINE __m512i four_times(const uint8_t* table) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
}

// The same, the last vector by a mask.
ATTAR_AVX512 uint32_t row_avx512(const uint8_t* symbols, size_t count, uint8_t zero, uint16_t* columns, uint8_t* out) {
    static const BucketTables tables;
    const __m512i ones = four_times(tables.one), fours = four_times(tables.four), sixteens = four_times(tables.sixteen);
    const __m512i middle = _mm512_set1_epi8(static_cast<char>(zero)), low4 = _mm512_set1_epi8(15);
    __m512i sum = _mm512_setzero_si512();
    for (size_t at = 0; at < count; at += 64) {
        const __mmask64 some = count - at < 64 ? (uint64_t{1} << (count - at)) - 1 : ~uint64_t{0};
        const __m512i line = _mm512_mask_loadu_epi8(middle, some, symbols + at);
        const __m512i size = _mm512_or_si512(_mm512_subs_epu8(line, middle), _mm512_subs_epu8(middle, line));
        sum = _mm512_add_epi64(sum, _mm512_sad_epu8(size, _mm512_setzero_si512()));
        for (size_t half = 0; half < 2; ++half) {
            const __m256i part = half == 0 ? _mm512_castsi512_si256(size) : _mm512_extracti64x4_epi64(size, 1);
            const __mmask32 those = static_cast<__mmask32>(some >> (32 * half));
            uint16_t* const to = columns + at + 32 * half;
            _mm512_mask_storeu_epi16(to, those, _mm512_add_epi16(_mm512_maskz_loadu_epi16(those, to), _mm512_cvtepu8_epi16(part)));
        }
        const __m512i quarter = _mm512_and_si512(_mm512_srli_epi16(size, 2), _mm512_set1_epi8(63));
        const __m512i sixteenth = _mm512_and_si512(_mm512_srli_epi16(size, 4), low4);
        __m512i bucket = _mm512_shuffle_epi8(sixteens, sixteenth);
        bucket = _mm512_mask_shuffle_epi8(bucket, _mm512_cmplt_epu8_mask(quarter, _mm512_set1_epi8(16)), fours, quarter);
        bucket = _mm512_mask_shuffle_epi8(bucket, _mm512_cmplt_epu8_mask(size, _mm512_set1_epi8(16)), ones, size);
        _mm512_mask_storeu_epi8(out + at, some, bucket);
    }
    return static_cast<uint32_t>(_mm512_reduce_add_epi64(sum));
}
#endif

uint32_t add_row(const uint8_t* symbols, size_t count, uint8_t zero, size_t buckets, uint16_t* columns, uint8_t* out, Path path) {
#if ATTAR_X86
    if (path == Path::avx512) return row_avx512(symbols, count, zero, columns, out);
    if (path == Path::avx2) return row_avx2(symbols, count, zero, buckets, columns, out);
#endif
    (void)path;
    return row_plain(symbols, count, zero, buckets, columns, out);
}

// How many buckets symbols below `size` have.
size_t buckets_below(int zero, int size) {
    const int largest = std::max(zero, size - 1 - zero);
    size_t buckets = 1;
    while (buckets < kBucketCount && largest >= kEdges[buckets]) ++buckets;
    return buckets;
}

void prepare(Grid& grid, size_t lines, size_t columns, size_t buckets) {
    grid.lines = lines;
    grid.tiles = padded(columns, kTile) / kTile;
    grid.buckets = padded(buckets, 2);
    grid.bytes.room(grid.tiles * lines * kTile);
}

// Calls act(sums) for 255 of the lines at a time.
template <class Act>
void by_parts(const Grid& grid, size_t tile, const std::vector<uint32_t>& lines, Path path, Act act) {
    alignas(64) Sums sums;
    for (size_t first = 0; first < lines.size(); first += kMostLines) {
        const size_t count = std::min(kMostLines, lines.size() - first);
        count_buckets({grid.tile(tile), kTile, &lines[first], count}, grid.buckets, sums, path);
        act(first == 0, sums[0]);
    }
}

}  // namespace

Magnitudes fill_grids(SymbolMatrix symbols, int zero, int size, size_t step, Grid& turned, size_t straight_step, Grid* straight,
                      Path path) {
    const size_t rows = symbols.rows, cols = symbols.cols, buckets = buckets_below(zero, size);
    const size_t lines = (cols + step - 1) / step;
    prepare(turned, lines, rows, buckets);
    if (straight != nullptr) prepare(*straight, (rows + straight_step - 1) / straight_step, cols, buckets);
    Magnitudes sums{std::vector<uint64_t>(rows), std::vector<uint64_t>(cols)};
    // The rows of a tile at a time, of which the columns that count are turned: 64 magnitudes add up to 16 bits.
    const size_t width = padded(lines, kTurned);
    std::vector<uint8_t> strip(kTile * width + kTile), all(step == 1 ? 0 : padded(cols, kTile));
    std::vector<uint16_t> part(cols);
    for (size_t t = 0; t < turned.tiles; ++t) {
        const size_t first = t * kTile, stop = std::min(first + kTile, rows);
        std::fill(part.begin(), part.end(), 0);
        for (size_t r = first; r < stop; ++r) {
            uint8_t* const counted = &strip[(r - first) * width];
            uint8_t* const out = step == 1 ? counted : all.data();
            sums.by_row[r] = add_row(symbols.data + r * cols, cols, static_cast<uint8_t>(zero), buckets, part.data(), out, path);
            for (size_t c = 0; c < lines && step != 1; ++c) counted[c] = out[c * step];
            if (straight == nullptr || r % straight_step != 0) continue;
            for (size_t k = 0; k < straight->tiles; ++k) std::memcpy(straight->tile(k) + r / straight_step * kTile, out + k * kTile, kTile);
        }
        for (size_t c = 0; c < cols; ++c) sums.by_column[c] += part[c];
        for (size_t c = 0; c < lines; c += kTurned) {
            alignas(64) uint8_t block[kTurned * kTile];
            uint8_t* const to = turned.tile(t) + c * kTile;
            const bool whole = c + kTurned <= lines;
            for (size_t i = 0; i < kTile; i += kTurned) transpose(&strip[i * width + c], width, (whole ? to : block) + i, kTile);
            if (!whole) std::memcpy(to, block, (lines - c) * kTile);
        }
    }
    return sums;
}

void tally(const Grid& grid, size_t tile, const std::vector<uint32_t>& lines, int16_t* counts, Path path) {
    const size_t size = grid.buckets * kTile;
    if (lines.empty()) std::fill(counts, counts + size, int16_t{0});
    by_parts(grid, tile, lines, path, [&](bool first, const uint8_t* sums) {
        if (first) std::copy(sums, sums + size, counts);
        else for (size_t k = 0; k < size; ++k) counts[k] = static_cast<int16_t>(counts[k] + sums[k]);
    });
}

void tally_moved(const Grid& grid, size_t tile, const std::vector<uint32_t>& left, const std::vector<uint32_t>& came,
                 int16_t* counts, Path path) {
    const size_t size = grid.buckets * kTile;
    by_parts(grid, tile, left, path, [&](bool, const uint8_t* sums) {
        for (size_t k = 0; k < size; ++k) counts[k] = static_cast<int16_t>(counts[k] - sums[k]);
    });
    by_parts(grid, tile, came, path, [&](bool, const uint8_t* sums) {
        for (size_t k = 0; k < size; ++k) counts[k] = static_cast<int16_t>(counts[k] + sums[k]);
    });
}

}  // namespace attar
