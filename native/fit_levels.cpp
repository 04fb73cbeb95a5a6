#include "fit_levels.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "lines.hpp"
#include "log2.hpp"

namespace attar {

namespace {

// Bits are compared in 1/64: 2^16 >> kCoarse.
constexpr int kCoarse = 10;
// Levels are settled where a round saves less than 2^-12 of the bits.
constexpr int kSettled = 12;

class Fitting {
  public:
    explicit Fitting(const LevelTask& task);
    LevelBits run(uint8_t* rows, uint8_t* cols);

  private:
    int64_t round();
    const Lines& nearer() const;

    const LevelTask& task_;
    Lines row_, column_;
    Classes classes_{};  // of the lines of all columns that count
};

// Half octaves of the lines' mean magnitude as levels from 1 up; 0 for an empty line.
void levels_of(const std::vector<uint64_t>& sums, int64_t less, std::vector<uint8_t>& level) {
    std::vector<int64_t> octaves(sums.size());
    int64_t most = INT64_MIN, least = INT64_MAX;
    for (size_t i = 0; i < sums.size(); ++i) {
        if (sums[i] == 0) continue;
        octaves[i] = (2 * (log2_fixed(sums[i]) - less) + (1 << (kFraction - 1))) >> kFraction;
        most = std::max(most, octaves[i]);
        least = std::min(least, octaves[i]);
    }
    least = std::max(least, most - static_cast<int64_t>(kHighest) + 5);
    for (size_t i = 0; i < sums.size(); ++i) {
        level[i] = sums[i] == 0 ? 0 : static_cast<uint8_t>(std::max<int64_t>(octaves[i] - least, 0) + 1);
    }
}

Fitting::Fitting(const LevelTask& task)
    : task_(task), row_(task.symbols.rows, task.symbols.cols), column_(task.symbols.cols, task.symbols.rows) {
    const Magnitudes sums = fill_grids(task.symbols, task.zero, task.size, row_.step, row_.grid, column_.step,
                                       task.by_column ? &column_.grid : nullptr, task.path);
    const uint64_t total = std::max<uint64_t>(std::accumulate(sums.by_row.begin(), sums.by_row.end(), uint64_t{0}), 1);
    if (task.by_row) levels_of(sums.by_row, log2_fixed(total) - log2_fixed(row_.size), row_.level);
    if (task.by_column) levels_of(sums.by_column, log2_fixed(row_.size), column_.level);
}

// The code length of what has a share of all, in 1/64 bit.
int64_t length_of(int64_t share, int64_t all) {
    return (log2_fixed(static_cast<uint64_t>(all)) - log2_fixed(static_cast<uint64_t>(share))) >> kCoarse;
}

// Code lengths in 1/64 bit of the first classes from the counts, smoothed with those of all.
Prices prices_of(const Classes& sums, size_t classes) {
    std::array<int64_t, kWidth> overall{};
    int64_t all = 0;
    for (size_t b = 0; b < kWidth; ++b) {
        for (size_t k = 1; k < kClasses; ++k) overall[b] += sums[k][b];
        overall[b] = (overall[b] << 8) + std::max(256 >> b, 1);
        all += overall[b];
    }
    Prices prices{};
    for (size_t k = 0; k < classes; ++k) {
        int64_t total = 0;
        std::array<int64_t, kWidth> smooth{};
        for (size_t b = 0; b < kWidth; ++b) {
            smooth[b] = (sums[k][b] << 8) + 1 + 4096 * overall[b] / all;
            total += smooth[b];
        }
        for (size_t b = 0; b < kWidth; ++b) {
            prices[k][b] = static_cast<int16_t>(length_of(smooth[b], total));
        }
    }
    return prices;
}

// Moves the levels of a side in these classes; the levels before.
std::vector<uint8_t> move(Lines& side, const Classes& classes, Path path) {
    Choice choice{std::min(highest(side.level) + 1, kHighest), {}, {}};
    choice.prices = prices_of(classes, choice.top + side.levels);
    int64_t live = 0;
    auto& own = choice.own;
    for (uint8_t level : side.level) own[level] += level == 0 ? 0 : 256;
    for (size_t k = 1; k <= choice.top; ++k) live += own[k] += 77;
    for (size_t k = 1; k <= choice.top; ++k) {
        own[k] = length_of(own[k], live) / static_cast<int64_t>(side.step);
    }
    std::vector<uint8_t> before = side.level;
    side.choose(choice, path);
    uint8_t least = kHighest;
    for (uint8_t level : side.level) least = level == 0 ? least : std::min(least, level);
    for (uint8_t& level : side.level) level = static_cast<uint8_t>(level == 0 ? 0 : level - (least - 1));
    return before;
}

// The empirical entropy of buckets in classes, in 1/2^16 bit.
int64_t entropy_of(const Classes& sums) {
    int64_t bits = 0;
    for (const auto& counts : sums) {
        int64_t total = 0;
        for (int64_t count : counts) {
            total += count;
            if (count > 0) bits -= count * log2_fixed(static_cast<uint64_t>(count));
        }
        if (total > 0) bits += total * log2_fixed(static_cast<uint64_t>(total));
    }
    return bits;
}

// Bits of a side's levels, in 1/2^16.
int64_t side_bits(const std::vector<uint8_t>& level) {
    std::array<int64_t, kHighest + 1> counts{};
    for (uint8_t one : level) ++counts[one];
    int64_t bits = static_cast<int64_t>(level.size()) * log2_fixed(level.size());
    for (int64_t count : counts) bits -= count > 0 ? count * log2_fixed(static_cast<uint64_t>(count)) : 0;
    return bits;
}

// The side whose lines are joined in less time, where both give the same.
const Lines& Fitting::nearer() const {
    const bool alike = row_.step == 1 && column_.step == 1 && column_.counted;
    return alike && column_.grid.tiles < row_.grid.tiles ? column_ : row_;
}

// Moves the sides once; all bits afterwards.
int64_t Fitting::round() {
    if (task_.by_row) {
        const std::vector<uint8_t> before = move(row_, classes_, task_.path);
        if (column_.counted) column_.update(before, row_.level, task_.path);
    }
    if (task_.by_column) {
        if (!column_.counted) column_.count(row_.level, task_.path);
        const Lines& near = column_.step == 1 && row_.step == 1 ? nearer() : column_;
        row_.update(move(column_, near.joint(task_.path).classes(), task_.path), column_.level, task_.path);
    }
    classes_ = nearer().joint(task_.path).classes();
    return static_cast<int64_t>(row_.step) * entropy_of(classes_) + side_bits(row_.level) + side_bits(column_.level);
}

LevelBits Fitting::run(uint8_t* rows, uint8_t* cols) {
    row_.count(column_.level, task_.path);
    classes_ = row_.joint(task_.path).classes();
    int64_t last = INT64_MAX / 2;
    for (int k = 0; k < task_.rounds; ++k) {
        const int64_t bits = round();
        if (last - bits < bits >> kSettled) break;
        last = bits;
    }
    if (!column_.counted && task_.by_column) column_.count(row_.level, task_.path);
    std::copy(row_.level.begin(), row_.level.end(), rows);
    std::copy(column_.level.begin(), column_.level.end(), cols);
    const Classes by_row = row_.joint(task_.path).alone();
    Classes none{};
    for (const auto& counts : by_row) {
        for (size_t b = 0; b < kWidth; ++b) none[0][b] += counts[b];
    }
    const int64_t across = static_cast<int64_t>(row_.step), down = static_cast<int64_t>(column_.step);
    const int64_t by_column = task_.by_column ? down * entropy_of(column_.joint(task_.path).alone()) : 0;
    return {across * entropy_of(none), across * entropy_of(by_row), by_column, across * entropy_of(classes_)};
}

}  // namespace

LevelBits fit_levels(const LevelTask& task, uint8_t* rows, uint8_t* cols) { return Fitting(task).run(rows, cols); }

}  // namespace attar
