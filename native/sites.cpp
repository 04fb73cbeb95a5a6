#include "sites.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "target.hpp"

namespace attar {

namespace {

constexpr uint32_t kShares = 4096;

constexpr int kPair[kPairs][2] = {{0, 2}, {1, 2}, {3, 1}, {0, 1}};

// The level of each value low .. low + size - 1: how many thresholds it reaches.
std::vector<uint8_t> ladder(const int16_t* thresholds, size_t count, int low, int size) {
    std::vector<uint8_t> level(static_cast<size_t>(size));
    for (int v = 0; v < size; ++v)
        level[static_cast<size_t>(v)] = static_cast<uint8_t>(std::upper_bound(thresholds, thresholds + count, v + low) - thresholds);
    return level;
}

// What is worked out of one site at a time. Sums are 16-bit numbers that wrap.
class Rows {
  public:
    Rows(const SiteModel& model, size_t n, Path path)
        : model_(model), n_(n), vectors_(path == Path::avx512), zeros_(n), taps_(model.taps), errors_(model.errors), guess_(n),
          context_(n), mean_(ladder(model.mean, model.means, 0, 1021)), energy_(ladder(model.energy, model.energies, 0, 2048)),
          side_(ladder(model.side, model.sides, -255, 511)), west_(256), north_(256) {
        for (size_t v = 0; v < 256; ++v)
            for (size_t k = 0; k < 3; ++k) {
                west_[v] = static_cast<uint8_t>(west_[v] + 4 * (v >= model.regime[2 * k]));
                north_[v] = static_cast<uint8_t>(north_[v] + (v >= model.regime[2 * k + 1]));
            }
    }
    const uint8_t* guess() const { return guess_.data(); }
    const uint16_t* context() const { return context_.data(); }

    void work(size_t index, const uint8_t* planes, const uint8_t* errors) {
        const auto plane = [&](const uint8_t* from, int32_t k) { return k < 0 ? zeros_.data() : from + static_cast<size_t>(k) * n_; };
        for (size_t k = 0; k < model_.taps; ++k) taps_[k] = plane(planes, model_.tap[index * model_.taps + k]);
        for (size_t k = 0; k < model_.errors; ++k) errors_[k] = plane(errors, model_.error[index * model_.errors + k]);
        const size_t zone = static_cast<size_t>(model_.zone[index]);
        const Site site = {taps_.data(), errors_.data(), model_.weight + zone * (model_.taps + 1) * kRegimes,
                           model_.spread + zone * (model_.errors + kPairs + 1)};
        size_t done = vectors_ ? work_avx512(model_, site, 0, n_, guess_.data(), context_.data()) : 0;
        for (; done < n_; ++done) one(site, done);
    }

  private:
    void one(const Site& site, size_t i) {
        const uint8_t west = site.taps[0][i], north = site.taps[1][i];
        const int16_t* weight = site.weight + west_[west] + north_[north];
        int mean = weight[model_.taps * kRegimes] * 8, energy = site.spread[model_.errors + kPairs] * 4;
        for (size_t k = 0; k < model_.taps; ++k) mean += weight[k * kRegimes] * site.taps[k][i];
        for (size_t k = 0; k < model_.errors; ++k) energy += site.spread[k] * site.errors[k][i];
        for (size_t k = 0; k < kPairs; ++k)
            energy += site.spread[model_.errors + k] * std::abs(site.taps[kPair[k][0]][i] - site.taps[kPair[k][1]][i]);
        const int quarter = std::clamp((static_cast<int16_t>(mean) + 8) >> 4, 0, 1020), guess = (quarter + 2) >> 2;
        const size_t level = energy_[static_cast<size_t>(std::clamp(static_cast<int16_t>(energy) >> 2, 0, 2047))];
        const size_t sides = model_.sides + 1;
        guess_[i] = static_cast<uint8_t>(guess);
        context_[i] = static_cast<uint16_t>(
            ((level * (model_.means + 1) + mean_[static_cast<size_t>(quarter)]) * sides + side_[static_cast<size_t>(west - guess + 255)]) *
                sides + side_[static_cast<size_t>(north - guess + 255)]);
    }

