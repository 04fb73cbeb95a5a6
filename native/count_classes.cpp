#include <algorithm>
#include <array>
#include <vector>

#include "bulk.hpp"
#include "counts.hpp"
#include "target.hpp"

namespace attar {

namespace {

[[noreturn]] void refuse_symbol() { throw Malformed("a symbol lies beyond the counts"); }

// Rows from here to one that is fetched.
constexpr size_t kComing = 4;

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
    Counting(SymbolMatrix symbols, const uint8_t* cols, size_t classes, size_t alphabet, const Bulk& bulk, Path path)
        : symbols_(symbols), cols_(cols), classes_(classes), alphabet_(alphabet), path_(path), bulk_(bulk),
          part_(4 * classes * alphabet),
          totals_(classes * bulk_.width * kBinLanes), base_(symbols.cols), places_(symbols.cols) {
        for (size_t c = 0; c + kTile <= symbols.cols && bulk_.width != 0; c += kTile) tiles_.emplace_back(cols + c);
    }

    void add(const std::vector<uint32_t>& rows, size_t level) {
        // The class of a column is looked up and not computed.
        const size_t tiled = tiles_.size() * kTile;
        for (size_t c = 0; c < symbols_.cols; ++c) base_[c] = static_cast<uint16_t>(class_of(level, cols_[c]) * alphabet_);
        for (size_t first = 0; first < rows.size() && tiled != 0; first += kMostLines) {
            const size_t next = std::min(first + kMostLines, rows.size());
            add_tiles(&rows[first], next - first, level, rows.data() + next, std::min(kMostLines, rows.size() - next));
        }
        for (size_t i = 0; i < rows.size(); ++i) {
            const uint8_t* const line = symbols_.data + rows[i] * symbols_.cols;
            if (tiled == 0 && i + kComing < rows.size()) fetch(symbols_.data + rows[i + kComing] * symbols_.cols);
            const size_t others = find_outside(line, tiled, bulk_.first, static_cast<uint8_t>(bulk_.width), places_.data(), path_);
            for (size_t k = 0; k < others; ++k) add_one(line, places_[k]);
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
        for (size_t k = 0; k < classes_; ++k) add_totals(totals_.data() + k * bulk_.width * kBinLanes, bulk_, out + k * alphabet_);
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

    void fetch(const uint8_t* line) const {
        for (size_t c = 0; c < symbols_.cols; c += kTile) ATTAR_PREFETCH_FAR(line + c);
    }

    void add_columns_from(const uint8_t* line, size_t start) {
        uint8_t most = 0;
        for (size_t c = start; c < symbols_.cols; ++c) most = line[c] > most ? line[c] : most;
        if (most >= alphabet_) refuse_symbol();
        size_t c = start;
        const size_t size = classes_ * alphabet_;
        uint32_t* const part = part_.data();
        for (; c + kTile <= symbols_.cols; c += kTile) {
            // By vectors, which leave the loads to the counts.
            uint16_t place[kTile];
            for (size_t j = 0; j < kTile; ++j) place[j] = static_cast<uint16_t>(base_[c + j] + line[c + j]);
            for (size_t j = 0; j < kTile; j += 4) {
                for (size_t t = 0; t < 4; ++t) ++part[t * size + place[j + t]];
            }
        }
        for (; c < symbols_.cols; ++c) ++part[base_[c] + line[c]];
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
    std::vector<uint16_t> base_;  // [cols]: where the counts of a column's class begin
    std::vector<uint32_t> places_;
};

// How long a symbol takes without bins, in hundredths of a nanosecond.
constexpr size_t kAlone = 36;

}  // namespace

void count_classes(SymbolMatrix symbols, const uint8_t* rows, const uint8_t* cols, size_t alphabet, const int64_t* whole,
                   int64_t* out, Path path) {
    const size_t top = *std::max_element(rows, rows + symbols.rows), count = symbols.rows * symbols.cols;
    const Bulk bulk = whole != nullptr && count >= kMostLines * kTile ? bulk_of(whole, alphabet, kAlone, path)
                                                                      : bulk_of(symbols.data, count, alphabet, kAlone, path);
    Counting counting(symbols, cols, 1 + top + *std::max_element(cols, cols + symbols.cols), alphabet, bulk, path);
    const size_t most = std::max<size_t>(1, (size_t{1} << 31) / symbols.cols);
    std::vector<std::vector<uint32_t>> of(top + 1);
    size_t added = 0;
    auto take = [&](size_t level) {
        added += of[level].size();
        if (added > most) {
            counting.flush(out);
            added = of[level].size();
        }
        counting.add(of[level], level);
        of[level].clear();
    };
    for (size_t r = 0; r < symbols.rows; ++r) {
        of[rows[r]].push_back(static_cast<uint32_t>(r));
        if (of[rows[r]].size() == most) take(rows[r]);
    }
    for (size_t level = 0; level <= top; ++level) take(level);
    counting.finish(out);
}

}  // namespace attar
