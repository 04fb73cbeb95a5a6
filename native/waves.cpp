#include "waves.hpp"

#include <algorithm>
#include <cstdlib>

#include "filters.hpp"
#include "mixing.hpp"
#include "neighbours.hpp"
#include "range.hpp"
#include "target.hpp"

namespace attar {

namespace {

constexpr uint32_t kFresh = 1u << 31;
// Nodes: one for each step that a magnitude may pass, the sign, the digits of what is beyond, the bits below a step.
constexpr int kSteps = 24, kSign = 24, kLength = 25, kDigit = 26, kBelow = 27, kWaveNodes = 32;
constexpr int kLevels = 48;

// What is known of a channel's recent errors: mean magnitudes over three spans, in 1/256, and the last two.
struct Errors {
    uint64_t fast = 0, middle = 0, slow = 0;
    uint32_t last = 0, before = 0;
    void learn(uint32_t magnitude) {
        const auto fade = [&](uint64_t& mean, int span) { mean += (uint64_t{magnitude} << 8 >> span) - (mean >> span); };
        fade(fast, 3);
        fade(middle, 5);
        fade(slow, 8);
        before = last;
        last = magnitude;
    }
};

template <class Coder>
class Residues {
  public:
    explicit Residues(Coder& coder) : coder_(coder), counters_(6 * kLevels * kLevels * kWaveNodes, kFresh) {}

    // Codes an error, or reads it; `other` is the other channel's error at this time, `doubt` how far filters correct.
    ATTAR_INLINE int32_t one(const Errors& errors, uint32_t other, uint32_t doubt, int32_t wanted) {
        const uint64_t mean = (2 * errors.fast + errors.middle + errors.slow) / 4;
        const int level = lg(mean);
        shift_ = std::max(0, (level - 128 - 16) >> 4);
        expected_ = level - 16 * shift_;
        const auto beside = [&](int log, int unit) { return std::clamp((log - 16 * shift_) / unit, 0, kLevels - 1); };
        const auto size = [&](uint32_t magnitude) { return beside(lg(uint64_t{magnitude} * 256 + 128), 8); };
        place(0, beside(lg(errors.fast), 4), beside(lg(errors.slow), 16));
        place(1, beside(lg(errors.middle), 4), beside(lg(errors.fast), 16));
        place(2, size(errors.last), size(errors.before));
        place(3, std::min(level / 8, kLevels - 1), beside(lg(errors.middle), 8));
        place(4, beside(lg(errors.slow), 4), beside(lg(errors.middle), 16));
        place(5, size(other), size(doubt));
        return code(wanted);
    }

  private:
    int lg(uint64_t x) const { return log_(static_cast<uint32_t>(std::clamp<uint64_t>(x, 1, 0xffffffff))); }

    void place(int k, int one, int other) { context_[k] = &counters_[static_cast<size_t>((k * kLevels + one) * kLevels + other) * kWaveNodes]; }

    ATTAR_INLINE int bit(int node, int wanted) {
        uint32_t* counters[kContexts];
        for (int k = 0; k < kContexts; ++k) counters[k] = context_[k] + node;
        // As in dense.cpp: the logit of "as large or larger" under a geometric distribution.
        const int expected = node < kSteps ? std::clamp((expected_ - 128) * 11356 >> 10, -kHardest, kHardest) : 0;
        return mixers_[node].bit(coder_, tables_, counters, expected, wanted);
    }

    int32_t code(int32_t wanted) {
        const int64_t magnitude = std::abs(int64_t{wanted});
        const int64_t high = magnitude >> shift_;
        int64_t found = 0;
        while (found < kSteps && bit(static_cast<int>(found), high > found) != 0) ++found;
        if (found == kSteps) found += beyond(high - kSteps);
        for (int k = shift_ - 1; k >= 0; --k) {
            const int wish = static_cast<int>(magnitude >> k & 1), at = shift_ - 1 - k;
            found = found << 1 | (at < 2 ? bit(kBelow + at, wish) : coder_.bit(1u << 15, wish));
        }
        if (found > int64_t{1} << 28) throw Malformed("an error must be 2^28 at most");
        return static_cast<int32_t>(found != 0 && bit(kSign, wanted < 0) != 0 ? -found : found);
    }

    // 0 and more by Elias' gamma code of one more.
    int64_t beyond(int64_t wanted) {
        int length = 0;
        while (bit(kLength, (wanted + 1) >> (length + 1) != 0) != 0) {
            if (++length > 28) throw Malformed("an error must be 2^28 at most");
        }
        int64_t found = 1;
        for (int k = length - 1; k >= 0; --k) found = found << 1 | bit(kDigit, static_cast<int>((wanted + 1) >> k & 1));
        return found - 1;
    }

