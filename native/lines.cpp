#include "lines.hpp"

#include <algorithm>

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

// The lines of one of the own levels in a tile, and the counts of the tile.
struct InTile {
    const int16_t* lines;
    const int16_t* counts;
};

// sums[kBuckets] += those of the chosen lines' counts at one level of the other axis; sums stay in registers.
template <size_t kBuckets>
ATTAR_AVX512 void add_chosen(const std::vector<InTile>& chosen, size_t offset, int64_t* sums) {
    __m512i part[kBuckets];
    for (size_t b = 0; b < kBuckets; ++b) part[b] = _mm512_setzero_si512();
    for (const InTile& one : chosen) {
        const __m512i low = _mm512_load_si512(one.lines), high = _mm512_load_si512(one.lines + kHalf);
        const int16_t* const counts = one.counts + offset;
        for (size_t b = 0; b < kBuckets; ++b) {
            part[b] = _mm512_add_epi16(part[b], _mm512_and_si512(low, _mm512_loadu_si512(counts + b * kTile)));
            part[b] = _mm512_add_epi16(part[b], _mm512_and_si512(high, _mm512_loadu_si512(counts + b * kTile + kHalf)));
        }
    }
    for (size_t b = 0; b < kBuckets; ++b) {
        sums[b] += _mm512_reduce_add_epi32(_mm512_madd_epi16(part[b], _mm512_set1_epi16(1)));
    }
}

ATTAR_AVX512 void joint_avx512(const Lines& side, size_t own, int64_t* sums) {
    using Add = void (*)(const std::vector<InTile>&, size_t, int64_t*);
    static constexpr Add kAdd[] = {add_chosen<2>, add_chosen<4>, add_chosen<6>, add_chosen<8>,
                                   add_chosen<10>, add_chosen<12>, add_chosen<14>, add_chosen<16>};
    const size_t buckets = side.grid.buckets, tiles = side.grid.tiles;
    const Add add = kAdd[buckets / 2 - 1];
    const size_t most = std::clamp<size_t>(INT16_MAX / (2 * side.grid.lines), 1, 16);
    std::vector<Masks> masks(std::min(most, tiles));
    std::vector<std::vector<InTile>> chosen(own);
    for (size_t first = 0; first < tiles; first += most) {
        for (std::vector<InTile>& some : chosen) some.clear();
        for (size_t t = first; t < std::min(first + most, tiles); ++t) {
            Masks& mask = masks[t - first];
            mask.fill(&side.level[t * kTile], std::min(kTile, side.size - t * kTile));
            for (size_t p = 0; p < mask.number; ++p) chosen[mask.level[p]].push_back({mask.lines[p], side.counts(t)});
        }
        for (size_t k = 0; k < own; ++k) {
            for (size_t l = 0; l < side.levels && !chosen[k].empty(); ++l) {
                add(chosen[k], l * buckets * kTile, sums + (k * side.levels + l) * kWidth);
            }
        }
    }
}
#endif

// Has a tile fetched while the one before it is counted.
ATTAR_INLINE void fetch(const Grid& grid, size_t tile) {
    for (size_t i = 0; i < grid.lines && tile < grid.tiles; ++i) ATTAR_PREFETCH_FAR(grid.tile(tile) + i * kTile);
}

}  // namespace

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
