#include "rans.hpp"

#include <algorithm>

#include "bytes.hpp"
#if defined(_MSC_VER)
#include <intrin.h>
#endif

namespace attar {

namespace {

uint64_t high_half(uint64_t a, uint64_t b) {
#if defined(_MSC_VER)
    return __umulh(a, b);
#else
    return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
#endif
}

void put(std::vector<uint8_t>& out, uint32_t value, size_t bytes) {
    for (size_t k = 0; k < bytes; ++k) out.push_back(static_cast<uint8_t>(value >> (8 * k)));
}

// A symbol into a state, without a branch: the word below `first` is written always and kept where it is needed.
inline uint32_t push(uint32_t x, const Share& share, const uint16_t* slots, uint16_t*& first, uint32_t& missing) {
    missing |= share.missing;
    first[-1] = static_cast<uint16_t>(x);
    uint32_t full = x >= share.bound;
    first -= full;
    x >>= full << 4;
    uint32_t quotient = static_cast<uint32_t>(high_half(static_cast<uint64_t>(x) << 20, share.reciprocal));
    return (quotient << kBits) + slots[share.start + x - quotient * share.frequency];
}

// Words as bytes, the lowest first.
void put_words(const uint16_t* words, size_t count, uint8_t* out) {
    for (size_t k = 0; k < count; ++k) {
        out[2 * k] = static_cast<uint8_t>(words[k]);
        out[2 * k + 1] = static_cast<uint8_t>(words[k] >> 8);
    }
}

struct Single {
    size_t symbols;  // that it holds, counted from the end
    uint32_t state;
    std::vector<uint16_t> words;  // in the decoder's order
};

void check_missing(uint32_t missing) {
    if (missing != 0) throw Malformed("a symbol has probability zero in its table");
}

// One lane over the last symbols: all of them, or as many as `most` words take.
Single encode_single(const uint8_t* symbols, size_t count, Runs runs, const EncodeTables& tables, size_t most) {
    std::vector<uint16_t> words(std::min(count, most) + 1);
    uint16_t* end = words.data() + words.size();
    uint16_t* first = end;
    uint32_t x = 0, missing = 0;
    size_t at = count;
    for (size_t r = runs.size; r-- > 0;) {
        const Share* shares = tables.shares(runs.table(r));
        const uint16_t* slots = tables.slots(runs.table(r));
        for (size_t stop = at - runs.count(r); at > stop; --at) {
            const Share& share = shares[symbols[at - 1]];
            if (static_cast<size_t>(end - first) == most && x >= share.bound) {
                check_missing(missing);
                return {count - at, x, std::vector<uint16_t>(first, end)};
            }
            x = push(x, share, slots, first, missing);
        }
    }
    check_missing(missing);
    return {count, x, std::vector<uint16_t>(first, end)};
}

void put_single(std::vector<uint8_t>& out, const Single& single) {
    size_t bytes = single.words.empty() ? 0 : 3;
    while (bytes < 4 && (static_cast<uint64_t>(single.state) >> (8 * bytes)) != 0) ++bytes;
    put(out, single.state, bytes);
    for (uint16_t word : single.words) put(out, word, 2);
}

// All symbols of one run, last first; the run starts at lane 0.
void encode_run(const uint8_t* symbols, size_t count, size_t lanes, const EncodeTables& tables, size_t table, Path path,
                uint32_t* state, uint16_t*& first) {
    const Share* shares = tables.shares(table);
    const uint16_t* slots = tables.slots(table);
    if (path == Path::avx512) return check_missing(encode_avx512(tables, table, symbols, count, lanes, state, first));
    uint32_t missing = 0;
    const size_t whole = count / lanes * lanes;
    for (size_t i = lanes; i-- > 0;) {
        size_t lane = lane_at(i);
        if (whole + lane < count) state[lane] = push(state[lane], shares[symbols[whole + lane]], slots, first, missing);
    }
    for (size_t at = whole; at > 0;) {
        at -= lanes;
        for (size_t i = lanes; i-- > 0;) {
            size_t lane = lane_at(i);
            state[lane] = push(state[lane], shares[symbols[at + lane]], slots, first, missing);
        }
    }
    check_missing(missing);
}

}  // namespace

void check(size_t count, Runs runs, size_t tables) {
    uint64_t total = 0;
    for (size_t r = 0; r < runs.size; ++r) {
        const int32_t* run = runs.data + 3 * r;
        if (run[0] < 0 || run[1] < 0) throw Malformed("a run must not be negative");
        if (run[2] < 0 || static_cast<size_t>(run[2]) >= tables) throw Malformed("a run names a table that does not exist");
        total += static_cast<uint64_t>(run[0]) * static_cast<uint64_t>(run[1]);
        if (total > count) break;
    }
    if (total != count) throw Malformed("the runs must add up to the symbols");
}

void ChunkText::put(uint8_t* to) const {
    to = std::copy(head_.begin(), head_.end(), to);
    for (size_t k = 0; k < 4 * lanes_; ++k) *to++ = static_cast<uint8_t>(state_[k / 4] >> (8 * (k % 4)));
    put_words(words_, count_, to);
}

ChunkText encode_chunk(const uint8_t* symbols, size_t count, Runs runs, const EncodeTables& tables, size_t lanes, Path path) {
    check(count, runs, tables.count());
    if (lanes != 1 && lanes != 32 && lanes != 64 && lanes != 128) throw Malformed("lanes must be 1, 32, 64 or 128");
    ChunkText text;
    Single tail = encode_single(symbols, count, runs, tables, lanes == 1 ? count : lanes - 2);
    if (tail.symbols == count) {
        text.head_.push_back(0);
        put_single(text.head_, tail);
        return text;
    }
    put_varint(text.head_, tail.symbols << 2 | (lanes == 32 ? 1 : lanes == 64 ? 2 : 3));
    uint32_t* const state = text.state_;
    state[0] = kLow | (tail.state & 0xffff);
    state[1] = kLow | tail.state >> 16;
    for (size_t lane = 2; lane < lanes; ++lane) state[lane] = kLow | tail.words[lane - 2];
    count -= tail.symbols;
    // A symbol costs 12 bits at most, so at most one word; vectors write 16 words at a time.
    text.held_ = std::make_unique<Kept<uint16_t>>();
    text.held_->room(count + 16);
    uint16_t* end = text.held_->data.data() + count + 16;
    uint16_t* first = end;
    size_t used = 0, last = 0;
    while (used < count) used += runs.count(last++);
    for (size_t at = used; last-- > 0;) {
        at -= runs.count(last);
        encode_run(symbols + at, std::min(runs.count(last), count - at), lanes, tables, runs.table(last), path, state, first);
    }
    text.lanes_ = lanes;
    text.words_ = first;
    text.count_ = static_cast<size_t>(end - first);
    return text;
}

std::vector<uint8_t> encode(const uint8_t* symbols, size_t count, Runs runs, const EncodeTables& tables, size_t lanes,
                            Path path) {
    const ChunkText text = encode_chunk(symbols, count, runs, tables, lanes, path);
    std::vector<uint8_t> out(text.size());
    text.put(out.data());
    return out;
}

}  // namespace attar
