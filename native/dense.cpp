#include "dense.hpp"

#include <algorithm>
#include <cstdlib>

#include "mixing.hpp"
#include "neighbours.hpp"
#include "predictor.hpp"
#include "range.hpp"
#include "target.hpp"

namespace attar {

namespace {

// Nodes: whether it is zero, its sign, one for each magnitude 1 .. 14 that it may pass, and the digits of what is beyond.
constexpr int kZero = 0, kSign = 1, kPass = 1, kUnary = 15, kLength = 16, kDigit = 17, kLow = 18;
constexpr size_t kColumnsTold = 4096;

template <class Coder>
class Dense {
  public:
    Dense(Coder& coder, size_t rows, size_t cols, DenseHead head, Path path)
        : coder_(coder), cols_(cols), head_(head), mean_(mean_of(head.level)),
          predictor_(rows, cols, mean_ + (mean_ * mean_ >> 7), path), rows_(cols, head.period),
          column_error_(cols), column_counters_(std::min(cols, kColumnsTold) * 16 * kNodes, kFresh) {}

    // Codes the values, or fills them in.
    ATTAR_INLINE void run(int64_t* values, size_t rows) {
        for (size_t r = 0; r < rows; ++r) {
            predictor_.begin(r == 0 ? nullptr : rows_.now());
            rows_.next();
            std::fill_n(row_counters_, kNodes, kFresh);
            overall_ = static_cast<uint32_t>(std::max<uint64_t>(1, 16 * (error_ + mean_) / (count_ + 16)));
            overall_log_ = log_(overall_);
            row_error_ = 0;
            for (size_t c = 0; c < cols_; ++c) values[r * cols_ + c] = one(r, c, values[r * cols_ + c]);
        }
    }

  private:
    static constexpr uint32_t kFresh = 1u << 31;

    static uint64_t mean_of(int level) { return level & 1 ? (uint64_t{181} << (level / 2)) >> 7 : uint64_t{1} << (level / 2); }

    ATTAR_INLINE int64_t one(size_t r, size_t c, int64_t wanted) {
        int32_t* now = rows_.now() + c;
        const int32_t* before = rows_.before() + c;
        const ptrdiff_t period = static_cast<ptrdiff_t>(head_.period);
        const int32_t predicted = predicted_of(c);
        neighbours_.look(now, before, period, predicted);
        look(r, c, predicted, now, before);
        const int64_t value = code(wanted);
        *now = within(value * kUnit >> head_.shift, 32767);
        predictor_.learn(c, *now);
        neighbours_.learn(*now);
        const uint32_t error = static_cast<uint32_t>(std::abs(*now - predicted));
        column_error_[c] += error;
        row_error_ += error;
        error_ += error;
        ++count_;
        return value;
    }

    // The predictor's word as an integer, ties to even; what is no number is the lowest.
    ATTAR_INLINE int32_t predicted_of(size_t c) const {
        if (!predictor_.on()) return 0;
        const float value = predictor_.value(c);
        if (value >= static_cast<float>(kFar)) return kFar;
        if (!(value > -static_cast<float>(kFar))) return -kFar;
        // Adding and taking away 1.5 * 2^23 rounds to an integer.
        return static_cast<int32_t>((value + 12582912.0f) - 12582912.0f);
    }

    // The counters of the next value's contexts, and what its magnitude is expected to be.
    ATTAR_INLINE void look(size_t r, size_t c, int32_t predicted, const int32_t* now, const int32_t* before) {
        const uint64_t row = std::max<uint64_t>(1, (16 * row_error_ + uint64_t{4} * overall_) / (c + 4));
        const uint64_t column = std::max<uint64_t>(1, (16 * column_error_[c] + uint64_t{4} * overall_) / (r + 4));
        const int row_log = log_(static_cast<uint32_t>(row));
        const int log = row_log + log_(static_cast<uint32_t>(column)) - overall_log_;
        const int size = std::clamp(log >> 3, 0, 31);
        expected_ = log;
        const int guess = octaves(log_, neighbours_.guess()) + 16;
        const auto near = [](int32_t x) { return std::clamp(x / kUnit, -2, 2) + 2; };
        const int around = (near(now[-1]) * 5 + near(before[0])) * 5 + near(now[-static_cast<ptrdiff_t>(head_.period)]);
        context_[0] = &column_counters_[((c % kColumnsTold) * 16 + static_cast<size_t>(std::min(row_log / 16, 15))) * kNodes];
        context_[1] = row_counters_;
        context_[2] = &around_counters_[static_cast<size_t>(around) * kNodes];
        context_[3] = &guess_counters_[static_cast<size_t>(guess * 32 + size) * kNodes];
        context_[4] = &both_counters_[static_cast<size_t>((octaves(log_, predicted) + 16) * 16 + guess / 2) * kNodes];
        context_[5] = &fine_counters_[static_cast<size_t>((fine(log_, predicted) + 32) * 32 + size) * kNodes];
    }

