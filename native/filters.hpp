// What predicts a sample: recent ones by least squares over the recent past, then filters that learn what is left.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "target.hpp"

namespace attar {

// Weights of some numbers that make the exponentially weighted squared error least, found anew every few samples.
template <size_t Taps>
class LeastSquares {
  public:
    LeastSquares(double fade, double ridge, int every) : fade_(fade), ridge_(ridge), every_(every) {}

    // x[Taps], kept until `learn`.
    double predict(const double* x) {
        std::copy_n(x, Taps, x_);
        double sum = 0;
        for (size_t k = 0; k < Taps; ++k) sum += weight_[k] * x_[k];
        return sum;
    }
    void learn(double value) {
        for (size_t k = 0; k < Taps; ++k) {
            for (size_t j = k; j < Taps; ++j) moment_[k][j] = fade_ * moment_[k][j] + x_[k] * x_[j];
            cross_[k] = fade_ * cross_[k] + value * x_[k];
        }
        if (++seen_ % every_ == 0) solve();
    }

  private:
    // Elimination without exchange of rows, for the upper triangle, then substitution from the last.
    void solve() {
        double a[Taps][Taps], z[Taps];
        std::copy_n(&moment_[0][0], Taps * Taps, &a[0][0]);
        std::copy_n(cross_, Taps, z);
        for (size_t k = 0; k < Taps; ++k) a[k][k] += ridge_;
        for (size_t j = 0; j < Taps; ++j) {
            if (!(a[j][j] > 0)) return;
            for (size_t i = j + 1; i < Taps; ++i) {
                const double factor = a[j][i] / a[j][j];
                for (size_t k = i; k < Taps; ++k) a[i][k] -= factor * a[j][k];
                z[i] -= factor * z[j];
            }
        }
        for (size_t j = Taps; j-- > 0;) {
            weight_[j] = z[j] / a[j][j];
            for (size_t i = 0; i < j; ++i) z[i] -= a[i][j] * weight_[j];
        }
    }
    double fade_, ridge_;
    int every_;
    int64_t seen_ = 0;
    double moment_[Taps][Taps] = {}, cross_[Taps] = {}, weight_[Taps] = {}, x_[Taps] = {};
};

// Normalised least mean squares in integers; weights in 2^-16.
class Filter {
  public:
    static constexpr int32_t kHighest = 1 << 20;
    Filter(size_t taps, int rate) : taps_(taps), rate_(rate), weight_(taps), past_(2 * taps) {}
    int32_t predict() const {
        const int32_t* x = past_.data() + at_;
        int64_t sum = 0;
        for (size_t k = 0; k < taps_; ++k) sum += int64_t{weight_[k]} * x[k];
        return static_cast<int32_t>(std::clamp<int64_t>(sum >> 16, -kHighest, kHighest));
    }
    void learn(int32_t value, int32_t predicted) {
        const int32_t x = std::clamp(value, -kHighest, kHighest);
        const int64_t gain = (int64_t{x} - predicted) * (int64_t{1} << 28) / (energy_ + static_cast<int64_t>(taps_) * 64 + 1);
        const int32_t* past = past_.data() + at_;
        const int64_t scaled = std::clamp<int64_t>(gain, -(int64_t{1} << 30), int64_t{1} << 30);
        for (size_t k = 0; k < taps_; ++k) {
            weight_[k] = static_cast<int32_t>(std::clamp<int64_t>(weight_[k] + (scaled * past[k] >> rate_), -(1 << 20), 1 << 20));
        }
        // The newest stands first; the second half is a copy, so that the last ones are always in one piece.
        const int32_t oldest = past_[at_ + taps_ - 1];
        energy_ += int64_t{x} * x - int64_t{oldest} * oldest;
        at_ = at_ == 0 ? taps_ - 1 : at_ - 1;
        past_[at_] = past_[at_ + taps_] = x;
    }

  private:
    size_t taps_;
    int rate_;
    size_t at_ = 0;
    int64_t energy_ = 0;
    std::vector<int32_t> weight_, past_;
};

}  // namespace attar
