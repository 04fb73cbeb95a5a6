// What the dense coder sees around a value: the values themselves in 1/16, a guess from a few of them, and logarithms.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>
#include <vector>

#include "target.hpp"

namespace attar {

constexpr int kTaps = 11;
constexpr int kUnit = 16;  // values are seen in 1/16
constexpr int32_t kFar = 2000, kTapMost = 1023;

// log2 in 1/16, of 1 or more.
struct Logarithm {
    std::array<uint8_t, 64> part;
    Logarithm() {
        // The largest k with 2^(k / 16) <= 1 + m / 64; 2^(k / 16) in 2^20ths.
        static constexpr uint32_t kRoot[16] = {1048576, 1095000, 1143480, 1194106, 1246974, 1302182, 1359834, 1420039,
                                               1482910, 1548564, 1617125, 1688721, 1763487, 1841563, 1923096, 2008239};
        for (uint32_t m = 0; m < 64; ++m) {
            uint8_t k = 15;
            while (kRoot[k] > (1u << 20) + (m << 14)) --k;
            part[m] = k;
        }
    }
    ATTAR_INLINE int operator()(uint32_t x) const {
#if defined(__GNUC__) || defined(__clang__)
        const int top = 31 - __builtin_clz(x);
#else
        int top = 0;
        while (x >> top > 1) ++top;
#endif
        const uint32_t fraction = top >= 6 ? x >> (top - 6) : x << (6 - top);
        return 16 * top + part[fraction & 63];
    }
};

inline const Logarithm& logarithm() {
    static const Logarithm table;
    return table;
}

ATTAR_INLINE int32_t within(int64_t x, int32_t most) { return static_cast<int32_t>(std::clamp<int64_t>(x, -most, most)); }

// Half octaves of a magnitude with its sign, -15 .. 15.
ATTAR_INLINE int octaves(const Logarithm& log, int32_t x) {
    const int size = x == 0 ? 0 : std::min(log(static_cast<uint32_t>(std::abs(x))) / 8 + 1, 15);
    return x < 0 ? -size : size;
}

// The same, finer: every 1/16 below one, then eight steps an octave, -31 .. 31.
ATTAR_INLINE int fine(const Logarithm& log, int32_t x) {
    const int32_t a = std::abs(x);
    const int size = a < kUnit ? a : std::min(kUnit + (log(static_cast<uint32_t>(a)) - 64) / 2, 31);
    return x < 0 ? -size : size;
}

// The values of a row and of the one before it in 1/16, with room on both sides for what lies beyond the edges.
class SeenRows {
  public:
    SeenRows(size_t cols, size_t period) : pad_(2 * period + 2), now_(cols + pad_ + 2), before_(cols + pad_ + 2) {}
    void next() {
        std::swap(now_, before_);
        std::fill(now_.begin(), now_.end(), 0);
    }
    int32_t* now() { return now_.data() + pad_; }
    const int32_t* before() const { return before_.data() + pad_; }

  private:
    size_t pad_;
    std::vector<int32_t> now_, before_;
};

// Least mean squares, normalised (Nagumo and Noda 1967), over a few neighbours and the predictor's word.
class Neighbours {
  public:
    ATTAR_INLINE void look(const int32_t* now, const int32_t* before, ptrdiff_t period, int32_t predicted) {
        const int32_t seen[kTaps] = {now[-1],          now[-2],          before[0],        now[-period],
                                     now[-period - 1], now[1 - period],  now[-2 * period], before[-period],
                                     now[2 - period],  now[-period - 2], predicted};
        int64_t sum = 0;
        power_ = 256;
        for (int i = 0; i < kTaps; ++i) {
            tap_[i] = std::clamp(seen[i], -kTapMost, kTapMost);
            sum += int64_t{weight_[i]} * tap_[i];
            power_ += tap_[i] * tap_[i];
        }
        guess_ = within(sum >> 16, kFar);
    }
    int32_t guess() const { return guess_; }
    ATTAR_INLINE void learn(int32_t value) {
        const int64_t gain = int64_t{std::clamp(value, -kTapMost, kTapMost) - guess_} * (1 << 20) / power_;
        for (int i = 0; i < kTaps; ++i) weight_[i] = within(weight_[i] + (gain * tap_[i] >> 10), 1 << 20);
    }

  private:
    int32_t weight_[kTaps] = {};
    int32_t tap_[kTaps] = {};
    int32_t power_ = 0, guess_ = 0;
};

}  // namespace attar
