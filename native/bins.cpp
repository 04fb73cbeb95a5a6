#include "bins.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "target.hpp"

namespace attar {

namespace {

// Vectors of as many bytes as the processor's: longer ones fall apart into single bytes.
#if defined(__GNUC__) || defined(__clang__)
using Bytes = uint8_t __attribute__((vector_size(16), aligned(1), may_alias));

void count_plain(const Strip& strip, uint8_t first, size_t number, Sums& out) {
    for (size_t at = 0; at < kTile; at += sizeof(Bytes)) {
        for (size_t b = 0; b < number; b += 4) {
            Bytes sums[4] = {}, wanted[4] = {};
            for (size_t k = 0; k < 4; ++k) wanted[k] += static_cast<uint8_t>(first + b + k);
            for (size_t i = 0; i < strip.count; ++i) {
                const Bytes line = *reinterpret_cast<const Bytes*>(strip.data + strip.line[i] * strip.stride + at);
                for (size_t k = 0; k < 4; ++k) sums[k] -= reinterpret_cast<Bytes>(line == wanted[k]);
            }
            for (size_t k = 0; k < 4; ++k) std::memcpy(out[b + k] + at, &sums[k], sizeof(Bytes));
        }
    }
}
#else
void count_plain(const Strip& strip, uint8_t first, size_t number, Sums& out) {
    std::memset(out, 0, sizeof out);
    for (size_t i = 0; i < strip.count; ++i) {
        const uint8_t* const line = strip.data + strip.line[i] * strip.stride;
        for (size_t j = 0; j < kTile; ++j) {
            const uint8_t b = static_cast<uint8_t>(line[j] - first);
            if (b < number) ++out[b][j];
        }
    }
}
#endif

#if ATTAR_X86
// Two bins to a byte: how often each occurs in up to 15 lines are four bits, which a look-up adds one to. It gives nothing
// for bytes from 128 on.
constexpr size_t kFew = 15;

inline __m128i pair_of(size_t bin) {
    std::array<uint8_t, 16> table{};
    table[bin] = 1;
    table[bin + 1] = 16;
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(table.data()));
}

// Bins `from` on, twice kPairs; kAny where bytes may be any, and bins begin at `first`.
template <bool kAny, size_t kPairs>
ATTAR_AVX2 ATTAR_INLINE void pairs_avx2(const Strip& strip, uint8_t first, size_t from, size_t at, Sums& out) {
    const __m256i low4 = _mm256_set1_epi8(15), less = _mm256_set1_epi8(static_cast<char>(first));
    __m256i table[kPairs], sums[2 * kPairs];
    for (size_t k = 0; k < kPairs; ++k) {
        table[k] = _mm256_broadcastsi128_si256(pair_of(from + 2 * k));
        sums[2 * k] = sums[2 * k + 1] = _mm256_setzero_si256();
    }
    for (size_t start = 0; start < strip.count; start += kFew) {
        __m256i few[kPairs];
        for (size_t k = 0; k < kPairs; ++k) few[k] = _mm256_setzero_si256();
        for (size_t i = start; i < std::min(start + kFew, strip.count); ++i) {
            const uint8_t* const place = strip.data + strip.line[i] * strip.stride + at;
            __m256i line = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(place));
            if (kAny) line = _mm256_adds_epu8(_mm256_sub_epi8(line, less), _mm256_set1_epi8(112));
            for (size_t k = 0; k < kPairs; ++k) few[k] = _mm256_add_epi8(few[k], _mm256_shuffle_epi8(table[k], line));
        }
        for (size_t k = 0; k < kPairs; ++k) {
            sums[2 * k] = _mm256_add_epi8(sums[2 * k], _mm256_and_si256(few[k], low4));
            sums[2 * k + 1] = _mm256_add_epi8(sums[2 * k + 1], _mm256_and_si256(_mm256_srli_epi16(few[k], 4), low4));
        }
    }
    for (size_t k = 0; k < 2 * kPairs; ++k) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out[from + k] + at), sums[k]);
}

