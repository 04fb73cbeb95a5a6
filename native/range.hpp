// A binary range coder, both directions: LZMA's (Martin 1979), with the probability given for each bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tables.hpp"

namespace attar {

constexpr uint64_t kRangeTop = 1u << 24;
constexpr uint64_t kRangeFull = 0xffffffff;

class RangeEncoder {
  public:
    // One bit; share is the probability of a one, 1 .. 65535 of 2^16. Returns the bit.
    int bit(uint32_t share, int value) {
        const uint64_t bound = (range_ >> 16) * share;
        if (value) {
            range_ = bound;
        } else {
            low_ += bound;
            range_ -= bound;
        }
        while (range_ < kRangeTop) shift();
        return value;
    }

    // The bytes, as few as decide everything: the decoder reads zeros behind them.
    std::vector<uint8_t> finish() {
        uint64_t value = low_;
        for (int size = 0; size < 5; ++size) {
            const uint64_t mask = kRangeFull >> (8 * size);
            value = (low_ + mask) & ~mask;
            if (value < low_ + range_) break;
        }
        low_ = value;
        carry();
        for (int shift = 24; shift >= 0; shift -= 8) out_.push_back(static_cast<uint8_t>(low_ >> shift));
        while (!out_.empty() && out_.back() == 0) out_.pop_back();
        return std::move(out_);
    }

  private:
    void shift() {
        carry();
        out_.push_back(static_cast<uint8_t>(low_ >> 24));
        low_ = low_ << 8 & kRangeFull;
        range_ <<= 8;
    }

    void carry() {
        if (low_ <= kRangeFull) return;
        low_ &= kRangeFull;
        size_t at = out_.size() - 1;
        while (out_[at] == 255) out_[at--] = 0;
        ++out_[at];
    }

    uint64_t low_ = 0;
    uint64_t range_ = kRangeFull;
    std::vector<uint8_t> out_;
};

// Reads bytes that must outlive it.
class RangeDecoder {
  public:
    RangeDecoder(const uint8_t* data, size_t size) : data_(data), size_(size) {
        for (size_t k = 0; k < 4; ++k) code_ = code_ << 8 | (k < size ? data[k] : 0);
    }

    // The next bit; the second argument is the encoder's and is not looked at.
    int bit(uint32_t share, int = 0) {
        const uint64_t bound = (range_ >> 16) * share;
        // The lower part of the interval is a one.
        const int one = code_ < bound;
        if (one) {
            range_ = bound;
        } else {
            code_ -= bound;
            range_ -= bound;
        }
        while (range_ < kRangeTop) {
            code_ = (code_ << 8 & kRangeFull) | (at_ < size_ ? data_[at_] : 0);
            range_ <<= 8;
            ++at_;
        }
        return one;
    }

    // Bytes that were asked for beyond the end.
    size_t missing() const { return at_ > size_ + 4 ? at_ - size_ - 4 : 0; }

    // Throws Malformed where the bytes are not those that the encoder writes: the shortest number in the last interval, and
    // of these the smallest.
    void finish() const {
        bool wrong = size_ > at_ || (size_ != 0 && data_[size_ - 1] == 0);
        // Five missing bytes or more are worth more than any interval: nothing shorter would do.
        if (!wrong && at_ - size_ < 5) {
            const int64_t unit = int64_t{1} << (8 * (at_ - size_)), code = static_cast<int64_t>(code_);
            wrong = code >= unit || (size_ != 0 && code + (256 - data_[size_ - 1]) * unit < static_cast<int64_t>(range_));
        }
        if (wrong) throw Malformed("the coded bits must end with their bytes");
    }

  private:
    const uint8_t* data_;
    size_t size_;
    size_t at_ = 4;
    uint64_t range_ = kRangeFull;
    uint64_t code_ = 0;
};

}  // namespace attar
