// The encoder's steps with AVX-512: 16 states a vector, in the order of words, so that words leave by one compression.
#include "entries_x86.hpp"
#include "rans.hpp"
#include "target.hpp"

namespace attar {

#if ATTAR_X86

namespace {

// Frequency, start and whether the symbol is missing, as EncodeTables packs them, for 16 symbols below kSize; any where it is 0.
template <size_t kSize, bool kGather>
struct Lookup {
    __m512i part[kSize == 0 ? 1 : kSize / 16];
    const uint32_t* packed;

    ATTAR_AVX512 ATTAR_INLINE explicit Lookup(const uint32_t* packed_) : packed(packed_) {
        for (size_t k = 0; k < kSize / 16; ++k) part[k] = _mm512_loadu_si512(packed + 16 * k);
    }
    // Of the 64 from part[first] on.
    ATTAR_AVX512 ATTAR_INLINE __m512i among(size_t first, __m512i symbol) const {
        const __m512i low = _mm512_permutex2var_epi32(part[first], symbol, part[first + 1]);
        const __m512i high = _mm512_permutex2var_epi32(part[first + 2], symbol, part[first + 3]);
        return _mm512_mask_mov_epi32(low, _mm512_test_epi32_mask(symbol, _mm512_set1_epi32(32)), high);
    }
    ATTAR_AVX512 ATTAR_INLINE __m512i operator()(__m512i symbol) const {
        if constexpr (kSize == 0) return load_entries<kGather>(packed, symbol);
        else if constexpr (kSize == 64) return among(0, symbol);
        else return _mm512_mask_mov_epi32(among(0, symbol), _mm512_test_epi32_mask(symbol, _mm512_set1_epi32(64)), among(4, symbol));
    }
};

// 16 symbols, or those that are active, into 16 states; the words that they let go are put before `first`.
template <size_t kSize, bool kGather>
ATTAR_AVX512 ATTAR_INLINE __m512i push(__m512i x, __mmask16 active, __m512i symbol, const Lookup<kSize, kGather>& lookup,
                                       const uint16_t* slots, uint16_t*& first, __m512i& seen) {
    const __m512i share = lookup(symbol), before = x;
    seen = _mm512_mask_or_epi32(seen, active, seen, share);
    const __m512i frequency = _mm512_and_si512(share, _mm512_set1_epi32(0x1fff));
    // Also of states that are not active, whose slots are looked up like all.
    const __mmask16 beyond = _mm512_cmpge_epu32_mask(_mm512_srli_epi32(x, 32 - kBits), frequency);
    const __mmask16 full = beyond & active;
    const unsigned count = static_cast<unsigned>(__builtin_popcount(full));
    // The words stand at the end of 16, of which those before are overwritten by later ones.
    const __m512i iota = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i turn = _mm512_add_epi32(iota, _mm512_set1_epi32(static_cast<int>(count)));
    const __m512i words = _mm512_permutexvar_epi32(turn, _mm512_maskz_compress_epi32(full, x));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(first - 16), _mm512_cvtepi32_epi16(words));
    first -= count;
    x = _mm512_mask_srli_epi32(x, beyond, x, 16);
    // The quotient is below 2^20: in single precision, rounded down at every step, it is right or one too small.
    constexpr int kDown = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
    const __m512 ratio = _mm512_div_round_ps(_mm512_cvt_roundepu32_ps(x, kDown), _mm512_cvtepi32_ps(frequency), kDown);
    __m512i quotient = _mm512_cvttps_epi32(ratio);
    __m512i rest = _mm512_sub_epi32(x, _mm512_mullo_epi32(quotient, frequency));
    const __mmask16 below = _mm512_cmpge_epi32_mask(rest, frequency);
    quotient = _mm512_mask_sub_epi32(quotient, below, quotient, _mm512_set1_epi32(-1));
    rest = _mm512_mask_sub_epi32(rest, below, rest, frequency);
    __m512i slot = _mm512_add_epi32(_mm512_and_si512(_mm512_srli_epi32(share, 13), _mm512_set1_epi32(0xfff)), rest);
    // Slots are cumulative but in an alias layout. Two are read, of which the first is meant.
    if (kSize != 0) slot = _mm512_and_si512(load_entries<kGather>(slots, slot), _mm512_set1_epi32(0xffff));
    return _mm512_mask_add_epi32(before, active, _mm512_slli_epi32(quotient, kBits), slot);
}

// The 32 symbols of a group, or the first `left` of them, of which the bytes are given back.
template <size_t kSize, bool kGather>
ATTAR_AVX512 ATTAR_INLINE __m256i push_group(__m512i* x, const uint8_t* symbols, size_t left, const Lookup<kSize, kGather>& lookup,
                                             const uint16_t* slots, uint16_t*& first, __m512i& seen) {
    const __mmask32 some = left >= 32 ? ~__mmask32{0} : (__mmask32{1} << left) - 1;
    const __m256i pair = _mm256_maskz_loadu_epi8(some, symbols);
    const __m512i odds = _mm512_cvtepu16_epi32(_mm256_srli_epi16(pair, 8));
    const __m512i evens = _mm512_cvtepu16_epi32(_mm256_and_si256(pair, _mm256_set1_epi16(0xff)));
    const __mmask16 even = static_cast<__mmask16>(left >= 32 ? 0xffff : (1u << (left + 1) / 2) - 1);
    const __mmask16 odd = static_cast<__mmask16>(left >= 32 ? 0xffff : (1u << left / 2) - 1);
    x[1] = push<kSize, kGather>(x[1], odd, odds, lookup, slots, first, seen);
    x[0] = push<kSize, kGather>(x[0], even, evens, lookup, slots, first, seen);
    return pair;
}

template <size_t kSize, bool kGather, int kGroups>
ATTAR_AVX512 uint32_t steps(const uint8_t* symbols, size_t count, const uint32_t* packed, const uint16_t* slots,
                            uint32_t* state, uint16_t*& first) {
    const Lookup<kSize, kGather> lookup(packed);
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
    __m512i x[2 * kGroups], seen = _mm512_setzero_si512();
    __m256i bytes = _mm256_setzero_si256();
    for (int g = 0; g < kGroups; ++g) {
        const __m512i low = _mm512_loadu_si512(state + 32 * g), high = _mm512_loadu_si512(state + 32 * g + 16);
        x[2 * g] = _mm512_permutex2var_epi32(low, even, high);
        x[2 * g + 1] = _mm512_permutex2var_epi32(low, odd, high);
    }
    uint16_t* word = first;
    size_t at = count / (32 * kGroups) * (32 * kGroups);
    for (int g = kGroups - 1; g >= 0; --g) {
        const size_t start = at + 32 * static_cast<size_t>(g);
        if (start >= count) continue;
        bytes = _mm256_or_si256(bytes, push_group(x + 2 * g, symbols + start, count - start, lookup, slots, word, seen));
    }
    while (at > 0) {
        at -= 32 * kGroups;
        for (int g = kGroups - 1; g >= 0; --g) {
            const uint8_t* const from = symbols + at + 32 * static_cast<size_t>(g);
            bytes = _mm256_or_si256(bytes, push_group(x + 2 * g, from, 32, lookup, slots, word, seen));
        }
    }
    first = word;
    const __m512i front = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i back = _mm512_add_epi32(front, _mm512_set1_epi32(8));
    for (int g = 0; g < kGroups; ++g) {
        _mm512_storeu_si512(state + 32 * g, _mm512_permutex2var_epi32(x[2 * g], front, x[2 * g + 1]));
        _mm512_storeu_si512(state + 32 * g + 16, _mm512_permutex2var_epi32(x[2 * g], back, x[2 * g + 1]));
    }
    // Symbols from kSize on lie beyond the table.
    const bool beyond = kSize != 0 && _mm256_testz_si256(bytes, _mm256_set1_epi8(static_cast<char>(256 - kSize))) == 0;
    return beyond ? 1 : static_cast<uint32_t>(_mm512_cmplt_epi32_mask(seen, _mm512_setzero_si512()));
}

template <size_t kSize, bool kGather>
uint32_t any(const uint8_t* symbols, size_t count, size_t lanes, const uint32_t* packed, const uint16_t* slots, uint32_t* state,
             uint16_t*& first) {
    if (lanes == 128) return steps<kSize, kGather, 4>(symbols, count, packed, slots, state, first);
    if (lanes == 64) return steps<kSize, kGather, 2>(symbols, count, packed, slots, state, first);
    return steps<kSize, kGather, 1>(symbols, count, packed, slots, state, first);
}

}  // namespace

uint32_t encode_avx512(const EncodeTables& tables, size_t table, const uint8_t* symbols, size_t count, size_t lanes,
                       uint32_t* state, uint16_t*& first) {
    const uint32_t* packed = tables.packed(table);
    const uint16_t* slots = tables.slots(table);
    const auto run = tables.buckets() == 0          ? (gathers() ? any<0, true> : any<0, false>)
                     : tables.buckets() == kBuckets ? (gathers() ? any<kBuckets, true> : any<kBuckets, false>)
                                                    : (gathers() ? any<kMostBuckets, true> : any<kMostBuckets, false>);
    return run(symbols, count, lanes, packed, slots, state, first);
}

#else

uint32_t encode_avx512(const EncodeTables&, size_t, const uint8_t*, size_t, size_t, uint32_t*, uint16_t*&) { return 0; }

#endif

}  // namespace attar
