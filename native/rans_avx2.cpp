#include "rans.hpp"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define ATTAR_AVX2 1
#include <immintrin.h>
#endif

namespace attar {

#ifdef ATTAR_AVX2

namespace {

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

// Eight lanes by one symbol: looks the slots up, advances the states, and refills those below 2^16 in lane order.
__attribute__((target("avx2,popcnt"), always_inline)) inline __m256i advance(const uint32_t* table, const Spread& order,
                                                                            __m256i base, __m256i& x,
                                                                            const uint8_t*& word) {
    const __m256i low12 = _mm256_set1_epi32(0xfff);
    __m256i slot = _mm256_or_si256(base, _mm256_and_si256(x, low12));
    __m256i entry = _mm256_i32gather_epi32(reinterpret_cast<const int*>(table), slot, 4);
    __m256i frequency = _mm256_add_epi32(_mm256_and_si256(_mm256_srli_epi32(entry, 12), low12), _mm256_set1_epi32(1));
    x = _mm256_add_epi32(_mm256_mullo_epi32(frequency, _mm256_srli_epi32(x, 12)), _mm256_and_si256(entry, low12));
    __m256i empty = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), _mm256_setzero_si256());
    uint32_t mask = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(empty)));
    __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(word)));
    words = _mm256_permutevar8x32_epi32(words, _mm256_load_si256(reinterpret_cast<const __m256i*>(order.index[mask])));
    x = _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_slli_epi32(x, 16), words), empty);
    word += 2 * static_cast<size_t>(__builtin_popcount(mask));
    return _mm256_srli_epi32(entry, 24);
}

__attribute__((target("avx2"), always_inline)) inline __m256i table_offsets(const uint8_t* contexts) {
    __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(contexts));
    return _mm256_slli_epi32(_mm256_cvtepu8_epi32(eight), 12);
}

// The low bytes of eight 32-bit symbols.
__attribute__((target("avx2"), always_inline)) inline void store(uint8_t* out, __m256i symbols) {
    __m128i half = _mm_packus_epi32(_mm256_castsi256_si128(symbols), _mm256_extracti128_si256(symbols, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm_packus_epi16(half, half));
}

template <size_t kVectors>
__attribute__((target("avx2,popcnt"))) void run(const uint32_t* table, const uint8_t* contexts, uint8_t* symbols,
                                                size_t count, Cursor& cursor) {
    constexpr size_t lanes = 8 * kVectors;
    const Spread& order = spread();
    __m256i x[kVectors];
    for (size_t v = 0; v < kVectors; ++v) {
        x[v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(cursor.state + 8 * v));
    }
    const uint8_t* word = cursor.word;
    size_t i = cursor.position;
    for (; i + lanes <= count && static_cast<size_t>(cursor.end - word) >= 16 * kVectors; i += lanes) {
        for (size_t v = 0; v < kVectors; ++v) {
            __m256i base = contexts == nullptr ? _mm256_setzero_si256() : table_offsets(contexts + i + 8 * v);
            store(symbols + i + 8 * v, advance(table, order, base, x[v], word));
        }
    }
    for (size_t v = 0; v < kVectors; ++v) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(cursor.state + 8 * v), x[v]);
    }
    cursor.word = word;
    cursor.position = i;
}

}  // namespace

bool avx2_supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt"); }

void decode_avx2(const uint32_t* table, const uint8_t* contexts, uint8_t* symbols, size_t count, size_t lanes,
                 Cursor& cursor) {
    if (lanes == 32) run<4>(table, contexts, symbols, count, cursor);
    if (lanes == 16) run<2>(table, contexts, symbols, count, cursor);
    if (lanes == 8) run<1>(table, contexts, symbols, count, cursor);
}

#else

bool avx2_supported() { return false; }

void decode_avx2(const uint32_t*, const uint8_t*, uint8_t*, size_t, size_t, Cursor&) {}

#endif

}  // namespace attar
