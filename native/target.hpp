// What the vectorised sources share: whether this is x86 with GCC's target attributes, and the words for them.
#pragma once

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define ATTAR_X86 1
#include <immintrin.h>
#define ATTAR_AVX2 __attribute__((target("avx2,popcnt")))
#ifdef __clang__
// It knows no preference of width, and would leave out the whole attribute.
#define ATTAR_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,popcnt")))
#else
#define ATTAR_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,popcnt,prefer-vector-width=512")))
#endif
#endif

#if defined(__GNUC__) || defined(__clang__)
#define ATTAR_INLINE __attribute__((always_inline)) inline
#else
#define ATTAR_INLINE inline
#endif

// A pointer whose target no other pointer in reach writes: without it bytes may alias everything, and loops stay scalar.
#if defined(_MSC_VER)
#define ATTAR_ALONE __restrict
#else
#define ATTAR_ALONE __restrict__
#endif
