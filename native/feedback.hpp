// Rounding decisions with error feedback: see feedback.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace attar {

struct Shape {
    std::size_t groups;
    std::size_t cols;
    std::size_t rows;
};

// Price of a code at a place: table[offset[place] + code], codes held at +-radius, `slope` more for each octave beyond.
struct Prices {
    const float* table;
    std::size_t size;
    const std::int32_t* offset;
    std::int32_t radius;
    float slope;
};

// Codes of columns start .. stop-1; work [groups, cols, rows] holds their errors afterwards. The caller has checked sizes.
void quantise_block(float* work, std::int32_t* codes, const float* rows, const float* stiffness, const Shape& shape,
                    const Prices& prices, std::size_t start, std::size_t stop);

// One sweep of coordinate descent over columns start .. stop-1; pull [groups, stop-start, rows] is H error.
void descend_block(float* pull, float* error, std::int32_t* codes, const float* hessian, const float* stiffness,
                   const Shape& shape, const Prices& prices, std::size_t start, std::size_t stop);

// One sweep over some rows that are coupled: pull [rows, cols] is G E H at them, error, codes and the prices' offsets
// [rows, cols], matrix [rows, rows] what G has among them. pull is not kept up after a row is done.
void descend_rows(float* pull, float* error, std::int32_t* codes, const float* matrix, const float* hessian,
                  const Prices& prices, std::size_t rows, std::size_t cols);

}  // namespace attar