    Coder& coder_;
    const MixingTables& tables_ = mixing_tables();
    const Logarithm& log_ = logarithm();
    std::vector<uint32_t> counters_;
    Mixer mixers_[kWaveNodes];
    uint32_t* context_[kContexts] = {};
    int shift_ = 0, expected_ = 0;
};

int32_t rounded(double value) {
    const double most = kLoudest;
    if (value >= most) return kLoudest;
    if (!(value > -most)) return -kLoudest;  // what is no number, too
    // Adding and taking away 1.5 * 2^52 rounds to an integer, ties to even.
    return static_cast<int32_t>((value + 6755399441055744.0) - 6755399441055744.0);
}

// One channel's predictor: two by least squares, of which one forgets sooner, a long filter for what the first leaves;
// the three are weighed by least squares, and a short filter learns what is left.
class Channel {
  public:
    // From the samples [n][channels] before sample (t, c); those of the same time in channels before c count too.
    int32_t predict(const int32_t* samples, size_t t, size_t c, size_t channels) {
        double x[kTaps], y[kTaps / 2];
        gather(samples, t, c, channels, x, kTaps);
        gather(samples, t, c, channels, y, kTaps / 2);
        steady_said_ = rounded(steady_.predict(x));
        hasty_said_ = rounded(hasty_.predict(y));
        long_said_ = long_.predict();
        const double said[3] = {double(steady_said_), double(hasty_said_), double(long_said_)};
        weighed_ = rounded(weighing_.predict(said));
        short_said_ = short_.predict();
        return std::clamp(weighed_ + short_said_, -kLoudest, kLoudest);
    }
    // How far the two disagree.
    uint32_t doubt() const { return static_cast<uint32_t>(std::abs(steady_said_ - hasty_said_)); }
    void learn(int32_t value, int32_t predicted) {
        steady_.learn(value);
        hasty_.learn(value);
        weighing_.learn(value);
        long_.learn(value - steady_said_, long_said_);
        short_.learn(value - weighed_, short_said_);
        errors.learn(static_cast<uint32_t>(std::abs(value - predicted)));
    }
    Errors errors;

  private:
    static constexpr size_t kTaps = 32;

    // The last samples of this channel, and with two channels those of the other as well, at 3 of 8 taps.
    static void gather(const int32_t* samples, size_t t, size_t c, size_t channels, double* x, size_t taps) {
        const size_t own = channels == 1 ? taps : taps * 5 / 8;
        for (size_t k = 0; k < own; ++k) x[k] = k < t ? samples[(t - 1 - k) * channels + c] : 0;
        for (size_t k = 0; k < taps - own; ++k) {
            const size_t back = k + (c == 0 ? 1 : 0);  // the second channel sees the first one's sample of this time
            x[own + k] = back <= t ? samples[(t - back) * channels + (1 - c)] : 0;
        }
    }
    LeastSquares<kTaps> steady_{0.998, 1000, 16};
    LeastSquares<kTaps / 2> hasty_{0.99, 1000, 8};
    LeastSquares<3> weighing_{0.995, 1, 4};
    Filter long_{256, 20}, short_{16, 17};
    int32_t steady_said_ = 0, hasty_said_ = 0, long_said_ = 0, weighed_ = 0, short_said_ = 0;
};

template <class Coder>
void run(Coder& coder, int32_t* samples, size_t n, size_t channels) {
    Residues<Coder> residues(coder);
    std::vector<Channel> channel(channels);
    for (size_t t = 0; t < n; ++t) {
        for (size_t c = 0; c < channels; ++c) {
            Channel& one = channel[c];
            int32_t& sample = samples[t * channels + c];
            const int32_t predicted = one.predict(samples, t, c, channels);
            const uint32_t other = channels == 2 ? channel[1 - c].errors.last : 0;
            const int32_t error = residues.one(one.errors, other, one.doubt(), sample - predicted);
            const int64_t value = int64_t{predicted} + error;
            if (value > kLoudest || value < -kLoudest) throw Malformed("a sample must have 24 bits");
            sample = static_cast<int32_t>(value);
            one.learn(sample, predicted);
        }
    }
}

void check(size_t n, size_t channels) {
    if (channels < 1 || channels > 2 || n > kWavesMost / channels) throw Malformed("there must be one or two channels, not too long");
}

}  // namespace

std::vector<uint8_t> waves_encode(const int32_t* samples, size_t n, size_t channels) {
    check(n, channels);
    const auto loud = [](int32_t x) { return x > kLoudest || x < -kLoudest; };
    if (std::any_of(samples, samples + n * channels, loud)) throw Malformed("a sample must have 24 bits");
    RangeEncoder coder;
    std::vector<int32_t> copy(samples, samples + n * channels);
    run(coder, copy.data(), n, channels);
    return coder.finish();
}

void waves_decode(const uint8_t* data, size_t size, int32_t* samples, size_t n, size_t channels) {
    check(n, channels);
    std::fill_n(samples, n * channels, 0);
    RangeDecoder coder(data, size);
    run(coder, samples, n, channels);
    coder.finish();
}

}  // namespace attar
