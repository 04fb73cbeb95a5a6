// The dense coder: integers one by one, each as a few bits whose probabilities adapt; its twin is attar/coding/dense_twin.py.
//
// A bit's probability is a logistic mixture (Mahoney 2005) of what its contexts have counted and of what the expected
// magnitude says; all of that is integer. docs/format.md gives every table and every step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "rans.hpp"

namespace attar {

constexpr int64_t kDenseLargest = int64_t{1} << 30;
constexpr int kDenseShift = 28;
constexpr int kDenseLevel = 31;
constexpr size_t kNearestPeriod = 3;
constexpr size_t kFarthestPeriod = 4096;

// What is known of the values beforehand: the bits of a magnitude that are below one unit, the level of the mean
// magnitude (2^(level / 2) units of 1/256), and the distance at which columns resemble each other.
struct DenseHead {
    int shift;
    int level;
    size_t period;
};

// values[rows][cols] within kDenseLargest of zero; throws Malformed where one is not, or where the head cannot be.
std::vector<uint8_t> dense_encode(const int64_t* values, size_t rows, size_t cols, DenseHead head, Path path);

// Fills values[rows][cols]; throws Malformed where the bytes are not those of such a matrix.
void dense_decode(const uint8_t* data, size_t size, int64_t* values, size_t rows, size_t cols, DenseHead head, Path path);

}  // namespace attar
