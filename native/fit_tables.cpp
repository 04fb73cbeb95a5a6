#include "fit_tables.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "log2.hpp"
#include "rungs.hpp"

namespace attar {

namespace {

constexpr int kGeometric = 0, kKinds = 5, kDecays = 64, kModeLadder = 3;
// Where the nearest rungs leave the mode no share, they are sought for smaller frequencies, in 1/128.
constexpr int kScales[] = {128, 124, 119, 113, 102, 90, 64};

// Rungs, and where the next one is nearer in ratio: 2^16 times the geometric mean of two neighbours.
struct Ladder {
    std::vector<int> rungs{0, 1};
    std::vector<uint64_t> bounds;
    std::vector<uint8_t> below;  // [kTotal + 1]: how many bounds a whole frequency reaches
    explicit Ladder(int fineness) {
        const int total = static_cast<int>(kTotal);
        while (rungs.back() < total) rungs.push_back(std::min(total, rungs.back() + std::max(1, rungs.back() >> fineness)));
        for (size_t k = 2; k < rungs.size(); ++k) {
            const uint64_t square = static_cast<uint64_t>(rungs[k - 1]) * static_cast<uint64_t>(rungs[k]) << 32;
            uint64_t root = static_cast<uint64_t>(std::sqrt(static_cast<double>(square)));
            while (root * root > square) --root;
            while ((root + 1) * (root + 1) <= square) ++root;
            bounds.push_back(root);
        }
        for (uint64_t f = 0; f <= kTotal; ++f) {
            below.push_back(static_cast<uint8_t>(std::upper_bound(bounds.begin(), bounds.end(), f << 16) - bounds.begin()));
        }
    }
    // The rung nearest to a frequency in 1/2^16, at least the first.
    int nearest(uint64_t frequency) const {
        size_t k = below[frequency >> 16];
        while (k < bounds.size() && bounds[k] <= frequency) ++k;
        return 1 + static_cast<int>(k);
    }
};

const Ladder& ladder(int fineness) {
    static const std::array<Ladder, 4> all{Ladder(1), Ladder(2), Ladder(3), Ladder(4)};
    return all[static_cast<size_t>(fineness - 1)];
}

int64_t sum_of(const int64_t* counts, int size) {
    int64_t sum = 0;
    for (int s = 0; s < size; ++s) sum += counts[s];
    return sum;
}

// The share of a count in 1/2^16 of a slot.
uint64_t share_of(int64_t count, int64_t total) {
    return (static_cast<uint64_t>(count) << (kBits + 16)) / static_cast<uint64_t>(std::max<int64_t>(total, 1));
}

// The mode gets what the others leave; false where that is nothing.
bool fill_mode(int32_t* row, const TableForm& form) {
    row[form.mode] = 0;
    int sum = 0;
    for (int s = 0; s < form.alphabet; ++s) sum += row[s];
    row[form.mode] = static_cast<int>(kTotal) - sum;
    return row[form.mode] > 0;
}

// shares [alphabet] are those of the counts.
bool fit_ladder(const int64_t* counts, const uint64_t* shares, const TableForm& form, int32_t* spec, int32_t* row) {
    const Ladder& rungs = ladder(form.kind);
    for (int scale : kScales) {
        for (int s = 0; s < form.alphabet; ++s) {
            const bool used = counts[s] > 0 && s != form.mode;
            spec[s] = used ? rungs.nearest(shares[s] * static_cast<uint64_t>(scale) >> 7) : 0;
            row[s] = rungs.rungs[static_cast<size_t>(spec[s])];
        }
        if (fill_mode(row, form)) return true;
    }
    return false;
}

// The rung of the mode's frequency, and the maximum-likelihood decay.
bool fit_geometric(const int64_t* counts, const uint64_t* shares, const TableForm& form, int32_t* spec, int32_t* row) {
    const int inner = form.alphabet - form.escape;
    int64_t weighted = 0;
    for (int s = 0; s < inner; ++s) weighted += counts[s] * std::abs(s - form.mode);
    const int64_t others = sum_of(counts, inner) - counts[form.mode];
    spec[0] = ladder(kModeLadder).nearest(shares[form.mode]);
    spec[1] = others == 0 ? 0 : std::min<int>(kDecays - 1, static_cast<int>(kDecays * (weighted - others) / weighted));
    std::vector<int64_t> weights{0};
    int64_t weight = 1 << 20, sum = 0;
    for (int d = 0; d < std::max(form.mode, inner - 1 - form.mode); ++d) {
        weights.push_back(std::max<int64_t>(1, weight));
        weight = weight * (2 * spec[1] + 1) / (2 * kDecays);
    }
    auto weight_of = [&](int s) { return weights[static_cast<size_t>(std::abs(s - form.mode))]; };
    for (int s = 0; s < inner; ++s) sum += weight_of(s);
    const int mode = ladder(kModeLadder).rungs[static_cast<size_t>(spec[0])];
    const int64_t room = std::max(static_cast<int>(kTotal) - mode - form.escape, 0);
    for (int s = 0; s < inner; ++s) {
        row[s] = static_cast<int32_t>(std::max<int64_t>(1, weight_of(s) * room / std::max<int64_t>(sum, 1)));
    }
    if (form.escape) row[inner] = 1;
    return fill_mode(row, form);
}

int64_t code_bits(const int64_t* counts, const int32_t* row, int alphabet) {
    int64_t bits = 0;
    for (int s = 0; s < alphabet; ++s) {
        if (counts[s] > 0) bits += counts[s] * ((int64_t{kBits} << kFraction) - log2_table()[static_cast<size_t>(row[s])]);
    }
    return bits;
}

void put(SideEncoder& coder, int key, int value, int limit) {
    coder.integer(key, {value < 0, static_cast<uint64_t>(std::abs(value))}, static_cast<uint64_t>(limit));
}

// Reaches below and above the mode, then rungs as differences from a prediction; `before` is null for the first table.
void write_rungs(SideEncoder& coder, const TableForm& form, const int32_t* level, const int32_t* before) {
    const int mode = form.mode, inner = form.alphabet - form.escape;
    const int rungs = static_cast<int>(ladder(form.kind).rungs.size());
    auto reach = [&](const int32_t* of, int& low, int& high) {
        low = high = mode;
        for (int s = 0; s < inner; ++s) {
            if (of[s] == 0) continue;
            low = std::min(low, s);
            high = std::max(high, s);
        }
    };
    int low, high, first = 0, last = inner - 1;
    reach(level, low, high);
    if (before != nullptr) reach(before, first, last);
    put(coder, kReachKey, low - first, 256);
    put(coder, kReachKey, high - last, 256);
    const RungGuess guess{mode, rungs, level, before};
    outwards(mode, inner, low, high, [&](int place, int neighbour, int mirror) {
        put(coder, kLevelKey, level[place] - guess(place, neighbour, mirror), rungs);
    });
    if (form.escape) coder.natural(kEscapeKey, static_cast<uint64_t>(level[inner]), static_cast<uint64_t>(rungs - 1));
}

}  // namespace

void write_tables(SideEncoder& coder, const TableForm& form, const int32_t* specs, size_t tables, size_t width) {
    for (size_t t = 0; t < tables; ++t, specs += width) {
        const int32_t* before = t == 0 ? nullptr : specs - width;
        if (form.kind != kGeometric) {
            write_rungs(coder, form, specs, before);
        } else if (before == nullptr) {
            coder.bits(7, static_cast<uint64_t>(specs[0]));
            coder.bits(6, static_cast<uint64_t>(specs[1]));
        } else {
            put(coder, kRungKey, specs[0] - before[0], static_cast<int>(ladder(kModeLadder).rungs.size()));
            put(coder, kDecayKey, specs[1] - before[1], kDecays);
        }
    }
}

Fit fit_tables(Counts counts, TableForm form) {
    Fit best{};
    int64_t least = std::numeric_limits<int64_t>::max();
    std::vector<uint64_t> shares;
    for (size_t t = 0; t < counts.rows; ++t) {
        const int64_t total = sum_of(counts.row(t), form.alphabet);
        for (size_t s = 0; s < counts.alphabet; ++s) shares.push_back(share_of(counts.row(t)[s], total));
    }
    // The finest first: where its code is much shorter, the coarser ones need no description.
    for (form.kind = kKinds - 1; form.kind >= 0; --form.kind) {
        Fit fit{form.kind, form.kind == kGeometric ? 2 : counts.alphabet, 0, 0, {}, {}};
        fit.specs.resize(counts.rows * fit.width);
        fit.frequencies.resize(counts.rows * counts.alphabet);
        bool fits = true;
        for (size_t t = 0; t < counts.rows; ++t) {
            int32_t row[256];
            const auto choose = form.kind == kGeometric ? fit_geometric : fit_ladder;
            fits = choose(counts.row(t), &shares[t * counts.alphabet], form, &fit.specs[t * fit.width], row);
            if (!fits) break;
            fit.code += code_bits(counts.row(t), row, form.alphabet);
            std::copy(row, row + counts.alphabet, &fit.frequencies[t * counts.alphabet]);
        }
        if (!fits || fit.code >= least) continue;
        SideEncoder coder;
        write_tables(coder, form, fit.specs.data(), counts.rows, fit.width);
        fit.bytes = coder.finish().size();
        const int64_t bits = fit.code + (static_cast<int64_t>(8 * fit.bytes) << kFraction);
        if (bits <= least) {
            least = bits;
            best = std::move(fit);
        }
    }
    return best;
}

std::vector<size_t> merge_classes(Counts counts) {
    const size_t alphabet = counts.alphabet;
    std::vector<int64_t> best(counts.rows + 1, std::numeric_limits<int64_t>::max()), sums(alphabet);
    std::vector<size_t> origin(counts.rows + 1);
    best[0] = 0;
    for (size_t stop = 1; stop <= counts.rows; ++stop) {
        // The last range, longer and longer.
        std::fill(sums.begin(), sums.end(), 0);
        for (size_t start = stop; start-- > 0;) {
            int64_t total = 0, saved = 0, used = 0;
            for (size_t s = 0; s < alphabet; ++s) {
                sums[s] += counts.row(start)[s];
                if (sums[s] == 0) continue;
                total += sums[s];
                saved += sums[s] * log2_fixed(static_cast<uint64_t>(sums[s]));
                ++used;
            }
            const int64_t code = total == 0 ? 0 : total * log2_fixed(static_cast<uint64_t>(total)) - saved;
            const int64_t bits = best[start] + code + ((8 + 3 * used) << kFraction);
            if (bits <= best[stop]) {
                best[stop] = bits;
                origin[stop] = start;
            }
        }
    }
    std::vector<size_t> starts;
    for (size_t stop = counts.rows; stop > 0; stop = origin[stop]) starts.push_back(origin[stop]);
    std::reverse(starts.begin(), starts.end());
    return starts;
}

}  // namespace attar
