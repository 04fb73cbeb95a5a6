// Static rANS (Duda 2013) over interleaved lanes: 32-bit states, 16-bit renormalisation, 12-bit probabilities.
//
// Symbols come in runs of one table each. With one lane the state starts at 0 and is written in as few bytes as it takes
// (3 or 4 where words follow, told apart by the parity of the length): nothing is lost on tiny arrays. With 32, 64
// or 128 lanes every state starts at 2^16 + 16 bits of a one-lane stream that holds the chunk's last symbols, so that lanes
// cost one byte each and not three. docs/format.md gives the order of lanes and words.
// The decoder ends where the encoder began, in the states and in the words, or the bytes are refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "pages.hpp"
#include "tables.hpp"
#include "target.hpp"

namespace attar {

constexpr uint32_t kLow = 1u << 16;
constexpr size_t kMaxLanes = 128;

// runs[size][3]: rows, width and table of rows * width symbols.
struct Runs {
    const int32_t* data;
    size_t size;
    size_t count(size_t r) const { return static_cast<size_t>(data[3 * r]) * static_cast<size_t>(data[3 * r + 1]); }
    size_t table(size_t r) const { return static_cast<size_t>(data[3 * r + 2]); }
};

// Throws Malformed where the runs are not of `count` symbols, or name a table that is none of so many.
void check(size_t count, Runs runs, size_t tables);

enum class Path { scalar, avx2, avx512, neon };

// The best path of this processor that is no better than the wished one.
Path available(Path wish);

// The most bytes that one step of any path looks at: a word for each lane, and half a vector.
constexpr size_t kAhead = 2 * kMaxLanes + 16;

// Rows that will be written once their symbols are decoded: vectors leave time to fetch them meanwhile, a few lines a step,
// where all at once would have to wait for each other.
struct Ahead {
    const uint8_t* out = nullptr;  // [rows of the matrix][row_bytes]
    size_t row_bytes = 0, symbol_bytes = 0;
    const uint32_t* row = nullptr;
    const uint32_t* end = nullptr;
    size_t at = 0;  // in the row

    // As many bytes as some symbols become.
    ATTAR_INLINE void fetch(size_t symbols) {
        for (size_t k = 0; k < symbols * symbol_bytes && row != end; k += 64) {
            ATTAR_PREFETCH_FAR(out + *row * row_bytes + at);
            at += 64;
            if (at < row_bytes) continue;
            at = 0;
            ++row;
        }
    }
};

// Where decoding stands: states in the order of words (where bytes are looked up, of each 32 the low halves, then the high ones),
// the next word, the end of the words, and how far may be read.
struct Cursor {
    alignas(64) uint32_t state[kMaxLanes];
    const uint8_t* word;
    const uint8_t* end;
    const uint8_t* readable;
    Ahead ahead;
};

// Lane of the i-th symbol of a step in the order of words: groups of 32, in each first the even lanes, then the odd ones.
inline size_t lane_at(size_t i) { return (i & ~size_t{31}) | (i & 15) << 1 | (i >> 4 & 1); }

// A coded chunk.
class ChunkText {
  public:
    size_t size() const { return head_.size() + 4 * lanes_ + 2 * count_; }
    // Writes so many bytes.
    void put(uint8_t* to) const;

