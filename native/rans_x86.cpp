// The x86 paths. AVX-512 keeps an alias table in six vector registers and advances 32 lanes at a time; AVX2 looks entries
// up by plain loads, which on the processors that we measured are over twice as fast as its gather instruction.
#include "rans.hpp"
#include "target.hpp"

namespace attar {

#ifdef ATTAR_X86

namespace {

// ---- AVX-512: even lanes in one vector, odd lanes in another, their symbols interleaved as 16-bit numbers.

struct Registers {
    __m512i frequency[2], split[2], shift[2];
};

ATTAR_AVX512 ATTAR_INLINE __m512i look_up(const __m512i* table, __m512i index) {
    return _mm512_permutex2var_epi16(table[0], index, table[1]);
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
    __m512i bucket = _mm512_and_si512(_mm512_srli_epi16(slot, 6), low6);
    __m512i within = _mm512_and_si512(slot, low6);
    __m512i split = look_up(table.split, bucket);
    // (within << 10 | 1023) >= (divider << 10 | alias) exactly where within >= divider.
    __m512i shifted = _mm512_or_si512(_mm512_slli_epi16(slot, 10), _mm512_set1_epi16(1023));
    __mmask32 other = _mm512_cmpge_epu16_mask(shifted, split);
    __m512i symbol = _mm512_mask_blend_epi16(other, bucket, _mm512_and_si512(split, low6));
    __m512i frequency = look_up(table.frequency, symbol);
    __m512i position = _mm512_mask_add_epi16(within, other, within, look_up(table.shift, bucket));
    __m512i e = _mm512_mullo_epi32(_mm512_and_si512(frequency, low16), _mm512_srli_epi32(even, 12));
    __m512i o = _mm512_mullo_epi32(_mm512_srli_epi32(frequency, 16), _mm512_srli_epi32(odd, 12));
    e = _mm512_mask_add_epi32(even, evens, e, _mm512_and_si512(position, low16));
    o = _mm512_mask_add_epi32(odd, odds, o, _mm512_srli_epi32(position, 16));
    even = refill(e, evens, word);
    odd = refill(o, odds, word);
    return symbol;
}

// Sixteen even or odd lanes of 32.
ATTAR_AVX512 ATTAR_INLINE __m512i load_lanes(const uint32_t* state, int odd) {
    const __m512i index = _mm512_add_epi32(
        _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0), _mm512_set1_epi32(odd));
    return _mm512_permutex2var_epi32(_mm512_loadu_si512(state), index, _mm512_loadu_si512(state + 16));
}

ATTAR_AVX512 ATTAR_INLINE void store_lanes(uint32_t* state, __m512i even, __m512i odd) {
    const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    _mm512_storeu_si512(state, _mm512_permutex2var_epi32(even, low, odd));
    _mm512_storeu_si512(state + 16, _mm512_permutex2var_epi32(even, _mm512_add_epi32(low, _mm512_set1_epi32(8)), odd));
}

template <size_t kGroups>
ATTAR_AVX512 size_t run512(const Alias& alias, uint8_t* symbols, size_t count, Cursor& cursor) {
    constexpr size_t lanes = 32 * kGroups;
    Registers table;
    for (size_t k = 0; k < 2; ++k) {
        table.frequency[k] = _mm512_load_si512(alias.frequency + 32 * k);
        table.split[k] = _mm512_load_si512(alias.split + 32 * k);
        table.shift[k] = _mm512_load_si512(alias.shift + 32 * k);
    }
    __m512i even[kGroups], odd[kGroups];
    for (size_t g = 0; g < kGroups; ++g) {
        even[g] = load_lanes(cursor.state + 32 * g, 0);
        odd[g] = load_lanes(cursor.state + 32 * g, 1);
    }
    const uint8_t* word = cursor.word;
    size_t at = 0;
    for (; at + lanes <= count && static_cast<size_t>(cursor.end - word) >= 64 * kGroups; at += lanes) {
        for (size_t g = 0; g < kGroups; ++g) {
            __m512i symbol = step(table, even[g], odd[g], 0xffff, 0xffff, word);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(symbols + at + 32 * g), _mm512_cvtepi16_epi8(symbol));
        }
    }
    if (at < count && at + lanes > count && static_cast<size_t>(cursor.end - word) >= 64 * kGroups) {
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
    for (size_t g = 0; g < kGroups; ++g) store_lanes(cursor.state + 32 * g, even[g], odd[g]);
    cursor.word = word;
    return at;
}

// ---- AVX2: eight lanes a vector; in each group of 32 two vectors of even lanes, then two of odd ones.

// For each of the 256 masks of lanes that read a word: which word of the next eight each lane takes.
struct Spread {
    alignas(32) uint32_t index[256][8];
    Spread() {
        for (uint32_t mask = 0; mask < 256; ++mask) {
            uint32_t next = 0;
            for (uint32_t lane = 0; lane < 8; ++lane) {
                index[mask][lane] = next;
                next += mask >> lane & 1;
            }
        }
    }
};

const Spread& spread() {
    static const Spread table;
    return table;
}

ATTAR_AVX2 ATTAR_INLINE __m128i two(const uint32_t* entries, uint64_t slots) {
    return _mm_insert_epi32(_mm_cvtsi32_si128(static_cast<int>(entries[static_cast<uint32_t>(slots)])),
                            static_cast<int>(entries[slots >> 32]), 1);
}

ATTAR_AVX2 ATTAR_INLINE __m256i look_up(const uint32_t* entries, __m256i slot) {
    __m128i a = two(entries, static_cast<uint64_t>(_mm256_extract_epi64(slot, 0)));
    __m128i b = two(entries, static_cast<uint64_t>(_mm256_extract_epi64(slot, 1)));
    __m128i c = two(entries, static_cast<uint64_t>(_mm256_extract_epi64(slot, 2)));
    __m128i d = two(entries, static_cast<uint64_t>(_mm256_extract_epi64(slot, 3)));
    return _mm256_set_m128i(_mm_unpacklo_epi64(c, d), _mm_unpacklo_epi64(a, b));
}

// One symbol out of each of eight lanes, as 32-bit numbers.
ATTAR_AVX2 ATTAR_INLINE __m256i step(const uint32_t* entries, const Spread& order, __m256i& x, const uint8_t*& word) {
    const __m256i low12 = _mm256_set1_epi32(0xfff);
    __m256i entry = look_up(entries, _mm256_and_si256(x, low12));
    __m256i frequency = _mm256_add_epi32(_mm256_and_si256(_mm256_srli_epi32(entry, 12), low12), _mm256_set1_epi32(1));
    x = _mm256_add_epi32(_mm256_mullo_epi32(frequency, _mm256_srli_epi32(x, 12)), _mm256_and_si256(entry, low12));
    __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
    uint32_t mask = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(low)));
    __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(word)));
    words = _mm256_permutevar8x32_epi32(words, _mm256_load_si256(reinterpret_cast<const __m256i*>(order.index[mask])));
    x = _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_slli_epi32(x, 16), words), low);
    word += 2 * static_cast<size_t>(__builtin_popcount(mask));
    return _mm256_srli_epi32(entry, 24);
}

