#include "choose_window.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

#include "log2.hpp"

namespace attar {

namespace {

// Values in a window: with the escape a symbol is one byte, or one of the 64 whose tables fit vector registers.
constexpr uint64_t kWidest = 255, kNarrow = 63;
// The code of a narrow window may be longer by 1 in so many bits: it decodes about twice as fast.
constexpr int64_t kNarrowing = 500;
// Outliers that are tried as escapes, on both sides together.
constexpr int64_t kTails[] = {0, 1, 2, 4, 8, 16, 32};
// Decoding in hundredths of a nanosecond: of a symbol of up to 64, of more, of an escaped value.
constexpr int64_t kSmallTakes = 15, kLargeTakes = 30, kEscapeTakes = 4000;

int64_t log2_wide(uint64_t number) {
    return number < uint64_t{1} << 52 ? log2_fixed(number) : log2_fixed(number >> 12) + (int64_t{12} << kFraction);
}

uint64_t distance(int64_t from, int64_t to) { return static_cast<uint64_t>(to) - static_cast<uint64_t>(from); }

// Distinct values first .. last.
struct Range {
    size_t first, last;
    bool operator<(const Range& other) const { return first != other.first ? first < other.first : last < other.last; }
    bool operator==(const Range& other) const { return first == other.first && last == other.last; }
};

class Windows {
  public:
    explicit Windows(const Distinct& values) : values_(values), total_(values.size), own_(values.size + 1) {
        std::partial_sum(values.count, values.count + values.size, total_.begin());
        for (size_t i = 0; i < values.size; ++i) {
            own_[i + 1] = own_[i] + values.count[i] * log2_fixed(static_cast<uint64_t>(values.count[i]));
        }
    }

    // Those that leave about so many outliers outside, and those cut to the widest where most values are.
    std::vector<Range> options() const {
        std::vector<Range> pairs, found;
        for (int64_t tail : kTails) {
            if (tail > all() / 4) continue;
            const auto first = std::upper_bound(total_.begin(), total_.end(), tail / 2) - total_.begin();
            const auto last = std::lower_bound(total_.begin(), total_.end(), all() - (tail - tail / 2)) - total_.begin();
            pairs.push_back({static_cast<size_t>(std::min(first, last)), static_cast<size_t>(std::max(first, last))});
        }
        for (uint64_t widest : {kWidest, kNarrow}) {
            bool cut = false;
            for (const Range& pair : pairs) {
                if (reach(pair) < widest) found.push_back(pair);
                else cut = true;
            }
            if (cut) found.push_back(densest(widest));
        }
        std::sort(found.begin(), found.end());
        found.erase(std::unique(found.begin(), found.end()), found.end());
        return found;
    }

    Alphabet alphabet(const Range& range) const {
        const bool escape = range.first > 0 || range.last + 1 < values_.size;
        return {static_cast<uint64_t>(values_.value[range.first]), static_cast<size_t>(reach(range) + 1), escape};
    }

    // Of code, of escapes and of one table, in 1/2^16.
    int64_t bits(const Range& range) const {
        const int64_t within = within_of(range), number = static_cast<int64_t>(range.last - range.first + 1);
        const int64_t width = static_cast<int64_t>(alphabet(range).width), outside = all() - within;
        int64_t bits = within * log2_of(all()) - (own_[range.last + 1] - own_[range.first]);
        bits += (6 * number + width) << (kFraction - 1);
        if (outside == 0) return bits;
        const int64_t low = values_.value[range.first];
        for (size_t i = 0; i < values_.size; ++i) {
            if (i == range.first) i = range.last;
            else bits += values_.count[i] * escape_bits(low, values_.value[i]);
        }
        return bits + outside * (log2_of(all()) - log2_of(outside)) + (24 << kFraction);
    }

    // What decoding is worth in these bits, times the price.
    int64_t worth(const Range& range) const {
        const Alphabet one = alphabet(range);
        const int64_t each = one.width + one.escape <= kNarrow + 1 ? kSmallTakes : kLargeTakes;
        return ((2 * (each * all() + kEscapeTakes * (all() - within_of(range)))) << kFraction) / 25;
    }

  private:
    static int64_t escape_bits(int64_t low, int64_t value) {
        const uint64_t far = value > low ? distance(low, value) : distance(value, low);
        return (3 << kFraction) + log2_wide(std::min(far, uint64_t{1} << 63) + 2);
    }
    static int64_t log2_of(int64_t number) { return log2_fixed(static_cast<uint64_t>(number)); }
    int64_t all() const { return total_.back(); }
    int64_t within_of(const Range& range) const {
        return total_[range.last] - total_[range.first] + values_.count[range.first];
    }
    uint64_t reach(const Range& range) const { return distance(values_.value[range.first], values_.value[range.last]); }

    // The first of the windows of so many values that hold the most.
    Range densest(uint64_t widest) const {
        Range best{0, 0};
        for (size_t first = 0, last = 0; first < values_.size; ++first) {
            while (last + 1 < values_.size && reach({first, last + 1}) < widest) ++last;
            if (within_of({first, last}) > within_of(best) || first == 0) best = {first, last};
        }
        return best;
    }

    Distinct values_;
    std::vector<int64_t> total_, own_;  // sums up to and with, and up to each value
};

}  // namespace

Alphabet choose_window(const Distinct& values, int64_t price) {
    const Windows windows(values);
    const std::vector<Range> options = windows.options();
    std::vector<int64_t> bits;
    for (const Range& one : options) bits.push_back(price == 0 ? windows.bits(one) : windows.bits(one) * price + windows.worth(one));
    const auto least = std::min_element(bits.begin(), bits.end());
    auto best = least;
    if (price == 0) {
        // The best of the narrow ones.
        int64_t fewest = *least + *least / kNarrowing + 1;
        for (auto one = bits.begin(); one != bits.end(); ++one) {
            if (windows.alphabet(options[static_cast<size_t>(one - bits.begin())]).width > kNarrow || *one >= fewest) continue;
            fewest = *one;
            best = one;
        }
    }
    return windows.alphabet(options[static_cast<size_t>(best - bits.begin())]);
}

void count_symbols(const Distinct& values, const Alphabet& alphabet, int64_t* counts) {
    std::fill(counts, counts + alphabet.width + alphabet.escape, 0);
    for (size_t i = 0; i < values.size; ++i) {
        const uint64_t symbol = distance(static_cast<int64_t>(alphabet.low), values.value[i]);
        if (symbol >= alphabet.width && !alphabet.escape) throw Malformed("the values must be those of the window");
        counts[std::min<uint64_t>(symbol, alphabet.width)] += values.count[i];
    }
}

}  // namespace attar
