#include "side.hpp"

#include <algorithm>

#include "tables.hpp"

namespace attar {

namespace {

constexpr uint64_t kTop = 1u << 24;
constexpr uint64_t kFull = 0xffffffff;
constexpr int kUnary = 12;
constexpr int kNonzero = 13;
constexpr int kNegative = 14;

int length_of(uint64_t value) {
    int length = 0;
    while (value != 0) {
        value >>= 1;
        ++length;
    }
    return length;
}

}  // namespace

SideCoder::SideCoder() {
    std::fill(ones_, ones_ + kKeys * kSlots, uint16_t{1});
    std::fill(total_, total_ + kKeys * kSlots, uint16_t{2});
}

uint32_t SideCoder::share(int slot) const {
    return slot == kEven ? 1u << 15 : (static_cast<uint32_t>(ones_[slot]) << 16) / total_[slot];
}

void SideCoder::learn(int slot, int bit) {
    if (slot == kEven) return;
    total_[slot] = static_cast<uint16_t>(total_[slot] + 2);
    if (bit) ones_[slot] = static_cast<uint16_t>(ones_[slot] + 2);
    if (total_[slot] > 512) {
        // Both stay odd and even, and a zero as well as a one stays possible.
        ones_[slot] = static_cast<uint16_t>(ones_[slot] >> 1 | 1);
        int half = ((total_[slot] >> 1) + 1) & ~1;
        total_[slot] = static_cast<uint16_t>(std::max(half, ones_[slot] + 1));
    }
}

uint64_t SideCoder::bits(int width, uint64_t value) {
    uint64_t result = 0;
    for (int shift = width - 1; shift >= 0; --shift) result = result << 1 | bit(kEven, value >> shift & 1);
    return result;
}

uint64_t SideCoder::natural(int key, uint64_t value, uint64_t limit) {
    int slot = key * kSlots;
    for (uint64_t k = 0; k < kUnary; ++k) {
        if (k == limit || !bit(slot + static_cast<int>(k), value > k)) return k;
    }
    uint64_t rest = value - kUnary + 1;
    int wanted = length_of(rest), length = 1;
    while (length <= 64 && bit(slot + kUnary, wanted > length)) ++length;
    if (length > 64) throw Malformed("a number must not pass its limit");
    uint64_t top = uint64_t{1} << (length - 1);
    rest = top | bits(length - 1, rest & (top - 1));
    if (rest > limit - kUnary + 1) throw Malformed("a number must not pass its limit");
    return rest + kUnary - 1;
}

SideCoder::Signed SideCoder::integer(int key, Signed value, uint64_t limit) {
    int slot = key * kSlots;
    if (!bit(slot + kNonzero, value.size != 0)) return {false, 0};
    bool negative = bit(slot + kNegative, value.negative) != 0;
    return {negative, 1 + natural(key, value.size - 1, limit - 1)};
}

int64_t SideCoder::number(int key, int64_t value, int64_t limit) {
    Signed read = integer(key, {value < 0, static_cast<uint64_t>(value < 0 ? -value : value)}, static_cast<uint64_t>(limit));
    int64_t size = static_cast<int64_t>(read.size);
    return read.negative ? -size : size;
}

void SideCoder::run(int key, int model, int64_t* values, size_t count, int64_t limit) {
    int64_t before = 0;
    for (size_t i = 0; i < count; ++i) {
        if (model == 2) {
            values[i] = before + number(key, values[i] - before, 2 * limit);
        } else if (model == 1) {
            values[i] = number(key + 1 + static_cast<int>(std::clamp<int64_t>(before, -3, 3) + 3), values[i], limit);
        } else {
            values[i] = number(key, values[i], limit);
        }
        // Differences may add up: what lies beyond is none of the encoder's.
        if (values[i] > limit || values[i] < -limit) throw Malformed("a number must not pass its limit");
        before = values[i];
    }
}

int SideEncoder::bit(int slot, int value) {
    uint64_t bound = (range_ >> 16) * share(slot);
    if (value) {
        range_ = bound;
    } else {
        low_ += bound;
        range_ -= bound;
    }
    learn(slot, value);
    while (range_ < kTop) {
        carry();
        out_.push_back(static_cast<uint8_t>(low_ >> 24));
        low_ = low_ << 8 & kFull;
        range_ <<= 8;
    }
    return value;
}

void SideEncoder::carry() {
    if (low_ <= kFull) return;
    low_ &= kFull;
    size_t at = out_.size() - 1;
    while (out_[at] == 255) out_[at--] = 0;
    ++out_[at];
}

std::vector<uint8_t> SideEncoder::finish() {
    uint64_t value = low_;
    for (int size = 0; size < 5; ++size) {
        uint64_t mask = kFull >> (8 * size);
        value = (low_ + mask) & ~mask;
        if (value < low_ + range_) break;
    }
    low_ = value;
    carry();
    for (int shift = 24; shift >= 0; shift -= 8) out_.push_back(static_cast<uint8_t>(low_ >> shift));
    while (!out_.empty() && out_.back() == 0) out_.pop_back();
    return out_;
}

SideDecoder::SideDecoder(const uint8_t* data, size_t size) : data_(data, data + size) {
    for (size_t k = 0; k < 4; ++k) code_ = code_ << 8 | (k < size ? data[k] : 0);
}

int SideDecoder::bit(int slot, int) {
    uint64_t bound = (range_ >> 16) * share(slot);
    // The lower part of the interval is a one.
    int one = code_ < bound;
    if (one) {
        range_ = bound;
    } else {
        code_ -= bound;
        range_ -= bound;
    }
    learn(slot, one);
    while (range_ < kTop) {
        code_ = (code_ << 8 & kFull) | (at_ < data_.size() ? data_[at_] : 0);
        range_ <<= 8;
        ++at_;
    }
    return one;
}

void SideDecoder::finish() const {
    // The encoder writes the shortest number in the last interval, and of these the smallest.
    size_t size = data_.size();
    bool wrong = size > at_ || (size != 0 && data_.back() == 0);
    // Five missing bytes or more are worth more than any interval: nothing shorter would do.
    if (!wrong && at_ - size < 5) {
        int64_t unit = int64_t{1} << (8 * (at_ - size)), code = static_cast<int64_t>(code_);
        wrong = code >= unit || (size != 0 && code + (256 - data_.back()) * unit < static_cast<int64_t>(range_));
    }
    if (wrong) throw Malformed("the side information must end with its bytes");
}

}  // namespace attar