    ATTAR_INLINE int bit(int node, int wanted) {
        uint32_t* counters[kContexts];
        for (int k = 0; k < kContexts; ++k) counters[k] = context_[k] + node;
        int expected = 0;
        if (node != kSign && node < kLength) {
            // The logit of "as large or larger" under a geometric distribution: (log2 of the mean - 8) in 1/256 of a nat.
            const int log = node == kZero ? expected_ : std::max(expected_, 48);
            expected = std::clamp((log - 128) * 11356 >> 10, -kHardest, kHardest);
        }
        return mixers_[node].bit(coder_, tables_, counters, expected, wanted);
    }

    // Magnitude, then sign.
    ATTAR_INLINE int64_t code(int64_t wanted) {
        const int64_t magnitude = std::abs(wanted);
        const int64_t high = magnitude >> head_.shift;
        int64_t found = bit(kZero, high > 0);
        if (found != 0) {
            while (found < kUnary && bit(kPass + static_cast<int>(found), high > found) != 0) ++found;
            if (found == kUnary) found += beyond(high - kUnary);
        }
        for (int k = head_.shift - 1; k >= 0; --k) {
            const int wish = static_cast<int>(magnitude >> k & 1), place = head_.shift - 1 - k;
            found = found << 1 | (place < 2 ? bit(kLow + place, wish) : coder_.bit(1u << 15, wish));
        }
        if (found > kDenseLargest) throw Malformed("a value must be 2^30 at most");
        return found != 0 && bit(kSign, wanted < 0) != 0 ? -found : found;
    }

    // 0 and more by Elias' gamma code of one more.
    int64_t beyond(int64_t wanted) {
        int length = 0;
        while (bit(kLength, (wanted + 1) >> (length + 1) != 0) != 0) {
            if (++length > 30) throw Malformed("a value must be 2^30 at most");
        }
        int64_t found = 1;
        for (int k = length - 1; k >= 0; --k) found = found << 1 | bit(kDigit, static_cast<int>((wanted + 1) >> k & 1));
        return found - 1;
    }

    Coder& coder_;
    const MixingTables& tables_ = mixing_tables();
    const Logarithm& log_ = logarithm();
    size_t cols_;
    DenseHead head_;
    uint64_t mean_;
    Predictor predictor_;
    Neighbours neighbours_;
    SeenRows rows_;
    Mixer mixers_[kNodes];
    // Sums of prediction errors in 1/16: all, this row's, each column's; the mean of all, in 1/256.
    uint64_t error_ = 0, count_ = 0, row_error_ = 0;
    std::vector<uint64_t> column_error_;
    uint32_t overall_ = 1;
    int overall_log_ = 0, expected_ = 0;
    std::vector<uint32_t> column_counters_;
    std::vector<uint32_t> around_counters_ = std::vector<uint32_t>(125 * kNodes, kFresh);
    std::vector<uint32_t> guess_counters_ = std::vector<uint32_t>(32 * 32 * kNodes, kFresh);
    std::vector<uint32_t> both_counters_ = std::vector<uint32_t>(32 * 16 * kNodes, kFresh);
    std::vector<uint32_t> fine_counters_ = std::vector<uint32_t>(64 * 32 * kNodes, kFresh);
    uint32_t row_counters_[kNodes];
    uint32_t* context_[kContexts] = {};
};

void check(size_t rows, size_t cols, DenseHead head) {
    if (rows == 0 || cols == 0 || head.shift < 0 || head.shift > kDenseShift || head.level < 0 || head.level > kDenseLevel ||
        head.period < kNearestPeriod || head.period > kFarthestPeriod) {
        throw Malformed("the shift must be 0 to 28, the level 0 to 31, the period 3 to 4096");
    }
}

}  // namespace

std::vector<uint8_t> dense_encode(const int64_t* values, size_t rows, size_t cols, DenseHead head, Path path) {
    check(rows, cols, head);
    const auto far = [](int64_t v) { return v > kDenseLargest || v < -kDenseLargest; };
    if (std::any_of(values, values + rows * cols, far)) throw Malformed("a value must be 2^30 at most");
    RangeEncoder coder;
    std::vector<int64_t> copy(values, values + rows * cols);
    Dense<RangeEncoder>(coder, rows, cols, head, path).run(copy.data(), rows);
    return coder.finish();
}

void dense_decode(const uint8_t* data, size_t size, int64_t* values, size_t rows, size_t cols, DenseHead head, Path path) {
    check(rows, cols, head);
    std::fill_n(values, rows * cols, 0);
    RangeDecoder coder(data, size);
    Dense<RangeDecoder>(coder, rows, cols, head, path).run(values, rows);
    coder.finish();
}

}  // namespace attar
