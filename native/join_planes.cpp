// Byte planes into words: one loop, compiled for each instruction set.
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

ATTAR_AVX512 void join_avx512(const PlaneBytes& planes, size_t width, size_t count, void* out) {
    join_all(planes, width, count, out);
}
#endif

}  // namespace

void join_planes(const PlaneBytes& planes, size_t width, size_t count, void* out, Path path) {
#ifdef ATTAR_X86
    if (path == Path::avx512) return join_avx512(planes, width, count, out);
    if (path == Path::avx2) return join_avx2(planes, width, count, out);
#endif
    (void)path;
    join_all(planes, width, count, out);
}

}  // namespace attar
