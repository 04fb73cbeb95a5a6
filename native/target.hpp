// What the vectorised sources share: whether this is x86 with GCC's target attributes, and the words for them.
#pragma once

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define ATTAR_X86 1
#include <immintrin.h>
#define ATTAR_AVX2 __attribute__((target("avx2,popcnt")))
#if defined(__clang__)  // which drops an attribute that has a word it does not know
#define ATTAR_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,popcnt"), min_vector_width(512)))
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

// Keeps an unlikely branch one: what it would be made of else waits for both ways.
#if defined(__GNUC__) || defined(__clang__)
#define ATTAR_BRANCH() __asm__ __volatile__("")
#else
#define ATTAR_BRANCH() (void)0
#endif

// Says to the processor that this thread waits for another.
#if defined(ATTAR_X86)
#define ATTAR_PAUSE() _mm_pause()
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define ATTAR_PAUSE() __asm__ __volatile__("isb")
#else
#define ATTAR_PAUSE() (void)0
#endif

// Into the nearest cache, or into the one behind it.
#if defined(__GNUC__) || defined(__clang__)
#define ATTAR_PREFETCH(address) __builtin_prefetch(address, 1)
#define ATTAR_PREFETCH_FAR(address) __builtin_prefetch(address, 0, 2)
#else
#define ATTAR_PREFETCH(address) (void)(address)
#define ATTAR_PREFETCH_FAR(address) (void)(address)
#endif
