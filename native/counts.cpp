#include "counts.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <vector>

#include "bulk.hpp"
#include "pages.hpp"
#include "target.hpp"

namespace attar {

namespace {

// Symbols from which on pairs are counted: to clear and to add up a table of all pairs takes as long as some 10^5 symbols.
constexpr size_t kPaired = size_t{1} << 19;

// Two symbols at a time: the pairs that are frequent lie near each other.
void histogram_pairs(const uint8_t* symbols, size_t count, int64_t* counts) {
    Kept<uint32_t> held;
    held.room(1 << 16);
    uint32_t* const part = held.data.data();
    constexpr size_t kBlock = size_t{1} << 30;
    for (size_t at = 0; at < count; at += kBlock) {
        const size_t stop = std::min(at + kBlock, count);
        std::fill(part, part + (1 << 16), 0u);
        size_t i = at;
        for (; i + 8 <= stop; i += 8) {
            uint64_t word;
            std::memcpy(&word, symbols + i, 8);
            for (size_t k = 0; k < 4; ++k) ++part[word >> (16 * k) & 0xffff];
        }
        for (; i < stop; ++i) ++counts[symbols[i]];
        std::array<uint32_t, 256> low{};
        for (size_t high = 0; high < 256; ++high) {
            uint32_t sum = 0;
            for (size_t k = 0; k < 256; ++k) {
                low[k] += part[256 * high + k];
                sum += part[256 * high + k];
            }
            counts[high] += sum;
        }
        for (size_t k = 0; k < 256; ++k) counts[k] += low[k];
    }
}

void histogram_plain(const uint8_t* symbols, size_t count, int64_t* counts) {
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

}  // namespace

Bulk bulk_of(const int64_t* counts, size_t end, size_t alone, Path path) {
    // About how long bins take for a byte, and one that is counted by itself beside them.
    constexpr int64_t kBinsTake = 8, kOtherTakes = 1000;
    std::array<int64_t, 512> until{};  // twice around
    std::copy(counts, counts + end, until.begin());
    std::copy(until.begin(), until.begin() + 256, until.begin() + 256);
    std::partial_sum(until.begin(), until.end(), until.begin());
    const int64_t all = until[255];
    if (!has_avx2(path) || all == 0) return {};
    Bulk best;
    int64_t least = static_cast<int64_t>(alone) * all;
    for (size_t width = kBins; width <= 4 * kBins; width += kBins) {
        const int64_t bins = kBinsTake * static_cast<int64_t>(width / kBins) * all;
        if (bins >= least) break;
        const size_t places = end == 256 ? 256 : std::max(end, width) - width + 1;
        int64_t most = until[width - 1];
        size_t densest = 0;
        for (size_t first = 1; first < places; ++first) {
            const int64_t within = until[first + width - 1] - until[first - 1];
            densest = within > most ? first : densest;
            most = std::max(most, within);
        }
        const int64_t takes = bins + kOtherTakes * (all - most);
        if (takes >= least) continue;
        least = takes;
        best = {static_cast<uint8_t>(densest), std::min(width, end)};
    }
    return best;
}

Bulk bulk_of(const uint8_t* data, size_t count, size_t end, size_t alone, Path path) {
    if (count < kMostLines * kTile) return {};
    constexpr size_t kSampled = 1 << 11;
    std::array<int64_t, 256> counts{};
    const size_t step = count / kSampled + 1;
    for (size_t i = 0; i < count; i += step) ++counts[data[i]];
    return bulk_of(counts.data(), end, alone, path);
}

void add_totals(const uint64_t* totals, const Bulk& bulk, int64_t* counts) {
    for (size_t b = 0; b < bulk.width; ++b, totals += kBinLanes) {
        counts[(bulk.first + b) & 255] += static_cast<int64_t>(std::accumulate(totals, totals + kBinLanes, uint64_t{0}));
    }
}

void histogram(const uint8_t* symbols, size_t count, int64_t* counts, Path path) {
    constexpr size_t kAlone = 26;
    const Bulk bulk = bulk_of(symbols, count, 256, kAlone, path);
    constexpr size_t kBlock = kMostLines * kTile;
    std::vector<uint32_t> lines(kMostLines), places(kBlock);
    std::iota(lines.begin(), lines.end(), 0);
    std::vector<uint64_t> totals(bulk.width * kBinLanes);
    const std::vector<uint8_t> all(kTile, 255);
    size_t at = 0;
    for (; bulk.width != 0 && at + kBlock <= count; at += kBlock) {
        over_bins({symbols + at, kTile, lines.data(), kMostLines}, bulk, path, [&](const Sums& sums, size_t number, size_t from) {
            add_columns(sums, number, all.data(), &totals[from * kBinLanes], path);
        });
        const size_t others = find_outside(symbols + at, kBlock, bulk.first, static_cast<uint8_t>(bulk.width), places.data(), path);
        for (size_t i = 0; i < others; ++i) ++counts[symbols[at + places[i]]];
    }
    add_totals(totals.data(), bulk, counts);
    // Bytes that vectors do not count are many different ones.
    const auto rest = count - at >= kPaired && has_avx2(path) ? histogram_pairs : histogram_plain;
    rest(symbols + at, count - at, counts);
}

namespace {

ATTAR_INLINE size_t window_plain(const uint8_t* ATTAR_ALONE bytes, size_t count, uint8_t low, uint8_t width,
                                 uint8_t* ATTAR_ALONE symbols) {
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

#if ATTAR_X86
ATTAR_AVX2 size_t window_avx2(const uint8_t* bytes, size_t count, uint8_t low, uint8_t width, uint8_t* symbols) {
    return window_plain(bytes, count, low, width, symbols);
}
#endif

}  // namespace

size_t window(const uint8_t* bytes, size_t count, uint8_t low, uint8_t width, uint8_t* symbols, Path path) {
#if ATTAR_X86
    if (has_avx2(path)) return window_avx2(bytes, count, low, width, symbols);
#endif
    (void)path;
    return window_plain(bytes, count, low, width, symbols);
}

}  // namespace attar
