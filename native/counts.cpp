#include "counts.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <vector>

#include "bins.hpp"
#include "target.hpp"

namespace attar {

namespace {

bool has_avx2(Path path) { return path == Path::avx2 || path == Path::avx512; }

// Bytes first .. first + width - 1, modulo 256, of which nearly all are; none where the others are too many to be counted
// one by one.
struct Bulk {
    uint8_t first = 0;
    size_t width = 0;
};

// The bulk that takes the least time, by some of the bytes; it holds none from `end` on.
Bulk bulk_of(const uint8_t* data, size_t count, size_t end, Path path) {
    if (!has_avx2(path) || count < kMostLines * kTile) return {};
    constexpr size_t kSampled = 1 << 11;
    // About how long bins take for a byte, and one that is counted by itself, alone or beside bins.
    constexpr size_t kBinsTake = 10, kByteTakes = 65, kOtherTakes = 500;
    const size_t step = count / kSampled + 1;
    std::array<uint32_t, 512> until{};  // twice around
    size_t sampled = 0;
    for (size_t i = 0; i < count; i += step, ++sampled) ++until[data[i]];
    std::copy(until.begin(), until.begin() + 256, until.begin() + 256);
    std::partial_sum(until.begin(), until.end(), until.begin());
    Bulk best;
    size_t least = kByteTakes * sampled;
    for (size_t width = kBins; width <= 4 * kBins; width += kBins) {
        for (size_t first = 0; first < 256; ++first) {
            if (end != 256 && first + width > std::max(end, width)) break;
            const size_t within = until[first + width - 1] - (first == 0 ? 0 : until[first - 1]);
            const size_t takes = kBinsTake * width / kBins * sampled + kOtherTakes * (sampled - within);
            if (takes >= least) continue;
            least = takes;
            best = {static_cast<uint8_t>(first), std::min(width, end)};
        }
    }
    return best;
}

// Adds what a strip has of the bulk to sums: act(sums of some bins, how many, where they begin in the bulk).
template <class Act>
void over_bins(const Strip& strip, const Bulk& bulk, Path path, Act act) {
    alignas(64) Sums sums;
    for (size_t from = 0; from < bulk.width; from += kBins) {
        const size_t number = std::min(kBins, bulk.width - from);
        count_bins(strip, static_cast<uint8_t>(bulk.first + from), number, sums, path);
        act(sums, number, from);
    }
}

// counts[first + b, modulo 256] += totals[b][kBinLanes].
void add_totals(const uint64_t* totals, const Bulk& bulk, int64_t* counts) {
    for (size_t b = 0; b < bulk.width; ++b, totals += kBinLanes) {
        counts[(bulk.first + b) & 255] += static_cast<int64_t>(std::accumulate(totals, totals + kBinLanes, uint64_t{0}));
    }
}

void histogram_plain(const uint8_t* symbols, size_t count, int64_t* counts) {
    // Eight tables in turn: the same symbol again and again would wait for its own last increment.
    std::vector<uint32_t> part(8 * 256);
    constexpr size_t kBlock = size_t{1} << 30;
    for (size_t at = 0; at < count; at += kBlock) {
        const size_t stop = std::min(at + kBlock, count);
        size_t i = at;
        for (; i + 8 <= stop; i += 8) {
            uint64_t word;
            std::memcpy(&word, symbols + i, 8);
            for (size_t k = 0; k < 8; ++k) ++part[256 * k + (word >> (8 * k) & 255)];
        }
        for (; i < stop; ++i) ++part[symbols[i]];
        for (size_t k = 0; k < part.size(); ++k) counts[k & 255] += part[k];
        std::fill(part.begin(), part.end(), 0);
    }
}

}  // namespace

void histogram(const uint8_t* symbols, size_t count, int64_t* counts, Path path) {
    const Bulk bulk = bulk_of(symbols, count, 256, path);
    constexpr size_t kBlock = kMostLines * kTile;
    std::vector<uint32_t> lines(kMostLines), places(kBlock);
    std::iota(lines.begin(), lines.end(), 0);
    std::vector<uint64_t> totals(bulk.width * kBinLanes);
    const std::vector<uint8_t> all(kTile, 255);
    size_t at = 0;
    for (; bulk.width != 0 && at + kBlock <= count; at += kBlock) {
        over_bins({symbols + at, kTile, lines.data(), kMostLines}, bulk, path, [&](const Sums& sums, size_t number, size_t from) {
            add_columns(sums, number, all.data(), &totals[from * kBinLanes], path);
        });
        const size_t others = find_outside(symbols + at, kBlock, bulk.first, static_cast<uint8_t>(bulk.width), places.data(), path);
        for (size_t i = 0; i < others; ++i) ++counts[symbols[at + places[i]]];
    }
    add_totals(totals.data(), bulk, counts);
    histogram_plain(symbols + at, count - at, counts);
}

namespace {

ATTAR_INLINE size_t window_plain(const uint8_t* ATTAR_ALONE bytes, size_t count, uint8_t low, uint8_t width,
                                 uint8_t* ATTAR_ALONE symbols) {
    constexpr size_t kBlock = 128;
    size_t outside = 0;
    for (size_t at = 0; at < count; at += kBlock) {
        // Few enough for a byte, so that the loop runs over bytes alone.
        const size_t stop = std::min(at + kBlock, count);
        uint8_t here = 0;
        for (size_t i = at; i < stop; ++i) {
            const uint8_t distance = static_cast<uint8_t>(bytes[i] - low);
            symbols[i] = distance < width ? distance : width;
            here = static_cast<uint8_t>(here + (distance >= width));
        }
        outside += here;
    }
    return outside;
}

ATTAR_INLINE bool occurs_plain(const uint8_t* symbols, size_t count, uint8_t symbol) {
    uint8_t any = 0;
    for (size_t i = 0; i < count; ++i) any |= static_cast<uint8_t>(symbols[i] == symbol);
    return any != 0;
}

#if ATTAR_X86
ATTAR_AVX2 size_t window_avx2(const uint8_t* bytes, size_t count, uint8_t low, uint8_t width, uint8_t* symbols) {
    return window_plain(bytes, count, low, width, symbols);
}
ATTAR_AVX2 bool occurs_avx2(const uint8_t* symbols, size_t count, uint8_t symbol) { return occurs_plain(symbols, count, symbol); }
#endif

bool occurs(const uint8_t* symbols, size_t count, uint8_t symbol, Path path) {
#if ATTAR_X86
    if (has_avx2(path)) return occurs_avx2(symbols, count, symbol);
#endif
    (void)path;
    return occurs_plain(symbols, count, symbol);
}

}  // namespace

size_t window(const uint8_t* bytes, size_t count, uint8_t low, uint8_t width, uint8_t* symbols, Path path) {
#if ATTAR_X86
    if (has_avx2(path)) return window_avx2(bytes, count, low, width, symbols);
#endif
    (void)path;
    return window_plain(bytes, count, low, width, symbols);
}

namespace {

[[noreturn]] void refuse_symbol() { throw Malformed("a symbol lies beyond the counts"); }

size_t class_of(size_t row, size_t column) { return row != 0 && column != 0 ? row + column : 0; }

// Which columns of 64 have which level.
struct Columns {
    std::vector<std::array<uint8_t, kTile>> masks;
    std::vector<uint8_t> level;

