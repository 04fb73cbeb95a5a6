// Symbols times scales, straight into a floating-point format: one loop, compiled for each instruction set.
#include <cstring>

#include "scale.hpp"
#include "target.hpp"

namespace attar {

namespace {

ATTAR_INLINE uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

ATTAR_INLINE float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// Nearest, ties to even; NaN stays one.
ATTAR_INLINE uint16_t to_bfloat16(float value) {
    uint32_t bits = bits_of(value);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16 | 0x40) : rounded);
}

// Nearest, ties to even: normal halves by integer rounding, subnormal ones by a float addition that aligns them.
ATTAR_INLINE uint16_t to_float16(float value) {
    uint32_t bits = bits_of(value);
    int32_t magnitude = static_cast<int32_t>(bits & 0x7fffffff);  // signed comparisons are the ones AVX2 has
    int32_t normal = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
    int32_t tiny = static_cast<int32_t>(bits_of(float_of(bits & 0x7fffffff) + 0.5f)) - 0x3f000000;
    int32_t half = magnitude < 0x38800000 ? tiny : normal;
    half = magnitude >= 0x47800000 ? 0x7c00 : half;
    half = magnitude > 0x7f800000 ? 0x7e00 : half;
    return static_cast<uint16_t>((bits >> 16 & 0x8000) | static_cast<uint32_t>(half));
}

ATTAR_INLINE void scale_all(const uint8_t* ATTAR_ALONE symbols, size_t count, int32_t low,
                            const float* ATTAR_ALONE column, float row, Format format, void* out) {
    if (format == Format::float32) {
        float* ATTAR_ALONE to = static_cast<float*>(out);
        for (size_t i = 0; i < count; ++i) to[i] = static_cast<float>(low + symbols[i]) * column[i] * row;
        return;
    }
    uint16_t* ATTAR_ALONE to = static_cast<uint16_t*>(out);
    if (format == Format::bfloat16) {
        for (size_t i = 0; i < count; ++i) to[i] = to_bfloat16(static_cast<float>(low + symbols[i]) * column[i] * row);
    } else {
        for (size_t i = 0; i < count; ++i) to[i] = to_float16(static_cast<float>(low + symbols[i]) * column[i] * row);
    }
}

template <class T>
ATTAR_INLINE void shift_all(const uint8_t* ATTAR_ALONE symbols, size_t count, T low, T* ATTAR_ALONE out) {
    for (size_t i = 0; i < count; ++i) out[i] = static_cast<T>(low + symbols[i]);
}

#ifdef ATTAR_X86
template <class T>
ATTAR_AVX2 void shift_avx2(const uint8_t* symbols, size_t count, T low, T* out) {
    shift_all(symbols, count, low, out);
}

template <class T>
ATTAR_AVX512 void shift_avx512(const uint8_t* symbols, size_t count, T low, T* out) {
    shift_all(symbols, count, low, out);
}

ATTAR_AVX2 void scale_avx2(const uint8_t* symbols, size_t count, int32_t low, const float* column,
                                                float row, Format format, void* out) {
    scale_all(symbols, count, low, column, row, format, out);
}

ATTAR_AVX512 void scale_avx512(
    const uint8_t* symbols, size_t count, int32_t low, const float* column, float row, Format format, void* out) {
    scale_all(symbols, count, low, column, row, format, out);
}
#endif

}  // namespace

void scale(const uint8_t* symbols, size_t count, int32_t low, const float* column, float row, Format format, void* out,
           Path path) {
#ifdef ATTAR_X86
    if (path == Path::avx512) return scale_avx512(symbols, count, low, column, row, format, out);
    if (path == Path::avx2) return scale_avx2(symbols, count, low, column, row, format, out);
#endif
    (void)path;
    scale_all(symbols, count, low, column, row, format, out);
}

template <class T>
void shift(const uint8_t* symbols, size_t count, T low, T* out, Path path) {
#ifdef ATTAR_X86
    if (path == Path::avx512) return shift_avx512(symbols, count, low, out);
    if (path == Path::avx2) return shift_avx2(symbols, count, low, out);
#endif
    (void)path;
    shift_all(symbols, count, low, out);
}

template void shift(const uint8_t*, size_t, uint8_t, uint8_t*, Path);
template void shift(const uint8_t*, size_t, uint16_t, uint16_t*, Path);
template void shift(const uint8_t*, size_t, uint32_t, uint32_t*, Path);
template void shift(const uint8_t*, size_t, uint64_t, uint64_t*, Path);

}  // namespace attar
