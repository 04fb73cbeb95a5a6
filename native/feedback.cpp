// Rounding decisions of attar/methods/feedback.py for one block of columns: the same arithmetic in the same order as its
// numpy twin (no fused multiply-add: CMakeLists.txt sets -ffp-contract=off for this file), so that both make the same codes.
//
// Layout as there: [groups, cols, rows], rows contiguous. Rows are independent, so that tiles of rows stay in the cache
// while the columns of the block are worked through.

#include "feedback.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace attar {
namespace {

constexpr std::size_t kTile = 256;

struct Price {
    const float* table;
    std::size_t size;
    const std::int32_t* offset;
    float radius;
    float slope;

    float of(float code, std::size_t place) const {
        const float inside = std::min(std::max(code, -radius), radius);
        const std::int64_t index = std::int64_t(offset[place]) + std::int32_t(inside);
        // Offsets come from Python: an index outside the table must not read beyond it.
        float price = table[std::min<std::size_t>(std::size_t(std::max<std::int64_t>(index, 0)), size - 1)];
        const float magnitude = std::fabs(code);
        if (magnitude > radius) {
            int octaves = 0;
            std::frexp(magnitude / radius, &octaves);
            price = price + slope * float(octaves);
        }
        return price;
    }
};

float decide(float x, float stiffness, const Price& price, std::size_t place, const float* old) {
    const float nearest = std::nearbyint(x);
    float best = nearest;
    float gap = x - nearest;
    float least = stiffness * (gap * gap) + price.of(nearest, place);
    const float inward = nearest - float((nearest > 0) - (nearest < 0));
    const float candidates[3] = {inward, 0.0f, old ? *old : 0.0f};
    const int count = old ? 3 : 2;
    for (int i = 0; i < count; ++i) {
        const float q = candidates[i];
        gap = x - q;
        const float cost = stiffness * (gap * gap) + price.of(q, place);
        if (cost < least) {
            least = cost;
            best = q;
        }
    }
    return best;
}

}  // namespace

void quantise_block(float* work, std::int32_t* codes, const float* rows, const float* stiffness, const Shape& shape,
                    const Prices& prices, std::size_t start, std::size_t stop) {
    const std::size_t plane = shape.cols * shape.rows;
    for (std::size_t g = 0; g < shape.groups; ++g) {
        const Price price{prices.table, prices.size, prices.offset + g * plane, float(prices.radius), prices.slope};
        const float* feedback = rows + g * shape.cols * shape.cols;
        for (std::size_t r0 = 0; r0 < shape.rows; r0 += kTile) {
            const std::size_t r1 = std::min(r0 + kTile, shape.rows);
            for (std::size_t j = start; j < stop; ++j) {
                const std::size_t column = j * shape.rows;
                float* x = work + g * plane + column;
                for (std::size_t r = r0; r < r1; ++r) {
                    const float q = decide(x[r], stiffness[g * plane + column + r], price, column + r, nullptr);
                    codes[g * plane + column + r] = std::int32_t(q);
                    x[r] = x[r] - q;
                }
                for (std::size_t t = j + 1; t < stop; ++t) {
                    const float factor = feedback[j * shape.cols + t];
                    float* later = work + g * plane + t * shape.rows;
                    for (std::size_t r = r0; r < r1; ++r) later[r] = later[r] - factor * x[r];
                }
            }
        }
    }
}

void descend_block(float* pull, float* error, std::int32_t* codes, const float* hessian, const float* stiffness,
                   const Shape& shape, const Prices& prices, std::size_t start, std::size_t stop) {
    const std::size_t plane = shape.cols * shape.rows;
    const std::size_t width = stop - start;
    float moved[kTile];
    for (std::size_t g = 0; g < shape.groups; ++g) {
        const Price price{prices.table, prices.size, prices.offset + g * plane, float(prices.radius), prices.slope};
        const float* h = hessian + g * shape.cols * shape.cols;
        float* pulled = pull + g * width * shape.rows;
        for (std::size_t r0 = 0; r0 < shape.rows; r0 += kTile) {
            const std::size_t r1 = std::min(r0 + kTile, shape.rows);
            for (std::size_t j = start; j < stop; ++j) {
                const std::size_t column = j * shape.rows;
                const float curve = std::max(h[j * shape.cols + j], 1e-20f);
                for (std::size_t r = r0; r < r1; ++r) {
                    const std::size_t place = g * plane + column + r;
                    const float old = float(codes[place]);
                    const float x = old + pulled[(j - start) * shape.rows + r] / curve;
                    const float q = decide(x, stiffness[g * shape.rows + r] * curve, price, column + r, &old);
                    moved[r - r0] = old - q;
                    codes[place] = std::int32_t(q);
                    error[place] = error[place] + moved[r - r0];
                }
                for (std::size_t t = j + 1; t < stop; ++t) {
                    const float factor = h[j * shape.cols + t];
                    float* later = pulled + (t - start) * shape.rows;
                    for (std::size_t r = r0; r < r1; ++r) later[r] = later[r] + factor * moved[r - r0];
                }
            }
        }
    }
}

void descend_rows(float* pull, float* error, std::int32_t* codes, const float* matrix, const float* hessian,
                  const Prices& prices, std::size_t rows, std::size_t cols) {
    // The moves of a row times H: few codes move in a sweep, so that this is a fraction of a product of matrices.
    std::vector<float> carried(cols);
    for (std::size_t r = 0; r < rows; ++r) {
        const Price price{prices.table, prices.size, prices.offset + r * cols, float(prices.radius), prices.slope};
        const float own = matrix[r * rows + r];
        bool moves = false;
        std::fill(carried.begin(), carried.end(), 0.0f);
        for (std::size_t j = 0; j < cols; ++j) {
            const std::size_t place = r * cols + j;
            const float stiffness = own * std::max(hessian[j * cols + j], 1e-20f);
            const float old = float(codes[place]);
            const float x = old + (pull[place] + own * carried[j]) / stiffness;
            const float q = decide(x, stiffness, price, j, &old);
            const float moved = old - q;
            if (moved == 0.0f) continue;
            moves = true;
            codes[place] = std::int32_t(q);
            error[place] = error[place] + moved;
            const float* h = hessian + j * cols;
            for (std::size_t t = 0; t < cols; ++t) carried[t] = carried[t] + moved * h[t];
        }
        for (std::size_t later = r + 1; moves && later < rows; ++later) {
            const float factor = matrix[later * rows + r];
            float* pulled = pull + later * cols;
            for (std::size_t t = 0; t < cols; ++t) pulled[t] = pulled[t] + factor * carried[t];
        }
    }
}

}  // namespace attar
