#include "rans.hpp"

#include <algorithm>
#if defined(_MSC_VER)
#include <intrin.h>
#endif

#include "pages.hpp"

namespace attar {

namespace {

uint64_t high_half(uint64_t a, uint64_t b) {
#if defined(_MSC_VER)
    return __umulh(a, b);
#else
    return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
#endif
}

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

size_t size_of(Runs runs, size_t r) {
    return static_cast<size_t>(runs.data[3 * r]) * static_cast<size_t>(runs.data[3 * r + 1]);
}

size_t table_of(Runs runs, size_t r) { return static_cast<size_t>(runs.data[3 * r + 2]); }

void put(std::vector<uint8_t>& out, uint32_t value, size_t bytes) {
    for (size_t k = 0; k < bytes; ++k) out.push_back(static_cast<uint8_t>(value >> (8 * k)));
}

uint32_t take(const uint8_t* data, size_t bytes) {
    uint32_t value = 0;
    for (size_t k = 0; k < bytes; ++k) value |= static_cast<uint32_t>(data[k]) << (8 * k);
    return value;
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

// A symbol out of a state; the next word is read where one is needed and there.
inline uint32_t advance(uint32_t x, uint32_t entry) { return ((entry >> 12 & 0xfff) + 1) * (x >> kBits) + (entry & 0xfff); }

inline void refill(uint32_t& x, Cursor& cursor) {
    if (x < kLow && cursor.word != cursor.end) {
        x = x << 16 | take(cursor.word, 2);
        cursor.word += 2;
    }
}

// Lane of the i-th symbol of a step in the order of words: groups of 32, in each first the even lanes, then the odd ones.
inline size_t lane_at(size_t i) { return (i & ~size_t{31}) | (i & 15) << 1 | (i >> 4 & 1); }

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
        const Share* shares = tables.shares(table_of(runs, r));
        const uint16_t* slots = tables.slots(table_of(runs, r));
        for (size_t stop = at - size_of(runs, r); at > stop; --at) {
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
    uint32_t missing = 0;
    size_t whole = count / lanes * lanes;
    for (size_t i = lanes; i-- > 0;) {
        size_t lane = lane_at(i);
        if (whole + lane < count) state[lane] = push(state[lane], shares[symbols[whole + lane]], slots, first, missing);
    }
    if (path == Path::avx512) {
        missing |= encode_avx512(tables, table, symbols, whole, lanes, state, first);
        whole = 0;
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

void decode_single(Cursor& cursor, uint8_t* symbols, size_t skip, size_t count, Runs runs, const DecodeTables& tables) {
    uint32_t x = cursor.state[0];
    size_t at = 0;
    for (size_t r = 0; r < runs.size; ++r) {
        size_t stop = std::min(at + size_of(runs, r), count);
        for (size_t i = std::max(at, skip); i < stop; ++i) {
            uint32_t entry = tables.entry(table_of(runs, r), x & (kTotal - 1));
            symbols[i] = static_cast<uint8_t>(entry >> 24);
            x = advance(x, entry);
            refill(x, cursor);
        }
        at = stop;
    }
    if (x != 0 || cursor.word != cursor.end) throw Malformed("the coded bytes do not end where they began");
}

void open_single(Cursor& cursor, const uint8_t* data, size_t size, size_t head) {
    if (size < head || (size - head) % 2 != 0) throw Malformed("the coded bytes are cut short");
    cursor.state[0] = take(data, head);
    cursor.word = data + head;
    cursor.end = data + size;
}

size_t head_of(size_t size) { return size < 4 ? size : 4 - size % 2; }

// Whole steps, in which no word can be missing, without a branch.
size_t decode_steps(const uint32_t* entries, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor) {
    size_t at = 0;
    const uint8_t* word = cursor.word;
    for (; at + lanes <= count && static_cast<size_t>(cursor.end - word) >= 2 * lanes; at += lanes) {
        for (size_t i = 0; i < lanes; ++i) {
            size_t lane = lane_at(i);
            uint32_t x = cursor.state[lane];
            uint32_t entry = entries[x & (kTotal - 1)];
            symbols[at + lane] = static_cast<uint8_t>(entry >> 24);
            x = advance(x, entry);
            uint32_t low = x < kLow;
            cursor.state[lane] = x << (low << 4) | (take(word, 2) & (0u - low));
            word += 2 * low;
        }
    }
    cursor.word = word;
    return at;
}

void decode_run(const DecodeTables& tables, size_t table, uint8_t* symbols, size_t count, size_t lanes, Path path,
                Cursor& cursor) {
    size_t done = 0;
    const uint32_t* entries = tables.entries(table);
    if (path == Path::avx512 && tables.alias(table) != nullptr) {
        done = decode_avx512(*tables.alias(table), symbols, count, lanes, cursor);
    } else if (path == Path::avx512 || path == Path::avx2) {
        done = decode_avx2(entries, symbols, count, lanes, cursor);
    } else if (path == Path::neon) {
        done = decode_neon(entries, symbols, count, lanes, cursor);
    } else {
        done = decode_steps(entries, symbols, count, lanes, cursor);
    }
    for (; done < count; done += lanes) {
        for (size_t i = 0; i < lanes; ++i) {
            size_t lane = lane_at(i);
            if (done + lane >= count) continue;
            uint32_t entry = tables.entry(table, cursor.state[lane] & (kTotal - 1));
            symbols[done + lane] = static_cast<uint8_t>(entry >> 24);
            cursor.state[lane] = advance(cursor.state[lane], entry);
            refill(cursor.state[lane], cursor);
        }
    }
}

// The symbols before the last `tail` ones; then the states must be those that carry the tail.
void decode_lanes(Cursor& cursor, uint8_t* symbols, size_t count, Runs runs, const DecodeTables& tables, size_t lanes,
                  Path path) {
    size_t at = 0;
    for (size_t r = 0; r < runs.size && at < count; ++r) {
        size_t size = std::min(size_of(runs, r), count - at);
        decode_run(tables, table_of(runs, r), symbols + at, size, lanes, path, cursor);
        at += size;
    }
    bool intact = cursor.word == cursor.end;
    for (size_t lane = 0; lane < lanes; ++lane) intact = intact && cursor.state[lane] >> 16 == 1;
    if (!intact) throw Malformed("the coded bytes do not end where they began");
}

void put_varint(std::vector<uint8_t>& out, size_t value) {
    for (; value >= 128; value >>= 7) out.push_back(static_cast<uint8_t>(value & 127) | 128);
    out.push_back(static_cast<uint8_t>(value));
}

size_t take_varint(const uint8_t*& data, const uint8_t* end) {
    size_t value = 0;
    for (unsigned shift = 0; shift < 42 && data != end; shift += 7) {
        uint8_t byte = *data++;
        value |= static_cast<size_t>(byte & 127) << shift;
        if (byte < 128) return value;
    }
    throw Malformed("the coded bytes are cut short");
}

}  // namespace

std::vector<uint8_t> encode(const uint8_t* symbols, size_t count, Runs runs, const EncodeTables& tables, size_t lanes,
                            Path path) {
    check(count, runs, tables.count());
    if (lanes != 1 && lanes != 32 && lanes != 64 && lanes != 128) throw Malformed("lanes must be 1, 32, 64 or 128");
    std::vector<uint8_t> out;
    Single tail = encode_single(symbols, count, runs, tables, lanes == 1 ? count : lanes - 2);
    if (tail.symbols == count) {
        out.push_back(0);
        put_single(out, tail);
        return out;
    }
    put_varint(out, tail.symbols << 2 | (lanes == 32 ? 1 : lanes == 64 ? 2 : 3));
    uint32_t state[kMaxLanes];
    state[0] = kLow | (tail.state & 0xffff);
    state[1] = kLow | tail.state >> 16;
    for (size_t lane = 2; lane < lanes; ++lane) state[lane] = kLow | tail.words[lane - 2];
    count -= tail.symbols;
    // A symbol costs 12 bits at most, so at most one word; vectors write 16 words at a time.
    Kept<uint16_t> words;
    words.room(count + 16);
    uint16_t* end = words.data.data() + count + 16;
    uint16_t* first = end;
    size_t used = 0, last = 0;
    while (used < count) used += size_of(runs, last++);
    for (size_t at = used; last-- > 0;) {
        at -= size_of(runs, last);
        encode_run(symbols + at, std::min(size_of(runs, last), count - at), lanes, tables, table_of(runs, last), path,
                   state, first);
    }
    size_t body = out.size();
    out.resize(body + 4 * lanes + 2 * static_cast<size_t>(end - first));
    for (size_t k = 0; k < 4 * lanes; ++k) out[body + k] = static_cast<uint8_t>(state[k / 4] >> (8 * (k % 4)));
    body += 4 * lanes;
    for (const uint16_t* word = first; word != end; ++word, body += 2) {
        out[body] = static_cast<uint8_t>(*word);
        out[body + 1] = static_cast<uint8_t>(*word >> 8);
    }
    return out;
}

void decode(const uint8_t* data, size_t size, uint8_t* symbols, size_t count, Runs runs, const DecodeTables& tables,
            Path path) {
    check(count, runs, tables.count());
    const uint8_t* end = data + size;
    size_t head = take_varint(data, end);
    size = static_cast<size_t>(end - data);
    Cursor cursor{};
    if (head == 0) {
        open_single(cursor, data, size, head_of(size));
        decode_single(cursor, symbols, 0, count, runs, tables);
        return;
    }
    size_t lanes = size_t{16} << (head & 3), tail = head >> 2;
    if (lanes == 16 || tail >= count) throw Malformed("a chunk must begin with its lanes and its tail");
    if (size < 4 * lanes || size % 2 != 0) throw Malformed("the coded bytes are cut short");
    for (size_t lane = 0; lane < lanes; ++lane) cursor.state[lane] = take(data + 4 * lane, 4);
    cursor.word = data + 4 * lanes;
    cursor.end = end;
    decode_lanes(cursor, symbols, count - tail, runs, tables, lanes, path);
    uint8_t seeds[2 * kMaxLanes];
    for (size_t lane = 0; lane < lanes; ++lane) {
        seeds[2 * lane] = static_cast<uint8_t>(cursor.state[lane]);
        seeds[2 * lane + 1] = static_cast<uint8_t>(cursor.state[lane] >> 8);
    }
    open_single(cursor, seeds, 2 * lanes, 4);
    decode_single(cursor, symbols, count - tail, count, runs, tables);
}

}  // namespace attar