    explicit Columns(const uint8_t* of) {
        for (size_t c = 0; c < kTile; ++c) {
            const size_t k = static_cast<size_t>(std::find(level.begin(), level.end(), of[c]) - level.begin());
            if (k == level.size()) {
                level.push_back(of[c]);
                masks.emplace_back();
            }
            masks[k][c] = 255;
        }
    }
};

// What count_classes does for the rows of one level after the other.
class Counting {
  public:
    Counting(SymbolMatrix symbols, const uint8_t* cols, size_t classes, size_t alphabet, Path path)
        : symbols_(symbols), cols_(cols), classes_(classes), alphabet_(alphabet), path_(path),
          bulk_(bulk_of(symbols.data, symbols.rows * symbols.cols, alphabet, path)), part_(4 * classes * alphabet),
          totals_(classes * bulk_.width * kBinLanes), base_(symbols.cols), places_(symbols.cols) {
        for (size_t c = 0; c + kTile <= symbols.cols && bulk_.width != 0; c += kTile) tiles_.emplace_back(cols + c);
    }

    void add(const std::vector<uint32_t>& rows, size_t level) {
        // The class of a column is looked up and not computed.
        const size_t size = classes_ * alphabet_, tiled = tiles_.size() * kTile;
        for (size_t c = 0; c < symbols_.cols; ++c) {
            base_[c] = static_cast<uint32_t>((c & 3) * size + class_of(level, cols_[c]) * alphabet_);
        }
        for (size_t first = 0; first < rows.size() && tiled != 0; first += kMostLines) {
            const size_t next = std::min(first + kMostLines, rows.size());
            add_tiles(&rows[first], next - first, level, &rows[next - 1] + 1, std::min(kMostLines, rows.size() - next));
        }
        for (uint32_t row : rows) {
            const uint8_t* const line = symbols_.data + row * symbols_.cols;
            const size_t others = find_outside(line, tiled, bulk_.first, static_cast<uint8_t>(bulk_.width), places_.data(), path_);
            for (size_t i = 0; i < others; ++i) add_one(line, places_[i]);
            add_columns_from(line, tiled);
        }
    }

