#include "rans.hpp"

#include <algorithm>
#include <cstring>

namespace attar {

namespace {

void check(Contexts contexts, size_t count, Frequencies frequencies, size_t lanes) {
    if (lanes == 0 || lanes > kMaxLanes || (lanes & (lanes - 1)) != 0) throw Malformed("lanes must be a power of two up to 32");
    if (frequencies.tables == 0 || frequencies.tables > kMaxTables) throw Malformed("there must be 1 to 64 tables");
    if (frequencies.alphabet == 0 || frequencies.alphabet > 256) throw Malformed("the alphabet must have 1 to 256 symbols");
    for (size_t t = 0; t < frequencies.tables; ++t) {
        uint64_t sum = 0;
        for (size_t s = 0; s < frequencies.alphabet; ++s) sum += frequencies.data[t * frequencies.alphabet + s];
        if (sum != kTotal) throw Malformed("every table must sum to 4096");
    }
    if (contexts.data == nullptr) return;
    if (contexts.size != count) throw Malformed("there must be one context for each symbol");
    uint8_t largest = 0;
    for (size_t i = 0; i < count; ++i) largest = std::max(largest, contexts.data[i]);
    if (count != 0 && largest >= frequencies.tables) throw Malformed("a context names a table that does not exist");
}

struct Slot {
    uint32_t frequency;
    uint32_t start;
};

std::vector<Slot> encoder_table(Frequencies frequencies) {
    std::vector<Slot> table(frequencies.tables * 256, Slot{0, 0});
    for (size_t t = 0; t < frequencies.tables; ++t) {
        uint32_t start = 0;
        for (size_t s = 0; s < frequencies.alphabet; ++s) {
            uint32_t frequency = frequencies.data[t * frequencies.alphabet + s];
            table[t * 256 + s] = Slot{frequency, start};
            start += frequency;
        }
    }
    return table;
}

// One entry for each of the 4096 slots of a table: symbol << 24 | (frequency - 1) << 12 | (slot - start).
std::vector<uint32_t> decoder_table(Frequencies frequencies) {
    std::vector<uint32_t> table(frequencies.tables * kTotal);
    uint32_t* entry = table.data();
    for (size_t t = 0; t < frequencies.tables; ++t) {
        for (uint32_t s = 0; s < frequencies.alphabet; ++s) {
            uint32_t frequency = frequencies.data[t * frequencies.alphabet + s];
            for (uint32_t k = 0; k < frequency; ++k) *entry++ = s << 24 | (frequency - 1) << 12 | k;
        }
    }
    return table;
}

size_t state_bytes(uint32_t state, bool words) {
    size_t bytes = words ? 3 : 0;
    while (bytes < 4 && (static_cast<uint64_t>(state) >> (8 * bytes)) != 0) ++bytes;
    return bytes;
}

void put(std::vector<uint8_t>& out, uint32_t value, size_t bytes) {
    for (size_t k = 0; k < bytes; ++k) out.push_back(static_cast<uint8_t>(value >> (8 * k)));
}

uint32_t take(const uint8_t* data, size_t bytes) {
    uint32_t value = 0;
    for (size_t k = 0; k < bytes; ++k) value |= static_cast<uint32_t>(data[k]) << (8 * k);
    return value;
}

Cursor open(const uint8_t* data, size_t size, size_t lanes) {
    Cursor cursor{};
    size_t head = lanes == 1 ? (size < 4 ? size : 4 - size % 2) : 4 * lanes;
    if (size < head || (size - head) % 2 != 0) throw Malformed("the coded bytes are cut short");
    size_t width = lanes == 1 ? head : 4;
    for (size_t lane = 0; lane < lanes; ++lane) cursor.state[lane] = take(data + width * lane, width);
    cursor.word = data + head;
    cursor.end = data + size;
    return cursor;
}

inline void step(Cursor& cursor, size_t lane, uint32_t entry) {
    uint32_t& x = cursor.state[lane];
    x = ((entry >> 12 & 0xfff) + 1) * (x >> kBits) + (entry & 0xfff);
    if (x < kLow && cursor.word != cursor.end) {
        x = x << 16 | cursor.word[0] | static_cast<uint32_t>(cursor.word[1]) << 8;
        cursor.word += 2;
    }
}

// A lane's arithmetic may not run past the words: with several lanes the states would fall below 2^16, which the check
// at the end refuses; with one lane they may, because the encoder began at 0.
void decode_scalar(const uint32_t* table, const uint8_t* contexts, uint8_t* symbols, size_t count, size_t lanes,
                   Cursor& cursor) {
    for (size_t i = cursor.position; i < count; ++i) {
        size_t lane = i & (lanes - 1);
        size_t context = contexts == nullptr ? 0 : contexts[i];
        uint32_t entry = table[context << kBits | (cursor.state[lane] & (kTotal - 1))];
        symbols[i] = static_cast<uint8_t>(entry >> 24);
        step(cursor, lane, entry);
    }
    cursor.position = count;
}

}  // namespace

std::vector<uint8_t> encode(const uint8_t* symbols, size_t count, Contexts contexts, Frequencies frequencies,
                            size_t lanes) {
    check(contexts, count, frequencies, lanes);
    std::vector<Slot> table = encoder_table(frequencies);
    std::vector<uint16_t> words(count);  // a symbol costs 12 bits at most, so at most one word
    size_t first = count;
    uint32_t state[kMaxLanes];
    std::fill(state, state + lanes, lanes == 1 ? 0 : kLow);
    for (size_t i = count; i-- > 0;) {
        size_t context = contexts.data == nullptr ? 0 : contexts.data[i];
        Slot slot = table[context << 8 | symbols[i]];
        if (slot.frequency == 0) throw Malformed("a symbol has probability zero in its table");
        uint32_t& x = state[i & (lanes - 1)];
        if (x >= static_cast<uint64_t>(slot.frequency) << (32 - kBits)) {
            words[--first] = static_cast<uint16_t>(x);
            x >>= 16;
        }
        x = (x / slot.frequency << kBits) + x % slot.frequency + slot.start;
    }
    std::vector<uint8_t> out;
    out.reserve(4 * lanes + 2 * (count - first));
    for (size_t lane = 0; lane < lanes; ++lane) put(out, state[lane], lanes == 1 ? state_bytes(state[0], first != count) : 4);
    for (size_t i = first; i < count; ++i) put(out, words[i], 2);
    return out;
}

void decode(const uint8_t* data, size_t size, uint8_t* symbols, size_t count, Contexts contexts,
            Frequencies frequencies, size_t lanes, Path path) {
    check(contexts, count, frequencies, lanes);
    std::vector<uint32_t> table = decoder_table(frequencies);
    Cursor cursor = open(data, size, lanes);
    if (path == Path::avx2 && lanes % 8 == 0) {
        decode_avx2(table.data(), contexts.data, symbols, count, lanes, cursor);
    }
    decode_scalar(table.data(), contexts.data, symbols, count, lanes, cursor);
    uint32_t initial = lanes == 1 ? 0 : kLow;
    bool intact = cursor.word == cursor.end;
    for (size_t lane = 0; lane < lanes; ++lane) intact = intact && cursor.state[lane] == initial;
    if (!intact) throw Malformed("the coded bytes do not end where they began");
}

}  // namespace attar
