// The lines of one axis of a matrix: their levels, and how often each bucket occurs in them at each level of the other axis.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "pages.hpp"
#include "rans.hpp"
#include "tally.hpp"

namespace attar {

constexpr size_t kHighest = 28;
constexpr size_t kWidth = kBucketCount;
constexpr size_t kClasses = 2 * kHighest + 2;
// Symbols of a line that are counted at most.
constexpr size_t kSample = 1 << 12;

using Classes = std::array<std::array<int64_t, kWidth>, kClasses>;
using Prices = std::array<std::array<int16_t, kWidth>, kClasses>;

// What the levels 1 .. top cost by themselves, and what the buckets cost in each class.
struct Choice {
    size_t top;
    std::array<int64_t, kHighest + 1> own;
    Prices prices;
};

// How often each bucket occurs at each level of the lines and of the other axis: [own levels][levels][kWidth].
struct Joint {
    size_t levels;
    std::vector<int64_t> counts;
    // In each class: the sum of the levels, 0 where one of them is 0.
    Classes classes() const;
    // At each level of the lines.
    Classes alone() const;
};

struct Lines {
    size_t size;
    size_t step;        // every step-th line of the other axis is counted
    size_t levels = 0;  // of the other axis that there is room for
    Grid grid;          // the other axis' lines
    std::vector<uint8_t> level;
    Kept<int16_t> memory;  // [tiles][levels][buckets][kTile]
    bool counted = false;

    Lines(size_t size_, size_t across) : size(size_), step((across + kSample - 1) / kSample), level(size_, 1) {}
    size_t cell() const { return levels * grid.buckets * kTile; }
    int16_t* counts(size_t tile) { return memory.data.data() + tile * cell(); }
    const int16_t* counts(size_t tile) const { return memory.data.data() + tile * cell(); }
    void count(const std::vector<uint8_t>& other, Path path);
    // Brings the counts up to date after the other axis' levels have changed.
    void update(const std::vector<uint8_t>& before, const std::vector<uint8_t>& other, Path path);
    Joint joint(Path path) const;
    // Each line's level, moved to where its code and the level itself take the fewest bits.
    void choose(const Choice& choice, Path path);
};

size_t highest(const std::vector<uint8_t>& level);

// best[kTile] = the first of the levels where each line, with counts [levels][buckets][kTile], takes the fewest bits.
void choose_tile(const Choice& choice, const int16_t* counts, size_t levels, size_t buckets, uint8_t* best, Path path);

}  // namespace attar
