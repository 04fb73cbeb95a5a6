#include "range.hpp"

#include "tables.hpp"

namespace attar {

void RangeEncoder::carry() {
    low_ &= kFull;
    size_t at = out_.size() - 1;
    while (out_[at] == 255) out_[at--] = 0;
    ++out_[at];
}

std::vector<uint8_t> RangeEncoder::finish() {
    uint64_t value = low_;
    for (int size = 0; size < 5; ++size) {
        uint64_t mask = kFull >> (8 * size);
        value = (low_ + mask) & ~mask;
        if (value < low_ + range_) break;
    }
    low_ = value;
    if (low_ > kFull) carry();
    for (int shift = 24; shift >= 0; shift -= 8) out_.push_back(static_cast<uint8_t>(low_ >> shift));
    while (!out_.empty() && out_.back() == 0) out_.pop_back();
    return out_;
}

RangeDecoder::RangeDecoder(const uint8_t* data, size_t size) : data_(data), size_(size) {
    for (size_t k = 0; k < 4; ++k) code_ = code_ << 8 | (k < size ? data[k] : 0u);
    outside_ = code_ >= range_;
}

void RangeDecoder::finish() const {
    // The encoder writes the shortest number in the last interval, and of these the smallest.
    bool wrong = outside_ || size_ > at_ || (size_ != 0 && data_[size_ - 1] == 0);
    // Five missing bytes or more are worth more than any interval: nothing shorter would do.
    if (!wrong && at_ - size_ < 5) {
        int64_t unit = int64_t{1} << (8 * (at_ - size_)), code = static_cast<int64_t>(code_);
        wrong = code >= unit || (size_ != 0 && code + (256 - data_[size_ - 1]) * unit < static_cast<int64_t>(range_));
    }
    if (wrong) throw Malformed("the coded bits must end with their bytes");
}

}  // namespace attar
