// Bits from contexts: adaptive counters, their logistic mixture, and the integer tables of both.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "target.hpp"

namespace attar {

constexpr int kNodes = 20;     // bits that are told apart
constexpr int kContexts = 6;   // counters of a bit
constexpr int kInputs = 8;     // these, the expected magnitude, and a constant
constexpr int kHardest = 2047; // largest logit, in 1/256
constexpr int32_t kHeaviest = 1 << 22;
constexpr uint32_t kSeenMost = 1023;

// Logits in 1/256 and probabilities of 2^16; counters hold a probability of 2^22 and how often they were used.
struct MixingTables {
    std::array<uint16_t, 4096> squash;     // by logit + 2048
    std::array<int16_t, 4096> stretch;     // by probability of 2^12
    std::array<int32_t, 1024> confidence;  // of 256, by use
    std::array<int32_t, 1024> gain;        // of 2^16, by use
    MixingTables() {
        uint64_t power = 1u << 20;
        squash[0] = 0;  // no logit
        squash[2048] = 1u << 15;
        for (int k = 1; k < 2048; ++k) {
            power = power * 1077944331 >> 30;  // by e^(1/256)
            const int share = std::min<int>(static_cast<int>((power << 16) / (power + (1u << 20))), 65536 - 24);
            squash[2048 + k] = static_cast<uint16_t>(share);
            squash[2048 - k] = static_cast<uint16_t>(65536 - share);
        }
        for (int p = 0, k = 1; p < 4096; ++p) {
            while (k < 4095 && squash[k] < 16 * p + 8) ++k;
            stretch[p] = static_cast<int16_t>(k - 2048);
        }
        for (int n = 0; n < 1024; ++n) {
            confidence[n] = 512 * n / (2 * n + 3);
            gain[n] = (1 << 17) / (2 * n + 3);
        }
    }
};

inline const MixingTables& mixing_tables() {
    static const MixingTables tables;
    return tables;
}

// The mixture of one node.
class Mixer {
  public:
    Mixer() {
        weight_.fill(5461);
        weight_[kContexts] = 39322;
        weight_[kContexts + 1] = 0;
    }

    // Codes one bit by what `coder` does with the probability; counters[k] are those of the bit's contexts, which remember
    // `limit` uses at most.
    template <class Coder>
    ATTAR_INLINE int bit(Coder& coder, const MixingTables& tables, uint32_t* const (&counters)[kContexts], int expected,
                         int wanted, uint32_t limit = kSeenMost) {
        int32_t input[kInputs];
        for (int k = 0; k < kContexts; ++k) {
            const uint32_t counter = *counters[k];
            input[k] = tables.stretch[counter >> 20] * tables.confidence[counter & kSeenMost] >> 8;
        }
        input[kContexts] = expected;
        input[kContexts + 1] = 256;
        int64_t sum = 0;
        for (int i = 0; i < kInputs; ++i) sum += int64_t{weight_[i]} * input[i];
        const int64_t logit = std::clamp<int64_t>(sum >> 16, -kHardest, kHardest);
        const int share = tables.squash[static_cast<size_t>(logit + 2048)];
        const int bit = coder.bit(static_cast<uint32_t>(share), wanted);
        learn(input, ((bit << 16) - share));
        for (int k = 0; k < kContexts; ++k) count(tables, *counters[k], share, bit, limit);
        return bit;
    }

  private:
    ATTAR_INLINE void learn(const int32_t (&input)[kInputs], int error) {
        if ((seen_ & 63) == 0) rate_ = 24 + 256000 / (1000 + static_cast<int>(seen_));
        seen_ = std::min(seen_ + 1, 1u << 20);
        const int32_t step = (error * rate_ + 128) >> 8;
        for (int i = 0; i < kInputs; ++i) {
            weight_[i] = std::clamp(weight_[i] + ((input[i] * step + (1 << 13)) >> 14), -kHeaviest, kHeaviest);
        }
    }

    ATTAR_INLINE static void count(const MixingTables& tables, uint32_t& counter, int share, int bit, uint32_t limit) {
        const uint32_t seen = counter & kSeenMost;
        // What a context has not met yet begins with what the others say.
        const int32_t before = seen == 0 ? share << 6 : static_cast<int32_t>(counter >> 10);
        const int32_t target = bit ? (1 << 22) - 1 : 0;
        const int64_t after = before + (int64_t{target - before} * tables.gain[seen] >> 16);
        counter = static_cast<uint32_t>(after) << 10 | std::min(seen + 1, limit);
    }

    std::array<int32_t, kInputs> weight_;
    uint32_t seen_ = 0;
    int rate_ = 0;
};

}  // namespace attar
