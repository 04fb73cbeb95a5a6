#include "values.hpp"

#include <algorithm>
#include <vector>

#include "bits.hpp"
#include "side.hpp"
#include "static.hpp"

namespace attar {

namespace {

constexpr uint8_t kConstant = 0, kPacked = 1, kAdaptive = 2;
constexpr size_t kAdaptiveLimit = 4096;
constexpr int64_t kFurthest = int64_t{1} << 20;  // from the median of the adaptive form
constexpr size_t kDeepest = 8;                   // arrays within arrays: lengths of escapes, and of these

[[noreturn]] void refuse_range() { throw Malformed("the values must be those of the array's integers"); }

void check_range(const Numbers& out, int64_t low, int64_t high) {
    if (out.bytes < 8 && (low < out.lowest || high > out.highest)) refuse_range();
}

// act(data) with the numbers as what they are.
template <class Act>
void typed(const Numbers& out, Act act) {
    if (out.bytes == 1) act(static_cast<uint8_t*>(out.data));
    else if (out.bytes == 2) act(static_cast<uint16_t*>(out.data));
    else if (out.bytes == 4) act(static_cast<uint32_t*>(out.data));
    else act(static_cast<uint64_t*>(out.data));
}

// out[i] = base + values[i], modulo 2^64; values are signed or unsigned.
template <class T>
void put(const std::vector<T>& values, uint64_t base, const Numbers& out) {
    typed(out, [&](auto* to) {
        using Number = std::remove_pointer_t<decltype(to)>;
        for (size_t i = 0; i < values.size(); ++i) to[i] = static_cast<Number>(base + static_cast<uint64_t>(values[i]));
    });
}

void read_constant(Reader& reader, size_t count, const Numbers& out) {
    const int64_t value = reader.zigzag();
    check_range(out, value, value);
    typed(out, [&](auto* to) { std::fill_n(to, count, static_cast<std::remove_pointer_t<decltype(to)>>(value)); });
}

void read_packed(Reader& reader, size_t count, const Numbers& out) {
    const uint64_t low = static_cast<uint64_t>(reader.zigzag());
    const size_t width = reader.byte();
    if (width < 1 || width > 64) throw Malformed("packed numbers must have 1 to 64 bits");
    // A length without overflow: 8 numbers take `width` bytes.
    const Source data = reader.take(count / 8 * width + (count % 8 * width + 7) / 8);
    std::vector<uint64_t> distances(count);
    unpack(data.data, data.size, width, distances.data(), count);
    for (uint64_t distance : distances) {
        const int64_t value = static_cast<int64_t>(low + distance);
        check_range(out, value, value);
    }
    put(distances, low, out);
}

void read_adaptive(Reader& reader, size_t count, const Numbers& out) {
    if (count > kAdaptiveLimit) throw Malformed("the adaptive form must hold up to 4096 values");
    const int64_t centre = reader.zigzag();
    const Source data = reader.rest();
    SideDecoder coder(data.data, data.size);
    const int model = static_cast<int>(coder.bits(2));
    if (model > 2) throw Malformed("the model must be 0, 1 or 2");
    std::vector<int32_t> values(count);
    coder.run(0, model, values.data(), count, kFurthest);
    coder.finish();
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    if ((*low < 0 && centre < INT64_MIN - *low) || (*high > 0 && centre > INT64_MAX - *high)) refuse_range();
    check_range(out, centre + *low, centre + *high);
    put(values, static_cast<uint64_t>(centre), out);
}

void read_static(Reader& reader, uint8_t form, Shape shape, const Numbers& out, size_t depth, size_t threads, Path path) {
    Crew crew(threads_for(shape, sides_of(form).streams, threads));
    const Plan plan = take_plan(reader, form, shape, path, crew);
    const int64_t low = static_cast<int64_t>(plan.alphabet.low), reach = static_cast<int64_t>(plan.alphabet.width) - 1;
    if (out.bytes < 8 && (low < out.lowest || low > out.highest - reach)) refuse_range();
    const std::vector<uint64_t> escaped = take_escapes(reader, plan.alphabet, shape.rows * shape.cols, depth, path);
    for (uint64_t value : escaped) check_range(out, static_cast<int64_t>(value), static_cast<int64_t>(value));
    std::vector<int64_t> places(escaped.size());
    decode_integers(plan, reader.rest(), out.data, out.bytes, {places.data(), places.size()}, crew, path);
    typed(out, [&](auto* to) {
        using Number = std::remove_pointer_t<decltype(to)>;
        for (size_t i = 0; i < places.size(); ++i) to[places[i]] = static_cast<Number>(escaped[i]);
    });
}

void decode_within(Source source, Shape shape, const Numbers& out, size_t depth, size_t threads, Path path) {
    Reader reader(source);
    const size_t count = shape.rows * shape.cols;
    const uint8_t form = reader.byte();
    if (form == kConstant) read_constant(reader, count, out);
    else if (form == kPacked) read_packed(reader, count, out);
    else if (form == kAdaptive) read_adaptive(reader, count, out);
    else read_static(reader, form, shape, out, depth, threads, path);
    reader.finish();
}

}  // namespace

void decode_values(Source source, Shape shape, const Numbers& out, size_t threads, Path path) {
    decode_within(source, shape, out, 0, threads, path);
}

std::vector<uint64_t> take_escapes(Reader& reader, const Alphabet& alphabet, size_t most, size_t depth, Path path) {
    if (!alphabet.escape) return {};
    const uint64_t count = reader.varint();
    if (count == 0 || count > most) throw Malformed("there must be an escape, and no more than values");
    if (depth == kDeepest) throw Malformed("escapes must not be nested so deep");
    std::vector<uint8_t> lengths(static_cast<size_t>(count));
    decode_within(reader.sized(), {1, lengths.size()}, {lengths.data(), 1, 0, 255}, depth + 1, 1, path);
    uint64_t bits = 0;
    for (uint8_t length : lengths) bits += length == 0 ? 0u : length - 1u;
    const Source data = reader.take((bits + 7) / 8);
    std::vector<uint64_t> values(lengths.size());
    read_escapes(data.data, data.size, lengths.data(), alphabet.low, alphabet.width, values.data(), values.size());
    return values;
}

Sides sides_of(uint8_t form) {
    if (form < kStatic || form > kStatic + 15) throw Malformed("the form must be 0 to 18");
    return Sides(form - kStatic);
}

Plan take_plan(Reader& reader, uint8_t form, Shape shape, Path path, Crew& crew) {
    const Sides sides = sides_of(form);
    return read_plan(reader.sized(), shape, sides, wants_entries(path, sides.wide), crew);
}

}  // namespace attar
