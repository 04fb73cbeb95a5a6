// The adaptive binary range coder of side information, both directions; its twin is attar/coding/streams.py.
//
// LZMA's range coder (Martin 1979) with counted probabilities (Krichevsky and Trofimov 1981). A key names the adaptive
// probabilities of one kind of number: 12 unary steps, their escape, "not zero" and "negative".
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace attar {

constexpr int kKeys = 32;
constexpr int kSlots = 16;
constexpr int kEven = -1;

class SideCoder {
  public:
    virtual ~SideCoder() = default;
    // One bit with the probability of a slot (kEven: 1/2): encodes value, or decodes and returns it.
    virtual int bit(int slot, int value) = 0;
    uint64_t bits(int width, uint64_t value);
    // 0 .. limit, likely to be small; throws Malformed beyond.
    uint64_t natural(int key, uint64_t value, uint64_t limit);
    // Small numbers around zero: model 0 not predicted, 1 in the context of the one before, 2 from the one before.
    // limit is below 2^40.
    void run(int key, int model, int64_t* values, size_t count, int64_t limit);
    // -limit .. limit, likely to be near zero; the magnitude may be 2^63.
    struct Signed {
        bool negative;
        uint64_t size;
    };
    Signed integer(int key, Signed value, uint64_t limit);

  protected:
    SideCoder();
    uint32_t share(int slot) const;  // of a one, of 2^16
    void learn(int slot, int bit);

  private:
    int64_t number(int key, int64_t value, int64_t limit);
    uint16_t ones_[kKeys * kSlots];
    uint16_t total_[kKeys * kSlots];
};

class SideEncoder : public SideCoder {
  public:
    int bit(int slot, int value) override;
    std::vector<uint8_t> finish();

  private:
    void carry();
    uint64_t low_ = 0;
    uint64_t range_ = 0xffffffff;
    std::vector<uint8_t> out_;
};

class SideDecoder : public SideCoder {
  public:
    SideDecoder(const uint8_t* data, size_t size);
    int bit(int slot, int value) override;
    // Throws Malformed where the bytes are not those that the encoder writes.
    void finish() const;

  private:
    std::vector<uint8_t> data_;
    size_t at_ = 4;
    uint64_t range_ = 0xffffffff;
    uint64_t code_ = 0;
};

}  // namespace attar
