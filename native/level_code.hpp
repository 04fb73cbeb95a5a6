// Row or column levels as static rANS streams: read by look-ups and not bit by bit. docs/format.md, "Streams of levels"; the twin
// is attar/coding/level_code.py.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bytes.hpp"
#include "side.hpp"

namespace attar {

constexpr int kHighestLevel = 28;
constexpr int kLevels = kHighestLevel + 1;
constexpr int kMostReach = 3;
// Shares of a table are out of so many.
constexpr uint32_t kLevelBits = 8, kLevelTotal = 1u << kLevelBits;
constexpr std::array<int, 16> kLevelRungs{0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192};

// Levels first .. last, each with a table by the level before it, which is seen as its distance from the centre, up to
// `reach`; rung[reach + distance][level - first].
struct LevelModel {
    using Shares = std::array<uint32_t, kLevels>;

    int first = 0, last = 0, centre = 0, reach = 0;
    std::array<std::array<int, kLevels>, 2 * kMostReach + 1> rung{};

    size_t place(int level) const { return static_cast<size_t>(level - first); }
    int context(int level) const { return std::clamp(level - centre, -reach, reach); }
    // Whether there is a level at this distance.
    bool occurs(int context) const { return first <= centre + context && centre + context <= last; }
    const std::array<int, kLevels>& rungs(int context) const { return rung[static_cast<size_t>(reach + context)]; }
    std::array<int, kLevels>& rungs(int context) { return rung[static_cast<size_t>(reach + context)]; }
    // Shares by level - first: the first of the highest rungs has what is left. Throws Malformed where that is nothing.
    Shares shares(int context) const;
};

// The levels of a block, at least one.
struct LevelBlock {
    uint8_t* levels;
    size_t count;
};

// A list of at least one level falls into equal blocks of so many, the last one perhaps smaller: each has a model of its own.
size_t level_block(size_t levels);
std::vector<LevelBlock> level_blocks(std::vector<uint8_t>& levels);

// act(levels, count) for what each stream of a block holds: two from kTwo levels on, four from kFour.
template <class Act>
void over_pieces(const LevelBlock& block, Act act) {
    constexpr size_t kTwo = 256, kFour = 1024;
    const size_t pieces = block.count < kTwo ? 1 : block.count < kFour ? 2 : 4, size = (block.count + pieces - 1) / pieces;
    for (size_t start = 0; start < block.count; start += size) act(block.levels + start, std::min(size, block.count - start));
}

// The model of the fewest bits.
LevelModel fit_level_model(const LevelBlock& block);

// Some streams with their lengths in front, each of consecutive levels: while one waits for its table others go on. None
// where all levels are one.
void encode_levels(const LevelModel& model, const LevelBlock& block, std::vector<uint8_t>& out);
// The streams of a block, and the levels that they hold. Both throw Malformed.
std::vector<Source> take_streams(const LevelModel& model, Reader& reader, const LevelBlock& block);
void decode_levels(const LevelModel& model, const std::vector<Source>& sources, const LevelBlock& block);

// Reads or writes a model. Throws Malformed.
template <class Bits>
void describe(SideCoder<Bits>& coder, LevelModel& model) {
    const auto natural = [&](int key, int value, int limit) {
        return static_cast<int>(coder.natural(key, static_cast<uint64_t>(value), static_cast<uint64_t>(limit)));
    };
    model.first = natural(kFirstKey, model.first, kHighestLevel);
    model.last = model.first + natural(kLastKey, model.last - model.first, kHighestLevel - model.first);
    if (model.last == model.first) return;
    model.centre = model.first + natural(kAroundKey, model.centre - model.first, model.last - model.first);
    model.reach = static_cast<int>(coder.bits(2, static_cast<uint64_t>(model.reach)));
    for (int context = -model.reach; context <= model.reach; ++context) {
        if (!model.occurs(context)) continue;
        int before = 0;
        for (size_t i = 0; i <= static_cast<size_t>(model.last - model.first); ++i) {
            int& rung = model.rungs(context)[i];
            rung = before += static_cast<int>(coder.number(kShareKey, rung - before, kLevelRungs.size() - 1));
            if (rung < 0 || rung >= static_cast<int>(kLevelRungs.size())) throw Malformed("a level must have a share of a table");
        }
    }
}

}  // namespace attar
