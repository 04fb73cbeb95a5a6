// The choice of levels for a tile of 64 lines: the products of their counts with the prices, by vectors across the lines.
#include <algorithm>
#include <cstring>

#include "lines.hpp"
#include "target.hpp"

namespace attar {

namespace {

// Where the lines of a tile, with these counts, take the fewest bits; the first of such levels.
void choose_plain(const Choice& choice, const int16_t* counts, size_t levels, size_t buckets, uint8_t* best) {
    int32_t least[kTile];
    for (size_t k = 1; k <= choice.top; ++k) {
        int32_t bits[kTile];
        for (size_t j = 0; j < kTile; ++j) bits[j] = static_cast<int32_t>(choice.own[k]);
        const int16_t* cell = counts + buckets * kTile;
        for (size_t l = 1; l < levels; ++l) {
            for (size_t b = 0; b < buckets; ++b, cell += kTile) {
                const int16_t price = choice.prices[k + l][b];
                for (size_t j = 0; j < kTile; ++j) bits[j] += cell[j] * price;
            }
        }
        for (size_t j = 0; j < kTile; ++j) {
            if (k != 1 && bits[j] >= least[j]) continue;
            least[j] = bits[j];
            best[j] = static_cast<uint8_t>(k);
        }
    }
}

#if ATTAR_X86
// The prices of two buckets, for products with pairs of counts.
ATTAR_INLINE int32_t pair_at(const int16_t* prices) {
    int32_t pair;
    std::memcpy(&pair, prices, sizeof pair);
    return pair;
}

ATTAR_AVX2 ATTAR_INLINE __m256i load_avx2(const int16_t* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }

// As below, of 32 lines.
ATTAR_AVX2 void choose_avx2(const Choice& choice, const int16_t* counts, size_t levels, size_t buckets, uint8_t* best) {
    __m256i least[4], where[4];
    for (size_t i = 0; i < 4; ++i) {
        least[i] = _mm256_set1_epi32(INT32_MAX);
        where[i] = _mm256_setzero_si256();
    }
    for (size_t first = 1; first <= choice.top; first += 2) {
        const size_t level[2] = {first, std::min(first + 1, choice.top)};
        __m256i bits[2][4];
        for (size_t n = 0; n < 2; ++n) {
            for (size_t i = 0; i < 4; ++i) bits[n][i] = _mm256_set1_epi32(static_cast<int32_t>(choice.own[level[n]]));
        }
        const int16_t* cell = counts + buckets * kTile;
        for (size_t l = 1; l < levels; ++l) {
            for (size_t b = 0; b < buckets; b += 2, cell += 2 * kTile) {
                const __m256i a0 = load_avx2(cell), a1 = load_avx2(cell + 16);
                const __m256i b0 = load_avx2(cell + kTile), b1 = load_avx2(cell + kTile + 16);
                const __m256i pair[4] = {_mm256_unpacklo_epi16(a0, b0), _mm256_unpackhi_epi16(a0, b0),
                                         _mm256_unpacklo_epi16(a1, b1), _mm256_unpackhi_epi16(a1, b1)};
                for (size_t n = 0; n < 2; ++n) {
                    const __m256i price = _mm256_set1_epi32(pair_at(&choice.prices[level[n] + l][b]));
                    for (size_t i = 0; i < 4; ++i) bits[n][i] = _mm256_add_epi32(bits[n][i], _mm256_madd_epi16(pair[i], price));
                }
            }
        }
        for (size_t n = 0; n < 2; ++n) {
            const __m256i here = _mm256_set1_epi32(static_cast<int32_t>(level[n]));
            for (size_t i = 0; i < 4; ++i) {
                const __m256i fewer = _mm256_cmpgt_epi32(least[i], bits[n][i]);
                least[i] = _mm256_blendv_epi8(least[i], bits[n][i], fewer);
                where[i] = _mm256_blendv_epi8(where[i], here, fewer);
            }
        }
    }
    const __m256i words = _mm256_packus_epi16(_mm256_packs_epi32(where[0], where[1]), _mm256_packs_epi32(where[2], where[3]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(best), _mm256_permute4x64_epi64(words, 0xd8));
}

// Four levels at a time, so that a pair of buckets is loaded for all of them.
ATTAR_AVX512 void choose_avx512(const Choice& choice, const int16_t* counts, size_t levels, size_t buckets, uint8_t* best) {
    constexpr size_t kAtOnce = 4;
    __m512i least[4], where[4];
    for (size_t i = 0; i < 4; ++i) {
        least[i] = _mm512_set1_epi32(INT32_MAX);
        where[i] = _mm512_setzero_si512();
    }
    for (size_t first = 1; first <= choice.top; first += kAtOnce) {
        size_t level[kAtOnce];
        __m512i bits[kAtOnce][4];
        for (size_t n = 0; n < kAtOnce; ++n) {
            level[n] = std::min(first + n, choice.top);
            for (size_t i = 0; i < 4; ++i) bits[n][i] = _mm512_set1_epi32(static_cast<int32_t>(choice.own[level[n]]));
        }
        const int16_t* cell = counts + buckets * kTile;
        for (size_t l = 1; l < levels; ++l) {
            for (size_t b = 0; b < buckets; b += 2, cell += 2 * kTile) {
                const __m512i a0 = _mm512_loadu_si512(cell), a1 = _mm512_loadu_si512(cell + 32);
                const __m512i b0 = _mm512_loadu_si512(cell + kTile), b1 = _mm512_loadu_si512(cell + kTile + 32);
                const __m512i pair[4] = {_mm512_unpacklo_epi16(a0, b0), _mm512_unpackhi_epi16(a0, b0),
                                         _mm512_unpacklo_epi16(a1, b1), _mm512_unpackhi_epi16(a1, b1)};
                for (size_t n = 0; n < kAtOnce; ++n) {
                    const __m512i price = _mm512_set1_epi32(pair_at(&choice.prices[level[n] + l][b]));
                    for (size_t i = 0; i < 4; ++i) bits[n][i] = _mm512_add_epi32(bits[n][i], _mm512_madd_epi16(pair[i], price));
                }
            }
        }
        for (size_t n = 0; n < kAtOnce; ++n) {
            const __m512i here = _mm512_set1_epi32(static_cast<int32_t>(level[n]));
            for (size_t i = 0; i < 4; ++i) {
                const __mmask16 fewer = _mm512_cmplt_epi32_mask(bits[n][i], least[i]);
                least[i] = _mm512_mask_mov_epi32(least[i], fewer, bits[n][i]);
                where[i] = _mm512_mask_mov_epi32(where[i], fewer, here);
            }
        }
    }
    for (size_t i = 0; i < 2; ++i) {
        const __m512i words = _mm512_packs_epi32(where[2 * i], where[2 * i + 1]);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(best + 32 * i), _mm512_cvtepi16_epi8(words));
    }
}
#endif

}  // namespace

void choose_tile(const Choice& choice, const int16_t* counts, size_t levels, size_t buckets, uint8_t* best, Path path) {
#if ATTAR_X86
    if (path == Path::avx512) return choose_avx512(choice, counts, levels, buckets, best);
    if (path == Path::avx2) {
        choose_avx2(choice, counts, levels, buckets, best);
        return choose_avx2(choice, counts + kTile / 2, levels, buckets, best + kTile / 2);
    }
#endif
    (void)path;
    choose_plain(choice, counts, levels, buckets, best);
}

}  // namespace attar
