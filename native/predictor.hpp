// What the columns of a row say about each other: the best linear prediction of a value from those before it in its row,
// by the covariance of all rows before.
//
// The covariance is kept as L D L^T with a unit triangle L and changed by one row at a time (Gill, Golub, Murray and
// Saunders 1974, method C1). It begins as a multiple of the identity, which is a ridge. Columns are in blocks of equal
// width, independent of each other. float32, each operation rounded by itself and in this order, so that every machine
// predicts the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "rans.hpp"

namespace attar {

constexpr size_t kWidestBlock = 1024;
constexpr size_t kWidestPredicted = 4096;
constexpr size_t kFewestRows = 4;

class Predictor {
  public:
    // energy: the expected square of a value. Off where there are few rows, one column or too many.
    Predictor(size_t rows, size_t cols, uint64_t energy, Path path);
    bool on() const { return !factor_.empty(); }
    // A new row begins; previous[cols] are the values of the row before, null for the first.
    void begin(const int32_t* previous);
    float value(size_t column) const { return value_[column]; }
    // What the value of a column was; columns come in order.
    void learn(size_t column, int32_t value);

  private:
    size_t cols_, width_;
    Path path_;
    std::vector<float> factor_;    // [cols][width]: column j of L, from its block's first row
    std::vector<float> diagonal_;  // [cols]
    std::vector<float> value_;     // [cols]
    std::vector<float> rest_;      // [width]
};

}  // namespace attar
