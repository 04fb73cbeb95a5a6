#include "static.hpp"

#include <algorithm>
#include <vector>

#include "chunk.hpp"

namespace attar {

namespace {

template <class T>
struct Integers {
    static constexpr bool kBytes = sizeof(T) == 1;  // that are symbols but for what is added to all
    const Plan& plan;
    T* out;
    Path path;

    T low() const { return static_cast<T>(plan.alphabet.low); }
    size_t row_bytes() const { return plan.shape.cols * sizeof(T); }
    const uint8_t* row(size_t i) const { return reinterpret_cast<const uint8_t*>(out + i * plan.shape.cols); }
    void write(size_t row, size_t column, const uint8_t* symbols, size_t count) const {
        shift(symbols, count, low(), out + row * plan.shape.cols + column, path);
    }
};

struct Floats {
    static constexpr bool kBytes = false;
    const Plan& plan;
    uint8_t* out;
    Format format;
    Scales scales;
    Path path;

    size_t bytes() const { return format == Format::float32 ? 4 : 2; }
    size_t row_bytes() const { return plan.shape.cols * bytes(); }
    const uint8_t* row(size_t i) const { return out + i * row_bytes(); }
    void write(size_t row, size_t column, const uint8_t* symbols, size_t count) const {
        const float* columns = scales.column + row / (plan.shape.rows / scales.groups) * plan.shape.cols + column;
        const int32_t low = static_cast<int32_t>(static_cast<int64_t>(plan.alphabet.low));
        scale(symbols, count, low, columns, scales.row[row], format, out + row * row_bytes() + column * bytes(), path);
    }
};

template <class Target>
void decode_all(const Plan& plan, Source source, Places places, Crew& crew, Path path, const Target& target) {
    const std::vector<Part> parts = split(plan, source);
    const Decoding<Target> decoding(plan, places.size, path, target);
    std::vector<std::vector<int64_t>> found(parts.size());
    // Chunks two by two, as far as all threads have as many of them; then one by one.
    const size_t most = ChunkDecoder::two_at_once(plan.tables, path) ? parts.size() / (2 * crew.size()) : 0;
    const size_t pairs = most * crew.size(), work = parts.size() - pairs;
    crew.run(work, [&](auto next) {
        Bench bench(plan.shape);
        for (size_t k; (k = next()) < work;) {
            if (k < pairs) decoding.decode(&parts[2 * k], 2, bench, &found[2 * k]);
            else decoding.decode(&parts[k + pairs], 1, bench, &found[k + pairs]);
        }
    });
    size_t total = 0;
    for (const std::vector<int64_t>& some : found) total += some.size();
    if (total != places.size) throw Malformed("every escape must have its value");
    for (const std::vector<int64_t>& some : found) places.data = std::copy(some.begin(), some.end(), places.data);
}

template <class T>
void decode_as(const Plan& plan, Source source, void* out, Places places, Crew& crew, Path path) {
    decode_all(plan, source, places, crew, path, Integers<T>{plan, static_cast<T*>(out), path});
}

}  // namespace

size_t part_of(size_t count, size_t most) {
    const size_t parts = (count + most - 1) / most;
    return (count + parts - 1) / parts;
}

size_t step_of(const Shape& shape, bool streams) {
    if (shape.rows == 1) return part_of(shape.cols, kChunk);
    const size_t most = std::max<size_t>(1, kChunk / shape.cols), chunks = (shape.rows + most - 1) / most;
    const size_t even = chunks + (streams && chunks > 1 ? chunks % 2 : 0);
    return (shape.rows + even - 1) / even;
}

size_t threads_for(const Shape& shape, bool streams, size_t threads) {
    const size_t lines = shape.rows == 1 ? shape.cols : shape.rows, step = step_of(shape, streams);
    return std::min(threads, (lines + step - 1) / step / 2);
}

std::vector<Part> split(const Plan& plan, Source source) {
    const Shape& shape = plan.shape;
    const size_t lines = shape.rows == 1 ? shape.cols : shape.rows;
    const size_t step = step_of(shape, plan.streams);
    Reader reader(source);
    std::vector<Part> parts;
    for (size_t start = 0; start < lines; start += step) {
        const size_t stop = std::min(start + step, lines);
        parts.push_back({start, stop, stop == lines ? reader.rest() : reader.sized()});
    }
    return parts;
}

void decode_integers(const Plan& plan, Source source, void* out, size_t bytes, Places places, Crew& crew, Path path) {
    if (bytes == 1) decode_as<uint8_t>(plan, source, out, places, crew, path);
    else if (bytes == 2) decode_as<uint16_t>(plan, source, out, places, crew, path);
    else if (bytes == 4) decode_as<uint32_t>(plan, source, out, places, crew, path);
    else decode_as<uint64_t>(plan, source, out, places, crew, path);
}

void decode_floats(const Plan& plan, Source source, void* out, Format format, const Scales& scales, Places places,
                   Crew& crew, Path path) {
    decode_all(plan, source, places, crew, path, Floats{plan, static_cast<uint8_t*>(out), format, scales, path});
}

}  // namespace attar
