#include "lines.hpp"

#include <algorithm>
#include <cstring>

#include "target.hpp"

namespace attar {

namespace {

// Some lines at each level.
using Lists = std::vector<std::vector<uint32_t>>;

// Which lines of a tile have each of the levels that occur in it: all bits or none.
struct Masks {
    size_t number;
    size_t level[kTile];
    alignas(64) int16_t lines[kTile][kTile];

    ATTAR_INLINE void fill(const uint8_t* of, size_t count) {
        uint8_t own[kTile];
        std::fill(std::copy(of, of + count, own), own + kTile, uint8_t{255});
        uint32_t seen = 0;
        for (size_t i = 0; i < count; ++i) seen |= 1u << own[i];
        number = 0;
        for (size_t k = 0; k <= kHighest; ++k) {
            if ((seen >> k & 1) == 0) continue;
            for (size_t j = 0; j < kTile; ++j) lines[number][j] = static_cast<int16_t>(own[j] == k ? -1 : 0);
            level[number++] = k;
        }
    }
};

// Sums of every 32nd line.
constexpr size_t kHalf = kTile / 2;

// part[own level][buckets][kHalf] += the counts [buckets][kTile] of the lines of each level.
ATTAR_INLINE void join(const int16_t* counts, size_t buckets, const Masks& masks, int16_t* part) {
    for (size_t p = 0; p < masks.number; ++p) {
        int16_t mask[kTile];
        std::copy(masks.lines[p], masks.lines[p] + kTile, mask);
        int16_t* ATTAR_ALONE to = part + masks.level[p] * buckets * kHalf;
        const int16_t* ATTAR_ALONE from = counts;
        for (size_t b = 0; b < buckets; ++b, from += kTile, to += kHalf) {
            for (size_t j = 0; j < kHalf; ++j) {
                to[j] = static_cast<int16_t>(to[j] + (from[j] & mask[j]) + (from[j + kHalf] & mask[j + kHalf]));
            }
        }
    }
}

ATTAR_INLINE void joint_plain(const Lines& side, size_t own, int64_t* sums) {
    const size_t buckets = side.grid.buckets, tiles = side.grid.tiles;
    // Few tiles at a time, so that the sums stay near; no more than add up to 16 bits.
    const size_t most = std::clamp<size_t>(INT16_MAX / (2 * side.grid.lines), 1, 16);
    std::vector<Masks> masks(std::min(most, tiles));
    std::vector<int16_t> part(own * buckets * kHalf);
    for (size_t first = 0; first < tiles; first += most) {
        const size_t stop = std::min(first + most, tiles);
        for (size_t t = first; t < stop; ++t) masks[t - first].fill(&side.level[t * kTile], std::min(kTile, side.size - t * kTile));
        for (size_t l = 0; l < side.levels; ++l) {
            std::fill(part.begin(), part.end(), int16_t{0});
            for (size_t t = first; t < stop; ++t) join(side.counts(t) + l * buckets * kTile, buckets, masks[t - first], part.data());
            for (size_t k = 0; k < own * buckets; ++k) {
                int32_t sum = 0;
                for (size_t j = 0; j < kHalf; ++j) sum += part[k * kHalf + j];
                sums[(k / buckets * side.levels + l) * kWidth + k % buckets] += sum;
            }
        }
    }
}

#if ATTAR_X86
ATTAR_AVX2 void joint_avx2(const Lines& side, size_t own, int64_t* sums) { joint_plain(side, own, sums); }
ATTAR_AVX512 void joint_avx512(const Lines& side, size_t own, int64_t* sums) { joint_plain(side, own, sums); }
#endif

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

}  // namespace

// Has a tile fetched while the one before it is counted.
ATTAR_INLINE static void fetch(const Grid& grid, size_t tile) {
    for (size_t i = 0; i < grid.lines && tile < grid.tiles; ++i) ATTAR_PREFETCH_FAR(grid.tile(tile) + i * kTile);
}

size_t highest(const std::vector<uint8_t>& level) { return *std::max_element(level.begin(), level.end()); }

void Lines::count(const std::vector<uint8_t>& other, Path path) {
    levels = highest(other) + 1;
    memory.room(grid.tiles * cell());
    Lists at(levels);
    for (size_t i = 0; i < grid.lines; ++i) at[other[i * step]].push_back(static_cast<uint32_t>(i));
    for (size_t t = 0; t < grid.tiles; ++t) {
        fetch(grid, t + 1);
        for (size_t l = 0; l < levels; ++l) tally(grid, t, at[l], counts(t) + l * grid.buckets * kTile, path);
    }
    counted = true;
}

void Lines::update(const std::vector<uint8_t>& before, const std::vector<uint8_t>& other, Path path) {
    if (highest(other) >= levels) return count(other, path);
    Lists left(levels), came(levels);
    size_t moved = 0;
    for (size_t i = 0; i < grid.lines; ++i) {
        if (before[i * step] == other[i * step]) continue;
        left[before[i * step]].push_back(static_cast<uint32_t>(i));
        came[other[i * step]].push_back(static_cast<uint32_t>(i));
        ++moved;
    }
    // A line that moved is counted twice.
    if (2 * moved > grid.lines) return count(other, path);
    for (size_t t = 0; t < grid.tiles && moved != 0; ++t) {
        for (size_t l = 0; l < levels; ++l) tally_moved(grid, t, left[l], came[l], counts(t) + l * grid.buckets * kTile, path);
    }
}

Joint Lines::joint(Path path) const {
    const size_t own = highest(level) + 1;
    Joint found{levels, std::vector<int64_t>(own * levels * kWidth)};
#if ATTAR_X86
    if (path == Path::avx512) joint_avx512(*this, own, found.counts.data());
    else if (path == Path::avx2) joint_avx2(*this, own, found.counts.data());
    else joint_plain(*this, own, found.counts.data());
#else
    (void)path;
    joint_plain(*this, own, found.counts.data());
#endif
    return found;
}

Classes Joint::classes() const {
    Classes sums{};
    for (size_t k = 0; k < counts.size() / kWidth; ++k) {
        const size_t own = k / levels, other = k % levels;
        for (size_t b = 0; b < kWidth; ++b) sums[own != 0 && other != 0 ? own + other : 0][b] += counts[k * kWidth + b];
    }
    return sums;
}

Classes Joint::alone() const {
    Classes sums{};
    for (size_t k = 0; k < counts.size() / kWidth; ++k) {
        for (size_t b = 0; b < kWidth; ++b) sums[k / levels][b] += counts[k * kWidth + b];
    }
    return sums;
}

void Lines::choose(const Choice& choice, Path path) {
    for (size_t t = 0; t < grid.tiles; ++t) {
        uint8_t best[kTile];
        choose_tile(choice, counts(t), levels, grid.buckets, best, path);
        for (size_t i = t * kTile; i < std::min((t + 1) * kTile, size); ++i) level[i] = level[i] == 0 ? 0 : best[i - t * kTile];
    }
}

}  // namespace attar
