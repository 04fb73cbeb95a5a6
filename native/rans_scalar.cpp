// The steps without vectors.
#include "rans.hpp"
#include "target.hpp"

namespace attar {

namespace {

// One step of `count` symbols, at most one a lane.
void decode_step(const uint32_t* entries, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor) {
    for (size_t i = 0; i < lanes; ++i) {
        size_t lane = lane_at(i);
        if (lane >= count) continue;
        uint32_t x = cursor.state[i];
        uint32_t entry = entries[x & (kTotal - 1)];
        symbols[lane] = static_cast<uint8_t>(entry >> 24);
        x = advance(x, entry);
        uint32_t low = x < kLow;
        cursor.state[i] = x << (low << 4) | (take_word(cursor.word) & (0u - low));
        cursor.word += 2 * low;
    }
}

}  // namespace

// Without a branch where they are whole.
size_t decode_scalar(const uint32_t* entries, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor) {
    size_t at = 0;
    const uint8_t* word = cursor.word;
    for (; at + lanes <= count && static_cast<size_t>(cursor.readable - word) >= kAhead; at += lanes) {
        // Sixteen even lanes, then sixteen odd ones.
        for (size_t half = 0; half < lanes; half += 16) {
            uint32_t* state = cursor.state + half;
            uint8_t* to = symbols + at + lane_at(half);
            for (size_t i = 0; i < 16; ++i) {
                uint32_t entry = entries[state[i] & (kTotal - 1)];
                to[2 * i] = static_cast<uint8_t>(entry >> 24);
                uint32_t x = advance(state[i], entry);
                uint32_t low = x < kLow;
                state[i] = x << (low << 4) | (take_word(word) & (0u - low));
                word += 2 * low;
            }
        }
    }
    cursor.word = word;
    if (at == count || at + lanes <= count || static_cast<size_t>(cursor.readable - word) < kAhead) return at;
    decode_step(entries, symbols + at, count - at, lanes, cursor);
    return count;
}

}  // namespace attar
