// Probability tables as the coder uses them: how the 4096 slots of a table are shared out, and what follows from a slot.
//
// Up to 64 symbols the layout is Walker's alias method (Walker 1977, Vose 1991): 64 buckets of 64 slots, each shared by
// the bucket's own symbol and one other, so that a table fits a few vector registers; of up to 128 symbols, where a table is
// `wide`, 128 buckets of 32. Other alphabets are cumulative.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace attar {

constexpr uint32_t kBits = 12;
constexpr uint32_t kTotal = 1u << kBits;
constexpr size_t kMaxTables = 64;
constexpr size_t kBuckets = 64, kMostBuckets = 128;

// Bytes or arguments that cannot be right; a ValueError in Python.
struct Malformed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// frequencies[tables][alphabet], each row summing to kTotal; zero means that the symbol does not occur.
struct Frequencies {
    const uint16_t* data;
    size_t tables;
    size_t alphabet;
};

// Throws Malformed where there are no such tables.
void check(Frequencies frequencies);

// Whether an alphabet has more symbols than buckets, and no more than there may be.
constexpr bool may_be_wide(size_t alphabet) { return alphabet > kBuckets && alphabet <= kMostBuckets; }

// Symbols of an array from which wide tables are worth it: they take longer to make than cumulative ones.
constexpr size_t kWorthWide = size_t{1} << 13;

// One bucket layout: slot `slots` b + w belongs to b where w < divider, else to the alias; its position among the symbol's
// slots is w, or w + shift (modulo 2^16). `split` holds both so that, with 64 buckets, 64 w > split, as signed numbers,
// exactly where w is not below the divider.
struct Alias {
    uint32_t buckets;
    alignas(64) uint16_t frequency[kMostBuckets];
    alignas(64) uint16_t theirs[kMostBuckets];  // frequency of the alias
    alignas(64) int16_t split[kMostBuckets];  // buckets (divider - 1) + alias
    alignas(64) uint16_t shift[kMostBuckets];
    uint32_t slots() const { return kTotal / buckets; }
    uint32_t divider(size_t bucket) const { return (static_cast<uint32_t>(split[bucket]) + buckets) / buckets; }
    uint32_t other(size_t bucket) const { return static_cast<uint32_t>(split[bucket]) & (buckets - 1); }
    void set(size_t bucket, int divider, int other) {
        split[bucket] = static_cast<int16_t>(static_cast<int>(buckets) * (divider - 1) + other);
    }
};

// The same for processors that permute bytes: the divider times what makes a byte of the slots of a bucket, the other symbol, and
// the low and the high bytes of shifts, by bucket; those of 16 times the frequency by symbol.
struct AliasBytes {
    explicit AliasBytes(const Alias& alias);
    alignas(64) uint8_t divider[kMostBuckets];
    alignas(64) uint8_t other[kMostBuckets];
    alignas(64) uint8_t shift[2][kMostBuckets];
    alignas(64) uint8_t scaled[2][kMostBuckets];
    bool wide;  // 128 buckets
    bool only;  // whether one symbol has all slots: 16 times as many do not fit
};

// What a decoder looks up. An entry is symbol << 24 | (frequency - 1) << 12 | position, one for each slot.
class DecodeTables {
  public:
    // `entries` asks for them also where the alias layout would do; those of wide tables are then all that there is. Throws
    // Malformed, also where tables of such an alphabet cannot be wide.
    DecodeTables(Frequencies frequencies, bool wide, bool entries);
    size_t count() const { return count_; }
    const Alias* alias(size_t table) const { return alias_.empty() ? nullptr : &alias_[table]; }
    const AliasBytes& bytes(size_t table) const { return bytes_[table]; }
    const uint32_t* entries(size_t table) const { return entries_.empty() ? nullptr : &entries_[table * kTotal]; }
    uint32_t entry(size_t table, uint32_t slot) const;
    // The highest frequency of a table with an alias layout, else 0.
    uint32_t most(size_t table) const;
    // All entries of a table with an alias layout.
    void fill(size_t table, uint32_t* entries) const;

  private:
    size_t count_;
    std::vector<Alias> alias_;
    std::vector<AliasBytes> bytes_;  // of all alias layouts
    std::vector<uint32_t> entries_;
};

// What an encoder looks up: x / frequency is the high half of (x << 20) * reciprocal, for x below frequency << 20.
// A symbol that does not occur passes for one of frequency 1, so that nothing is read beyond a table, and says so.
struct Share {
    uint64_t reciprocal;
    uint64_t bound;  // frequency << 20
    uint32_t frequency;
    uint32_t start;
    uint32_t missing;
};

class EncodeTables {
  public:
    EncodeTables(Frequencies frequencies, bool wide);
    size_t count() const { return count_; }
    const Share* shares(size_t table) const { return &shares_[table * 256]; }
    const uint16_t* slots(size_t table) const { return &slots_[table * kTotal]; }
    // Vectors look up one number a symbol: frequency | start << 13 | missing << 31.
    const uint32_t* packed(size_t table) const { return &packed_[table * 256]; }
    // Of an alias layout; 0 where there is none.
    size_t buckets() const { return buckets_; }

  private:
    size_t count_;
    std::vector<Share> shares_;    // [tables][256]
    std::vector<uint16_t> slots_;  // [tables][4096]: slot of the symbol's start + position; one more, for vectors
    std::vector<uint32_t> packed_;  // [tables][256]
    size_t buckets_;
};

}  // namespace attar