  private:
    friend ChunkText encode_chunk(const uint8_t* symbols, size_t count, Runs runs, const EncodeTables& tables, size_t lanes,
                                  Path path);
    std::vector<uint8_t> head_;  // all, where a single stream is
    uint32_t state_[kMaxLanes];
    size_t lanes_ = 0;
    std::unique_ptr<Kept<uint16_t>> held_;
    const uint16_t* words_ = nullptr;
    size_t count_ = 0;
};

// `lanes` is 1, 32, 64 or 128; what does not need them is written with one.
ChunkText encode_chunk(const uint8_t* symbols, size_t count, Runs runs, const EncodeTables& tables, size_t lanes, Path path);
std::vector<uint8_t> encode(const uint8_t* symbols, size_t count, Runs runs, const EncodeTables& tables, size_t lanes,
                            Path path);

// What is left of a run: symbols of one table.
struct Run {
    size_t table;
    uint8_t* symbols;
    size_t count;
};

bool has_vbmi2();  // whether bytes can be permuted, and words expanded

// Whether a path looks up entries of slots where a table has an alias layout.
inline bool wants_entries(Path path, bool wide) {
    return path == Path::scalar || path == Path::neon || (wide && !(path == Path::avx512 && has_vbmi2()));
}

// The symbols of one chunk, run by run. Bytes and tables must outlive it; everything throws Malformed.
class ChunkDecoder {
  public:
    ChunkDecoder(const uint8_t* data, size_t size, size_t count, const DecodeTables& tables, Path path);
    // The next run: `count` symbols of one table.
    void run(size_t table, uint8_t* symbols, size_t count);
    // The same of two chunks at once until one of the runs is done: a step waits for the one before it in its own chunk only.
    // Worth it where two_at_once says so.
    static void run_both(ChunkDecoder& one, Run& first, ChunkDecoder& other, Run& second);
    static bool two_at_once(const DecodeTables& tables, Path path);
    // That the bytes end where the encoder began.
    void finish();
    // What to fetch during the next runs.
    void expect(const Ahead& ahead) { cursor_.ahead = ahead; }

  private:
    uint32_t state(size_t i) const;
    void set_state(size_t i, uint32_t x);
    bool wide(const Run& run) const;
    void skip(Run& run, size_t count);
    void look_ahead();
    size_t steps(size_t table, uint8_t* symbols, size_t count);
    void open_single(const uint8_t* data, size_t size, size_t head);
    void open_tail();
    void single(size_t table, uint8_t* symbols, size_t count);
    bool go_around(size_t table, uint8_t* symbols, size_t count, uint32_t& x) const;
    const uint32_t* entries(size_t table, size_t count);

    const DecodeTables& tables_;
    Path path_;
    bool halves_;       // whether states are in halves
    size_t lanes_ = 0;  // none where a single stream is all
    size_t body_ = 0;   // symbols before the tail
    Cursor cursor_;
    bool padded_ = false;
    uint8_t pad_[2 * kAhead];  // the last words and zeros; later what the lanes began with
    size_t filled_;            // the table of own_
    std::vector<uint32_t> own_;
};

void decode(const uint8_t* data, size_t size, uint8_t* symbols, size_t count, Runs runs, const DecodeTables& tables,
            Path path);

ATTAR_INLINE uint32_t take_word(const uint8_t* data) { return static_cast<uint32_t>(data[0] | data[1] << 8); }

// A state without the symbol of its entry; the factor one less, because the entry comes late.
ATTAR_INLINE uint32_t advance(uint32_t x, uint32_t entry) {
    const uint32_t quotient = x >> kBits;
    return (entry >> 12 & 0xfff) * quotient + (quotient + (entry & 0xfff));
}

// Decode steps of `lanes` (32, 64 or 128) symbols, the last one perhaps shorter, while kAhead bytes may be read; the number
// of symbols done. NEON leaves the shorter step to others.
size_t decode_vbmi2(const AliasBytes& alias, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor);
// Whole steps of 128 symbols of each of two chunks, at most `count` symbols each; no table is of one symbol only, and both
// have as many buckets.
size_t decode_two_vbmi2(const AliasBytes* const* alias, uint8_t* const* symbols, size_t count, Cursor* const* cursor);
size_t decode_avx512(const Alias& alias, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor);
size_t decode_avx512(const uint32_t* entries, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor);
size_t decode_avx2(const AliasBytes& alias, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor);
size_t decode_avx2(const uint32_t* entries, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor);
size_t decode_scalar(const uint32_t* entries, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor);
size_t decode_neon(const uint32_t* entries, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor);

// Encodes `count` symbols on 32, 64 or 128 lanes with one table, the last first; words go before `first`.
// Not zero where a symbol is missing from the table.
uint32_t encode_avx512(const EncodeTables& tables, size_t table, const uint8_t* symbols, size_t count, size_t lanes,
                       uint32_t* state, uint16_t*& first);

}  // namespace attar
