#include "planes.hpp"

#include "target.hpp"

namespace attar {

namespace {

template <class T>
ATTAR_INLINE T rotated(T word) {
    return static_cast<T>(word >> 1 | static_cast<T>(word << (8 * sizeof(T) - 1)));
}

ATTAR_INLINE void join_all(const uint8_t* const* planes, size_t width, size_t count, void* out) {
    const uint8_t* ATTAR_ALONE a = planes[0];
    const uint8_t* ATTAR_ALONE b = planes[width > 1 ? 1 : 0];
    const uint8_t* ATTAR_ALONE c = planes[width > 2 ? 2 : 0];
    const uint8_t* ATTAR_ALONE d = planes[width > 2 ? 3 : 0];
    if (width == 1) {
        uint8_t* ATTAR_ALONE to = static_cast<uint8_t*>(out);
        for (size_t i = 0; i < count; ++i) to[i] = rotated(a[i]);
    } else if (width == 2) {
        uint16_t* ATTAR_ALONE to = static_cast<uint16_t*>(out);
        for (size_t i = 0; i < count; ++i) to[i] = rotated(static_cast<uint16_t>(a[i] | b[i] << 8));
    } else if (width == 4) {
        uint32_t* ATTAR_ALONE to = static_cast<uint32_t*>(out);
        for (size_t i = 0; i < count; ++i) {
            to[i] = rotated(static_cast<uint32_t>(a[i]) | static_cast<uint32_t>(b[i]) << 8 | static_cast<uint32_t>(c[i]) << 16 |
                            static_cast<uint32_t>(d[i]) << 24);
        }
    } else {
        uint64_t* ATTAR_ALONE to = static_cast<uint64_t*>(out);
        for (size_t i = 0; i < count; ++i) {
            uint64_t word = 0;
            for (size_t k = 0; k < 8; ++k) word |= static_cast<uint64_t>(planes[k][i]) << (8 * k);
            to[i] = rotated(word);
        }
    }
}

#ifdef ATTAR_X86
ATTAR_AVX2 void join_avx2(const uint8_t* const* planes, size_t width, size_t count, void* out) {
    join_all(planes, width, count, out);
}

ATTAR_AVX512 void join_avx512(
    const uint8_t* const* planes, size_t width, size_t count, void* out) {
    join_all(planes, width, count, out);
}
#endif

}  // namespace

void join_planes(const uint8_t* const* planes, size_t width, size_t count, void* out, Path path) {
#ifdef ATTAR_X86
    if (path == Path::avx512) return join_avx512(planes, width, count, out);
    if (path == Path::avx2) return join_avx2(planes, width, count, out);
#endif
    (void)path;
    join_all(planes, width, count, out);
}

}  // namespace attar
