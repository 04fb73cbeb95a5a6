// The decoder: lanes run by run on the path in use, and the single stream of the chunk's last symbols.
#include <algorithm>
#include <cstring>

#include "rans.hpp"
#include "target.hpp"

namespace attar {

namespace {

// Symbols of a single stream that are worth the entries of their table, where an alias layout has none.
constexpr size_t kWorthEntries = 256;
// Of 4,096 slots: so many make it worth while to guess which symbol is next.
constexpr uint32_t kLikely = 3700;
// Symbols of a single stream until it is looked whether they repeat themselves.
constexpr size_t kBlock = 512;

[[noreturn]] void refuse_end() { throw Malformed("the coded bytes do not end where they began"); }

uint32_t take(const uint8_t* data, size_t bytes) {
    uint32_t value = 0;
    for (size_t k = 0; k < bytes; ++k) value |= static_cast<uint32_t>(data[k]) << (8 * k);
    return value;
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

// `advance` where the entry's frequency is likely to be `likely` + 1: it is multiplied by that while the entry is on its way.
ATTAR_INLINE uint32_t advance_likely(uint32_t x, uint32_t entry, uint32_t likely) {
    const uint32_t quotient = x >> kBits;
    uint32_t product = likely * quotient + quotient;
    if ((entry >> 12 & 0xfff) != likely) {
        product = (entry >> 12 & 0xfff) * quotient + quotient;
        ATTAR_BRANCH();
    }
    return product + (entry & 0xfff);
}

// `count` symbols of a single stream.
template <class EntryOf, class Advance>
ATTAR_INLINE void single_steps(Cursor& cursor, uint8_t* symbols, size_t count, EntryOf entry_of, Advance advanced) {
    uint32_t x = cursor.state[0];
    const uint8_t* word = cursor.word;
    for (size_t i = 0; i < count; ++i) {
        const uint32_t entry = entry_of(x & (kTotal - 1));
        symbols[i] = static_cast<uint8_t>(entry >> 24);
        x = advanced(x, entry);
        if (x < kLow && word != cursor.end) {
            x = x << 16 | take_word(word);
            word += 2;
        }
    }
    cursor.state[0] = x;
    cursor.word = word;
}

}  // namespace

ChunkDecoder::ChunkDecoder(const uint8_t* data, size_t size, size_t count, const DecodeTables& tables, Path path)
    : tables_(tables), path_(path),
      halves_(two_at_once(tables, path) || (path == Path::avx2 && tables.alias(0) != nullptr)), filled_(tables.count()) {
    const uint8_t* end = data + size;
    size_t head = take_varint(data, end);
    size = static_cast<size_t>(end - data);
    if (head == 0) {
        open_single(data, size, size < 4 ? size : 4 - size % 2);
        return;
    }
    lanes_ = size_t{16} << (head & 3);
    if (lanes_ == 16 || head >> 2 >= count) throw Malformed("a chunk must begin with its lanes and its tail");
    if (size < 4 * lanes_ || size % 2 != 0) throw Malformed("the coded bytes are cut short");
    body_ = count - (head >> 2);
    for (size_t i = 0; i < lanes_; ++i) set_state(i, take(data + 4 * lane_at(i), 4));
    cursor_.word = data + 4 * lanes_;
    cursor_.end = cursor_.readable = end;
}

void ChunkDecoder::run(size_t table, uint8_t* symbols, size_t count) {
    size_t first = std::min(count, body_), done = 0;
    body_ -= first;
    while (done < first) {
        look_ahead();
        done += steps(table, symbols + done, first - done);
    }
    if (first < count) single(table, symbols + first, count - first);
}

bool ChunkDecoder::two_at_once(const DecodeTables& tables, Path path) {
    return path == Path::avx512 && has_vbmi2() && tables.alias(0) != nullptr;
}

// Whether whole steps of a run may be taken together with those of another chunk.
bool ChunkDecoder::wide(const Run& run) const {
    const bool whole = lanes_ == kMaxLanes && body_ >= kMaxLanes && run.count >= kMaxLanes;
    return whole && two_at_once(tables_, path_) && !tables_.bytes(run.table).only;
}

void ChunkDecoder::run_both(ChunkDecoder& one, Run& first, ChunkDecoder& other, Run& second) {
    if (one.wide(first) && other.wide(second) && one.tables_.bytes(0).wide == other.tables_.bytes(0).wide) {
        one.look_ahead();
        other.look_ahead();
        const AliasBytes* const alias[2] = {&one.tables_.bytes(first.table), &other.tables_.bytes(second.table)};
        uint8_t* const symbols[2] = {first.symbols, second.symbols};
        Cursor* const cursor[2] = {&one.cursor_, &other.cursor_};
        const size_t most = std::min({first.count, one.body_, second.count, other.body_});
        const size_t done = decode_two_vbmi2(alias, symbols, most, cursor);
        one.skip(first, done);
        other.skip(second, done);
    }
    const bool shorter = first.count <= second.count;
    Run& left = shorter ? first : second;
    (shorter ? one : other).run(left.table, left.symbols, left.count);
    left.count = 0;
}

// Symbols of the lanes are decoded.
void ChunkDecoder::skip(Run& run, size_t count) {
    run.symbols += count;
    run.count -= count;
    body_ -= count;
}

// Of halves: see Cursor.
uint32_t ChunkDecoder::state(size_t i) const {
    if (!halves_) return cursor_.state[i];
    const uint8_t* const at = reinterpret_cast<const uint8_t*>(cursor_.state + i / 32 * 32) + 2 * (i % 32);
    return take_word(at) | take_word(at + 64) << 16;
}

void ChunkDecoder::set_state(size_t i, uint32_t x) {
    if (!halves_) {
        cursor_.state[i] = x;
        return;
    }
    uint8_t* const at = reinterpret_cast<uint8_t*>(cursor_.state + i / 32 * 32) + 2 * (i % 32);
    const uint16_t low = static_cast<uint16_t>(x), high = static_cast<uint16_t>(x >> 16);
    std::memcpy(at, &low, 2);
    std::memcpy(at + 64, &high, 2);
}

void ChunkDecoder::finish() {
    if (lanes_ != 0) open_tail();
    if (cursor_.state[0] != 0 || cursor_.word != cursor_.end) refuse_end();
}

// Lets a step read kAhead bytes: the last words are followed by zeros. A lane that takes one of these can never be right
// again, because it stays below 2^16 where no word is left: such a chunk is refused here or at its end.
void ChunkDecoder::look_ahead() {
    if (static_cast<size_t>(cursor_.readable - cursor_.word) >= kAhead) return;
    if (padded_) refuse_end();
    const size_t left = static_cast<size_t>(cursor_.end - cursor_.word);
    std::memset(pad_, 0, sizeof pad_);
    if (left != 0) std::memcpy(pad_, cursor_.word, left);
    cursor_.word = pad_;
    cursor_.end = pad_ + left;
    cursor_.readable = pad_ + sizeof pad_;
    padded_ = true;
}

size_t ChunkDecoder::steps(size_t table, uint8_t* symbols, size_t count) {
    const uint32_t* given = tables_.entries(table);
    if (halves_) {
        const AliasBytes& bytes = tables_.bytes(table);
        if (path_ == Path::avx2) return decode_avx2(bytes, symbols, count, lanes_, cursor_);
        return decode_vbmi2(bytes, symbols, count, lanes_, cursor_);
    }
    if (path_ == Path::avx512 && tables_.alias(table) != nullptr) {
        return decode_avx512(*tables_.alias(table), symbols, count, lanes_, cursor_);
    }
    if (path_ == Path::avx512) return decode_avx512(given, symbols, count, lanes_, cursor_);
    if (path_ == Path::avx2) return decode_avx2(given, symbols, count, lanes_, cursor_);
    if (path_ != Path::neon || count < lanes_) return decode_scalar(given, symbols, count, lanes_, cursor_);
    return decode_neon(given, symbols, count, lanes_, cursor_);
}

void ChunkDecoder::open_single(const uint8_t* data, size_t size, size_t head) {
    if (size < head || (size - head) % 2 != 0) throw Malformed("the coded bytes are cut short");
    cursor_.state[0] = take(data, head);
    cursor_.word = data + head;
    cursor_.end = data + size;
}

// The states must be those that carry the tail, which is then the single stream.
void ChunkDecoder::open_tail() {
    bool intact = body_ == 0 && cursor_.word == cursor_.end;
    for (size_t i = 0; i < lanes_; ++i) {
        const uint32_t x = state(i);
        intact = intact && x >> 16 == 1;
        pad_[2 * lane_at(i)] = static_cast<uint8_t>(x);
        pad_[2 * lane_at(i) + 1] = static_cast<uint8_t>(x >> 8);
    }
    if (!intact) refuse_end();
    open_single(pad_, 2 * lanes_, 4);
    lanes_ = 0;
}

void ChunkDecoder::single(size_t table, uint8_t* symbols, size_t count) {
    if (lanes_ != 0) open_tail();
    const uint32_t* given = entries(table, count);
    const uint32_t most = given == nullptr ? 0 : tables_.most(table);
    for (size_t i = 0, some; i < count; i += some) {
        some = std::min(kBlock, count - i);
        uint32_t& x = cursor_.state[0];
        if (cursor_.word == cursor_.end && x < kTotal && go_around(table, symbols + i, count - i, x)) return;
        if (most >= kLikely) {
            single_steps(cursor_, symbols + i, some, [=](uint32_t slot) { return given[slot]; },
                         [=](uint32_t from, uint32_t entry) { return advance_likely(from, entry, most - 1); });
        } else if (given != nullptr) {
            single_steps(cursor_, symbols + i, some, [=](uint32_t slot) { return given[slot]; }, advance);
        } else {
            single_steps(cursor_, symbols + i, some, [&](uint32_t slot) { return tables_.entry(table, slot); }, advance);
        }
    }
}

// Where no word is left and the state is below kTotal, it is a slot from now on, and that leads to a position, the next slot.
// Rows of nothing but the likeliest symbol go around a short circle in this way: whether these symbols do. Then they are
// filled in, and the state is what it becomes.
bool ChunkDecoder::go_around(size_t table, uint8_t* symbols, size_t count, uint32_t& x) const {
    uint32_t y = x;
    size_t period = 0;
    do {
        if (period == std::min(count, kBuckets)) return false;
        const uint32_t entry = tables_.entry(table, y);
        symbols[period++] = static_cast<uint8_t>(entry >> 24);
        y = entry & (kTotal - 1);
    } while (y != x);
    for (size_t done = period; done < count;) {
        const size_t more = std::min(done, count - done);
        std::memcpy(symbols + done, symbols, more);
        done += more;
    }
    for (size_t left = count % period; left != 0; --left) x = tables_.entry(table, x) & (kTotal - 1);
    return true;
}

// The entries of a table; none where it has an alias layout only and the symbols are few.
const uint32_t* ChunkDecoder::entries(size_t table, size_t count) {
    if (tables_.entries(table) != nullptr) return tables_.entries(table);
    if (filled_ == table) return own_.data();
    if (count < kWorthEntries) return nullptr;
    own_.resize(kTotal);
    tables_.fill(table, own_.data());
    filled_ = table;
    return own_.data();
}

void decode(const uint8_t* data, size_t size, uint8_t* symbols, size_t count, Runs runs, const DecodeTables& tables,
            Path path) {
    check(count, runs, tables.count());
    ChunkDecoder decoder(data, size, count, tables, path);
    for (size_t r = 0; r < runs.size; ++r) {
        decoder.run(runs.table(r), symbols, runs.count(r));
        symbols += runs.count(r);
    }
    decoder.finish();
}

}  // namespace attar
