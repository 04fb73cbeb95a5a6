#include "level_code.hpp"

#include <numeric>

#include "rans.hpp"

namespace attar {

namespace {

constexpr size_t kBlock = 4096;

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
            const uint32_t share = shares[model.place(level)];
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
        const size_t at = model.place(levels[i]);
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

size_t level_block(size_t levels) {
    const size_t blocks = (levels + kBlock - 1) / kBlock;
    return (levels + blocks - 1) / blocks;
}

std::vector<LevelBlock> level_blocks(std::vector<uint8_t>& levels) {
    const size_t size = level_block(levels.size());
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

std::vector<Source> take_streams(const LevelModel& model, Reader& reader, const LevelBlock& block) {
    std::vector<Source> streams;
    if (model.first == model.last) return streams;
    // A wrong model is said before streams that may not be there.
    for (int context = -model.reach; context <= model.reach; ++context) {
        if (model.occurs(context)) model.shares(context);
    }
    over_pieces(block, [&](const uint8_t*, size_t) { streams.push_back(reader.sized()); });
    return streams;
}

void decode_levels(const LevelModel& model, const std::vector<Source>& sources, const LevelBlock& block) {
    if (model.first == model.last) {
        std::fill_n(block.levels, block.count, static_cast<uint8_t>(model.first));
        return;
    }
    const std::vector<uint32_t> entries = entries_of(model);
    std::vector<Stream> streams(sources.begin(), sources.end());
    std::vector<uint8_t*> to;
    std::vector<size_t> sizes;
    over_pieces(block, [&](uint8_t* piece, size_t count) {
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
