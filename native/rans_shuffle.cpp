// The AVX2 path where a table has an alias layout: a byte of it is looked up for 32 lanes at a time by four shuffles of 16, and
// the halves of their states are two vectors of words, so that multiplications are of words only. A word of the first vector
// is an even lane, one of the second an odd one: their bytes side by side are in the order of the symbols.
#include <algorithm>
#include <cstring>

#include "rans.hpp"
#include "spread_x86.hpp"
#include "target.hpp"

namespace attar {

#ifdef ATTAR_X86

namespace {

constexpr size_t kPart = 16, kParts = kBuckets / kPart;

// A table of 64 bytes: the first part, and what turns each part into the next. A shuffle gives zero where the highest bit of an
// index is set, as it is where an index is less than what is taken from it: so what is looked up are the parts up to an index's
// own, and their exclusive or is the byte.
struct Parts {
    alignas(16) uint8_t bytes[kParts][kPart];
    explicit Parts(const uint8_t* table) {
        for (size_t p = 0; p < kParts; ++p) {
            for (size_t k = 0; k < kPart; ++k) {
                bytes[p][k] = static_cast<uint8_t>(table[kPart * p + k] ^ (p == 0 ? 0 : table[kPart * (p - 1) + k]));
            }
        }
    }
};

struct Table {
    explicit Table(const AliasBytes& alias)
        : divider(alias.divider), other(alias.other), scaled{Parts(alias.scaled[0]), Parts(alias.scaled[1])},
          shift{Parts(alias.shift[0]), Parts(alias.shift[1])} {}
    Parts divider, other, scaled[2], shift[2];
};

// Parts of a table that symbols lie in.
size_t parts_of(const AliasBytes& alias) {
    size_t parts = kParts;
    const auto none = [](const uint8_t* bytes) { return std::all_of(bytes, bytes + kPart, [](uint8_t x) { return x == 0; }); };
    while (parts > 1 && none(alias.scaled[0] + kPart * (parts - 1)) && none(alias.scaled[1] + kPart * (parts - 1))) --parts;
    return parts;
}

// The states of 16 lanes.
struct Halves {
    __m256i low, high;
};

// Bytes below 16 kCount, and what is left of them beyond each of the parts.
template <size_t kCount>
struct Index {
    __m256i beyond[kCount];
};

template <size_t kCount>
ATTAR_AVX2 ATTAR_INLINE Index<kCount> index_of(__m256i bytes) {
    Index<kCount> index;
    index.beyond[0] = bytes;
    for (size_t p = 1; p < kCount; ++p) index.beyond[p] = _mm256_sub_epi8(bytes, _mm256_set1_epi8(static_cast<char>(kPart * p)));
    return index;
}

template <size_t kCount>
ATTAR_AVX2 ATTAR_INLINE __m256i look_up(const Parts& table, const Index<kCount>& index) {
    __m256i found = _mm256_setzero_si256();
    for (size_t p = 0; p < kCount; ++p) {
        const __m256i part = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table.bytes[p])));
        const __m256i some = _mm256_shuffle_epi8(part, index.beyond[p]);
        found = p == 0 ? some : _mm256_xor_si256(found, some);
    }
    return found;
}

// x = f * (x >> 12) + position, given 16 f, so that no product needs to be shifted; and where a word must be read.
template <bool kOnly>
ATTAR_AVX2 ATTAR_INLINE __m256i advance(Halves& x, __m256i scaled, __m256i shift) {
    const __m256i position = _mm256_add_epi16(_mm256_and_si256(x.low, _mm256_set1_epi16(63)), shift);
    const __m256i nibble = _mm256_and_si256(x.low, _mm256_set1_epi16(static_cast<int16_t>(0xf000)));
    if (kOnly) {  // f is 4096: 16 f does not fit, and nothing is read
        x.low = _mm256_add_epi16(nibble, position);
        return _mm256_setzero_si256();
    }
    // At most 15 f + f - 1: a word.
    const __m256i rest = _mm256_add_epi16(_mm256_mulhi_epu16(scaled, nibble), position);
    const __m256i product = _mm256_mullo_epi16(scaled, x.high);
    const __m256i more = _mm256_add_epi16(_mm256_mulhi_epu16(scaled, x.high), _mm256_set1_epi16(1));
    x.low = _mm256_add_epi16(product, rest);
    // All ones, less by one, where the sum is not below the product.
    x.high = _mm256_add_epi16(more, _mm256_cmpeq_epi16(_mm256_max_epu16(x.low, product), x.low));
    return _mm256_cmpeq_epi16(x.high, _mm256_setzero_si256());
}

