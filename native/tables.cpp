#include "tables.hpp"

#include <algorithm>

namespace attar {

namespace {

// Buckets for frequencies f[0 .. alphabet - 1]; the stacks hold the lowest symbol on top.
Alias make_alias(const uint16_t* f, size_t alphabet) {
    Alias alias{};
    std::copy(f, f + alphabet, alias.frequency);
    int left[kBuckets];
    std::copy(alias.frequency, alias.frequency + kBuckets, left);
    std::array<uint8_t, kBuckets> small, large;
    size_t smalls = 0, larges = 0;
    for (size_t s = kBuckets; s-- > 0;) {
        if (left[s] < static_cast<int>(kBuckets)) small[smalls++] = static_cast<uint8_t>(s);
        else large[larges++] = static_cast<uint8_t>(s);
    }
    while (smalls != 0) {
        uint8_t s = small[--smalls];
        uint8_t g = large[larges - 1];
        alias.set(s, left[s], g);
        left[g] -= static_cast<int>(kBuckets) - left[s];
        if (left[g] < static_cast<int>(kBuckets)) {
            --larges;
            small[smalls++] = g;
        }
    }
    while (larges != 0) {
        uint8_t g = large[--larges];
        alias.set(g, 0, g);
    }
    uint16_t used[kBuckets];
    for (size_t b = 0; b < kBuckets; ++b) {
        alias.theirs[b] = alias.frequency[alias.other(b)];
        used[b] = static_cast<uint16_t>(alias.other(b) == b ? kBuckets : alias.divider(b));
    }
    for (size_t b = 0; b < kBuckets; ++b) {
        const uint32_t other = alias.other(b), divider = alias.divider(b);
        if (other == b) continue;
        alias.shift[b] = static_cast<uint16_t>(used[other] - divider);
        used[other] = static_cast<uint16_t>(used[other] + kBuckets - divider);
    }
    return alias;
}

uint32_t alias_entry(const Alias& alias, uint32_t slot) {
    uint32_t bucket = slot >> 6, within = slot & 63;
    bool other = within >= alias.divider(bucket);
    uint32_t symbol = other ? alias.other(bucket) : bucket;
    uint32_t position = (within + (other ? alias.shift[bucket] : 0)) & 0xffff;
    return symbol << 24 | (alias.frequency[symbol] - 1u) << 12 | position;
}

// The slot of each symbol's start + position: a bucket has some of its own symbol's positions, and some of the other's.
void alias_slots(const Alias& alias, const Share* shares, uint16_t* slots) {
    for (uint32_t b = 0; b < kBuckets; ++b) {
        const uint32_t divider = alias.divider(b), other = alias.other(b);
        const uint32_t own = other == b ? kBuckets : divider;
        uint16_t* const mine = slots + shares[b].start;
        for (uint32_t w = 0; w < own; ++w) mine[w] = static_cast<uint16_t>(kBuckets * b + w);
        if (own == kBuckets) continue;
        uint16_t* const theirs = slots + shares[other].start + ((own + alias.shift[b]) & 0xffff);
        for (uint32_t w = own; w < kBuckets; ++w) theirs[w - own] = static_cast<uint16_t>(kBuckets * b + w);
    }
}

void cumulative_entries(const uint16_t* f, size_t alphabet, uint32_t* entry) {
    for (uint32_t s = 0; s < alphabet; ++s) {
        for (uint32_t k = 0; k < f[s]; ++k) *entry++ = s << 24 | (f[s] - 1u) << 12 | k;
    }
}

}  // namespace

AliasBytes::AliasBytes(const Alias& alias) : only(false) {
    for (size_t b = 0; b < kBuckets; ++b) {
        divider[b] = static_cast<uint8_t>(4 * alias.divider(b));
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

DecodeTables::DecodeTables(Frequencies frequencies, bool entries) : count_(frequencies.tables) {
    check(frequencies);
    bool small = frequencies.alphabet <= kBuckets;
    if (small) {
        alias_.reserve(count_);
        bytes_.reserve(count_);
        for (size_t t = 0; t < count_; ++t) {
            alias_.push_back(make_alias(frequencies.data + t * frequencies.alphabet, frequencies.alphabet));
            bytes_.emplace_back(alias_.back());
        }
    }
    if (small && !entries) return;
    entries_.resize(count_ * kTotal);
    for (size_t t = 0; t < count_; ++t) {
        uint32_t* out = &entries_[t * kTotal];
        if (!small) {
            cumulative_entries(frequencies.data + t * frequencies.alphabet, frequencies.alphabet, out);
            continue;
        }
        fill(t, out);
    }
}

void DecodeTables::fill(size_t table, uint32_t* entries) const {
    const Alias& alias = alias_[table];
    for (uint32_t b = 0; b < kBuckets; ++b, entries += kBuckets) {
        const uint32_t divider = alias.divider(b), other = alias.other(b);
        // Positions stay below 4096, and shift is one of them less the divider: no sum of the two carries over.
        const uint32_t own = b << 24 | (alias.frequency[b] - 1u) << 12;
        const uint32_t shift = static_cast<uint32_t>(static_cast<int16_t>(alias.shift[b]));
        const uint32_t theirs = (other << 24 | (alias.frequency[other] - 1u) << 12) + shift;
        for (uint32_t w = 0; w < kBuckets; ++w) entries[w] = (w < divider ? own : theirs) + w;
    }
}

uint32_t DecodeTables::most(size_t table) const {
    if (alias_.empty()) return 0;
    const uint16_t* frequency = alias_[table].frequency;
    return *std::max_element(frequency, frequency + kBuckets);
}

uint32_t DecodeTables::entry(size_t table, uint32_t slot) const {
    return entries_.empty() ? alias_entry(alias_[table], slot) : entries_[table * kTotal + slot];
}

EncodeTables::EncodeTables(Frequencies frequencies) : count_(frequencies.tables), small_(frequencies.alphabet <= kBuckets) {
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
        for (size_t slot = 0; slot < kTotal && !small_; ++slot) slots[slot] = static_cast<uint16_t>(slot);
        if (small_) alias_slots(make_alias(given, frequencies.alphabet), &shares_[t * 256], slots);
    }
}

}  // namespace attar
