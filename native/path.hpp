// The instruction set in use: the best that the processor has, or what ATTAR_SIMD (scalar, avx2, avx512bw, avx512) asks for.
#pragma once

#include <cstdlib>
#include <cstring>

#include "rans.hpp"

namespace attar {

// Whether to do without what not all processors with AVX-512 have (VBMI, VBMI2) or have well (gathering).
inline bool plain_avx512() {
    static const bool plain = [] {
        const char* wish = std::getenv("ATTAR_SIMD");
        return wish != nullptr && std::strcmp(wish, "avx512bw") == 0;
    }();
    return plain;
}

inline Path path_in_use() {
    static const Path path = [] {
        const char* wish = std::getenv("ATTAR_SIMD");
        if (wish != nullptr && std::strcmp(wish, "scalar") == 0) return Path::scalar;
        return available(wish != nullptr && std::strcmp(wish, "avx2") == 0 ? Path::avx2 : Path::avx512);
    }();
    return path;
}

}  // namespace attar
