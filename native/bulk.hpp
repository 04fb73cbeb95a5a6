// The few bytes that nearly all of an array are, which vectors count; the others are found and counted one by one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "bins.hpp"

namespace attar {

inline bool has_avx2(Path path) { return path == Path::avx2 || path == Path::avx512; }

// Bytes first .. first + width - 1, modulo 256, of which nearly all are; none where the others are too many to be counted
// one by one.
struct Bulk {
    uint8_t first = 0;
    size_t width = 0;
};

// The bulk that takes the least time, by how often each byte occurs; it holds none from `end` on. `alone` is how long a byte
// takes where all are counted one by one, in hundredths of a nanosecond.
Bulk bulk_of(const int64_t* counts, size_t end, size_t alone, Path path);
// The same by some of the bytes.
Bulk bulk_of(const uint8_t* data, size_t count, size_t end, size_t alone, Path path);

// counts[first + b, modulo 256] += totals[b][kBinLanes].
void add_totals(const uint64_t* totals, const Bulk& bulk, int64_t* counts);

// Adds what a strip has of the bulk to sums: act(sums of some bins, how many, where they begin in the bulk).
template <class Act>
void over_bins(const Strip& strip, const Bulk& bulk, Path path, Act act) {
    alignas(64) Sums sums;
    for (size_t from = 0; from < bulk.width; from += kBins) {
        const size_t number = std::min(kBins, bulk.width - from);
        count_bins(strip, static_cast<uint8_t>(bulk.first + from), number, sums, path);
        act(sums, number, from);
    }
}

}  // namespace attar
