// The AVX2 path: eight lanes a vector; in each group of 32 two vectors of even lanes, then two of odd ones.
#include <algorithm>
#include <cstring>

#include "entries_x86.hpp"
#include "rans.hpp"
#include "spread_x86.hpp"
#include "target.hpp"

namespace attar {

#ifdef ATTAR_X86

namespace {

// One symbol out of each of eight lanes (all, or those in the mask): their entries.
template <bool kAll>
ATTAR_AVX2 ATTAR_INLINE __m256i step(const uint32_t* entries, const Spread<4>& order, __m256i active, __m256i& x,
                                     const uint8_t*& word) {
    const __m256i low12 = _mm256_set1_epi32(0xfff);
    __m256i entry = load_entries(entries, _mm256_and_si256(x, low12));
    __m256i frequency = _mm256_add_epi32(_mm256_and_si256(_mm256_srli_epi32(entry, 12), low12), _mm256_set1_epi32(1));
    __m256i next = _mm256_add_epi32(_mm256_mullo_epi32(frequency, _mm256_srli_epi32(x, 12)), _mm256_and_si256(entry, low12));
    x = kAll ? next : _mm256_blendv_epi8(x, next, active);
    __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
    if (!kAll) low = _mm256_and_si256(active, low);
    uint32_t mask = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(low)));
    __m256i words = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(word)));
    words = _mm256_shuffle_epi8(words, _mm256_load_si256(reinterpret_cast<const __m256i*>(order.bytes[mask])));
    x = _mm256_or_si256(_mm256_sllv_epi32(x, _mm256_and_si256(low, _mm256_set1_epi32(16))), words);
    word += 2 * static_cast<size_t>(__builtin_popcount(mask));
    return entry;
}

// The 32 symbols of a group; `active` has a mask for each of its four vectors where it is not all of them.
template <bool kAll>
ATTAR_AVX2 ATTAR_INLINE __m256i group(const uint32_t* entries, const Spread<4>& order, const __m256i* active, __m256i* x,
                                      const uint8_t*& word) {
    __m256i entry[4];
    for (size_t v = 0; v < 4; ++v) entry[v] = step<kAll>(entries, order, active[v], x[v], word);
    // Symbols are the highest bytes; those of odd lanes go to the higher halves.
    __m256i first = _mm256_blend_epi16(_mm256_srli_epi32(entry[0], 24), _mm256_srli_epi32(entry[2], 8), 0xaa);
    __m256i second = _mm256_blend_epi16(_mm256_srli_epi32(entry[1], 24), _mm256_srli_epi32(entry[3], 8), 0xaa);
    return _mm256_permute4x64_epi64(_mm256_packus_epi16(first, second), 0xd8);
}

// The shorter step at the end of a run: the first `left` lanes of a group.
ATTAR_AVX2 ATTAR_INLINE void group_of(const uint32_t* entries, const Spread<4>& order, size_t left, uint8_t* symbols, __m256i* x,
                                      const uint8_t*& word) {
    const __m256i lane = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14), count = _mm256_set1_epi32(static_cast<int>(left));
    const int first[4] = {0, 16, 1, 17};
    __m256i active[4];
    for (size_t v = 0; v < 4; ++v) active[v] = _mm256_cmpgt_epi32(count, _mm256_add_epi32(lane, _mm256_set1_epi32(first[v])));
    alignas(32) uint8_t bytes[32];
    _mm256_store_si256(reinterpret_cast<__m256i*>(bytes), group<false>(entries, order, active, x, word));
    std::memcpy(symbols, bytes, left);
}

template <size_t kGroups>
ATTAR_AVX2 size_t run256(const uint32_t* entries, uint8_t* symbols, size_t count, Cursor& cursor) {
    constexpr size_t lanes = 32 * kGroups;
    const Spread<4>& order = spread<4>();
    const __m256i all[4] = {};
    __m256i x[4 * kGroups];
    __m256i* state = reinterpret_cast<__m256i*>(cursor.state);
    for (size_t v = 0; v < 4 * kGroups; ++v) x[v] = _mm256_load_si256(state + v);
    const uint8_t* word = cursor.word;
    size_t at = 0;
    for (; at + lanes <= count && static_cast<size_t>(cursor.readable - word) >= kAhead; at += lanes) {
        for (size_t g = 0; g < kGroups; ++g) {
            __m256i bytes = group<true>(entries, order, all, x + 4 * g, word);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(symbols + at + 32 * g), bytes);
        }
    }
    if (at < count && at + lanes > count && static_cast<size_t>(cursor.readable - word) >= kAhead) {
        for (size_t g = 0; g < kGroups && at + 32 * g < count; ++g) {
            const size_t left = std::min<size_t>(count - at - 32 * g, 32);
            group_of(entries, order, left, symbols + at + 32 * g, x + 4 * g, word);
        }
        at = count;
    }
    for (size_t v = 0; v < 4 * kGroups; ++v) _mm256_store_si256(state + v, x[v]);
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

size_t decode_avx2(const uint32_t* entries, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor) {
    if (lanes == 128) return run256<4>(entries, symbols, count, cursor);
    return lanes == 64 ? run256<2>(entries, symbols, count, cursor) : run256<1>(entries, symbols, count, cursor);
}

#else

size_t decode_avx2(const uint32_t*, uint8_t*, size_t, size_t, Cursor&) { return 0; }

#endif

}  // namespace attar
