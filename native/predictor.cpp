#include "predictor.hpp"

#include <algorithm>

#include "target.hpp"

namespace attar {

namespace {

ATTAR_INLINE void add_all(float* ATTAR_ALONE to, const float* ATTAR_ALONE from, float factor, size_t count) {
    for (size_t i = 0; i < count; ++i) to[i] = to[i] + from[i] * factor;
}

// rest -= p * column, then column += gain * rest.
ATTAR_INLINE void turn_all(float* ATTAR_ALONE rest, float* ATTAR_ALONE column, float p, float gain, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        const float left = rest[i] - p * column[i];
        rest[i] = left;
        column[i] = column[i] + gain * left;
    }
}

#ifdef ATTAR_X86
ATTAR_AVX2 void add_avx2(float* to, const float* from, float factor, size_t count) { add_all(to, from, factor, count); }
ATTAR_AVX512 void add_avx512(float* to, const float* from, float factor, size_t count) { add_all(to, from, factor, count); }
ATTAR_AVX2 void turn_avx2(float* rest, float* column, float p, float gain, size_t count) {
    turn_all(rest, column, p, gain, count);
}
ATTAR_AVX512 void turn_avx512(float* rest, float* column, float p, float gain, size_t count) {
    turn_all(rest, column, p, gain, count);
}
#endif

void add(Path path, float* to, const float* from, float factor, size_t count) {
#ifdef ATTAR_X86
    if (path == Path::avx512) return add_avx512(to, from, factor, count);
    if (path == Path::avx2) return add_avx2(to, from, factor, count);
#endif
    (void)path;
    add_all(to, from, factor, count);
}

void turn(Path path, float* rest, float* column, float p, float gain, size_t count) {
#ifdef ATTAR_X86
    if (path == Path::avx512) return turn_avx512(rest, column, p, gain, count);
    if (path == Path::avx2) return turn_avx2(rest, column, p, gain, count);
#endif
    (void)path;
    turn_all(rest, column, p, gain, count);
}

}  // namespace

Predictor::Predictor(size_t rows, size_t cols, uint64_t energy, Path path) : cols_(cols), width_(0), path_(path) {
    if (rows < kFewestRows || cols < 2 || cols > kWidestPredicted) return;
    const size_t blocks = (cols + kWidestBlock - 1) / kWidestBlock;
    width_ = (cols + blocks - 1) / blocks;
    factor_.assign(cols * width_, 0.0f);
    diagonal_.assign(cols, static_cast<float>(energy * width_ * 3 / 5));
    value_.assign(cols, 0.0f);
    rest_.assign(width_, 0.0f);
}

void Predictor::begin(const int32_t* previous) {
    if (!on()) return;
    std::fill(value_.begin(), value_.end(), 0.0f);
    if (previous == nullptr) return;
    for (size_t first = 0; first < cols_; first += width_) {
        const size_t count = std::min(width_, cols_ - first);
        for (size_t i = 0; i < count; ++i) rest_[i] = static_cast<float>(previous[first + i]);
        float share = 1.0f;
        for (size_t j = 0; j < count; ++j) {
            const float p = rest_[j], before = diagonal_[first + j];
            if (p == 0.0f) continue;
            const float scaled = share * p, after = before + scaled * p;
            share = share * before / after;
            diagonal_[first + j] = after;
            turn(path_, &rest_[j] + 1, &factor_[(first + j) * width_ + j] + 1, p, scaled / after, count - j - 1);
        }
    }
}

void Predictor::learn(size_t column, int32_t value) {
    if (!on()) return;
    const float error = static_cast<float>(value) - value_[column];
    if (error == 0.0f) return;
    const size_t at = column % width_, count = std::min(width_, cols_ - (column - at));
    add(path_, &value_[column] + 1, &factor_[column * width_ + at] + 1, error, count - at - 1);
}

}  // namespace attar
