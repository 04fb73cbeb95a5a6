#include "lines.hpp"

#include <algorithm>

#include "target.hpp"

namespace attar {

namespace {

// Lines are counted anew where more than 1 in so many moved.
constexpr size_t kFew = 8;

ATTAR_INLINE void classes_plain(const Lines& side, Classes& sums) {
    std::array<int32_t, kClasses * kWidth> part{};
    for (size_t i = 0; i < side.size; ++i) {
        const int16_t* counts = side.counts(i);
        int32_t* to = &part[side.level[i] * kWidth];
        for (size_t k = 0; k < kWidth; ++k) part[k] += counts[k];
        for (size_t k = kWidth; k < side.cell() && side.level[i] != 0; ++k) to[k] += counts[k];
        for (size_t k = kWidth; k < side.cell() && side.level[i] == 0; ++k) part[k % kWidth] += counts[k];
        // 2^16 lines of kSample symbols do not overflow.
        if ((i & 0xffff) != 0xffff && i + 1 != side.size) continue;
        for (size_t k = 0; k < part.size(); ++k) sums[k / kWidth][k % kWidth] += part[k];
        part.fill(0);
    }
}

#if ATTAR_X86
ATTAR_AVX2 void classes_avx2(const Lines& side, Classes& sums) { classes_plain(side, sums); }
#endif

ATTAR_INLINE int32_t dot(const int16_t* a, const int16_t* b, size_t size) {
    int32_t sum = 0;
    for (size_t k = 0; k < size; ++k) sum += a[k] * b[k];
    return sum;
}

// Each line's level, moved to where its code and the level itself take the fewest bits.
ATTAR_INLINE void choose_plain(const Choice& choice, Lines& side) {
    const size_t cell = side.cell();
    for (size_t i = 0; i < side.size; ++i) {
        if (side.level[i] == 0) continue;
        const int16_t* counts = side.counts(i);
        int64_t best = INT64_MAX;
        for (size_t k = 1; k <= choice.top; ++k) {
            const int64_t bits = choice.own[k] + dot(counts + kWidth, choice.prices[k + 1].data(), cell - kWidth);
            if (bits < best) {
                best = bits;
                side.level[i] = static_cast<uint8_t>(k);
            }
        }
    }
}

#if ATTAR_X86
// The sums of products of `size` numbers, a multiple of 16, with those at four places.
ATTAR_AVX2 ATTAR_INLINE __m128i dots(const int16_t* a, const int16_t* const* b, size_t size) {
    __m256i sum[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
    for (size_t k = 0; k < size; k += 16) {
        const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + k));
        for (int i = 0; i < 4; ++i) {
            const __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b[i] + k));
            sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(x, y));
        }
    }
    const __m256i all = _mm256_hadd_epi32(_mm256_hadd_epi32(sum[0], sum[1]), _mm256_hadd_epi32(sum[2], sum[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}

// Four levels at a time, so that their sums are added up together.
ATTAR_AVX2 void choose_avx2(const Choice& choice, Lines& side) {
    const size_t cell = side.cell();
    for (size_t i = 0; i < side.size; ++i) {
        if (side.level[i] == 0) continue;
        int64_t best = INT64_MAX;
        for (size_t k = 1; k <= choice.top; k += 4) {
            const int16_t* prices[4];
            for (size_t j = 0; j < 4; ++j) prices[j] = choice.prices[std::min(k + j, choice.top) + 1].data();
            alignas(16) int32_t sums[4];
            _mm_store_si128(reinterpret_cast<__m128i*>(sums), dots(side.counts(i) + kWidth, prices, cell - kWidth));
            for (size_t j = 0; j < 4 && k + j <= choice.top; ++j) {
                const int64_t bits = choice.own[k + j] + sums[j];
                if (bits >= best) continue;
                best = bits;
                side.level[i] = static_cast<uint8_t>(k + j);
            }
        }
    }
}
#endif

}  // namespace

size_t highest(const std::vector<uint8_t>& level) { return *std::max_element(level.begin(), level.end()); }

void Lines::count(const std::vector<uint8_t>& other, Path path) {
    levels = highest(other) + 1;
    memory.data.assign(size * cell(), 0);
    std::vector<uint8_t> sampled(grid.lines);
    for (size_t i = 0; i < grid.lines; ++i) sampled[i] = other[i * step];
    tally(grid, sampled.data(), levels, size, counts(0), path);
    counted = true;
}

void Lines::update(const std::vector<uint8_t>& before, const std::vector<uint8_t>& other, Path path) {
    std::vector<size_t> moved;
    for (size_t i = 0; i < grid.lines; ++i) {
        if (before[i * step] != other[i * step]) moved.push_back(i);
    }
    if (moved.size() * kFew > grid.lines || highest(other) >= levels) return count(other, path);
    for (size_t i : moved) {
        const uint8_t* bucket = grid.line(i);
        int16_t* from = counts(0) + before[i * step] * kWidth;
        int16_t* to = counts(0) + other[i * step] * kWidth;
        for (size_t k = 0; k < size; ++k, from += cell(), to += cell()) {
            --from[bucket[k]];
            ++to[bucket[k]];
        }
    }
}

Classes Lines::classes(Path path) const {
    Classes sums{};
#if ATTAR_X86
    if (path == Path::avx2 || path == Path::avx512) {
        classes_avx2(*this, sums);
        return sums;
    }
#endif
    (void)path;
    classes_plain(*this, sums);
    return sums;
}

Classes Lines::alone() const {
    Classes sums{};
    for (size_t i = 0; i < size; ++i) {
        std::array<int32_t, kWidth> line{};
        for (size_t k = 0; k < levels; ++k) {
            for (size_t b = 0; b < kWidth; ++b) line[b] += counts(i)[k * kWidth + b];
        }
        for (size_t b = 0; b < kWidth; ++b) sums[level[i]][b] += line[b];
    }
    return sums;
}

void Lines::choose(const Choice& choice, Path path) {
#if ATTAR_X86
    if (path == Path::avx2 || path == Path::avx512) return choose_avx2(choice, *this);
#endif
    (void)path;
    choose_plain(choice, *this);
}

}  // namespace attar
