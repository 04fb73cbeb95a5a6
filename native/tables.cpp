#include "tables.hpp"

#include <algorithm>

namespace attar {

namespace {

// Buckets for frequencies f[0 .. alphabet - 1]; the stacks hold the lowest symbol on top.
Alias make_alias(const uint16_t* f, size_t alphabet, size_t buckets) {
    Alias alias{};
    alias.buckets = static_cast<uint32_t>(buckets);
    const int slots = static_cast<int>(alias.slots());
    std::copy(f, f + alphabet, alias.frequency);
    int left[kMostBuckets];
    std::copy(alias.frequency, alias.frequency + buckets, left);
    std::array<uint8_t, kMostBuckets> small, large;
    size_t smalls = 0, larges = 0;
    for (size_t s = buckets; s-- > 0;) {
        if (left[s] < slots) small[smalls++] = static_cast<uint8_t>(s);
        else large[larges++] = static_cast<uint8_t>(s);
    }
    while (smalls != 0) {
        uint8_t s = small[--smalls];
        uint8_t g = large[larges - 1];
        alias.set(s, left[s], g);
        left[g] -= slots - left[s];
        if (left[g] < slots) {
            --larges;
            small[smalls++] = g;
        }
    }
    while (larges != 0) {
        uint8_t g = large[--larges];
        alias.set(g, 0, g);
    }
    uint16_t used[kMostBuckets];
    for (size_t b = 0; b < buckets; ++b) {
        alias.theirs[b] = alias.frequency[alias.other(b)];
        used[b] = static_cast<uint16_t>(alias.other(b) == b ? alias.slots() : alias.divider(b));
    }
    for (size_t b = 0; b < buckets; ++b) {
        const uint32_t other = alias.other(b), divider = alias.divider(b);
        if (other == b) continue;
        alias.shift[b] = static_cast<uint16_t>(used[other] - divider);
        used[other] = static_cast<uint16_t>(used[other] + alias.slots() - divider);
    }
    return alias;
}

uint32_t alias_entry(const Alias& alias, uint32_t slot) {
    uint32_t bucket = slot / alias.slots(), within = slot % alias.slots();
    bool other = within >= alias.divider(bucket);
    uint32_t symbol = other ? alias.other(bucket) : bucket;
    uint32_t position = (within + (other ? alias.shift[bucket] : 0)) & 0xffff;
    return symbol << 24 | (alias.frequency[symbol] - 1u) << 12 | position;
}

void alias_entries(const Alias& alias, uint32_t* entries) {
    const uint32_t slots = alias.slots();
    for (uint32_t b = 0; b < alias.buckets; ++b, entries += slots) {
        const uint32_t divider = alias.divider(b), other = alias.other(b);
        // Positions stay below 4096, and shift is one of them less the divider: no sum of the two carries over.
        const uint32_t own = b << 24 | (alias.frequency[b] - 1u) << 12;
        const uint32_t shift = static_cast<uint32_t>(static_cast<int16_t>(alias.shift[b]));
        const uint32_t theirs = (other << 24 | (alias.frequency[other] - 1u) << 12) + shift;
        for (uint32_t w = 0; w < slots; ++w) entries[w] = (w < divider ? own : theirs) + w;
    }
}

// The slot of each symbol's start + position: a bucket has some of its own symbol's positions, and some of the other's.
void alias_slots(const Alias& alias, const Share* shares, uint16_t* to) {
    const uint32_t slots = alias.slots();
    for (uint32_t b = 0; b < alias.buckets; ++b) {
        const uint32_t divider = alias.divider(b), other = alias.other(b);
        const uint32_t own = other == b ? slots : divider;
        uint16_t* const mine = to + shares[b].start;
        for (uint32_t w = 0; w < own; ++w) mine[w] = static_cast<uint16_t>(slots * b + w);
        if (own == slots) continue;
        uint16_t* const theirs = to + shares[other].start + ((own + alias.shift[b]) & 0xffff);
        for (uint32_t w = own; w < slots; ++w) theirs[w - own] = static_cast<uint16_t>(slots * b + w);
    }
}

// The buckets of an alias layout; 0 where there is none.
size_t buckets_of(size_t alphabet, bool wide) {
    if (wide && !may_be_wide(alphabet)) throw Malformed("wide tables must have 65 to 128 symbols");
    return wide ? kMostBuckets : alphabet <= kBuckets ? kBuckets : 0;
}

void cumulative_entries(const uint16_t* f, size_t alphabet, uint32_t* entry) {
    for (uint32_t s = 0; s < alphabet; ++s) {
        for (uint32_t k = 0; k < f[s]; ++k) *entry++ = s << 24 | (f[s] - 1u) << 12 | k;
    }
}

}  // namespace

AliasBytes::AliasBytes(const Alias& alias) : wide(alias.buckets != kBuckets), only(false) {
    for (size_t b = 0; b < alias.buckets; ++b) {
        divider[b] = static_cast<uint8_t>(256 / alias.slots() * alias.divider(b));
        other[b] = static_cast<uint8_t>(alias.other(b));
        const uint32_t times = 16u * alias.frequency[b];
        for (size_t k = 0; k < 2; ++k) {
            shift[k][b] = static_cast<uint8_t>(alias.shift[b] >> (8 * k));
            scaled[k][b] = static_cast<uint8_t>(times >> (8 * k));
        }
        only = only || alias.frequency[b] == kTotal;
    }
}

void check(Frequencies frequencies) {
    if (frequencies.tables == 0 || frequencies.tables > kMaxTables) throw Malformed("there must be 1 to 64 tables");
    if (frequencies.alphabet == 0 || frequencies.alphabet > 256) throw Malformed("the alphabet must have 1 to 256 symbols");
    for (size_t t = 0; t < frequencies.tables; ++t) {
        uint64_t sum = 0;
        for (size_t s = 0; s < frequencies.alphabet; ++s) sum += frequencies.data[t * frequencies.alphabet + s];
        if (sum != kTotal) throw Malformed("every table must sum to 4096");
    }
}

DecodeTables::DecodeTables(Frequencies frequencies, bool wide, bool entries) : count_(frequencies.tables) {
    check(frequencies);
    const size_t buckets = buckets_of(frequencies.alphabet, wide);
    const bool small = buckets != 0, kept = small && !(wide && entries);
    if (kept) {
        alias_.reserve(count_);
        bytes_.reserve(count_);
    }
    if (!small || entries) entries_.resize(count_ * kTotal);
    for (size_t t = 0; t < count_; ++t) {
        const uint16_t* const f = frequencies.data + t * frequencies.alphabet;
        uint32_t* const out = entries_.empty() ? nullptr : &entries_[t * kTotal];
        if (!small) {
            cumulative_entries(f, frequencies.alphabet, out);
            continue;
        }
        const Alias alias = make_alias(f, frequencies.alphabet, buckets);
        if (entries) alias_entries(alias, out);
        if (!kept) continue;
        alias_.push_back(alias);
        bytes_.emplace_back(alias);
    }
}

void DecodeTables::fill(size_t table, uint32_t* entries) const { alias_entries(alias_[table], entries); }

uint32_t DecodeTables::most(size_t table) const {
    if (alias_.empty()) return 0;
    const uint16_t* frequency = alias_[table].frequency;
    return *std::max_element(frequency, frequency + alias_[table].buckets);
}

uint32_t DecodeTables::entry(size_t table, uint32_t slot) const {
    return entries_.empty() ? alias_entry(alias_[table], slot) : entries_[table * kTotal + slot];
}

EncodeTables::EncodeTables(Frequencies frequencies, bool wide)
    : count_(frequencies.tables), buckets_(buckets_of(frequencies.alphabet, wide)) {
    check(frequencies);
    shares_.resize(count_ * 256, Share{1ull << 44, ~uint64_t{0}, 1, 0, 1});
    packed_.resize(count_ * 256, 1u << 31 | 1);
    slots_.resize(count_ * kTotal + 1);
    for (size_t t = 0; t < count_; ++t) {
        const uint16_t* given = frequencies.data + t * frequencies.alphabet;
        uint32_t start = 0;
        for (size_t s = 0; s < frequencies.alphabet; ++s) {
            const uint32_t f = given[s];
            if (f == 0) continue;
            shares_[t * 256 + s] = Share{((1ull << 44) + f - 1) / f, uint64_t{f} << 20, f, start, 0};
            packed_[t * 256 + s] = f | start << 13;
            start += f;
        }
        uint16_t* slots = &slots_[t * kTotal];
        for (size_t slot = 0; slot < kTotal && buckets_ == 0; ++slot) slots[slot] = static_cast<uint16_t>(slot);
        if (buckets_ != 0) alias_slots(make_alias(given, frequencies.alphabet, buckets_), &shares_[t * 256], slots);
    }
}

}  // namespace attar
