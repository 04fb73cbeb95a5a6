#include "permute.hpp"

#include <cstring>
#include <utility>

#include "path.hpp"
#include "target.hpp"

namespace attar {

namespace {

constexpr size_t kWidest = 2048;

bool permutes(Path path) {
#ifdef ATTAR_X86
    return path == Path::avx512 && !plain_avx512() && __builtin_cpu_supports("avx512vbmi");
#else
    (void)path;
    return false;
#endif
}

// Index and mask serve all rows.
#ifdef ATTAR_X86
#define ATTAR_VBMI __attribute__((target("avx512f,avx512bw,avx512vbmi")))

// 64 bytes at a time; of what lies in a row's last 128 only those below `count`, where kExact.
template <bool kExact>
ATTAR_VBMI ATTAR_INLINE void permute_vectors(const uint8_t* low, const uint64_t* pair, size_t count, size_t pairs,
                                             const uint8_t* const* from, uint8_t add, uint8_t* const* to, size_t rows) {
    const __m512i added = _mm512_set1_epi8(static_cast<char>(add));
    const size_t left = count - 128 * (pairs - 1);
    const __mmask64 lower = left >= 64 ? ~uint64_t{0} : (uint64_t{1} << left) - 1;
    const __mmask64 upper = left >= 128 ? ~uint64_t{0} : left <= 64 ? 0 : (uint64_t{1} << (left - 64)) - 1;
    for (size_t v = 0; 64 * v < count; ++v, pair += pairs) {
        const __m512i index = _mm512_loadu_si512(low + 64 * v);
        __m512i line[kRowsAtOnce];
        for (size_t i = 0; i < kRowsAtOnce; ++i) line[i] = _mm512_setzero_si512();
        for (size_t p = 0; p + kExact < pairs; ++p) {
            for (size_t i = 0; i < kRowsAtOnce; ++i) {
                const uint8_t* at = from[i] + 128 * p;
                const __m512i first = _mm512_loadu_si512(at), second = _mm512_loadu_si512(at + 64);
                line[i] = _mm512_or_si512(line[i], _mm512_maskz_permutex2var_epi8(pair[p], first, index, second));
            }
        }
        for (size_t i = 0; i < kRowsAtOnce && kExact; ++i) {
            const uint8_t* at = from[i] + 128 * (pairs - 1);
            const __m512i first = _mm512_maskz_loadu_epi8(lower, at), second = _mm512_maskz_loadu_epi8(upper, at + 64);
            line[i] = _mm512_or_si512(line[i], _mm512_maskz_permutex2var_epi8(pair[pairs - 1], first, index, second));
        }
        for (size_t i = 0; i < kRowsAtOnce; ++i) line[i] = _mm512_add_epi8(line[i], added);
        if (count - 64 * v >= 64 && rows == kRowsAtOnce) {
            for (size_t i = 0; i < kRowsAtOnce; ++i) _mm512_storeu_si512(to[i] + 64 * v, line[i]);
        } else {
            const __mmask64 some = count - 64 * v < 64 ? (uint64_t{1} << (count & 63)) - 1 : ~uint64_t{0};
            for (size_t i = 0; i < rows; ++i) _mm512_mask_storeu_epi8(to[i] + 64 * v, some, line[i]);
        }
    }
}

ATTAR_VBMI void permute_padded(const uint8_t* low, const uint64_t* pair, size_t count, size_t pairs, const uint8_t* const* from,
                               uint8_t add, uint8_t* const* to, size_t rows) {
    permute_vectors<false>(low, pair, count, pairs, from, add, to, rows);
}

ATTAR_VBMI void permute_exact(const uint8_t* low, const uint64_t* pair, size_t count, size_t pairs, const uint8_t* const* from,
                              uint8_t* const* to) {
    permute_vectors<true>(low, pair, count, pairs, from, 0, to, kRowsAtOnce);
}
#else
void permute_padded(const uint8_t*, const uint64_t*, size_t, size_t, const uint8_t* const*, uint8_t, uint8_t* const*, size_t) {}
void permute_exact(const uint8_t*, const uint64_t*, size_t, size_t, const uint8_t* const*, uint8_t* const*) {}
#endif

// Whole vectors are copied: what they write beyond a span of a row comes before anything that belongs there.
ATTAR_INLINE void join_all(const size_t* widths, size_t spans, const uint8_t* symbols, size_t rows, size_t start, size_t count,
                           Rows& sorted) {
    const size_t stride = sorted.stride();
    uint8_t* to = sorted.row(0);
    for (size_t s = 0; s < spans; ++s) {
        const size_t width = widths[s];
        const uint8_t* from = symbols + start * width;
        for (size_t k = 0; k < width; k += 64) {
            for (size_t i = 0; i < count; ++i) std::memcpy(to + i * stride + k, from + i * width + k, 64);
        }
        symbols += rows * width;
        to += width;
    }
}

#ifdef ATTAR_X86
ATTAR_AVX2 void join_avx2(const size_t* widths, size_t spans, const uint8_t* symbols, size_t rows, size_t start, size_t count,
                          Rows& sorted) {
    join_all(widths, spans, symbols, rows, start, count, sorted);
}

ATTAR_AVX512 void join_avx512(const size_t* widths, size_t spans, const uint8_t* symbols, size_t rows, size_t start,
                              size_t count, Rows& sorted) {
    join_all(widths, spans, symbols, rows, start, count, sorted);
}
#endif

// Eight rows of sixteen bytes and sixteen columns of eight are two orders of 128 bytes, with a row's number and a column's
// as the high and the low bits of a place, or the other way round.
constexpr size_t kBlock = 16;

#ifdef ATTAR_X86
// Turns the seven bits of every place by some to the left: unpacking makes the highest of a register's number the lowest.
template <int kTurns>
ATTAR_INLINE void turn(__m128i* block) {
    for (int k = 0; k < kTurns; ++k) {
        __m128i next[8];
        for (size_t i = 0; i < 4; ++i) {
            next[2 * i] = _mm_unpacklo_epi8(block[i], block[i + 4]);
            next[2 * i + 1] = _mm_unpackhi_epi8(block[i], block[i + 4]);
        }
        for (size_t i = 0; i < 8; ++i) block[i] = next[i];
    }
}

// Byte i of a column is that of row i.
void interleave(const uint8_t* rows, size_t stride, uint64_t* columns) {
    __m128i block[8];
    for (size_t i = 0; i < 8; ++i) block[i] = _mm_load_si128(reinterpret_cast<const __m128i*>(rows + i * stride));
    turn<3>(block);
    for (size_t i = 0; i < 8; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(columns) + i, block[i]);
}

void separate(const uint64_t* columns, size_t stride, uint8_t* rows) {
    __m128i block[8];
    for (size_t i = 0; i < 8; ++i) block[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(columns) + i);
    turn<4>(block);
    for (size_t i = 0; i < 8; ++i) _mm_store_si128(reinterpret_cast<__m128i*>(rows + i * stride), block[i]);
}
#else
void interleave(const uint8_t* rows, size_t stride, uint64_t* columns) {
    for (size_t j = 0; j < kBlock; ++j) {
        columns[j] = 0;
        for (size_t i = 0; i < kRowsAtOnce; ++i) columns[j] |= uint64_t{rows[i * stride + j]} << (8 * i);
    }
}

void separate(const uint64_t* columns, size_t stride, uint8_t* rows) {
    for (size_t i = 0; i < kRowsAtOnce; ++i) {
        for (size_t j = 0; j < kBlock; ++j) rows[i * stride + j] = static_cast<uint8_t>(columns[j] >> (8 * i));
    }
}
#endif

// The index is that of whole blocks: what is beyond the last column moves to itself.
void permute_columns(const std::vector<uint32_t>& index, const Rows& from, Rows& to) {
    uint64_t* columns = to.columns();
    for (size_t j = 0; j < index.size(); j += kBlock) interleave(from.row(0) + j, from.stride(), columns + j);
    for (size_t start = 0; start < index.size(); start += kBlock) {
        uint64_t moved[kBlock];
        for (size_t j = 0; j < kBlock; ++j) moved[j] = columns[index[start + j]];
        separate(moved, to.stride(), to.row(0) + start);
    }
}

}  // namespace

Permutation::Permutation(std::vector<uint32_t> index, Path path) : index_(std::move(index)), count_(index_.size()) {
    const size_t count = count_;
    if (!permutes(path) || count > kWidest) {
        while (index_.size() % kBlock != 0) index_.push_back(static_cast<uint32_t>(index_.size()));
        return;
    }
    const size_t vectors = (count + 63) / 64;
    pairs_ = (count + 127) / 128;
    low_.resize(64 * vectors);
    pair_.resize(vectors * pairs_);
    for (size_t i = 0; i < count; ++i) {
        low_[i] = static_cast<uint8_t>(index_[i] & 127);
        pair_[i / 64 * pairs_ + (index_[i] >> 7)] |= uint64_t{1} << (i & 63);
    }
}

void Permutation::apply(const Rows& from, Rows& to) const {
    if (pairs_ == 0) return permute_columns(index_, from, to);
    uint8_t* rows[kRowsAtOnce];
    for (size_t i = 0; i < kRowsAtOnce; ++i) rows[i] = to.row(i);
    put(from, 0, rows, kRowsAtOnce);
}

void Permutation::apply(const uint8_t* const* from, Rows& to) const {
    uint8_t* rows[kRowsAtOnce];
    for (size_t i = 0; i < kRowsAtOnce; ++i) rows[i] = to.row(i);
    permute_exact(low_.data(), pair_.data(), count_, pairs_, from, rows);
}

void Permutation::put(const Rows& from, uint8_t add, uint8_t* const* to, size_t rows) const {
    const uint8_t* source[kRowsAtOnce];
    for (size_t i = 0; i < kRowsAtOnce; ++i) source[i] = from.row(i);
    permute_padded(low_.data(), pair_.data(), count_, pairs_, source, add, to, rows);
}

void join_spans(const size_t* widths, size_t spans, const uint8_t* symbols, size_t rows, size_t start, size_t count,
                Rows& sorted, Path path) {
#ifdef ATTAR_X86
    if (path == Path::avx512) return join_avx512(widths, spans, symbols, rows, start, count, sorted);
    if (path == Path::avx2) return join_avx2(widths, spans, symbols, rows, start, count, sorted);
#endif
    (void)path;
    join_all(widths, spans, symbols, rows, start, count, sorted);
}

}  // namespace attar
