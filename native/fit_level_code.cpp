// The model of a block of levels for the fewest bits.
#include <cmath>
#include <numeric>

#include "level_code.hpp"
#include "log2.hpp"

namespace attar {

namespace {

// Where the nearest rungs leave the most frequent level no share, they are sought for smaller shares, in 1/128.
constexpr uint64_t kScales[] = {128, 112, 96, 80, 64};
// About what a share takes in the description, and one that is zero, in bits.
constexpr int64_t kShareBits = 4, kZeroBits = 1;

using Counts = std::array<int64_t, kLevels>;

// How often each level follows each.
using Pairs = std::array<Counts, kLevels>;

// Where the next rung is nearer in ratio, in 1/2^16 of a share.
const std::vector<uint64_t>& bounds() {
    static const std::vector<uint64_t> all = [] {
        std::vector<uint64_t> made;
        for (size_t k = 2; k < kLevelRungs.size(); ++k) {
            const uint64_t square = static_cast<uint64_t>(kLevelRungs[k - 1] * kLevelRungs[k]) << 32;
            uint64_t root = static_cast<uint64_t>(std::sqrt(static_cast<double>(square)));
            while (root * root > square) --root;
            while ((root + 1) * (root + 1) <= square) ++root;
            made.push_back(root);
        }
        return made;
    }();
    return all;
}

int nearest(uint64_t share) {
    return 1 + static_cast<int>(std::upper_bound(bounds().begin(), bounds().end(), share) - bounds().begin());
}

// Rungs of levels that occur so often.
std::array<int, kLevels> fit_rungs(const Counts& counts) {
    std::array<int, kLevels> rung{};
    const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    if (total == 0) return rung;
    const size_t mode = static_cast<size_t>(std::max_element(counts.begin(), counts.end()) - counts.begin());
    for (const uint64_t scale : kScales) {
        int others = 0, least = 1;
        for (size_t i = 0; i < counts.size(); ++i) {
            const uint64_t share = (static_cast<uint64_t>(counts[i]) << (kLevelBits + 16)) / static_cast<uint64_t>(total);
            rung[i] = counts[i] == 0 ? 0 : nearest(share * scale >> 7);
            if (i == mode) continue;
            others += kLevelRungs[static_cast<size_t>(rung[i])];
            // The first of the highest is the mode.
            least = std::max(least, rung[i] + (i < mode));
        }
        rung[mode] = std::max(rung[mode], least);
        if (others < static_cast<int>(kLevelTotal)) break;
    }
    return rung;
}

// Fills the tables of a reach; their bits with those of the levels, in 1/2^16.
int64_t fit_tables(LevelModel& model, const Pairs& pairs) {
    int64_t bits = 0;
    for (int context = -model.reach; context <= model.reach; ++context) {
        if (!model.occurs(context)) continue;
        Counts counts{};
        for (int level = model.first; level <= model.last; ++level) {
            if (model.context(level) != context) continue;
            for (size_t i = 0; i < counts.size(); ++i) counts[i] += pairs[model.place(level)][i];
        }
        model.rungs(context) = fit_rungs(counts);
        const LevelModel::Shares shares = model.shares(context);
        for (size_t i = 0; i <= model.place(model.last); ++i) {
            bits += (counts[i] == 0 ? kZeroBits : kShareBits) << kFraction;
            if (counts[i] != 0) bits += counts[i] * ((int64_t{kLevelBits} << kFraction) - log2_table()[shares[i]]);
        }
    }
    return bits;
}

}  // namespace

LevelModel fit_level_model(const LevelBlock& block) {
    LevelModel model;
    const uint8_t *const levels = block.levels, *const end = levels + block.count;
    const auto [least, most] = std::minmax_element(levels, end);
    model.first = model.centre = *least;
    model.last = *most;
    if (model.first == model.last) return model;
    Counts counts{};
    for (const uint8_t* level = levels; level != end; ++level) ++counts[model.place(*level)];
    model.centre += static_cast<int>(std::max_element(counts.begin(), counts.end()) - counts.begin());
    Pairs pairs{};
    over_pieces(block, [&](const uint8_t* piece, size_t count) {
        int before = model.centre;
        for (size_t i = 0; i < count; ++i) {
            ++pairs[model.place(before)][model.place(piece[i])];
            before = piece[i];
        }
    });
    LevelModel best;
    int64_t fewest = 0;
    for (model.reach = 0; model.reach <= kMostReach; ++model.reach) {
        const int64_t bits = fit_tables(model, pairs);
        if (model.reach != 0 && bits >= fewest) continue;
        fewest = bits;
        best = model;
    }
    return best;
}

}  // namespace attar