    // Before 2^31 symbols were added since the last time.
    void flush(int64_t* out) {
        const size_t size = classes_ * alphabet_;
        for (size_t t = 0; t < 4; ++t) {
            for (size_t k = 0; k < size; ++k) out[k] += part_[t * size + k];
        }
        std::fill(part_.begin(), part_.end(), 0);
    }

    void finish(int64_t* out) {
        flush(out);
        for (size_t k = 0; k < classes_; ++k) add_totals(&totals_[k * bulk_.width * kBinLanes], bulk_, out + k * alphabet_);
    }

  private:
    // The rows that come after them are fetched meanwhile: no processor guesses where they lie.
    void add_tiles(const uint32_t* rows, size_t count, size_t level, const uint32_t* after, size_t coming) {
        for (size_t t = 0; t < tiles_.size(); ++t) {
            for (size_t i = 0; i < coming; ++i) ATTAR_PREFETCH_FAR(symbols_.data + after[i] * symbols_.cols + t * kTile);
            const Columns& columns = tiles_[t];
            const Strip strip{symbols_.data + t * kTile, symbols_.cols, rows, count};
            over_bins(strip, bulk_, path_, [&](const Sums& sums, size_t number, size_t from) {
                for (size_t k = 0; k < columns.level.size(); ++k) {
                    const size_t place = class_of(level, columns.level[k]) * bulk_.width + from;
                    add_columns(sums, number, columns.masks[k].data(), &totals_[place * kBinLanes], path_);
                }
            });
        }
    }

    void add_one(const uint8_t* line, size_t c) {
        if (line[c] >= alphabet_) refuse_symbol();
        ++part_[base_[c] + line[c]];
    }

    void add_columns_from(const uint8_t* line, size_t start) {
        uint8_t most = 0;
        for (size_t c = start; c < symbols_.cols; ++c) most = line[c] > most ? line[c] : most;
        if (most >= alphabet_) refuse_symbol();
        for (size_t c = start; c < symbols_.cols; ++c) ++part_[base_[c] + line[c]];
    }

    SymbolMatrix symbols_;
    const uint8_t* cols_;
    size_t classes_, alphabet_;
    Path path_;
    Bulk bulk_;
    std::vector<Columns> tiles_;
    // Four tables in turn: the same symbol again and again would wait for its own last increment.
    std::vector<uint32_t> part_;
    std::vector<uint64_t> totals_;  // [classes][bulk][kBinLanes]
    std::vector<uint32_t> base_, places_;
};

}  // namespace

void count_classes(SymbolMatrix symbols, const uint8_t* rows, const uint8_t* cols, size_t alphabet, int64_t* out, Path path) {
    const size_t top = *std::max_element(rows, rows + symbols.rows);
    Counting counting(symbols, cols, 1 + top + *std::max_element(cols, cols + symbols.cols), alphabet, path);
    const size_t most = std::max<size_t>(1, (size_t{1} << 31) / symbols.cols);
    std::vector<std::vector<uint32_t>> of(top + 1);
    auto take = [&](size_t level) {
        counting.add(of[level], level);
        counting.flush(out);
        of[level].clear();
    };
    for (size_t r = 0; r < symbols.rows; ++r) {
        of[rows[r]].push_back(static_cast<uint32_t>(r));
        if (of[rows[r]].size() == most) take(rows[r]);
    }
    for (size_t level = 0; level <= top; ++level) take(level);
    counting.finish(out);
}

size_t find(const uint8_t* symbols, size_t count, uint8_t symbol, int64_t* out, size_t limit, Path path) {
    // Block by block, because nearly all of them hold none and are seen through by vector instructions.
    constexpr size_t kBlock = 256;
    size_t found = 0;
    for (size_t at = 0; at < count; at += kBlock) {
        const size_t stop = std::min(at + kBlock, count);
        if (!occurs(symbols + at, stop - at, symbol, path)) continue;
        for (size_t i = at; i < stop; ++i) {
            if (symbols[i] != symbol) continue;
            if (found == limit) return limit + 1;
            out[found++] = static_cast<int64_t>(i);
        }
    }
    return found;
}

}  // namespace attar
