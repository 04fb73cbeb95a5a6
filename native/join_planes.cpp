// Byte planes into words: one loop, compiled for each instruction set.
#include <cstring>

#include "planes.hpp"
#include "target.hpp"

namespace attar {

namespace {

template <class T>
ATTAR_INLINE T rotated(T word) {
    return static_cast<T>(word >> 1 | static_cast<T>(word << (8 * sizeof(T) - 1)));
}

template <class T>
ATTAR_INLINE T byte_of(const uint8_t* plane, uint8_t low, size_t i, unsigned shift) {
    return static_cast<T>(static_cast<T>(static_cast<uint8_t>(plane[i] + low)) << shift);
}

ATTAR_INLINE void join_all(const PlaneBytes& planes, size_t width, size_t count, void* out) {
    const uint8_t* ATTAR_ALONE a = planes.data[0];
    const uint8_t* ATTAR_ALONE b = planes.data[width > 1 ? 1 : 0];
    const uint8_t* ATTAR_ALONE c = planes.data[width > 2 ? 2 : 0];
    const uint8_t* ATTAR_ALONE d = planes.data[width > 2 ? 3 : 0];
    const uint8_t* low = planes.low;
    const uint8_t la = low[0], lb = low[1], lc = low[2], ld = low[3];
    if (width == 1) {
        uint8_t* ATTAR_ALONE to = static_cast<uint8_t*>(out);
        for (size_t i = 0; i < count; ++i) to[i] = rotated(byte_of<uint8_t>(a, la, i, 0));
    } else if (width == 2) {
        uint16_t* ATTAR_ALONE to = static_cast<uint16_t*>(out);
        for (size_t i = 0; i < count; ++i) {
            to[i] = rotated(static_cast<uint16_t>(byte_of<uint16_t>(a, la, i, 0) | byte_of<uint16_t>(b, lb, i, 8)));
        }
    } else if (width == 4) {
        uint32_t* ATTAR_ALONE to = static_cast<uint32_t*>(out);
        for (size_t i = 0; i < count; ++i) {
            to[i] = rotated(byte_of<uint32_t>(a, la, i, 0) | byte_of<uint32_t>(b, lb, i, 8) |
                            byte_of<uint32_t>(c, lc, i, 16) | byte_of<uint32_t>(d, ld, i, 24));
        }
    } else {
        uint64_t* ATTAR_ALONE to = static_cast<uint64_t*>(out);
        for (size_t i = 0; i < count; ++i) {
            uint64_t word = 0;
            for (unsigned k = 0; k < 8; ++k) word |= byte_of<uint64_t>(planes.data[k], low[k], i, 8 * k);
            to[i] = rotated(word);
        }
    }
}

#ifdef ATTAR_X86
ATTAR_AVX2 void join_avx2(const PlaneBytes& planes, size_t width, size_t count, void* out) {
    join_all(planes, width, count, out);
}

ATTAR_AVX512 ATTAR_INLINE __m512i load(const uint8_t* plane, size_t at, __m512i order) {
    return _mm512_permutexvar_epi32(order, _mm512_loadu_si512(plane + at));
}

// 64 numbers at a time. Unpacking interleaves within each 16 bytes of a vector; `order` puts the bytes there that belong.
ATTAR_AVX512 size_t join_pairs(const PlaneBytes& planes, size_t count, uint8_t* out) {
    const __m512i order = _mm512_setr_epi32(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
    const __m512i low = _mm512_set1_epi16(static_cast<int16_t>(planes.low[0] | planes.low[1] << 8));
    size_t at = 0;
    for (; at + 64 <= count; at += 64, out += 128) {
        const __m512i a = load(planes.data[0], at, order), b = load(planes.data[1], at, order);
        const __m512i words[2] = {_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b)};
        for (int k = 0; k < 2; ++k) {
            const __m512i word = _mm512_add_epi8(words[k], low);
            _mm512_storeu_si512(out + 64 * k, _mm512_or_si512(_mm512_srli_epi16(word, 1), _mm512_slli_epi16(word, 15)));
        }
    }
    return at;
}

ATTAR_AVX512 size_t join_fours(const PlaneBytes& planes, size_t count, uint8_t* out) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    int32_t lows;
    std::memcpy(&lows, planes.low, 4);
    const __m512i low = _mm512_set1_epi32(lows);
    size_t at = 0;
    for (; at + 64 <= count; at += 64, out += 256) {
        const __m512i a = load(planes.data[0], at, order), b = load(planes.data[1], at, order);
        const __m512i c = load(planes.data[2], at, order), d = load(planes.data[3], at, order);
        const __m512i first = _mm512_unpacklo_epi8(a, b), second = _mm512_unpackhi_epi8(a, b);
        const __m512i third = _mm512_unpacklo_epi8(c, d), fourth = _mm512_unpackhi_epi8(c, d);
        const __m512i words[4] = {_mm512_unpacklo_epi16(first, third), _mm512_unpackhi_epi16(first, third),
                                  _mm512_unpacklo_epi16(second, fourth), _mm512_unpackhi_epi16(second, fourth)};
        for (int k = 0; k < 4; ++k) {
            _mm512_storeu_si512(out + 64 * k, _mm512_ror_epi32(_mm512_add_epi8(words[k], low), 1));
        }
    }
    return at;
}

ATTAR_AVX512 void join_avx512(PlaneBytes planes, size_t width, size_t count, uint8_t* out) {
    const size_t done = width == 2 ? join_pairs(planes, count, out) : width == 4 ? join_fours(planes, count, out) : 0;
    for (size_t k = 0; k < width; ++k) planes.data[k] += done;
    join_all(planes, width, count - done, out + width * done);
}
#endif

}  // namespace

void join_planes(const PlaneBytes& planes, size_t width, size_t count, void* out, Path path) {
#ifdef ATTAR_X86
    if (path == Path::avx512) return join_avx512(planes, width, count, static_cast<uint8_t*>(out));
    if (path == Path::avx2) return join_avx2(planes, width, count, out);
#endif
    (void)path;
    join_all(planes, width, count, out);
}

}  // namespace attar