template <bool kAny>
ATTAR_AVX2 void count_avx2(const Strip& strip, uint8_t first, size_t number, Sums& out) {
    for (size_t at = 0; at < kTile; at += 32) {
        for (size_t from = 0; from < number; from += 8) {
            if (number - from <= 2) pairs_avx2<kAny, 1>(strip, first, from, at, out);
            else if (number - from <= 4) pairs_avx2<kAny, 2>(strip, first, from, at, out);
            else if (number - from <= 6) pairs_avx2<kAny, 3>(strip, first, from, at, out);
            else pairs_avx2<kAny, 4>(strip, first, from, at, out);
        }
    }
}

template <bool kAny, size_t kPairs>
ATTAR_AVX512 ATTAR_INLINE void pairs_avx512(const Strip& strip, uint8_t first, size_t from, Sums& out) {
    const __m512i low4 = _mm512_set1_epi8(15), less = _mm512_set1_epi8(static_cast<char>(first));
    __m512i table[kPairs], sums[2 * kPairs];
    for (size_t k = 0; k < kPairs; ++k) {
        table[k] = _mm512_broadcast_i32x4(pair_of(from + 2 * k));
        sums[2 * k] = sums[2 * k + 1] = _mm512_setzero_si512();
    }
    for (size_t start = 0; start < strip.count; start += kFew) {
        __m512i few[kPairs];
        for (size_t k = 0; k < kPairs; ++k) few[k] = _mm512_setzero_si512();
        for (size_t i = start; i < std::min(start + kFew, strip.count); ++i) {
            __m512i line = _mm512_loadu_si512(strip.data + strip.line[i] * strip.stride);
            if (kAny) line = _mm512_adds_epu8(_mm512_sub_epi8(line, less), _mm512_set1_epi8(112));
            for (size_t k = 0; k < kPairs; ++k) few[k] = _mm512_add_epi8(few[k], _mm512_shuffle_epi8(table[k], line));
        }
        for (size_t k = 0; k < kPairs; ++k) {
            sums[2 * k] = _mm512_add_epi8(sums[2 * k], _mm512_and_si512(few[k], low4));
            sums[2 * k + 1] = _mm512_add_epi8(sums[2 * k + 1], _mm512_and_si512(_mm512_srli_epi16(few[k], 4), low4));
        }
    }
    for (size_t k = 0; k < 2 * kPairs; ++k) _mm512_storeu_si512(out[from + k], sums[k]);
}

template <bool kAny>
ATTAR_AVX512 void count_avx512(const Strip& strip, uint8_t first, size_t number, Sums& out) {
    switch ((number + 1) / 2) {
        case 1: return pairs_avx512<kAny, 1>(strip, first, 0, out);
        case 2: return pairs_avx512<kAny, 2>(strip, first, 0, out);
        case 3: return pairs_avx512<kAny, 3>(strip, first, 0, out);
        case 4: return pairs_avx512<kAny, 4>(strip, first, 0, out);
        case 5: return pairs_avx512<kAny, 5>(strip, first, 0, out);
        case 6: return pairs_avx512<kAny, 6>(strip, first, 0, out);
        case 7: return pairs_avx512<kAny, 7>(strip, first, 0, out);
        default: return pairs_avx512<kAny, 8>(strip, first, 0, out);
    }
}

ATTAR_AVX2 void add_avx2(const Sums& sums, size_t number, const uint8_t* mask, uint64_t* to) {
    const __m256i* const wanted = reinterpret_cast<const __m256i*>(mask);
    const __m256i zero = _mm256_setzero_si256();
    for (size_t b = 0; b < number; ++b, to += kBinLanes) {
        const __m256i* const from = reinterpret_cast<const __m256i*>(sums[b]);
        __m256i* const place = reinterpret_cast<__m256i*>(to);
        const __m256i low = _mm256_and_si256(_mm256_loadu_si256(from), _mm256_loadu_si256(wanted));
        const __m256i high = _mm256_and_si256(_mm256_loadu_si256(from + 1), _mm256_loadu_si256(wanted + 1));
        const __m256i more = _mm256_add_epi64(_mm256_sad_epu8(low, zero), _mm256_sad_epu8(high, zero));
        _mm256_storeu_si256(place, _mm256_add_epi64(_mm256_loadu_si256(place), more));
    }
}

