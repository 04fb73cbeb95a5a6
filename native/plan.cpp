#include "plan.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "level_code.hpp"
#include "read_tables.hpp"

namespace attar {

namespace {

constexpr uint64_t kWidest = 255;
constexpr int kModels = 3, kKinds = 5;

Alphabet read_alphabet(SideDecoder& coder) {
    const SideDecoder::Signed low = coder.integer(kLowKey, {false, 0}, uint64_t{1} << 63);
    const size_t width = 1 + static_cast<size_t>(coder.natural(kWidthKey, 0, kWidest - 1));
    return {low.negative ? 0 - low.size : low.size, width, coder.bits(1) != 0};
}

void read_levels(SideDecoder& coder, std::vector<uint8_t>& levels) {
    const int64_t centre = static_cast<int64_t>(coder.natural(kCentreKey, 0, kHighestLevel));
    const int model = static_cast<int>(coder.bits(2));
    if (model >= kModels) throw Malformed("the level model must be 0, 1 or 2");
    std::vector<int16_t> differences(levels.size());
    coder.run(kValueKey, model, differences.data(), levels.size(), 2 * kHighestLevel);
    const auto [lowest, highest] = std::minmax_element(differences.begin(), differences.end());
    if (centre + *lowest < 0 || centre + *highest > kHighestLevel) throw Malformed("a level must be 0 to 28");
    for (size_t i = 0; i < levels.size(); ++i) levels[i] = static_cast<uint8_t>(centre + differences[i]);
}

// Levels of the rows and of the columns, and the order that they come to: block by block, which threads share.
class Lines {
  public:
    Lines(size_t rows, size_t columns, Sides sides)
        : levels_{std::vector<uint8_t>(rows, 1), std::vector<uint8_t>(columns, 1)}, sortings_{Sorting(levels_[0]), Sorting(levels_[1])},
          used_{sides.row, sides.column}, streams_(sides.streams) {}

    Lines(const Lines&) = delete;
    Lines& operator=(const Lines&) = delete;

    Sorting& rows() { return sortings_[0]; }
    Sorting& columns() { return sortings_[1]; }
    size_t blocks() const { return blocks_.size(); }

    // What the text says of levels, and where streams are.
    void read(SideDecoder& coder, Reader& reader) {
        blocks_.reserve(rows().blocks() + columns().blocks());
        for (size_t side : {0, 1}) {
            if (used_[side] && !streams_) read_levels(coder, levels_[side]);
            for (const LevelBlock& levels : level_blocks(levels_[side])) {
                blocks_.push_back({&sortings_[side], blocks_.size() - (side == 0 ? 0 : rows().blocks()), levels, {}, {}});
                if (used_[side] && streams_) describe(coder, blocks_.back().model.emplace());
            }
        }
        for (Block& block : blocks_) {
            if (block.model) block.streams = take_streams(*block.model, reader, block.levels);
        }
    }
    // Once they are read, the levels of a block; once all are counted and shared out, its lines.
    void count(size_t k) {
        Block& block = blocks_[k];
        if (block.model) decode_levels(*block.model, block.streams, block.levels);
        block.sorting->count(block.number);
    }
    void put(size_t k) { blocks_[k].sorting->put(blocks_[k].number); }

  private:
    struct Block {
        Sorting* sorting;
        size_t number;  // on its side
        LevelBlock levels;
        std::optional<LevelModel> model;  // of streams
        std::vector<Source> streams;
    };

    std::vector<uint8_t> levels_[2];
    Sorting sortings_[2];
    bool used_[2], streams_;
    std::vector<Block> blocks_;
};

// The table of each class: contiguous ranges, until no class is left.
std::vector<size_t> read_ranges(SideDecoder& coder, size_t classes) {
    std::vector<size_t> table_of;
    size_t tables = 0;
    for (; table_of.size() < classes; ++tables) {
        const uint64_t most = classes - table_of.size() - 1;
        table_of.insert(table_of.end(), 1 + static_cast<size_t>(coder.natural(kClassesKey, 0, most)), tables);
    }
    if (tables > kMaxTables) throw Malformed("there must be 1 to 64 tables");
    return table_of;
}

DecodeTables read_all_tables(SideDecoder& coder, const Alphabet& alphabet, size_t count, bool wide, bool entries) {
    const int size = static_cast<int>(alphabet.width + alphabet.escape), width = static_cast<int>(alphabet.width);
    const int64_t mode = width / 2 + coder.number(kModeKey, 0, 256);
    const int kind = static_cast<int>(coder.bits(3));
    if (mode < 0 || mode >= width || kind >= kKinds) throw Malformed("the mode must be a symbol and the kind 0 to 4");
    std::vector<uint16_t> frequencies(count * static_cast<size_t>(size));
    read_tables(coder, count, {size, static_cast<int>(mode), alphabet.escape, kind}, frequencies.data());
    return DecodeTables({frequencies.data(), count, static_cast<size_t>(size)}, wide, entries);
}

}  // namespace

Plan read_plan(Source side, Shape shape, Sides sides, bool entries, Crew& crew) {
    Reader reader(side);
    const Source text = sides.streams ? reader.sized() : reader.rest();
    SideDecoder coder(text.data, text.size);
    const Alphabet alphabet = read_alphabet(coder);
    // One row may be long, and is not sorted: its levels are read to be thrown away.
    const bool line = shape.rows == 1;
    Lines lines(shape.rows, line && !sides.column ? 1 : shape.cols, sides);
    lines.read(coder, reader);
    crew.run(lines.blocks(), [&](auto next) {
        for (size_t k; (k = next()) < lines.blocks();) lines.count(k);
    });
    for (Sorting* sorting : {&lines.rows(), &lines.columns()}) sorting->share_out();
    const size_t classes = lines.rows().highest() + lines.columns().highest() + 1;
    const std::vector<size_t> table_of = sides.any() ? read_ranges(coder, classes) : std::vector<size_t>(classes, 0);
    std::optional<DecodeTables> tables;
    // The tables by one of the threads.
    const size_t work = 1 + (line ? 0 : lines.blocks());
    crew.run(work, [&](auto next) {
        for (size_t k; (k = next()) < work;) {
            if (k == 0) tables.emplace(read_all_tables(coder, alphabet, table_of.back() + 1, sides.wide, entries));
            else lines.put(k - 1);
        }
    });
    coder.finish();
    reader.finish();
    SortedLines order = line ? SortedLines{} : sorted_lines(lines.rows(), lines.columns(), table_of);
    return {alphabet, shape, sides.streams, std::move(order), std::move(*tables)};
}

}  // namespace attar
