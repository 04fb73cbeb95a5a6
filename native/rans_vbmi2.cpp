// The AVX-512 path where bytes can be permuted and words expanded (VBMI, VBMI2): an alias table is six vectors of bytes, of
// which one instruction looks up 64; a wide one twelve, two for each look-up. The halves of 32 states are two vectors of words, so that a step of theirs takes
// multiplications of words only, and words are read by as many lanes at once.
#include "path.hpp"
#include "rans.hpp"
#include "target.hpp"

namespace attar {

#ifdef ATTAR_X86

namespace {

#if defined(__clang__)
#define ATTAR_VBMI2 \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,popcnt"), min_vector_width(512)))
#else
#define ATTAR_VBMI2 \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,popcnt,prefer-vector-width=512")))
#endif

template <bool kWide>
struct Bytes {
    __m512i part[kWide ? 2 : 1];
};

// A table's bytes by bucket, those of `scaled` by symbol; of words the low and the high bytes.
template <bool kWide>
struct Registers {
    Bytes<kWide> divider, other, scaled[2], shift[2];
};

// Look-ups see the lowest six bits of an index only, or seven.
ATTAR_VBMI2 ATTAR_INLINE __m512i look_up(const Bytes<false>& table, __m512i index) {
    return _mm512_permutexvar_epi8(index, table.part[0]);
}

ATTAR_VBMI2 ATTAR_INLINE __m512i look_up(const Bytes<true>& table, __m512i index) {
    return _mm512_permutex2var_epi8(table.part[0], index, table.part[1]);
}

// Zeros, or bytes of `rest`, where the mask is not set.
ATTAR_VBMI2 ATTAR_INLINE __m512i look_up(__mmask64 mask, const Bytes<false>& table, __m512i index) {
    return _mm512_maskz_permutexvar_epi8(mask, index, table.part[0]);
}

ATTAR_VBMI2 ATTAR_INLINE __m512i look_up(__mmask64 mask, const Bytes<true>& table, __m512i index) {
    return _mm512_maskz_permutex2var_epi8(mask, table.part[0], index, table.part[1]);
}

ATTAR_VBMI2 ATTAR_INLINE __m512i look_up(__m512i rest, __mmask64 mask, const Bytes<false>& table, __m512i index) {
    return _mm512_mask_permutexvar_epi8(rest, mask, index, table.part[0]);
}

ATTAR_VBMI2 ATTAR_INLINE __m512i look_up(__m512i rest, __mmask64 mask, const Bytes<true>& table, __m512i index) {
    return _mm512_mask_mov_epi8(rest, mask, look_up(table, index));
}

// The states of 32 lanes in the order of words: their low and their high halves, one after the other in a cursor.
struct Halves {
    __m512i low, high;
};

// The words of two groups as bytes: the first one's are the even bytes.
struct Pair {
    __m512i even, odd;
};

ATTAR_VBMI2 ATTAR_INLINE __m512i choose(__m512i mask, __m512i first, __m512i second) {
    return _mm512_ternarylogic_epi32(mask, first, second, 0xca);
}

// Low and high bytes of two groups into words of each.
ATTAR_VBMI2 ATTAR_INLINE Pair words_of(__m512i low, __m512i high) {
    const __m512i evens = _mm512_set1_epi16(0xff);
    return {choose(evens, low, _mm512_slli_epi16(high, 8)), choose(evens, _mm512_srli_epi16(low, 8), high)};
}

// Lanes below 2^16 that are active read a word each.
ATTAR_VBMI2 ATTAR_INLINE void refill(Halves& x, __mmask32 active, const uint8_t*& word) {
    const __mmask32 empty = _mm512_mask_testn_epi16_mask(active, x.high, x.high);
    x.high = _mm512_mask_mov_epi16(x.high, empty, x.low);
    x.low = _mm512_mask_expand_epi16(x.low, empty, _mm512_loadu_si512(word));
    word += 2 * static_cast<size_t>(__builtin_popcount(empty));
}

// x = f * (x >> 12) + position, given 16 f, so that no product needs to be shifted; kOnly where f is 4096, which is then
// one bit too long.
template <bool kWide, bool kOnly>
ATTAR_VBMI2 ATTAR_INLINE void advance(Halves& x, __mmask32 active, __m512i scaled, __m512i shift) {
    const __m512i position = _mm512_add_epi16(_mm512_and_si512(x.low, _mm512_set1_epi16(kWide ? 31 : 63)), shift);
    const __m512i nibble = _mm512_and_si512(x.low, _mm512_set1_epi16(static_cast<int16_t>(0xf000)));
    if (kOnly) {
        x.low = _mm512_mask_add_epi16(x.low, active, nibble, position);
        return;
    }
    // At most 15 f + f - 1: a word.
    const __m512i rest = _mm512_add_epi16(_mm512_mulhi_epu16(scaled, nibble), position);
    const __m512i product = _mm512_mullo_epi16(scaled, x.high), high = _mm512_mulhi_epu16(scaled, x.high);
    const __m512i low = _mm512_add_epi16(product, rest);
    const __mmask32 carry = _mm512_cmplt_epu16_mask(low, product);
    x.high = _mm512_mask_mov_epi16(x.high, active, _mm512_mask_sub_epi16(high, carry, high, _mm512_set1_epi16(-1)));
    x.low = _mm512_mask_mov_epi16(x.low, active, low);
}

// One symbol out of each of 64 lanes, or of 32 (those in the masks): bytes of a step's two groups.
template <bool kBoth, bool kOnly, bool kWide>
ATTAR_VBMI2 ATTAR_INLINE __m512i step(const Registers<kWide>& table, Halves* x, const __mmask32* active, const uint8_t*& word) {
    const __m512i evens = _mm512_set1_epi16(0xff);
    // Slots times four, or eight: bytes of that times what is within a bucket, and of the bucket.
    const __m512i first = _mm512_slli_epi16(x[0].low, kWide ? 3 : 2);
    const __m512i second = kBoth ? _mm512_slli_epi16(x[1].low, kWide ? 3 : 2) : first;
    const __m512i bucket = choose(evens, _mm512_srli_epi16(first, 8), second);
    const __m512i within = choose(evens, first, _mm512_slli_epi16(second, 8));
    const __mmask64 other = _mm512_cmpge_epu8_mask(within, look_up(table.divider, bucket));
    const __m512i own = _mm512_and_si512(bucket, _mm512_set1_epi8(kWide ? 127 : 63));
    const __m512i symbol = look_up(own, other, table.other, bucket);
    const Pair scaled = words_of(look_up(table.scaled[0], symbol), look_up(table.scaled[1], symbol));
    const Pair shift = words_of(look_up(other, table.shift[0], bucket), look_up(other, table.shift[1], bucket));
    advance<kWide, kOnly>(x[0], active[0], scaled.even, shift.even);
    refill(x[0], active[0], word);
    if (kBoth) {
        advance<kWide, kOnly>(x[1], active[1], scaled.odd, shift.odd);
        refill(x[1], active[1], word);
    }
    return symbol;
}

// Bytes from the order of words, two groups in turn, to that of the symbols; of one group the first 32.
ATTAR_VBMI2 ATTAR_INLINE __m512i ordered(__m512i symbol) {
    alignas(64) static constexpr uint8_t kOrder[64] = {
        0,  32, 2,  34, 4,  36, 6,  38, 8,  40, 10, 42, 12, 44, 14, 46,  //
        16, 48, 18, 50, 20, 52, 22, 54, 24, 56, 26, 58, 28, 60, 30, 62,  //
        1,  33, 3,  35, 5,  37, 7,  39, 9,  41, 11, 43, 13, 45, 15, 47,  //
        17, 49, 19, 51, 21, 53, 23, 55, 25, 57, 27, 59, 29, 61, 31, 63};
    return _mm512_permutexvar_epi8(_mm512_load_si512(kOrder), symbol);
}

ATTAR_VBMI2 ATTAR_INLINE Halves load(const uint32_t* state) {
    return {_mm512_load_si512(state), _mm512_load_si512(state + 16)};
}

ATTAR_VBMI2 ATTAR_INLINE void store(const Halves& x, uint32_t* state) {
    _mm512_store_si512(state, x.low);
    _mm512_store_si512(state + 16, x.high);
}

// The first lanes of a group, for some symbols of it.
ATTAR_INLINE __mmask32 lanes_of(size_t symbols) {
    if (symbols >= 32) return ~__mmask32{0};
    return ((1u << (symbols + 1) / 2) - 1) | ((1u << symbols / 2) - 1) << 16;
}

template <size_t kGroups, bool kOnly, bool kWide>
ATTAR_VBMI2 ATTAR_INLINE size_t run_groups(const Registers<kWide>& table, uint8_t* symbols, size_t count, Cursor& cursor) {
    constexpr size_t lanes = 32 * kGroups, kAtOnce = kGroups == 1 ? 1 : 2;
    const __mmask32 all[2] = {~__mmask32{0}, ~__mmask32{0}};
    Halves x[kGroups];
    for (size_t g = 0; g < kGroups; ++g) x[g] = load(cursor.state + 32 * g);
    const uint8_t* word = cursor.word;
    Ahead ahead = cursor.ahead;
    size_t at = 0;
    for (; at + lanes <= count && static_cast<size_t>(cursor.readable - word) >= kAhead; at += lanes) {
        ahead.fetch(lanes);
        for (size_t g = 0; g < kGroups; g += kAtOnce) {
            const __m512i symbol = ordered(step<kAtOnce == 2, kOnly, kWide>(table, x + g, all, word));
            uint8_t* const to = symbols + at + 32 * g;
            if (kAtOnce == 2) _mm512_storeu_si512(to, symbol);
            else _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(symbol));
        }
    }
    if (at < count && at + lanes > count && static_cast<size_t>(cursor.readable - word) >= kAhead) {
        for (size_t g = 0; g < kGroups && at + 32 * g < count; g += kAtOnce) {
            const size_t left = count - at - 32 * g;
            const __mmask32 active[2] = {lanes_of(left), left > 32 ? lanes_of(left - 32) : 0};
            const __m512i symbol = ordered(step<kAtOnce == 2, kOnly, kWide>(table, x + g, active, word));
            const __mmask64 some = left >= 32 * kAtOnce ? ~__mmask64{0} >> (64 - 32 * kAtOnce) : (__mmask64{1} << left) - 1;
            _mm512_mask_storeu_epi8(symbols + at + 32 * g, some, symbol);
        }
        at = count;
    }
    for (size_t g = 0; g < kGroups; ++g) store(x[g], cursor.state + 32 * g);
    cursor.word = word;
    cursor.ahead = ahead;
    return at;
}

template <bool kOnly, bool kWide>
ATTAR_VBMI2 ATTAR_INLINE size_t run_any(const Registers<kWide>& table, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor) {
    if (lanes == 128) return run_groups<4, kOnly>(table, symbols, count, cursor);
    if (lanes == 64) return run_groups<2, kOnly>(table, symbols, count, cursor);
    return run_groups<1, kOnly>(table, symbols, count, cursor);
}

template <bool kWide>
ATTAR_VBMI2 ATTAR_INLINE Bytes<kWide> load(const uint8_t* bytes) {
    Bytes<kWide> loaded;
    for (size_t k = 0; k < (kWide ? 2 : 1); ++k) loaded.part[k] = _mm512_load_si512(bytes + 64 * k);
    return loaded;
}

template <bool kWide>
ATTAR_VBMI2 ATTAR_INLINE Registers<kWide> load(const AliasBytes& alias) {
    return {load<kWide>(alias.divider), load<kWide>(alias.other), {load<kWide>(alias.scaled[0]), load<kWide>(alias.scaled[1])},
            {load<kWide>(alias.shift[0]), load<kWide>(alias.shift[1])}};
}

template <bool kWide>
ATTAR_VBMI2 size_t decode_one(const AliasBytes& alias, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor) {
    const Registers<kWide> table = load<kWide>(alias);
    if (alias.only) return run_any<true>(table, symbols, count, lanes, cursor);
    return run_any<false>(table, symbols, count, lanes, cursor);
}

// The tables do not fit the registers: most of their look-ups read them from memory, which costs less than to wait. Nothing is
// fetched ahead: the symbols of two chunks fill the nearer cache.
template <bool kWide>
ATTAR_VBMI2 size_t decode_two(const AliasBytes* const* alias, uint8_t* const* symbols, size_t count, Cursor* const* cursor) {
    constexpr size_t kGroups = kMaxLanes / 32;
    const __mmask32 all[2] = {~__mmask32{0}, ~__mmask32{0}};
    const Registers<kWide> table[2] = {load<kWide>(*alias[0]), load<kWide>(*alias[1])};
    Halves x[2][kGroups];
    for (size_t k = 0; k < 2; ++k) {
        for (size_t g = 0; g < kGroups; ++g) x[k][g] = load(cursor[k]->state + 32 * g);
    }
    const uint8_t* word[2] = {cursor[0]->word, cursor[1]->word};
    const uint8_t* const last[2] = {cursor[0]->readable - kAhead, cursor[1]->readable - kAhead};
    size_t at = 0;
    for (; at + kMaxLanes <= count && word[0] <= last[0] && word[1] <= last[1]; at += kMaxLanes) {
        for (size_t g = 0; g < kGroups; g += 2) {
            for (size_t k = 0; k < 2; ++k) {
                _mm512_storeu_si512(symbols[k] + at + 32 * g, ordered(step<true, false>(table[k], x[k] + g, all, word[k])));
            }
        }
    }
    for (size_t k = 0; k < 2; ++k) {
        for (size_t g = 0; g < kGroups; ++g) store(x[k][g], cursor[k]->state + 32 * g);
        cursor[k]->word = word[k];
    }
    return at;
}

}  // namespace

bool has_vbmi2() {
    static const bool has =
        !plain_avx512() && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
    return has;
}

size_t decode_vbmi2(const AliasBytes& alias, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor) {
    if (alias.wide) return decode_one<true>(alias, symbols, count, lanes, cursor);
    return decode_one<false>(alias, symbols, count, lanes, cursor);
}

size_t decode_two_vbmi2(const AliasBytes* const* alias, uint8_t* const* symbols, size_t count, Cursor* const* cursor) {
    if (alias[0]->wide) return decode_two<true>(alias, symbols, count, cursor);
    return decode_two<false>(alias, symbols, count, cursor);
}

#else

bool has_vbmi2() { return false; }

size_t decode_vbmi2(const AliasBytes&, uint8_t*, size_t, size_t, Cursor&) { return 0; }

size_t decode_two_vbmi2(const AliasBytes* const*, uint8_t* const*, size_t, Cursor* const*) { return 0; }

#endif

}  // namespace attar