ATTAR_AVX512 void add_avx512(const Sums& sums, size_t number, const uint8_t* mask, uint64_t* to) {
    const __m512i wanted = _mm512_loadu_si512(mask);
    for (size_t b = 0; b < number; ++b, to += kBinLanes) {
        const __m512i more = _mm512_sad_epu8(_mm512_and_si512(_mm512_loadu_si512(sums[b]), wanted), _mm512_setzero_si512());
        _mm512_storeu_si512(to, _mm512_add_epi64(_mm512_loadu_si512(to), more));
    }
}

// Places of the ones, plus `at`.
ATTAR_INLINE uint32_t* put_places(uint64_t ones, size_t at, uint32_t* places) {
    for (; ones != 0; ones &= ones - 1) *places++ = static_cast<uint32_t>(at + static_cast<size_t>(__builtin_ctzll(ones)));
    return places;
}

ATTAR_AVX2 size_t outside_avx2(const uint8_t* data, size_t count, uint8_t first, uint8_t width, uint32_t* places) {
    const __m256i less = _mm256_set1_epi8(static_cast<char>(first)), last = _mm256_set1_epi8(static_cast<char>(width - 1));
    uint32_t* to = places;
    size_t at = 0;
    for (; at + 32 <= count; at += 32) {
        const __m256i line = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + at));
        const __m256i beyond = _mm256_subs_epu8(_mm256_sub_epi8(line, less), last);
        const int within = _mm256_movemask_epi8(_mm256_cmpeq_epi8(beyond, _mm256_setzero_si256()));
        to = put_places(static_cast<uint32_t>(~within), at, to);
    }
    for (; at < count; ++at) {
        if (static_cast<uint8_t>(data[at] - first) >= width) *to++ = static_cast<uint32_t>(at);
    }
    return static_cast<size_t>(to - places);
}

ATTAR_AVX512 size_t outside_avx512(const uint8_t* data, size_t count, uint8_t first, uint8_t width, uint32_t* places) {
    const __m512i less = _mm512_set1_epi8(static_cast<char>(first)), bound = _mm512_set1_epi8(static_cast<char>(width));
    uint32_t* to = places;
    for (size_t at = 0; at < count; at += 64) {
        const __mmask64 some = count - at < 64 ? (uint64_t{1} << (count - at)) - 1 : ~uint64_t{0};
        const __m512i line = _mm512_sub_epi8(_mm512_maskz_loadu_epi8(some, data + at), less);
        to = put_places(_mm512_mask_cmpge_epu8_mask(some, line, bound), at, to);
    }
    return static_cast<size_t>(to - places);
}
#endif

template <bool kAny>
void count(const Strip& strip, uint8_t first, size_t number, Sums& out, Path path) {
#if ATTAR_X86
    if (path == Path::avx512) return count_avx512<kAny>(strip, first, number, out);
    if (path == Path::avx2) return count_avx2<kAny>(strip, first, number, out);
#endif
    (void)path;
    count_plain(strip, first, number, out);
}

}  // namespace

void count_bins(const Strip& strip, uint8_t first, size_t number, Sums& out, Path path) {
    count<true>(strip, first, number, out, path);
}

void count_buckets(const Strip& strip, size_t number, Sums& out, Path path) { count<false>(strip, 0, number, out, path); }

void add_columns(const Sums& sums, size_t number, const uint8_t* mask, uint64_t* to, Path path) {
#if ATTAR_X86
    if (path == Path::avx512) return add_avx512(sums, number, mask, to);
    if (path == Path::avx2) return add_avx2(sums, number, mask, to);
#endif
    (void)path;
    for (size_t b = 0; b < number; ++b, to += kBinLanes) {
        for (size_t j = 0; j < kTile; ++j) to[0] += sums[b][j] & mask[j];
    }
}

size_t find_outside(const uint8_t* data, size_t count, uint8_t first, uint8_t width, uint32_t* places, Path path) {
#if ATTAR_X86
    if (path == Path::avx512) return outside_avx512(data, count, first, width, places);
    if (path == Path::avx2) return outside_avx2(data, count, first, width, places);
#endif
    (void)path;
    size_t found = 0;
    for (size_t i = 0; i < count; ++i) {
        if (static_cast<uint8_t>(data[i] - first) >= width) places[found++] = static_cast<uint32_t>(i);
    }
    return found;
}

}  // namespace attar
