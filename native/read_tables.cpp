// Probability tables from side information; the rules are those of attar/coding/tables.py and docs/format.md.
#include "read_tables.hpp"

#include <algorithm>
#include <vector>

#include "rungs.hpp"

namespace attar {

namespace {

constexpr int kDecays = 64;
constexpr int kModeLadder = 3;

[[noreturn]] void refuse() { throw Malformed("a probability table must be one that attar writes"); }

std::vector<int> make_ladder(int fineness) {
    std::vector<int> rungs{0, 1};
    while (rungs.back() < static_cast<int>(kTotal)) {
        rungs.push_back(std::min(static_cast<int>(kTotal), rungs.back() + std::max(1, rungs.back() >> fineness)));
    }
    return rungs;
}

int number(SideDecoder& coder, int key, int limit) {
    const SideDecoder::Signed read = coder.integer(key, {false, 0}, static_cast<uint64_t>(limit));
    return read.negative ? -static_cast<int>(read.size) : static_cast<int>(read.size);
}

// The mode gets what the others leave.
void fill_mode(std::vector<int>& row, int mode) {
    row[mode] = 0;
    int sum = 0;
    for (int f : row) sum += f;
    row[mode] = static_cast<int>(kTotal) - sum;
    if (row[mode] < 1) refuse();
}

std::vector<int> geometric(const TableForm& form, int rung, int decay) {
    const int inner = form.alphabet - form.escape;
    std::vector<int64_t> weights{0};
    int64_t weight = 1 << 20, sum = 0;
    for (int d = 0; d < std::max(form.mode, inner - 1 - form.mode); ++d) {
        weights.push_back(std::max<int64_t>(1, weight));
        weight = weight * (2 * decay + 1) / (2 * kDecays);
    }
    for (int s = 0; s < inner; ++s) sum += weights[std::abs(s - form.mode)];
    const int64_t room = std::max(static_cast<int>(kTotal) - make_ladder(kModeLadder)[rung] - form.escape, 0);
    std::vector<int> row(form.alphabet, 1);
    for (int s = 0; s < inner; ++s) {
        row[s] = static_cast<int>(std::max<int64_t>(1, weights[std::abs(s - form.mode)] * room / std::max<int64_t>(sum, 1)));
    }
    fill_mode(row, form.mode);
    return row;
}

// Rungs of every symbol by their difference from a guess; `before` is empty for the first table.
std::vector<int> read_rungs(SideDecoder& coder, const TableForm& form, const std::vector<int>& before, int rungs) {
    const int mode = form.mode, inner = form.alphabet - form.escape;
    int low = before.empty() ? 0 : mode, high = before.empty() ? inner - 1 : mode;
    for (int s = 0; s < inner && !before.empty(); ++s) {
        if (before[s] == 0) continue;
        low = std::min(low, s);
        high = std::max(high, s);
    }
    low += number(coder, kReachKey, 256);
    high += number(coder, kReachKey, 256);
    if (!(0 <= low && low <= mode && mode <= high && high < inner)) refuse();
    std::vector<int> level(form.alphabet, 0);
    const RungGuess guess{mode, rungs, level.data(), before.empty() ? nullptr : before.data()};
    outwards(mode, inner, low, high, [&](int place, int neighbour, int mirror) {
        level[place] = guess(place, neighbour, mirror) + number(coder, kLevelKey, rungs);
        if (level[place] < 0 || level[place] >= rungs) refuse();
    });
    if (form.escape) level.back() = static_cast<int>(coder.natural(kEscapeKey, 0, static_cast<uint64_t>(rungs - 1)));
    return level;
}

void put(const std::vector<int>& row, uint16_t*& out) {
    for (int f : row) *out++ = static_cast<uint16_t>(f);
}

}  // namespace

void read_tables(SideDecoder& coder, size_t tables, const TableForm& form, uint16_t* out) {
    const std::vector<int> rungs = make_ladder(form.kind == 0 ? kModeLadder : form.kind);
    const int size = static_cast<int>(rungs.size());
    std::vector<int> before;
    int rung = 0, decay = 0;
    for (size_t t = 0; t < tables; ++t) {
        if (form.kind == 0) {
            rung = t == 0 ? static_cast<int>(coder.bits(7, 0)) : rung + number(coder, kRungKey, size);
            decay = t == 0 ? static_cast<int>(coder.bits(6, 0)) : decay + number(coder, kDecayKey, kDecays);
            if (rung < 0 || rung >= size || decay < 0 || decay >= kDecays) refuse();
            put(geometric(form, rung, decay), out);
            continue;
        }
        before = read_rungs(coder, form, before, size);
        std::vector<int> row(form.alphabet);
        for (int s = 0; s < form.alphabet; ++s) row[s] = rungs[before[s]];
        fill_mode(row, form.mode);
        put(row, out);
    }
}

}  // namespace attar