template <size_t kGroups>
ATTAR_AVX2 size_t run256(const uint32_t* entries, uint8_t* symbols, size_t count, Cursor& cursor) {
    constexpr size_t lanes = 32 * kGroups;
    const Spread& order = spread();
    alignas(32) uint32_t sorted[lanes];
    for (size_t i = 0; i < lanes; ++i) sorted[i] = cursor.state[(i & ~size_t{31}) | (i & 15) << 1 | (i >> 4 & 1)];
    __m256i x[4 * kGroups];
    for (size_t v = 0; v < 4 * kGroups; ++v) x[v] = _mm256_load_si256(reinterpret_cast<const __m256i*>(sorted + 8 * v));
    const uint8_t* word = cursor.word;
    size_t at = 0;
    for (; at + lanes <= count && static_cast<size_t>(cursor.end - word) >= 2 * lanes + 16; at += lanes) {
        for (size_t g = 0; g < kGroups; ++g) {
            __m256i symbol[4];
            for (size_t v = 0; v < 4; ++v) symbol[v] = step(entries, order, x[4 * g + v], word);
            __m256i first = _mm256_or_si256(symbol[0], _mm256_slli_epi32(symbol[2], 16));
            __m256i second = _mm256_or_si256(symbol[1], _mm256_slli_epi32(symbol[3], 16));
            __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(first, second), 0xd8);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(symbols + at + 32 * g), bytes);
        }
    }
    for (size_t v = 0; v < 4 * kGroups; ++v) _mm256_store_si256(reinterpret_cast<__m256i*>(sorted + 8 * v), x[v]);
    for (size_t i = 0; i < lanes; ++i) cursor.state[(i & ~size_t{31}) | (i & 15) << 1 | (i >> 4 & 1)] = sorted[i];
    cursor.word = word;
    return at;
}

}  // namespace

Path available(Path wish) {
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl");
    if (wish == Path::avx512 && avx512) return Path::avx512;
    return wish != Path::scalar && avx2 ? Path::avx2 : Path::scalar;
}

size_t decode_avx512(const Alias& alias, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor) {
    if (lanes == 128) return run512<4>(alias, symbols, count, cursor);
    return lanes == 64 ? run512<2>(alias, symbols, count, cursor) : run512<1>(alias, symbols, count, cursor);
}

size_t decode_avx2(const uint32_t* entries, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor) {
    if (lanes == 128) return run256<4>(entries, symbols, count, cursor);
    return lanes == 64 ? run256<2>(entries, symbols, count, cursor) : run256<1>(entries, symbols, count, cursor);
}

#else

size_t decode_avx512(const Alias&, uint8_t*, size_t, size_t, Cursor&) { return 0; }

size_t decode_avx2(const uint32_t*, uint8_t*, size_t, size_t, Cursor&) { return 0; }

#endif

}  // namespace attar
