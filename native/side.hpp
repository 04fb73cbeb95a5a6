// The adaptive binary range coder of side information, both directions; its twin is attar/coding/streams.py.
//
// Counted probabilities (Krichevsky and Trofimov 1981). A key names the adaptive
// probabilities of one kind of number: 12 unary steps, their escape, "not zero" and "negative". Which direction is a
// parameter of the template and no virtual function: a matrix has thousands of levels, and each is several bits.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "range.hpp"
#include "tables.hpp"
#include "target.hpp"

namespace attar {

constexpr int kKeys = 32;
constexpr int kSlots = 16;
constexpr uint32_t kHalf = 1u << 15;
constexpr int kUnary = 12, kNonzero = 13, kNegative = 14;  // slots of a key

// What each kind of number is known by; the first has seven more, for its contexts.
constexpr int kValueKey = 0, kLowKey = 8, kWidthKey = 9, kCentreKey = 10, kClassesKey = 11, kModeKey = 12, kLevelKey = 13,
              kEscapeKey = 14, kReachKey = 15, kRungKey = 16, kDecayKey = 17, kFirstKey = 18, kLastKey = 19, kAroundKey = 20,
              kShareKey = 21;

// 2^36 over each even total, rounded up: at most 2^25 times that, shifted back, is the quotient rounded down.
constexpr int kInverseBits = 36;
inline constexpr std::array<uint64_t, 258> kInverse = [] {
    std::array<uint64_t, 258> inverse{};
    for (uint64_t half = 1; half < inverse.size(); ++half) inverse[half] = ((uint64_t{1} << kInverseBits) + 2 * half - 1) / (2 * half);
    return inverse;
}();

// The probability of a one. `share`, of 2^16, is brought up to date when a bit is learnt: that is then over before
// the next bit asks for it.
struct Slot {
    uint16_t ones = 1;
    uint16_t total = 2;
    uint32_t share = kHalf;

    ATTAR_INLINE void learn(int bit) {
        total = static_cast<uint16_t>(total + 2);
        ones = static_cast<uint16_t>(ones + 2 * bit);
        if (total > 512) {
            // Both stay odd and even, and a zero as well as a one stays possible.
            ones = static_cast<uint16_t>(ones >> 1 | 1);
            total = static_cast<uint16_t>(std::max(((total >> 1) + 1) & ~1, ones + 1));
        }
        share = static_cast<uint32_t>((static_cast<uint64_t>(ones) << 16) * kInverse[total / 2] >> kInverseBits);
    }
};

// How numbers are made of bits, by either direction.
template <class Bits>
class SideCoder : public Bits {
  public:
    struct Signed {
        bool negative;
        uint64_t size;
    };

    using Bits::Bits;
    // A number of `width` bits, all values alike.
    uint64_t bits(int width, uint64_t value = 0);
    // 0 .. limit, likely to be small; throws Malformed beyond.
    uint64_t natural(int key, uint64_t value, uint64_t limit);
    // -limit .. limit, likely to be near zero; the magnitude may be 2^63.
    Signed integer(int key, Signed value, uint64_t limit);
    int64_t number(int key, int64_t value, int64_t limit);
    // Small numbers around zero: model 0 not predicted, 1 in the context of the one before, 2 from the one before.
    // limit is below 2^40, and values hold it; they are not char-sized, which would alias everything.
    template <class T>
    void run(int key, int model, T* values, size_t count, int64_t limit);

  private:
    uint64_t gamma(Slot& slot, uint64_t value, uint64_t limit);
    ATTAR_INLINE int learnt(Slot& slot, int value) {
        const int bit = Bits::bit(slot.share, value);
        slot.learn(bit);
        return bit;
    }
    Slot slots_[kKeys * kSlots];
};

template <class Bits>
ATTAR_INLINE uint64_t SideCoder<Bits>::bits(int width, uint64_t value) {
    uint64_t result = 0;
    for (int shift = width - 1; shift >= 0; --shift) {
        result = result << 1 | static_cast<uint64_t>(Bits::bit(kHalf, static_cast<int>(value >> shift & 1)));
    }
    return result;
}

template <class Bits>
ATTAR_INLINE uint64_t SideCoder<Bits>::natural(int key, uint64_t value, uint64_t limit) {
    Slot* slot = slots_ + key * kSlots;
    for (uint64_t k = 0; k < kUnary; ++k) {
        if (k == limit || !learnt(slot[k], value > k)) return k;
    }
    return gamma(slot[kUnary], value - kUnary + 1, limit - kUnary + 1) + kUnary - 1;
}

template <class Bits>
uint64_t SideCoder<Bits>::gamma(Slot& slot, uint64_t value, uint64_t limit) {
    int length = 1;
    while (length <= 64 && learnt(slot, length < 64 && value >> length != 0)) ++length;
    if (length > 64) throw Malformed("a number must not pass its limit");
    const uint64_t top = uint64_t{1} << (length - 1);
    const uint64_t result = top | bits(length - 1, value & (top - 1));
    if (result > limit) throw Malformed("a number must not pass its limit");
    return result;
}

template <class Bits>
ATTAR_INLINE typename SideCoder<Bits>::Signed SideCoder<Bits>::integer(int key, Signed value, uint64_t limit) {
    Slot* slot = slots_ + key * kSlots;
    if (!learnt(slot[kNonzero], value.size != 0)) return {false, 0};
    const bool negative = learnt(slot[kNegative], value.negative) != 0;
    return {negative, 1 + natural(key, value.size - 1, limit - 1)};
}

template <class Bits>
ATTAR_INLINE int64_t SideCoder<Bits>::number(int key, int64_t value, int64_t limit) {
    const Signed read = integer(key, {value < 0, static_cast<uint64_t>(value < 0 ? -value : value)}, static_cast<uint64_t>(limit));
    const int64_t size = static_cast<int64_t>(read.size);
    return read.negative ? -size : size;
}

template <class Bits>
template <class T>
void SideCoder<Bits>::run(int key, int model, T* values, size_t count, int64_t limit) {
    const int64_t bound = model == 2 ? 2 * limit : limit;
    int64_t before = 0;
    for (size_t i = 0; i < count; ++i) {
        const int64_t base = model == 2 ? before : 0;
        const int context = model == 1 ? key + 4 + static_cast<int>(std::clamp<int64_t>(before, -3, 3)) : key;
        before = base + number(context, values[i] - base, bound);
        // Differences may add up: what lies beyond is none of the encoder's.
        if (before > limit || before < -limit) throw Malformed("a number must not pass its limit");
        values[i] = static_cast<T>(before);
    }
}

using SideEncoder = SideCoder<RangeEncoder>;
using SideDecoder = SideCoder<RangeDecoder>;

}  // namespace attar
