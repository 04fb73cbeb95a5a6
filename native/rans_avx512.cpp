// The AVX-512 path keeps an alias table in eight vector registers and advances 32 lanes at a time: even lanes in one vector,
// odd lanes in another, their symbols interleaved as 16-bit numbers.
#include "entries_x86.hpp"
#include "rans.hpp"
#include "target.hpp"

namespace attar {

#ifdef ATTAR_X86

namespace {

struct Registers {
    __m512i frequency[2], theirs[2], split[2], shift[2];
};

ATTAR_AVX512 ATTAR_INLINE __m512i look_up(const __m512i* table, __m512i index) {
    return _mm512_permutex2var_epi16(table[0], index, table[1]);
}

// Bit by bit, the first where the mask is set, else the second.
ATTAR_AVX512 ATTAR_INLINE __m512i choose(__m512i mask, __m512i first, __m512i second) {
    return _mm512_ternarylogic_epi32(mask, first, second, 0xca);
}

// Read 16-bit words into the lanes below 2^16 that are active, in lane order.
ATTAR_AVX512 ATTAR_INLINE __m512i refill(__m512i x, __mmask16 active, const uint8_t*& word) {
    __mmask16 low = _mm512_mask_cmple_epu32_mask(active, x, _mm512_set1_epi32(0xffff));
    __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(word)));
    word += 2 * static_cast<size_t>(__builtin_popcount(low));
    return _mm512_mask_or_epi32(x, low, _mm512_slli_epi32(x, 16), _mm512_maskz_expand_epi32(low, words));
}

// One symbol out of each of 32 lanes (those in the masks); the symbols as 16-bit numbers.
ATTAR_AVX512 ATTAR_INLINE __m512i step(const Registers& table, __m512i& even, __m512i& odd, __mmask16 evens,
                                       __mmask16 odds, const uint8_t*& word) {
    const __m512i low6 = _mm512_set1_epi16(63), low16 = _mm512_set1_epi32(0xffff);
    __m512i slot = _mm512_mask_blend_epi16(0xaaaaaaaa, even, _mm512_slli_epi32(odd, 16));
    // Look-ups see the lowest six bits of an index only.
    __m512i bucket = _mm512_srli_epi16(slot, 6);
    __m512i within = _mm512_and_si512(slot, low6);
    __m512i split = look_up(table.split, bucket);
    // All ones for the other symbol of the bucket: a comparison would have to go through a mask register, and back.
    __m512i other = _mm512_srai_epi16(_mm512_sub_epi16(split, _mm512_slli_epi16(within, 6)), 15);
    __m512i frequency = choose(other, look_up(table.theirs, bucket), look_up(table.frequency, bucket));
    __m512i position = _mm512_add_epi16(within, _mm512_and_si512(other, look_up(table.shift, bucket)));
    __m512i e = _mm512_mullo_epi32(_mm512_and_si512(frequency, low16), _mm512_srli_epi32(even, 12));
    __m512i o = _mm512_mullo_epi32(_mm512_srli_epi32(frequency, 16), _mm512_srli_epi32(odd, 12));
    e = _mm512_mask_add_epi32(even, evens, e, _mm512_and_si512(position, low16));
    o = _mm512_mask_add_epi32(odd, odds, o, _mm512_srli_epi32(position, 16));
    even = refill(e, evens, word);
    odd = refill(o, odds, word);
    return _mm512_and_si512(choose(other, split, bucket), low6);
}

// The same where a table is too large for registers.
template <bool kGather>
struct Entries {
    const uint32_t* data;
};

ATTAR_AVX512 ATTAR_INLINE __m512i advance(__m512i x, __mmask16 active, __m512i entry, const uint8_t*& word) {
    const __m512i low12 = _mm512_set1_epi32(0xfff);
    __m512i frequency = _mm512_add_epi32(_mm512_and_si512(_mm512_srli_epi32(entry, 12), low12), _mm512_set1_epi32(1));
    __m512i next = _mm512_mullo_epi32(frequency, _mm512_srli_epi32(x, 12));
    return refill(_mm512_mask_add_epi32(x, active, next, _mm512_and_si512(entry, low12)), active, word);
}