// Two times eight words at places of their own, or 16 bytes.
ATTAR_AVX2 ATTAR_INLINE __m256i two(const uint8_t* first, const uint8_t* second) {
    const __m256i low = _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(first)));
    return _mm256_inserti128_si256(low, _mm_loadu_si128(reinterpret_cast<const __m128i*>(second)), 1);
}

ATTAR_AVX2 ATTAR_INLINE void refill(Halves& x, __m256i empty, uint32_t first, uint32_t second, const Spread<2>& order,
                                    const uint8_t*& word) {
    const uint8_t* const next = word + 2 * static_cast<size_t>(__builtin_popcount(first));
    const __m256i words = _mm256_shuffle_epi8(two(word, next), two(order.bytes[first], order.bytes[second]));
    word = next + 2 * static_cast<size_t>(__builtin_popcount(second));
    x.high = _mm256_or_si256(x.high, _mm256_and_si256(empty, x.low));
    x.low = _mm256_or_si256(_mm256_andnot_si256(empty, x.low), words);
}

// Low and high bytes of both vectors into words of the first and of the second.
ATTAR_AVX2 ATTAR_INLINE __m256i first_of(__m256i low, __m256i high) {
    return _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi16(0xff)), _mm256_slli_epi16(high, 8));
}

ATTAR_AVX2 ATTAR_INLINE __m256i second_of(__m256i low, __m256i high) {
    return _mm256_or_si256(_mm256_srli_epi16(low, 8), _mm256_andnot_si256(_mm256_set1_epi16(0xff), high));
}

// One symbol out of each of 32 lanes, or of those in the masks of both vectors.
template <size_t kCount, bool kOnly, bool kAll>
ATTAR_AVX2 ATTAR_INLINE __m256i step(const Table& table, const Spread<2>& order, const __m256i* active, Halves* x,
                                     const uint8_t*& word) {
    const Halves before[2] = {x[0], x[1]};
    const __m256i first = x[0].low, second = x[1].low;
    const __m256i bucket = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(first, 6), _mm256_set1_epi16(0x003f)),
                                           _mm256_and_si256(_mm256_slli_epi16(second, 2), _mm256_set1_epi16(0x3f00)));
    // Four times what is within a bucket.
    const __m256i within = _mm256_or_si256(_mm256_and_si256(_mm256_slli_epi16(first, 2), _mm256_set1_epi16(0xff)),
                                           _mm256_slli_epi16(second, 10));
    const Index<kParts> index = index_of<kParts>(bucket);
    const __m256i other = _mm256_cmpeq_epi8(_mm256_max_epu8(within, look_up(table.divider, index)), within);
    const __m256i symbol = _mm256_blendv_epi8(bucket, look_up(table.other, index), other);
    const Index<kCount> own = index_of<kCount>(symbol);
    const __m256i low = look_up(table.scaled[0], own), high = look_up(table.scaled[1], own);
    const __m256i near = _mm256_and_si256(look_up(table.shift[0], index), other);
    const __m256i far = _mm256_and_si256(look_up(table.shift[1], index), other);
    __m256i empty[2] = {advance<kOnly>(x[0], first_of(low, high), first_of(near, far)),
                        advance<kOnly>(x[1], second_of(low, high), second_of(near, far))};
    for (size_t k = 0; k < 2 && !kAll; ++k) {
        x[k].low = _mm256_blendv_epi8(before[k].low, x[k].low, active[k]);
        x[k].high = _mm256_blendv_epi8(before[k].high, x[k].high, active[k]);
        empty[k] = _mm256_and_si256(empty[k], active[k]);
    }
    if (kOnly) return symbol;
    const uint32_t mask = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_packs_epi16(empty[0], empty[1])));
    refill(x[0], empty[0], mask & 255, mask >> 16 & 255, order, word);
    refill(x[1], empty[1], mask >> 8 & 255, mask >> 24, order, word);
    return symbol;
}

