#include "place.hpp"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace attar {

namespace {

// One group of rows: its runs, and where the symbols of each begin.
struct Group {
    const int32_t* runs;
    size_t count;
    size_t rows;
};

void check(const Order& order) {
    uint64_t rows = 0;
    for (size_t r = 0; r < order.runs.size;) {
        const int32_t* run = order.runs.data + 3 * r;
        uint64_t width = 0;
        int32_t height = run[0];
        for (; r < order.runs.size && width < order.width; ++r, run += 3) {
            if (run[0] != height || run[0] < 1 || run[1] < 1) throw Malformed("the runs of a group must have its rows");
            width += static_cast<uint64_t>(run[1]);
        }
        if (width != order.width) throw Malformed("the runs of a group must add up to the columns");
        rows += static_cast<uint64_t>(height);
    }
    if (rows != order.row_count) throw Malformed("the runs must add up to the rows");
    for (size_t i = 0; i < order.row_count; ++i) {
        if (order.rows[i] < 0 || static_cast<size_t>(order.rows[i]) >= order.height) throw Malformed("a row lies outside the matrix");
    }
    std::vector<bool> seen(order.width);
    for (size_t j = 0; j < order.width; ++j) {
        if (order.columns[j] < 0 || static_cast<size_t>(order.columns[j]) >= order.width || seen[order.columns[j]]) {
            throw Malformed("the columns must be a permutation");
        }
        seen[order.columns[j]] = true;
    }
}

bool in_order(const Order& order) {
    for (size_t j = 0; j < order.width; ++j) {
        if (order.columns[j] != static_cast<int32_t>(j)) return false;
    }
    return true;
}

// Calls act(group, symbols of the group, first row) for each group.
template <class Symbols, class Act>
void over_groups(Symbols* symbols, const Order& order, Act act) {
    size_t row = 0;
    for (size_t r = 0; r < order.runs.size;) {
        Group group{order.runs.data + 3 * r, 0, static_cast<size_t>(order.runs.data[3 * r])};
        for (size_t width = 0; width < order.width; ++group.count) width += static_cast<size_t>(group.runs[3 * group.count + 1]);
        act(group, symbols, row);
        symbols += group.rows * order.width;
        row += group.rows;
        r += group.count;
    }
}

size_t padded(size_t width) { return (width + 127) / 128 * 128; }

// The i-th row of a group in the order of the sorted columns.
const uint8_t* sorted_row(const Group& group, const uint8_t* symbols, size_t i, uint8_t* line) {
    uint8_t* out = line;
    for (size_t r = 0; r < group.count; ++r) {
        size_t span = static_cast<size_t>(group.runs[3 * r + 1]);
        std::memcpy(out, symbols + i * span, span);
        symbols += group.rows * span;
        out += span;
    }
    return line;
}

// Calls act(row of the matrix, its symbols in the order of the matrix) for each row.
template <class Act>
void over_rows(const uint8_t* symbols, const Order& order, Path path, Act act) {
    check(order);
    bool straight = in_order(order);
    std::vector<uint32_t> rank(order.width);
    for (size_t j = 0; j < order.width; ++j) rank[order.columns[j]] = static_cast<uint32_t>(j);
    const Permutation back(std::move(rank), path);
    std::vector<uint8_t> sorted(padded(order.width)), line(padded(order.width));
    over_groups(symbols, order, [&](const Group& group, const uint8_t* from, size_t first) {
        for (size_t i = 0; i < group.rows; ++i) {
            size_t row = static_cast<size_t>(order.rows[first + i]);
            if (straight && group.count == 1) {
                act(row, from + i * order.width);
            } else if (straight) {
                act(row, sorted_row(group, from, i, line.data()));
            } else {
                back.apply(sorted_row(group, from, i, sorted.data()), line.data());
                act(row, const_cast<const uint8_t*>(line.data()));
            }
        }
    });
}

}  // namespace

Permutation::Permutation(std::vector<uint32_t> index, Path path) : index_(std::move(index)) {
    const size_t count = index_.size();
    if (!permutes(path) || count > kWidest) return;
    const size_t vectors = (count + 63) / 64;
    pairs_ = (count + 127) / 128;
    low_.resize(64 * vectors);
    pair_.resize(vectors * pairs_);
    for (size_t i = 0; i < count; ++i) {
        low_[i] = static_cast<uint8_t>(index_[i] & 127);
        pair_[i / 64 * pairs_ + (index_[i] >> 7)] |= uint64_t{1} << (i & 63);
    }
}

void Permutation::apply(const uint8_t* from, uint8_t* to) const {
    if (pairs_ != 0) return permute_vectors(low_.data(), pair_.data(), low_.size() / 64, pairs_, from, to);
    const uint8_t* ATTAR_ALONE source = from;
    const uint32_t* ATTAR_ALONE index = index_.data();
    uint8_t* ATTAR_ALONE target = to;
    for (size_t i = 0; i < index_.size(); ++i) target[i] = source[index[i]];
}

void collect(const uint8_t* source, const Order& order, uint8_t* symbols, Path path) {
    check(order);
    const Permutation sort(std::vector<uint32_t>(order.columns, order.columns + order.width), path);
    std::vector<uint8_t> plain(padded(order.width)), line(padded(order.width));
    over_groups(symbols, order, [&](const Group& group, uint8_t* to, size_t first) {
        for (size_t i = 0; i < group.rows; ++i) {
            std::memcpy(plain.data(), source + static_cast<size_t>(order.rows[first + i]) * order.width, order.width);
            sort.apply(plain.data(), line.data());
            const uint8_t* sorted = line.data();
            uint8_t* out = to;
            for (size_t r = 0; r < group.count; ++r) {
                size_t span = static_cast<size_t>(group.runs[3 * r + 1]);
                std::memcpy(out + i * span, sorted, span);
                out += group.rows * span;
                sorted += span;
            }
        }
    });
}

template <class T>
void add(const uint8_t* ATTAR_ALONE from, size_t count, T low, T* ATTAR_ALONE to) {
    for (size_t i = 0; i < count; ++i) to[i] = static_cast<T>(low + from[i]);
}

template <class T>
void place(const uint8_t* symbols, const Order& order, int64_t low, T* out, Path path) {
    over_rows(symbols, order, path, [&](size_t row, const uint8_t* line) {
        add(line, order.width, static_cast<T>(low), out + row * order.width);
    });
}

template void place(const uint8_t*, const Order&, int64_t, uint8_t*, Path);
template void place(const uint8_t*, const Order&, int64_t, uint16_t*, Path);
template void place(const uint8_t*, const Order&, int64_t, uint32_t*, Path);
template void place(const uint8_t*, const Order&, int64_t, uint64_t*, Path);

void place_scaled(const uint8_t* symbols, const Order& order, int32_t low, const Scales& scales, Format format, void* out,
                  Path path) {
    if (scales.groups == 0 || order.height % scales.groups != 0) throw Malformed("the rows must divide into the groups");
    const size_t bytes = format == Format::float32 ? 4 : 2;
    const size_t share = order.height / scales.groups;
    over_rows(symbols, order, path, [&](size_t row, const uint8_t* line) {
        uint8_t* to = static_cast<uint8_t*>(out) + row * order.width * bytes;
        scale(line, order.width, low, scales.column + row / share * order.width, scales.row[row], format, to, path);
    });
}

}  // namespace attar
