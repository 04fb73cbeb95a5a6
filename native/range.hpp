// A binary range coder, both directions: LZMA's (Martin 1979), with the probability given for each bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "target.hpp"

namespace attar {

constexpr uint32_t kRangeTop = 1u << 24;

// Bits into bytes.
class RangeEncoder {
  public:
    // One bit; share is the probability of a one, 1 .. 65535 of 2^16. Returns the bit.
    ATTAR_INLINE int bit(uint32_t share, int value) {
        const uint64_t bound = (range_ >> 16) * share;
        low_ += value != 0 ? 0 : bound;
        range_ = value != 0 ? bound : range_ - bound;
        while (range_ < kRangeTop) {
            if (low_ > kFull) carry();
            out_.push_back(static_cast<uint8_t>(low_ >> 24));
            low_ = low_ << 8 & kFull;
            range_ <<= 8;
        }
        return value;
    }
    // The bytes, as few as decide everything: the decoder reads zeros behind them.
    std::vector<uint8_t> finish();

  private:
    static constexpr uint64_t kFull = 0xffffffff;
    void carry();
    uint64_t low_ = 0;
    uint64_t range_ = 0xffffffff;
    std::vector<uint8_t> out_;
};

// Bytes into bits; the given value is not looked at. The bytes must outlive it.
class RangeDecoder {
  public:
    RangeDecoder(const uint8_t* data, size_t size);
    // Throws Malformed where the bytes are not those that the encoder writes.
    void finish() const;

    ATTAR_INLINE int bit(uint32_t share, int) {
        const uint32_t bound = (range_ >> 16) * share;
        // The lower part of the interval is a one.
        const int one = code_ < bound;
        code_ -= one ? 0 : bound;
        range_ = one ? bound : range_ - bound;
        while (range_ < kRangeTop) {
            code_ = code_ << 8 | (at_ < size_ ? data_[at_] : 0u);
            range_ <<= 8;
            ++at_;
        }
        return one;
    }

  private:
    const uint8_t* data_;
    size_t size_;
    size_t at_ = 4;
    uint32_t range_ = 0xffffffff;
    uint32_t code_ = 0;
    bool outside_ = false;  // of the first interval, in which no code ever is
};

}  // namespace attar
