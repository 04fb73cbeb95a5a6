#include "choose_plan.hpp"

#include <algorithm>
#include <array>

#include "fit_levels.hpp"
#include "log2.hpp"

namespace attar {

namespace {

constexpr size_t kLevels = 29;
// Sides whose estimate is within 1 in kClose and kSlack bits of the best are planned; plans as close are written, to
// compare their sizes.
constexpr int64_t kClose = 5000, kSlack = int64_t{64} << kFraction;

// Moves of rows and columns at most: fewer for larger matrices.
int rounds_for(size_t symbols) { return symbols <= size_t{1} << 18 ? 12 : symbols <= size_t{1} << 20 ? 6 : 3; }

int64_t log2_of(size_t number) { return log2_fixed(static_cast<uint64_t>(number)); }

int64_t limit_of(int64_t least) { return least + least / kClose + kSlack; }

// Levels, and the bits of the code and the levels without any, with the rows', the columns', both.
struct Fitted {
    Levels levels;
    std::array<int64_t, 4> bits;
};

// About what the levels of a side take: their entropy, and half a logarithm for each that occurs.
int64_t level_bits(const std::vector<uint8_t>& levels) {
    std::array<size_t, kLevels> counts{};
    for (uint8_t level : levels) ++counts[level];
    int64_t bits = static_cast<int64_t>(levels.size()) * log2_of(levels.size()), used = 0;
    for (size_t count : counts) {
        if (count == 0) continue;
        bits -= static_cast<int64_t>(count) * log2_of(count);
        ++used;
    }
    return bits + used * log2_of(levels.size() + 1) / 2;
}

Levels flat(SymbolMatrix symbols) {
    return {std::vector<uint8_t>(symbols.rows, 1), std::vector<uint8_t>(symbols.cols, 1)};
}

// The symbol whose value is the nearest to zero.
int zero_of(const Alphabet& alphabet) {
    const int64_t low = static_cast<int64_t>(alphabet.low), last = static_cast<int64_t>(alphabet.width) - 1;
    return low > 0 ? 0 : static_cast<int>(low < -last ? last : -low);
}

class Choosing {
  public:
    Choosing(SymbolMatrix symbols, const Alphabet& alphabet, const int64_t* counts, Path path)
        : symbols_(symbols), alphabet_(alphabet), counts_(counts), path_(path), size_(alphabet.width + alphabet.escape) {}

    Chosen run() const {
        std::vector<Chosen> plans;
        for (const auto& [sides, levels] : likely()) plans.push_back(planned(sides, levels));
        int64_t least = bits_of(plans[0]);
        for (const Chosen& plan : plans) least = std::min(least, bits_of(plan));
        Chosen* best = nullptr;
        for (Chosen& plan : plans) {
            if (bits_of(plan) > limit_of(least)) continue;
            write_plan(plan);
            if (best == nullptr || written_bits(plan) < written_bits(*best)) best = &plan;
        }
        return std::move(*best);
    }

  private:
    static int64_t described(size_t bytes) { return static_cast<int64_t>(8 * bytes) << kFraction; }
    static int64_t written_bits(const Chosen& plan) { return plan.fit.code + described(plan.side.size()); }
    // All that a plan takes, before its levels are written.
    static int64_t bits_of(const Chosen& plan) {
        return plan.fit.code + described(plan.fit.bytes) + (plan.sides.row ? level_bits(plan.levels.rows) : 0) +
               (plan.sides.column ? level_bits(plan.levels.cols) : 0);
    }

    Fitted fitted(Sides sides) const {
        Fitted found{flat(symbols_), {}};
        const LevelTask task{symbols_, zero_of(alphabet_), static_cast<int>(size_), sides.row, sides.column,
                             rounds_for(symbols_.rows * symbols_.cols), path_};
        const LevelBits bits = fit_levels(task, found.levels.rows.data(), found.levels.cols.data());
        const int64_t rows = level_bits(found.levels.rows), cols = level_bits(found.levels.cols);
        found.bits = {bits.none, bits.row + rows, bits.column + cols, bits.both + rows + cols};
        return found;
    }

    // The sides whose levels may pay, with these levels.
    std::vector<std::pair<Sides, Levels>> likely() const {
        if (std::min(symbols_.rows, symbols_.cols) == 1) return {{Sides(0), flat(symbols_)}};
        const Fitted both = fitted(Sides(3));
        const int64_t limit = limit_of(*std::min_element(both.bits.begin(), both.bits.end()));
        std::vector<std::pair<Sides, Levels>> found;
        for (size_t k = 0; k < 4; ++k) {
            const Sides sides(static_cast<int>(k));
            if (both.bits[k] > limit) continue;
            found.push_back({sides, k == 3 ? both.levels : k == 0 ? flat(symbols_) : fitted(sides).levels});
        }
        return found;
    }

    // Fills the tables of the classes, and gives the counts of the tables' symbols.
    std::vector<int64_t> merge(const Levels& levels, std::vector<size_t>& table_of) const {
        const size_t classes = levels.classes();
        std::vector<int64_t> counts(classes * size_);
        count_classes(symbols_, levels.rows.data(), levels.cols.data(), size_, counts_, counts.data(), path_);
        const std::vector<size_t> starts = merge_classes({counts.data(), classes, size_});
        std::vector<int64_t> merged(starts.size() * size_);
        for (size_t k = 0, table = 0; k < classes; ++k) {
            table += table + 1 < starts.size() && starts[table + 1] == k;
            table_of.push_back(table);
            for (size_t s = 0; s < size_; ++s) merged[table * size_ + s] += counts[k * size_ + s];
        }
        return merged;
    }

    Chosen planned(Sides sides, const Levels& levels) const {
        Chosen plan{alphabet_, sides, levels, {}, {}, {}, {}};
        std::vector<int64_t> merged(counts_, counts_ + size_);
        if (sides.any()) merged = merge(levels, plan.table_of);
        else plan.table_of.assign(levels.classes(), 0);
        std::vector<int64_t> sums(alphabet_.width);
        for (size_t k = 0; k < merged.size(); ++k) {
            if (k % size_ < alphabet_.width) sums[k % size_] += merged[k];
        }
        const int mode = static_cast<int>(std::max_element(sums.begin(), sums.end()) - sums.begin());
        plan.form = {static_cast<int>(size_), mode, alphabet_.escape, 0};
        plan.fit = fit_tables({merged.data(), merged.size() / size_, size_}, plan.form);
        plan.form.kind = plan.fit.kind;
        return plan;
    }

    SymbolMatrix symbols_;
    Alphabet alphabet_;
    const int64_t* counts_;
    Path path_;
    size_t size_;
};

}  // namespace

size_t Levels::classes() const {
    return size_t{*std::max_element(rows.begin(), rows.end())} + *std::max_element(cols.begin(), cols.end()) + 1;
}

Chosen choose_plan(SymbolMatrix symbols, const Alphabet& alphabet, const int64_t* counts, Path path) {
    return Choosing(symbols, alphabet, counts, path).run();
}

}  // namespace attar
