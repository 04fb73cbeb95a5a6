#include "place.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "permute.hpp"
#include "target.hpp"

namespace attar {

namespace {

// One group of rows: its runs, and where the symbols of each begin.
struct Group {
    const int32_t* runs;
    size_t count;
    size_t rows;
};

void check(const Order& order) {
    uint64_t rows = 0;
    for (size_t r = 0; r < order.runs.size;) {
        const int32_t* run = order.runs.data + 3 * r;
        uint64_t width = 0;
        int32_t height = run[0];
        for (; r < order.runs.size && width < order.width; ++r, run += 3) {
            if (run[0] != height || run[0] < 1 || run[1] < 1) throw Malformed("the runs of a group must have its rows");
            width += static_cast<uint64_t>(run[1]);
        }
        if (width != order.width) throw Malformed("the runs of a group must add up to the columns");
        rows += static_cast<uint64_t>(height);
    }
    if (rows != order.row_count) throw Malformed("the runs must add up to the rows");
    for (size_t i = 0; i < order.row_count; ++i) {
        if (order.rows[i] < 0 || static_cast<size_t>(order.rows[i]) >= order.height) throw Malformed("a row lies outside the matrix");
    }
    std::vector<bool> seen(order.width);
    for (size_t j = 0; j < order.width; ++j) {
        if (order.columns[j] < 0 || static_cast<size_t>(order.columns[j]) >= order.width || seen[order.columns[j]]) {
            throw Malformed("the columns must be a permutation");
        }
        seen[order.columns[j]] = true;
    }
}

// Calls act(group, symbols of the group, first row) for each group.
template <class Symbols, class Act>
void over_groups(Symbols* symbols, const Order& order, Act act) {
    size_t row = 0;
    for (size_t r = 0; r < order.runs.size;) {
        Group group{order.runs.data + 3 * r, 0, static_cast<size_t>(order.runs.data[3 * r])};
        for (size_t width = 0; width < order.width; ++group.count) width += static_cast<size_t>(group.runs[3 * group.count + 1]);
        act(group, symbols, row);
        symbols += group.rows * order.width;
        row += group.rows;
        r += group.count;
    }
}

#if ATTAR_X86
// By whole vectors and the bytes that are left: a call for a few bytes takes longer than they do.
ATTAR_AVX512 void cut_avx512(const Group& group, const uint8_t* sorted, size_t i, uint8_t* to) {
    for (size_t r = 0; r < group.count; ++r) {
        const size_t span = static_cast<size_t>(group.runs[3 * r + 1]);
        uint8_t* const out = to + i * span;
        size_t at = 0;
        for (; at + 64 <= span; at += 64) _mm512_storeu_si512(out + at, _mm512_loadu_si512(sorted + at));
        const __mmask64 some = (uint64_t{1} << (span - at)) - 1;
        _mm512_mask_storeu_epi8(out + at, some, _mm512_maskz_loadu_epi8(some, sorted + at));
        to += group.rows * span;
        sorted += span;
    }
}
#endif

// The i-th row of a group into its spans.
void cut(const Group& group, const uint8_t* sorted, size_t i, uint8_t* to, Path path) {
#if ATTAR_X86
    if (path == Path::avx512) return cut_avx512(group, sorted, i, to);
#endif
    (void)path;
    for (size_t r = 0; r < group.count; ++r) {
        const size_t span = static_cast<size_t>(group.runs[3 * r + 1]);
        std::memcpy(to + i * span, sorted, span);
        to += group.rows * span;
        sorted += span;
    }
}

}  // namespace

void collect(const uint8_t* source, const Order& order, uint8_t* symbols, Path path) {
    check(order);
    const Permutation sort(std::vector<uint32_t>(order.columns, order.columns + order.width), path);
    Rows plain(order.width), sorted(order.width);
    over_groups(symbols, order, [&](const Group& group, uint8_t* to, size_t first) {
        for (size_t start = 0; start < group.rows; start += kRowsAtOnce) {
            const size_t count = std::min(kRowsAtOnce, group.rows - start);
            const uint8_t* line[kRowsAtOnce];
            for (size_t i = 0; i < kRowsAtOnce; ++i) {
                line[i] = source + static_cast<size_t>(order.rows[first + start + std::min(i, count - 1)]) * order.width;
            }
            if (sort.direct()) {
                sort.apply(line, sorted);
            } else {
                for (size_t i = 0; i < count; ++i) std::memcpy(plain.row(i), line[i], order.width);
                sort.apply(plain, sorted);
            }
            for (size_t i = 0; i < count; ++i) cut(group, sorted.row(i), start + i, to, path);
        }
    });
}

}  // namespace attar
