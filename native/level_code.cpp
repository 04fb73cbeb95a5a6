#include "level_code.hpp"

#include <cmath>
#include <numeric>

#include "log2.hpp"
#include "rans.hpp"

namespace attar {

namespace {

constexpr uint32_t kLevelBits = 8;
constexpr size_t kBlock = 4096;
// Two streams from kTwo levels on, four from kFour.
constexpr size_t kTwo = 256, kFour = 1024;
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

size_t place(int level, const LevelModel& model) { return static_cast<size_t>(level - model.first); }

// Fills the tables of a reach; their bits with those of the levels, in 1/2^16.
int64_t fit_tables(LevelModel& model, const Pairs& pairs) {
    int64_t bits = 0;
    for (int context = -model.reach; context <= model.reach; ++context) {
        if (!model.occurs(context)) continue;
        Counts counts{};
        for (int level = model.first; level <= model.last; ++level) {
            if (model.context(level) != context) continue;
            for (size_t i = 0; i < counts.size(); ++i) counts[i] += pairs[place(level, model)][i];
        }
        model.rungs(context) = fit_rungs(counts);
        const LevelModel::Shares shares = model.shares(context);
        for (size_t i = 0; i <= place(model.last, model); ++i) {
            bits += (counts[i] == 0 ? kZeroBits : kShareBits) << kFraction;
            if (counts[i] != 0) bits += counts[i] * ((int64_t{kLevelBits} << kFraction) - log2_table()[shares[i]]);
        }
    }
    return bits;
}

// act(levels, count) for what each stream holds.
template <class Act>
void over_pieces(const LevelBlock& block, Act act) {
    const size_t pieces = block.count < kTwo ? 1 : block.count < kFour ? 2 : 4, size = (block.count + pieces - 1) / pieces;
    for (size_t start = 0; start < block.count; start += size) act(block.levels + start, std::min(size, block.count - start));
}

// What a slot of a context stands for: share, context of the next level, level, place among the level's slots.
constexpr uint32_t entry_of(uint32_t share, uint32_t next, uint32_t level, uint32_t position) {
    return share << 23 | next << 13 | level << 8 | position;
}

std::vector<uint32_t> entries_of(const LevelModel& model) {
    std::vector<uint32_t> entries(static_cast<size_t>(2 * model.reach + 1) * kLevelTotal);
    for (int context = -model.reach; context <= model.reach; ++context) {
        if (!model.occurs(context)) continue;
        uint32_t* entry = &entries[static_cast<size_t>(model.reach + context) * kLevelTotal];
        const LevelModel::Shares shares = model.shares(context);
        for (int level = model.first; level <= model.last; ++level) {
            const uint32_t share = shares[place(level, model)];
            const uint32_t next = static_cast<uint32_t>(model.reach + model.context(level));
            const uint32_t first = entry_of(share, next, static_cast<uint32_t>(level), 0);
            for (uint32_t k = 0; k < share; ++k) *entry++ = first + k;
        }
    }
    return entries;
}

struct Stream {
    uint32_t x = 0;
    const uint8_t* word;
    const uint8_t* end;

