#include "static.hpp"

#include <algorithm>
#include <vector>

#include "buffer.hpp"
#include "target.hpp"
#include "unsort.hpp"

namespace attar {

namespace {

// What a thread works with.
struct Bench {
    explicit Bench(const Shape& shape) : sorted(shape.rows == 1 ? 0 : shape.cols), plain(sorted.width()) {}
    SpareBuffer symbols;
    Rows sorted, plain;
};

// The target of the rows: Integers or Floats below.
template <class Target>
class Decoding {
  public:
    Decoding(const Plan& plan, size_t most, Path path, const Target& target)
        : plan_(plan), unsorting_(plan.order, path), most_(most), path_(path), target_(target) {}

    // The escapes of a chunk, in the order of coding.
    std::vector<int64_t> decode(const Part& part, Bench& bench) const {
        const size_t width = plan_.shape.rows == 1 ? 1 : plan_.shape.cols;
        ChunkDecoder decoder(part.source.data, part.source.size, (part.stop - part.start) * width, plan_.tables, path_);
        std::vector<int64_t> found;
        if (plan_.shape.rows == 1) decode_line(part, decoder, bench, found);
        else decode_rows(part, decoder, bench, found);
        decoder.finish();
        return found;
    }

  private:
    void decode_line(const Part& part, ChunkDecoder& decoder, Bench& bench, std::vector<int64_t>& found) const {
        const size_t count = part.stop - part.start;
        uint8_t* symbols = bench.symbols.reserve(count);
        decoder.run(0, symbols, count);
        find(symbols, count, found, [&](size_t at) { return part.start + at; });
        target_.write(0, part.start, symbols, count);
    }

    void decode_rows(const Part& part, ChunkDecoder& decoder, Bench& bench, std::vector<int64_t>& found) const {
        const SortedLines& order = plan_.order;
        for (size_t level = 0, start = part.start; start < part.stop; ++level) {
            const size_t stop = std::min(order.first[level + 1], part.stop);
            if (stop <= start) continue;
            const size_t rows = stop - start;
            uint8_t* symbols = bench.symbols.reserve(rows * plan_.shape.cols);
            const uint32_t* first = order.rows.data() + start;
            decoder.expect({target_.row(0), target_.row_bytes(), target_.row_bytes() / plan_.shape.cols, first, first + rows});
            decode_group(first, rows, order.spans[level], decoder, symbols, found);
            for (; start < stop; start += kRowsAtOnce) {
                expect(start + kRowsAtOnce, stop);
                put_rows(level, symbols, rows, {start, std::min(start + kRowsAtOnce, stop), stop}, bench);
            }
            start = stop;
        }
    }

    // Sorted rows, of the `rows` of a level up to `end`.
    struct Few {
        size_t start, stop, end;
    };

    void put_rows(size_t level, const uint8_t* symbols, size_t rows, Few few, Bench& bench) const {
        const size_t first = rows - (few.end - few.start), count = few.stop - few.start;
        const uint32_t* row = plan_.order.rows.data() + few.start;
        if constexpr (Target::kBytes) {
            if (unsorting_.direct()) {
                uint8_t* to[kRowsAtOnce];
                for (size_t i = 0; i < count; ++i) to[i] = target_.out + row[i] * plan_.shape.cols;
                return unsorting_.put(level, symbols, rows, first, count, bench.sorted, target_.low(), to);
            }
        }
        const Rows& lines = unsorting_.apply(level, symbols, rows, first, count, bench.sorted, bench.plain);
        for (size_t i = 0; i < count; ++i) target_.write(row[i], 0, lines.row(i), plan_.shape.cols);
    }

    void decode_group(const uint32_t* lines, size_t rows, const std::vector<Span>& spans, ChunkDecoder& decoder,
                      uint8_t* symbols, std::vector<int64_t>& found) const {
        const uint32_t* columns = plan_.order.columns.data();
        for (const Span& span : spans) {
            decoder.run(span.table, symbols, rows * span.width);
            find(symbols, rows * span.width, found, [&](size_t at) {
                return lines[at / span.width] * plan_.shape.cols + columns[at % span.width];
            });
            symbols += rows * span.width;
            columns += span.width;
        }
    }

    template <class Place>
    void find(const uint8_t* symbols, size_t count, std::vector<int64_t>& found, Place place) const {
        if (plan_.alphabet.escape) find_escapes(symbols, count, plan_.alphabet.width, most_, found, place);
    }

    // Has the cache lines fetched that the next rows will be written to: no processor guesses where sorted rows belong.
    // Inline, because GCC takes a function that only prefetches for one without effect, and drops its calls.
    ATTAR_INLINE void expect(size_t start, size_t stop) const {
        for (size_t i = start; i < std::min(start + kRowsAtOnce, stop); ++i) {
            const uint8_t* row = target_.row(plan_.order.rows[i]);
            for (size_t k = 0; k < target_.row_bytes(); k += 64) ATTAR_PREFETCH(row + k);
        }
    }

    const Plan& plan_;
    Unsorting unsorting_;
    size_t most_;
    Path path_;
    const Target& target_;
};

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
    crew.run(parts.size(), [&](auto next) {
        Bench bench(plan.shape);
        for (size_t k; (k = next()) < parts.size();) found[k] = decoding.decode(parts[k], bench);
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
