// Entries of many slots at a time: by plain loads, or by the gather instruction, which took AMD's processors twice the time of
// loads before Zen 5, and takes Intel's half of it since they need no mending by microcode (2022: from Sapphire Rapids on).
#pragma once

#include "path.hpp"
#include "target.hpp"

#ifdef ATTAR_X86

#include <cpuid.h>

#include <cstdint>
#include <cstring>

namespace attar {

// Four bytes at a place that need not be aligned.
ATTAR_INLINE int four_bytes(const void* at) {
    int value;
    std::memcpy(&value, at, 4);
    return value;
}

template <class T>
ATTAR_AVX2 ATTAR_INLINE __m128i two(const T* entries, const uint32_t* slots) {
    return _mm_insert_epi32(_mm_cvtsi32_si128(four_bytes(entries + slots[0])), four_bytes(entries + slots[1]), 1);
}

// Of entries of two bytes the next one as well. The slots go through memory, which takes fewer instructions than to extract
// them: what says nothing is there so that the compiler does not extract them after all.
template <class T>
ATTAR_AVX2 ATTAR_INLINE __m256i load_entries(const T* entries, __m256i slot) {
    alignas(32) uint32_t slots[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(slots), slot);
    asm volatile("" : : "r"(slots) : "memory");
    const __m128i a = two(entries, slots), b = two(entries, slots + 2), c = two(entries, slots + 4), d = two(entries, slots + 6);
    return _mm256_set_m128i(_mm_unpacklo_epi64(c, d), _mm_unpacklo_epi64(a, b));
}

// Whether gathering is the faster way: on those of both with AVX-VNNI.
inline bool gathers() {
    static const bool fast = [] {
        unsigned a = 0, b = 0, c = 0, d = 0;
        return !plain_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
    }();
    return fast;
}

template <bool kGather, class T>
ATTAR_AVX512 ATTAR_INLINE __m512i load_entries(const T* entries, __m512i slot) {
    if (kGather) return _mm512_i32gather_epi32(slot, entries, sizeof(T));
    const __m256i low = load_entries(entries, _mm512_castsi512_si256(slot));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), load_entries(entries, _mm512_extracti64x4_epi64(slot, 1)), 1);
}

}  // namespace attar

#endif
