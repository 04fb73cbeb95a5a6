// Logarithms in fixed point, the same on every machine: attar/coding/fixed.py in C++.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace attar {

constexpr int kFraction = 16;

// round(2^16 log2 n) for n = 1 .. 4096. No value comes near a half, so that every library's log2 rounds alike.
inline const std::array<int32_t, 4097>& log2_table() {
    static const std::array<int32_t, 4097> table = [] {
        std::array<int32_t, 4097> made{};
        for (int n = 1; n <= 4096; ++n) made[n] = static_cast<int32_t>(std::lround(std::ldexp(std::log2(n), kFraction)));
        return made;
    }();
    return table;
}

// 2^16 log2 n for 1 <= n < 2^53, interpolated beyond the table.
inline int64_t log2_fixed(uint64_t n) {
    const auto& table = log2_table();
    if (n < 4096) return table[n];
    // The exponent of a double, which holds n exactly.
    const double exact = static_cast<double>(n);
    uint64_t bits;
    std::memcpy(&bits, &exact, sizeof bits);
    const int shift = static_cast<int>(bits >> 52) - 1023 - 11;
    const uint64_t top = n >> shift, rest = n - (top << shift);
    const uint64_t slope = static_cast<uint64_t>(table[top + 1] - table[top]);
    return table[top] + static_cast<int64_t>(slope * rest >> shift) + (int64_t{shift} << kFraction);
}

}  // namespace attar