    explicit Stream(Source source) {
        const size_t head = source.size < 4 ? source.size : 4 - source.size % 2;
        for (size_t k = 0; k < head; ++k) x |= static_cast<uint32_t>(source.data[k]) << (8 * k);
        word = source.data + head;
        end = source.data + source.size;
    }
    void finish() const {
        if (x != 0 || word != end) throw Malformed("the levels do not end where they began");
    }
};

// The next `count` levels of kPieces pieces; from[piece] is where the entries of its context begin.
template <size_t kPieces>
void decode_some(const uint32_t* entries, Stream* streams, uint32_t* from, uint8_t* const* levels, size_t start, size_t count) {
    static constexpr uint8_t kNothing[2] = {};
    uint32_t x[kPieces], context[kPieces];
    const uint8_t* word[kPieces];
    for (size_t j = 0; j < kPieces; ++j) {
        x[j] = streams[j].x;
        word[j] = streams[j].word;
        context[j] = from[j];
    }
    for (size_t i = start; i < start + count; ++i) {
        for (size_t j = 0; j < kPieces; ++j) {
            const uint32_t entry = entries[context[j] | (x[j] & (kLevelTotal - 1))];
            levels[j][i] = static_cast<uint8_t>(entry >> 8 & 31);
            context[j] = (entry >> 13 & 7) << kLevelBits;
            const uint32_t next = (entry >> 23) * (x[j] >> kLevelBits) + (entry & 255);
            // Without a branch: whether a word is due is anybody's guess.
            const bool left = word[j] != streams[j].end;
            const uint8_t* const at = left ? word[j] : kNothing;
            const uint32_t due = left & (next < kLow);
            x[j] = next << (due << 4) | (static_cast<uint32_t>(at[0] | at[1] << 8) & (0u - due));
            word[j] += 2 * due;
        }
    }
    for (size_t j = 0; j < kPieces; ++j) {
        streams[j].x = x[j];
        streams[j].word = word[j];
        from[j] = context[j];
    }
}

// The levels of one piece, the last one first.
std::vector<uint8_t> encode_piece(const LevelModel& model, const std::vector<LevelModel::Shares>& shares, const uint8_t* levels,
                                  size_t count) {
    std::vector<uint8_t> words;
    uint32_t x = 0;
    for (size_t i = count; i-- > 0;) {
        const LevelModel::Shares& share = shares[static_cast<size_t>(model.reach + (i == 0 ? 0 : model.context(levels[i - 1])))];
        const size_t at = place(levels[i], model);
        const uint32_t start = std::accumulate(share.begin(), share.begin() + static_cast<std::ptrdiff_t>(at), 0u);
        if (x >> (32 - kLevelBits) >= share[at]) {
            // In the order of the reader once all are turned around.
            words.push_back(static_cast<uint8_t>(x >> 8));
            words.push_back(static_cast<uint8_t>(x));
            x >>= 16;
        }
        x = (x / share[at] << kLevelBits) + start + x % share[at];
    }
    std::vector<uint8_t> stream;
    for (size_t k = 0; k < 4 && ((k < 3 && !words.empty()) || x >> (8 * k) != 0); ++k) stream.push_back(static_cast<uint8_t>(x >> (8 * k)));
    stream.insert(stream.end(), words.rbegin(), words.rend());
    return stream;
}

}  // namespace

std::vector<LevelBlock> level_blocks(std::vector<uint8_t>& levels) {
    const size_t blocks = (levels.size() + kBlock - 1) / kBlock, size = (levels.size() + blocks - 1) / blocks;
    std::vector<LevelBlock> found;
    for (size_t start = 0; start < levels.size(); start += size) found.push_back({&levels[start], std::min(size, levels.size() - start)});
    return found;
}

LevelModel::Shares LevelModel::shares(int context) const {
    const std::array<int, kLevels>& chosen = rungs(context);
    Shares shares{};
    uint32_t sum = 0;
    for (size_t i = 0; i <= static_cast<size_t>(last - first); ++i) sum += shares[i] = static_cast<uint32_t>(kLevelRungs[static_cast<size_t>(chosen[i])]);
    const size_t mode = static_cast<size_t>(std::max_element(chosen.begin(), chosen.begin() + (last - first + 1)) - chosen.begin());
    sum -= shares[mode];
    if (sum >= kLevelTotal) throw Malformed("a level must have a share of a table");
    shares[mode] = kLevelTotal - sum;
    return shares;
}

LevelModel fit_level_model(const LevelBlock& block) {
    LevelModel model;
    const uint8_t *const levels = block.levels, *const end = levels + block.count;
    const auto [least, most] = std::minmax_element(levels, end);
    model.first = model.centre = *least;
    model.last = *most;
    if (model.first == model.last) return model;
    Counts counts{};
    for (const uint8_t* level = levels; level != end; ++level) ++counts[place(*level, model)];
    model.centre += static_cast<int>(std::max_element(counts.begin(), counts.end()) - counts.begin());
    Pairs pairs{};
    over_pieces(block, [&](const uint8_t* piece, size_t count) {
        int before = model.centre;
        for (size_t i = 0; i < count; ++i) {
            ++pairs[place(before, model)][place(piece[i], model)];
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

void encode_levels(const LevelModel& model, const LevelBlock& block, std::vector<uint8_t>& out) {
    if (model.first == model.last) return;
    std::vector<LevelModel::Shares> shares(static_cast<size_t>(2 * model.reach + 1));
    for (int context = -model.reach; context <= model.reach; ++context) {
        if (model.occurs(context)) shares[static_cast<size_t>(model.reach + context)] = model.shares(context);
    }
    over_pieces(block, [&](const uint8_t* piece, size_t count) {
        const std::vector<uint8_t> stream = encode_piece(model, shares, piece, count);
        put_varint(out, stream.size());
        out.insert(out.end(), stream.begin(), stream.end());
    });
}

void decode_levels(const LevelModel& model, Reader& reader, const LevelBlock& block) {
    if (model.first == model.last) {
        std::fill_n(block.levels, block.count, static_cast<uint8_t>(model.first));
        return;
    }
    const std::vector<uint32_t> entries = entries_of(model);
    std::vector<Stream> streams;
    std::vector<uint8_t*> to;
    std::vector<size_t> sizes;
    over_pieces(block, [&](uint8_t* piece, size_t count) {
        streams.emplace_back(reader.sized());
        to.push_back(piece);
        sizes.push_back(count);
    });
    std::vector<uint32_t> from(streams.size(), static_cast<uint32_t>(model.reach) << kLevelBits);
    // The last piece may be shorter.
    const size_t together = sizes.back();
    if (streams.size() == 4) decode_some<4>(entries.data(), streams.data(), from.data(), to.data(), 0, together);
    else if (streams.size() == 2) decode_some<2>(entries.data(), streams.data(), from.data(), to.data(), 0, together);
    else decode_some<1>(entries.data(), streams.data(), from.data(), to.data(), 0, together);
    for (size_t j = 0; j < streams.size(); ++j) {
        decode_some<1>(entries.data(), &streams[j], &from[j], &to[j], together, sizes[j] - together);
        streams[j].finish();
    }
}

}  // namespace attar