    const SiteModel& model_;
    size_t n_;
    bool vectors_;
    std::vector<uint8_t> zeros_;
    std::vector<const uint8_t*> taps_, errors_;
    std::vector<uint8_t> guess_;
    std::vector<uint16_t> context_;
    std::vector<uint8_t> mean_, energy_, side_, west_, north_;
};

// Without a branch: min(residual, 256 - residual).
ATTAR_INLINE uint8_t size_of(uint8_t residual) {
    const uint8_t sign = static_cast<uint8_t>(0 - (residual >> 7));
    return static_cast<uint8_t>((residual ^ sign) - sign);
}

// Symbol by [table, slot]; frequency - 1 and start by [table, symbol].
struct SlotTables {
    std::vector<uint8_t> symbol;
    std::vector<uint32_t> share;

    SlotTables(const uint16_t* frequencies, size_t count) : symbol(count * kShares), share(count * 256) {
        for (size_t t = 0; t < count; ++t) {
            uint32_t start = 0;
            for (size_t s = 0; s < 256; ++s) {
                uint32_t f = frequencies[256 * t + s];
                if (f > kShares - start) throw Malformed("a table must have 4096 slots");
                if (f == 0) continue;
                std::memset(symbol.data() + t * kShares + start, static_cast<int>(s), f);
                share[256 * t + s] = (f - 1) << 16 | start;
                start += f;
            }
            if (start != kShares) throw Malformed("a table must have 4096 slots");
        }
    }
};

// [sites, n] to [n, sites], block by block.
void transpose(const uint8_t* planes, size_t sites, size_t n, uint8_t* out) {
    constexpr size_t kBlock = 32;
    for (size_t p = 0; p < sites; p += kBlock)
        for (size_t i = 0; i < n; i += kBlock)
            for (size_t b = i; b < std::min(n, i + kBlock); ++b)
                for (size_t a = p; a < std::min(sites, p + kBlock); ++a) out[b * sites + a] = planes[a * n + b];
}

}  // namespace

void check(const SiteModel& m) {
    for (size_t p = 0; p < m.sites; ++p) {
        const auto earlier = [&](int32_t k) { return k >= -1 && k < static_cast<int64_t>(p); };
        if (!std::all_of(m.tap + p * m.taps, m.tap + (p + 1) * m.taps, earlier) ||
            !std::all_of(m.error + p * m.errors, m.error + (p + 1) * m.errors, earlier))
            throw Malformed("a tap must be an earlier site");
        if (m.zone[p] < 0 || static_cast<size_t>(m.zone[p]) >= m.zones) throw Malformed("a zone must exist");
    }
    if (m.means > 127 || m.energies > 127 || m.sides > 127 || m.contexts() > 65536) throw Malformed("there are too many levels");
}

void scan_sites(const SiteModel& model, const uint8_t* planes, size_t n, uint8_t* residuals, uint16_t* contexts, Path path) {
    Rows rows(model, n, path);
    std::vector<uint8_t> errors(model.sites * n);
    for (size_t p = 0; p < model.sites; ++p) {
        rows.work(p, planes, errors.data());
        for (size_t i = 0; i < n; ++i) {
            residuals[p * n + i] = static_cast<uint8_t>(planes[p * n + i] - rows.guess()[i]);
            errors[p * n + i] = size_of(residuals[p * n + i]);
        }
        std::copy(rows.context(), rows.context() + n, contexts + p * n);
    }
}

std::vector<uint8_t> encode_sites(const uint8_t* residuals, const uint8_t* tables, size_t sites, size_t n,
                                  const uint16_t* frequencies, size_t count) {
    const SlotTables slots(frequencies, count);
    const size_t lanes = std::min(n, kStates);
    std::vector<uint32_t> state(lanes, kLow);
    std::vector<uint16_t> words;
    for (size_t p = sites; p-- > 0;) {
        for (size_t i = n; i-- > 0;) {
            const size_t symbol = residuals[p * n + i], table = tables[p * n + i];
            if (table >= count || frequencies[256 * table + symbol] == 0) throw Malformed("a symbol has probability zero");
            const uint32_t share = slots.share[256 * table + symbol], f = (share >> 16) + 1;
            uint32_t& x = state[i % kStates];
            if (x >= static_cast<uint64_t>(f) << 20) {
                words.push_back(static_cast<uint16_t>(x));
                x >>= 16;
            }
            x = (x / f << 12) + x % f + (share & 0xffff);
        }
    }
    std::vector<uint8_t> out;
    for (uint32_t x : state)
        for (size_t k = 0; k < 4; ++k) out.push_back(static_cast<uint8_t>(x >> (8 * k)));
    for (size_t k = words.size(); k-- > 0;) {
        out.push_back(static_cast<uint8_t>(words[k]));
        out.push_back(static_cast<uint8_t>(words[k] >> 8));
    }
    return out;
}

void decode_sites(const SiteModel& model, const uint8_t* data, size_t size, const uint16_t* frequencies, size_t count,
                  uint8_t* out, size_t n, Path path) {
    const size_t lanes = std::min(n, kStates);
    if (size < 4 * lanes || size % 2 != 0) throw Malformed("the states must be there, and whole words");
    const SlotTables slots(frequencies, count);
    for (size_t c = 0; c < model.contexts(); ++c)
        if (model.table[c] >= count) throw Malformed("a context names a table that does not exist");
    uint32_t state[kStates] = {};
    for (size_t i = 0; i < 4 * lanes; ++i) state[i / 4] |= static_cast<uint32_t>(data[i]) << (8 * (i % 4));
    // Words are read whether they are needed or not, and counted after each round of all states.
    const size_t last = (size - 4 * lanes) / 2;
    std::vector<uint16_t> words(last + kStates);
    for (size_t k = 0; k < last; ++k)
        words[k] = static_cast<uint16_t>(data[4 * lanes + 2 * k] | data[4 * lanes + 2 * k + 1] << 8);
    size_t at = 0;
    Rows rows(model, n, path);
    std::vector<uint8_t> planes(model.sites * n), errors(model.sites * n);
    for (size_t p = 0; p < model.sites; ++p) {
        rows.work(p, planes.data(), errors.data());
        const uint8_t* guess = rows.guess();
        const uint16_t *context = rows.context(), *word = words.data();
        uint8_t *plane = planes.data() + p * n, *error = errors.data() + p * n;
        for (size_t i = 0; i < n; i += kStates) {
            for (size_t k = 0, stop = std::min(kStates, n - i); k < stop; ++k) {
                const size_t table = model.table[context[i + k]];
                const uint32_t x = state[k], slot = x & (kShares - 1);
                const uint8_t symbol = slots.symbol[table * kShares + slot];
                const uint32_t share = slots.share[256 * table + symbol];
                const uint32_t next = ((share >> 16) + 1) * (x >> 12) + slot - (share & 0xffff);
                // Without a branch, which would be guessed wrong every few symbols.
                const uint32_t low = next < kLow;
                state[k] = next ^ ((next ^ (next << 16 | word[at])) & (0 - low));
                at += low;
                plane[i + k] = static_cast<uint8_t>(guess[i + k] + symbol);
                error[i + k] = size_of(symbol);
            }
            if (at > last) throw Malformed("the coded bytes must not end before the last array");
        }
    }
    if (at != last || !std::all_of(state, state + lanes, [](uint32_t x) { return x == kLow; }))
        throw Malformed("the coded bytes must end with the last array");
    transpose(planes.data(), model.sites, n, out);
}

}  // namespace attar
