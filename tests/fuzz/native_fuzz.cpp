// libFuzzer over the native readers: whatever the bytes, they are decoded or refused, alike on every path.
// The first bytes choose what is tried and with which tables; the rest is the text. tests/fuzz/run.py builds and runs it.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "dense.hpp"
#include "mixed.hpp"
#include "mixing.hpp"
#include "place.hpp"
#include "planes.hpp"
#include "rans.hpp"
#include "read_tables.hpp"
#include "side.hpp"
#include "sites.hpp"
#include "static.hpp"
#include "values.hpp"
#include "waves.hpp"

namespace {

using namespace attar;

struct Input {
    const uint8_t* data;
    size_t size;
    uint8_t byte() {
        if (size == 0) return 0;
        --size;
        return *data++;
    }
};

void demand(bool right) {
    if (!right) std::abort();
}

// Tables that sum to 4096, some of their symbols missing.
std::vector<uint16_t> tables_from(Input& in, size_t tables, size_t alphabet) {
    std::vector<uint16_t> frequencies(tables * alphabet, 0);
    for (size_t t = 0; t < tables; ++t) {
        uint32_t left = kTotal;
        for (size_t s = 0; s + 1 < alphabet && left > 0; ++s) {
            uint32_t share = (in.byte() * 17u) % (left + 1);
            frequencies[t * alphabet + s] = static_cast<uint16_t>(share);
            left -= share;
        }
        frequencies[t * alphabet + alphabet - 1] = static_cast<uint16_t>(frequencies[t * alphabet + alphabet - 1] + left);
    }
    return frequencies;
}

std::vector<int32_t> runs_from(Input& in, size_t tables, size_t& count) {
    std::vector<int32_t> runs;
    count = 0;
    for (size_t k = in.byte() % 6; k > 0; --k) {
        int32_t rows = in.byte() % 9, width = in.byte() + 1;
        runs.insert(runs.end(), {rows, width, static_cast<int32_t>(in.byte() % tables)});
        count += static_cast<size_t>(rows * width);
    }
    return runs;
}

std::string decoded(const Input& in, std::vector<uint8_t>& out, Runs runs, const DecodeTables& tables, Path path) {
    try {
        decode(in.data, in.size, out.data(), out.size(), runs, tables, path);
    } catch (const Malformed& error) {
        return error.what();
    }
    return "";
}

void chunks(Input in) {
    const size_t tables = 1 + in.byte() % 4, alphabet = 1 + in.byte();
    const size_t lanes[] = {1, 32, 64, 128};
    const size_t lane = lanes[in.byte() % 4];
    const std::vector<uint16_t> frequencies = tables_from(in, tables, alphabet);
    size_t count = 0;
    const std::vector<int32_t> runs = runs_from(in, tables, count);
    const Runs view{runs.data(), runs.size() / 3};
    const Frequencies given{frequencies.data(), tables, alphabet};
    const bool wide = may_be_wide(alphabet) && in.byte() % 2;
    const DecodeTables entries(given, wide, true), aliases(given, wide, wants_entries(available(Path::avx512), wide));
    std::vector<uint8_t> plain(count), other(count);
    const std::string refused = decoded(in, plain, view, entries, Path::scalar);
    for (Path path : {Path::avx2, Path::avx512, Path::neon}) {
        if (available(path) != path) continue;
        const std::string again = decoded(in, other, view, path == Path::avx512 ? aliases : entries, path);
        demand(again == refused && (!again.empty() || other == plain));
    }
    // What can be coded comes back.
    std::vector<uint8_t> symbols(count);
    for (size_t i = 0; i < count; ++i) symbols[i] = in.size == 0 ? 0 : in.data[i % in.size] % alphabet;
    std::vector<uint8_t> text;
    try {
        text = encode(symbols.data(), count, view, EncodeTables(given, wide), lane, Path::scalar);
        demand(text == encode(symbols.data(), count, view, EncodeTables(given, wide), lane, available(Path::avx512)));
    } catch (const Malformed&) {
        return;
    }
    const Input own{text.data(), text.size()};
    demand(decoded(own, plain, view, entries, Path::scalar).empty() && plain == symbols);
}

void side(Input in) {
    const int model = in.byte() % 3, kind = in.byte() % 5;
    const size_t tables = 1 + in.byte() % 5;
    const int alphabet = 1 + in.byte();
    const bool escape = in.byte() % 2 && alphabet > 1;
    const int mode = in.byte() % (alphabet - escape);
    SideDecoder coder(in.data, in.size);
    try {
        std::vector<int64_t> values(50);
        coder.run(0, model, values.data(), values.size(), 56);
        coder.integer(8, {false, 0}, uint64_t{1} << 63);
        std::vector<uint16_t> out(tables * static_cast<size_t>(alphabet));
        read_tables(coder, tables, {alphabet, mode, escape, kind}, out.data());
        check(Frequencies{out.data(), tables, static_cast<size_t>(alphabet)});
        coder.finish();
    } catch (const Malformed&) {
    }
}

void placing(Input in) {
    const size_t height = 1 + in.byte() % 20, width = 1 + in.byte() * 3u;
    std::vector<int32_t> rows(in.byte() % 12), columns(width), runs;
    for (int32_t& row : rows) row = in.byte() % 24 - 2;
    for (size_t j = 0; j < width; ++j) columns[j] = static_cast<int32_t>(j);
    for (size_t j = width; j > 1 && in.size > 0; --j) std::swap(columns[j - 1], columns[in.byte() % j]);
    if (in.byte() % 8 == 0) columns[0] = in.byte() - 5;
    for (size_t k = in.byte() % 8; k > 0; --k) {
        const int32_t group = in.byte() % 6 - 1;
        runs.insert(runs.end(), {group, in.byte() % 2 ? static_cast<int32_t>(width) : in.byte() * 3, 0});
    }
    const Order order{rows.data(), rows.size(), columns.data(), width, height, {runs.data(), runs.size() / 3}};
    std::vector<uint8_t> source(height * width, 7), first(rows.size() * width), second(first.size());
    for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<uint8_t>(i);
    try {
        collect(source.data(), order, first.data(), Path::scalar);
        collect(source.data(), order, second.data(), available(Path::avx512));
        demand(first == second);
    } catch (const Malformed&) {
    }
}

// What a reader of a static array gives: the matrix, the places of its escapes, or why it is refused.
struct Read {
    std::vector<int32_t> matrix;
    std::vector<float> scaled;
    std::vector<int64_t> places;
    std::string refused;
};

Read read_array(const Input& side, const Input& chunks, Shape shape, int sides, size_t escapes, Path path, size_t threads) {
    Read read;
    const size_t size = shape.rows * shape.cols;
    try {
        Crew crew(threads);
        const Plan plan = read_plan({side.data, side.size}, shape, Sides(sides), wants_entries(path, Sides(sides).wide), crew);
        const Source source{chunks.data, chunks.size};
        read.places.resize(plan.alphabet.escape ? escapes : 0);
        const Places places{read.places.data(), read.places.size()};
        read.matrix.resize(size);
        decode_integers(plan, source, read.matrix.data(), 4, places, crew, path);
        const std::vector<float> column(shape.cols, 0.5f), row(shape.rows, 3);
        read.scaled.resize(size);
        const int64_t low = static_cast<int64_t>(plan.alphabet.low);
        if (low > -(1 << 30) && low < 1 << 30) {
            decode_floats(plan, source, read.scaled.data(), Format::float32, {column.data(), 1, row.data()}, places, crew, path);
        }
    } catch (const Malformed& error) {
        read.refused = error.what();
    }
    return read;
}

void arrays(Input in) {
    const int sides = in.byte() % 16;
    const Shape shape{1 + in.byte() % 90u, 1 + in.byte() % 90u};
    const size_t escapes = in.byte() % 4, side_size = std::min<size_t>(in.byte() + 256u * (in.byte() % 2), in.size);
    const Input side{in.data, side_size}, chunks{in.data + side_size, in.size - side_size};
    const Read plain = read_array(side, chunks, shape, sides, escapes, Path::scalar, 1);
    for (Path path : {Path::avx2, Path::avx512, Path::neon}) {
        if (available(path) != path) continue;
        const Read other = read_array(side, chunks, shape, sides, escapes, path, 2);
        const bool same = other.matrix == plain.matrix && other.places == plain.places && other.scaled == plain.scaled;
        demand(other.refused == plain.refused && (same || !plain.refused.empty()));
    }
}

// Whole arrays, of integers and of floats' bytes.
void whole(Input in) {
    const bool planes = in.byte() % 2 != 0;
    const size_t width = size_t{1} << in.byte() % 4;
    const Shape shape{1 + in.byte() % 9u, 1 + in.byte() * (in.byte() % 8u == 0 ? 67u : 1u)};
    std::vector<uint64_t> plain(shape.rows * shape.cols), other(plain.size());
    const auto read = [&](std::vector<uint64_t>& out, Path path) -> std::string {
        const Source source{in.data, in.size};
        try {
            planes ? decode_planes({source, width, out.size(), reinterpret_cast<uint8_t*>(out.data())}, 2, path)
                   : decode_values(source, shape, {out.data(), width, -100, 200}, 2, path);
        } catch (const Malformed& error) {
            return error.what();
        }
        return "";
    };
    const std::string refused = read(plain, Path::scalar);
    for (Path path : {Path::avx2, Path::avx512, Path::neon}) {
        if (available(path) == path) demand(read(other, path) == refused && (!refused.empty() || other == plain));
    }
}

void dense(Input in) {
    const size_t rows = 1 + in.byte() % 9, cols = 1 + in.byte() % 64 * (in.byte() % 64 == 0 ? 67 : 1);
    const DenseHead head{in.byte() % 30, in.byte() % 33, in.byte() * 17u};
    std::vector<int64_t> plain(rows * cols), other(plain.size());
    const auto read = [&](const uint8_t* data, size_t size, std::vector<int64_t>& out, Path path) -> std::string {
        try {
            dense_decode(data, size, out.data(), rows, cols, head, path);
        } catch (const Malformed& error) {
            return error.what();
        }
        return "";
    };
    const std::string refused = read(in.data, in.size, plain, Path::scalar);
    demand(read(in.data, in.size, other, available(Path::avx512)) == refused && other == plain);
    // What can be coded comes back, and in the same bytes.
    for (size_t i = 0; i < plain.size(); ++i) {
        const int shift = in.size == 0 ? 0 : in.data[(i / 7) % in.size] % 31;
        plain[i] = in.size == 0 ? 0 : static_cast<int8_t>(in.data[i % in.size]) * (int64_t{1} << shift) / 128;
    }
    std::vector<uint8_t> text;
    try {
        text = dense_encode(plain.data(), rows, cols, head, Path::scalar);
    } catch (const Malformed&) {
        return;
    }
    demand(text == dense_encode(plain.data(), rows, cols, head, available(Path::avx512)));
    demand(read(text.data(), text.size(), other, Path::scalar).empty() && other == plain);
}

// Images: a model of any numbers, any bytes.
void sites(Input in) {
    const size_t count = 1 + in.byte() % 12, taps = 4 + in.byte() % 3, errors = in.byte() % 3, zones = 1 + in.byte() % 3;
    const size_t n = 1 + in.byte() % 140, tables = 1 + in.byte() % 3;
    const size_t means = in.byte() % 4, energies = in.byte() % 4, sides = in.byte() % 3;
    const auto number = [&] { return static_cast<int16_t>(in.byte() << 8 | in.byte()); };
    std::vector<int32_t> tap(count * taps), error(count * errors), zone(count);
    const auto earlier = [&](size_t site) { return in.byte() % static_cast<int32_t>(site + 1) - 1; };
    for (size_t k = 0; k < tap.size(); ++k) tap[k] = earlier(k / taps);
    for (size_t k = 0; k < error.size(); ++k) error[k] = earlier(k / errors);
    for (int32_t& one : zone) one = in.byte() % static_cast<int32_t>(zones);
    if (in.byte() % 16 == 0) tap[0] = in.byte() - 128;
    if (in.byte() % 16 == 0) zone[0] = in.byte() - 128;
    std::vector<int16_t> weight(zones * (taps + 1) * kRegimes), spread(zones * (errors + kPairs + 1));
    std::vector<int16_t> mean(means), energy(energies), side(sides);
    for (std::vector<int16_t>* part : {&weight, &spread, &mean, &energy, &side})
        for (int16_t& one : *part) one = number();
    for (std::vector<int16_t>* part : {&mean, &energy, &side}) std::sort(part->begin(), part->end());
    std::vector<uint8_t> regime(6), table((energies + 1) * (means + 1) * (sides + 1) * (sides + 1));
    for (uint8_t& one : regime) one = in.byte();
    for (uint8_t& one : table) one = static_cast<uint8_t>(in.byte() % (tables + (in.byte() % 64 == 0)));
    const std::vector<uint16_t> frequencies = tables_from(in, tables, 256);
    const SiteModel model{count, taps, errors, zones, tap.data(), error.data(), zone.data(), weight.data(), spread.data(),
                          regime.data(), mean.data(), energy.data(), side.data(), means, energies, sides, table.data()};
    try {
        check(model);
    } catch (const Malformed&) {
        return;
    }
    std::vector<uint8_t> plain(count * n), other(count * n);
    const auto read = [&](const std::vector<uint8_t>& text, std::vector<uint8_t>& out, Path path) -> std::string {
        try {
            decode_sites(model, text.data(), text.size(), frequencies.data(), tables, out.data(), n, path);
        } catch (const Malformed& refused) {
            return refused.what();
        }
        return "";
    };
    const std::vector<uint8_t> given(in.data, in.data + in.size);
    const std::string refused = read(given, plain, Path::scalar);
    demand(read(given, other, available(Path::avx512)) == refused && (!refused.empty() || other == plain));
    if (std::any_of(table.begin(), table.end(), [&](uint8_t one) { return one >= tables; })) return demand(!refused.empty());
    // What can be coded comes back.
    std::vector<uint8_t> planes(count * n), residuals(planes.size()), chosen(planes.size()), again(planes.size());
    std::vector<uint16_t> contexts(planes.size()), twice(planes.size());
    for (size_t k = 0; k < planes.size(); ++k) planes[k] = in.size == 0 ? 0 : in.data[k % in.size];
    scan_sites(model, planes.data(), n, residuals.data(), contexts.data(), Path::scalar);
    scan_sites(model, planes.data(), n, again.data(), twice.data(), available(Path::avx512));
    demand(residuals == again && contexts == twice);
    for (size_t k = 0; k < planes.size(); ++k) chosen[k] = table[contexts[k]];
    std::vector<uint8_t> text;
    try {
        text = encode_sites(residuals.data(), chosen.data(), count, n, frequencies.data(), tables);
    } catch (const Malformed&) {
        return;
    }
    demand(read(text, other, Path::scalar).empty());
    for (size_t p = 0; p < count; ++p)
        for (size_t i = 0; i < n; ++i) demand(other[i * count + p] == planes[p * n + i]);
}

// Symbols under mixed contexts: any distances, some of them no plan at all, any bytes.
void mixed(Input in) {
    const size_t columns = in.byte() % 5, n = columns * (in.byte() % 64) + (in.byte() % 32 == 0);
    const uint32_t limit = in.byte() * 5u;
    std::vector<uint8_t> bits(columns);
    for (uint8_t& one : bits) one = static_cast<uint8_t>(in.byte() % 16 == 0 ? in.byte() : 1 + in.byte() % 8);
    std::vector<int32_t> distances(columns * kContexts * kReach);
    const int32_t rare[] = {INT32_MIN, -2, 1 << 24, INT32_MAX};
    for (int32_t& one : distances) {
        const uint8_t drawn = in.byte();
        one = drawn >= 254 ? rare[in.byte() % 4] : drawn % 24 - 1;
    }
    const MixedPlan plan{columns, limit, bits.data(), distances.data()};
    std::vector<uint8_t> out(n);
    const auto read = [&](const uint8_t* data, size_t size) {
        try {
            mixed_decode(plan, data, size, out.data(), n);
        } catch (const Malformed&) {
            return false;
        }
        return true;
    };
    // Bytes that are taken are those of what they hold.
    if (read(in.data, in.size)) demand(mixed_encode(plan, out.data(), n) == std::vector<uint8_t>(in.data, in.data + in.size));
    std::vector<uint8_t> symbols(n), text;
    for (size_t i = 0; i < n; ++i) {
        // Repeats, so that there are matches.
        const uint8_t one = in.size == 0 ? 0 : in.data[i % std::min<size_t>(in.size, 40)];
        const uint8_t width = columns == 0 ? 8 : std::min<uint8_t>(bits[i % columns], 8);
        symbols[i] = static_cast<uint8_t>(one & ((1u << width) - 1));
    }
    try {
        text = mixed_encode(plan, symbols.data(), n);
    } catch (const Malformed&) {
        return;
    }
    demand(read(text.data(), text.size()) && out == symbols);
}

// Sound: any bytes; samples of every loudness.
void waves(Input in) {
    // Seldom so many that the long filter comes round: that is slow.
    const size_t channels = in.byte() % 4, n = (1 + in.byte() % 40) * (in.byte() % 32 == 0 ? 8u : 1u);
    const int shift = in.byte() % 24;
    std::vector<int32_t> out(n * channels);
    const auto read = [&](const uint8_t* data, size_t size) {
        try {
            waves_decode(data, size, out.data(), n, channels);
        } catch (const Malformed&) {
            return false;
        }
        return true;
    };
    if (read(in.data, in.size)) demand(waves_encode(out.data(), n, channels) == std::vector<uint8_t>(in.data, in.data + in.size));
    std::vector<int32_t> samples(out.size());
    std::vector<uint8_t> text;
    for (size_t i = 0; i < samples.size(); ++i) {
        const int drawn = in.size == 0 ? 0 : static_cast<int8_t>(in.data[i % in.size]);
        samples[i] = drawn == -128 ? -kLoudest : drawn == 127 ? kLoudest : drawn * (1 << shift) / 64 + drawn;
    }
    try {
        text = waves_encode(samples.data(), n, channels);
    } catch (const Malformed&) {
        return;
    }
    demand(read(text.data(), text.size()) && out == samples);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input in{data, size};
    const uint8_t kind = in.byte();
    if (kind >= 240) dense(in);  // seldom, because it is slow
    else if (kind >= 220) arrays(in);
    else if (kind >= 206) sites(in);
    else if (kind >= 192) whole(in);
    else if (kind >= 186) mixed(in);
    else if (kind >= 184) waves(in);
    else if (kind % 3 == 0) chunks(in);
    else if (kind % 3 == 1) side(in);
    else placing(in);
    return 0;
}