// The shorter step at the end of a run: the first `left` lanes of a group.
template <size_t kCount, bool kOnly>
ATTAR_AVX2 void step_of(const Table& table, const Spread<2>& order, size_t left, uint8_t* symbols, Halves* x, const uint8_t*& word) {
    const __m256i lane = _mm256_setr_epi16(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m256i count = _mm256_set1_epi16(static_cast<int16_t>(left));
    const __m256i active[2] = {_mm256_cmpgt_epi16(count, lane),
                               _mm256_cmpgt_epi16(count, _mm256_add_epi16(lane, _mm256_set1_epi16(1)))};
    alignas(32) uint8_t bytes[32];
    _mm256_store_si256(reinterpret_cast<__m256i*>(bytes), step<kCount, kOnly, false>(table, order, active, x, word));
    std::memcpy(symbols, bytes, left);
}

template <size_t kGroups, size_t kCount, bool kOnly>
ATTAR_AVX2 size_t run_groups(const Table& table, uint8_t* symbols, size_t count, Cursor& cursor) {
    constexpr size_t lanes = 32 * kGroups;
    const Spread<2>& order = spread<2>();
    Halves x[2 * kGroups];
    for (size_t g = 0; g < kGroups; ++g) {
        const __m256i* state = reinterpret_cast<const __m256i*>(cursor.state + 32 * g);
        for (size_t k = 0; k < 2; ++k) x[2 * g + k] = {_mm256_load_si256(state + k), _mm256_load_si256(state + 2 + k)};
    }
    const uint8_t* word = cursor.word;
    size_t at = 0;
    for (; at + lanes <= count && static_cast<size_t>(cursor.readable - word) >= kAhead; at += lanes) {
        for (size_t g = 0; g < kGroups; ++g) {
            const __m256i bytes = step<kCount, kOnly, true>(table, order, nullptr, x + 2 * g, word);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(symbols + at + 32 * g), bytes);
        }
    }
    if (at < count && at + lanes > count && static_cast<size_t>(cursor.readable - word) >= kAhead) {
        for (size_t g = 0; g < kGroups && at + 32 * g < count; ++g) {
            const size_t left = std::min<size_t>(count - at - 32 * g, 32);
            step_of<kCount, kOnly>(table, order, left, symbols + at + 32 * g, x + 2 * g, word);
        }
        at = count;
    }
    for (size_t g = 0; g < kGroups; ++g) {
        __m256i* state = reinterpret_cast<__m256i*>(cursor.state + 32 * g);
        for (size_t k = 0; k < 2; ++k) {
            _mm256_store_si256(state + k, x[2 * g + k].low);
            _mm256_store_si256(state + 2 + k, x[2 * g + k].high);
        }
    }
    cursor.word = word;
    return at;
}

template <size_t kCount, bool kOnly>
size_t run_any(const Table& table, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor) {
    if (lanes == 128) return run_groups<4, kCount, kOnly>(table, symbols, count, cursor);
    if (lanes == 64) return run_groups<2, kCount, kOnly>(table, symbols, count, cursor);
    return run_groups<1, kCount, kOnly>(table, symbols, count, cursor);
}

}  // namespace

size_t decode_avx2(const AliasBytes& alias, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor) {
    const Table table(alias);
    if (alias.only) return run_any<kParts, true>(table, symbols, count, lanes, cursor);
    const size_t parts = parts_of(alias);
    if (parts == 1) return run_any<1, false>(table, symbols, count, lanes, cursor);
    if (parts == 2) return run_any<2, false>(table, symbols, count, lanes, cursor);
    return run_any<kParts, false>(table, symbols, count, lanes, cursor);
}

#else

size_t decode_avx2(const AliasBytes&, uint8_t*, size_t, size_t, Cursor&) { return 0; }

#endif

}  // namespace attar