template <bool kGather>
ATTAR_AVX512 ATTAR_INLINE __m512i step(const Entries<kGather>& table, __m512i& even, __m512i& odd, __mmask16 evens,
                                       __mmask16 odds, const uint8_t*& word) {
    const __m512i low12 = _mm512_set1_epi32(0xfff);
    __m512i first = load_entries<kGather>(table.data, _mm512_and_si512(even, low12));
    __m512i second = load_entries<kGather>(table.data, _mm512_and_si512(odd, low12));
    even = advance(even, evens, first, word);
    odd = advance(odd, odds, second, word);
    return _mm512_or_si512(_mm512_srli_epi32(first, 24), _mm512_slli_epi32(_mm512_srli_epi32(second, 24), 16));
}

ATTAR_AVX512 ATTAR_INLINE Registers load(const Alias& alias) {
    Registers table;
    for (size_t k = 0; k < 2; ++k) {
        table.frequency[k] = _mm512_load_si512(alias.frequency + 32 * k);
        table.theirs[k] = _mm512_load_si512(alias.theirs + 32 * k);
        table.split[k] = _mm512_load_si512(alias.split + 32 * k);
        table.shift[k] = _mm512_load_si512(alias.shift + 32 * k);
    }
    return table;
}

template <size_t kGroups, class Table>
ATTAR_AVX512 ATTAR_INLINE size_t run512(const Table& table, uint8_t* symbols, size_t count, Cursor& cursor) {
    constexpr size_t lanes = 32 * kGroups;
    __m512i even[kGroups], odd[kGroups];
    for (size_t g = 0; g < kGroups; ++g) {
        even[g] = _mm512_load_si512(cursor.state + 32 * g);
        odd[g] = _mm512_load_si512(cursor.state + 32 * g + 16);
    }
    const uint8_t* word = cursor.word;
    Ahead ahead = cursor.ahead;
    size_t at = 0;
    for (; at + lanes <= count && static_cast<size_t>(cursor.readable - word) >= kAhead; at += lanes) {
        ahead.fetch(lanes);
        for (size_t g = 0; g < kGroups; ++g) {
            __m512i symbol = step(table, even[g], odd[g], 0xffff, 0xffff, word);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(symbols + at + 32 * g), _mm512_cvtepi16_epi8(symbol));
        }
    }
    if (at < count && at + lanes > count && static_cast<size_t>(cursor.readable - word) >= kAhead) {
        for (size_t g = 0; g < kGroups && at + 32 * g < count; ++g) {
            size_t left = count - at - 32 * g;
            uint32_t active = left >= 32 ? 0xffffffffu : (1u << left) - 1;
            __mmask16 evens = static_cast<__mmask16>((1u << (left >= 32 ? 16 : (left + 1) / 2)) - 1);
            __mmask16 odds = static_cast<__mmask16>((1u << (left >= 32 ? 16 : left / 2)) - 1);
            __m512i symbol = step(table, even[g], odd[g], evens, odds, word);
            _mm256_mask_storeu_epi8(symbols + at + 32 * g, active, _mm512_cvtepi16_epi8(symbol));
        }
        at = count;
    }
    for (size_t g = 0; g < kGroups; ++g) {
        _mm512_store_si512(cursor.state + 32 * g, even[g]);
        _mm512_store_si512(cursor.state + 32 * g + 16, odd[g]);
    }
    cursor.word = word;
    cursor.ahead = ahead;
    return at;
}

template <class Table>
ATTAR_AVX512 ATTAR_INLINE size_t run_any(const Table& table, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor) {
    if (lanes == 128) return run512<4>(table, symbols, count, cursor);
    return lanes == 64 ? run512<2>(table, symbols, count, cursor) : run512<1>(table, symbols, count, cursor);
}

}  // namespace

ATTAR_AVX512 size_t decode_avx512(const Alias& alias, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor) {
    return run_any(load(alias), symbols, count, lanes, cursor);
}

ATTAR_AVX512 size_t decode_avx512(const uint32_t* entries, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor) {
    if (gathers()) return run_any(Entries<true>{entries}, symbols, count, lanes, cursor);
    return run_any(Entries<false>{entries}, symbols, count, lanes, cursor);
}

#else

size_t decode_avx512(const Alias&, uint8_t*, size_t, size_t, Cursor&) { return 0; }

size_t decode_avx512(const uint32_t*, uint8_t*, size_t, size_t, Cursor&) { return 0; }

#endif

}  // namespace attar
