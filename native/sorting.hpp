// Lines sorted by level: docs/format.md, "Order of symbols".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "level_code.hpp"

namespace attar {

// Some columns of one table among the sorted columns.
struct Span {
    size_t width;
    size_t table;
};

// rows [rows] and columns [cols] of the matrix sorted by level, stable; the sorted rows of level k are first[k] up to
// first[k + 1], and their columns fall into spans[k].
struct SortedLines {
    std::vector<uint32_t> rows, columns;
    std::vector<size_t> first;
    std::vector<std::vector<Span>> spans;
};

// The lines of one side. Blocks of levels may be counted at the same time, and then lines be put; each block in four parts in
// turn, since a count that goes up again and again waits for itself.
class Sorting {
  public:
    // Of levels that need not be known yet, and outlive it.
    explicit Sorting(const std::vector<uint8_t>& levels);
    size_t blocks() const { return next_.size(); }
    // Once the levels of a block are known.
    void count(size_t block);
    // Once all are counted.
    void share_out();
    size_t highest() const { return widths_.size() - 1; }
    // How many lines have each level, and where each level begins among the sorted lines and the last one ends.
    const std::vector<size_t>& widths() const { return widths_; }
    const std::vector<size_t>& first() const { return first_; }
    // The lines of a block among the sorted ones.
    void put(size_t block);
    // Once all are put, to be moved from.
    std::vector<uint32_t> lines;

  private:
    static constexpr size_t kParts = 4;
    template <class Act>
    void in_turn(size_t block, Act act) const;

    const std::vector<uint8_t>& levels_;
    size_t size_;                                                     // of a block
    std::vector<std::array<std::array<uint32_t, kLevels>, kParts>> next_;  // line of each level, by block and part
    std::vector<size_t> widths_, first_;
};

// Takes the lines.
SortedLines sorted_lines(Sorting& rows, Sorting& columns, const std::vector<size_t>& table_of);

// The order of coding that levels [rows], [cols] and the tables of their classes come to.
SortedLines sort_lines(const std::vector<uint8_t>& rows, const std::vector<uint8_t>& cols, const std::vector<size_t>& table_of);

}  // namespace attar
