#include "static.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "parallel.hpp"
#include "target.hpp"
#include "unsort.hpp"

namespace attar {

namespace {

constexpr size_t kChunk = size_t{1} << 19;  // symbols, about

// Equal parts of at most so many of `count` lines, the last one perhaps smaller.
size_t part_of(size_t count, size_t most) {
    const size_t parts = (count + most - 1) / most;
    return (count + parts - 1) / parts;
}

// The rows of a chunk, or of an array of one row the columns.
struct Part {
    size_t start, stop;
    Source source;
};

size_t take_length(Source& source) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70 && source.size != 0; shift += 7) {
        const uint8_t byte = *source.data++;
        --source.size;
        if (shift == 63 && (byte & 127) > 1) break;
        value |= static_cast<uint64_t>(byte & 127) << shift;
        if (byte < 128 && value <= source.size) return static_cast<size_t>(value);
        if (byte < 128) break;
    }
    throw Malformed("the lengths of the chunks must add up to their bytes");
}

std::vector<Part> split(const Shape& shape, Source source) {
    const size_t lines = shape.rows == 1 ? shape.cols : shape.rows;
    const size_t step = part_of(lines, shape.rows == 1 ? kChunk : std::max<size_t>(1, kChunk / shape.cols));
    std::vector<Part> parts;
    for (size_t start = 0; start < lines; start += step) {
        const size_t stop = std::min(start + step, lines);
        const size_t size = stop == lines ? source.size : take_length(source);
        parts.push_back({start, stop, {source.data, size}});
        source.data += size;
        source.size -= size;
    }
    return parts;
}

// What a thread works with. The buffer of symbols outlives the call: fresh pages take the system as long as decoding into
// them takes. What a chunk of long rows needs beyond its usual size does not stay.
struct Bench {
    explicit Bench(const Shape& shape) : sorted(shape.rows == 1 ? 0 : shape.cols), plain(sorted.width()) {
        static thread_local Buffer kept;
        if (shape.cols <= kChunk) symbols = &kept;
    }
    Buffer own;
    Buffer* symbols = &own;
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
        uint8_t* symbols = bench.symbols->reserve(count);
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
            uint8_t* symbols = bench.symbols->reserve(rows * plan_.shape.cols);
            decode_group(order.rows.data() + start, rows, order.spans[level], decoder, symbols, found);
            for (; start < stop; start += kRowsAtOnce) {
                const size_t count = std::min(kRowsAtOnce, stop - start);
                expect(start + kRowsAtOnce, stop);
                const Rows& lines = unsorting_.apply(order.spans[level], symbols, rows, rows - (stop - start), count,
                                                     bench.sorted, bench.plain);
                for (size_t i = 0; i < count; ++i) target_.write(order.rows[start + i], 0, lines.row(i), plan_.shape.cols);
            }
            start = stop;
        }
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
        if (!plan_.alphabet.escape) return;
        const int escape = static_cast<int>(plan_.alphabet.width);
        const uint8_t* at = symbols;
        const uint8_t* end = symbols + count;
        while ((at = static_cast<const uint8_t*>(std::memchr(at, escape, static_cast<size_t>(end - at)))) != nullptr) {
            if (found.size() == most_) throw Malformed("every escape must have its value");
            found.push_back(static_cast<int64_t>(place(static_cast<size_t>(at - symbols))));
            if (++at == end) return;
        }
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
    const Plan& plan;
    T* out;
    Path path;

    size_t row_bytes() const { return plan.shape.cols * sizeof(T); }
    const uint8_t* row(size_t i) const { return reinterpret_cast<const uint8_t*>(out + i * plan.shape.cols); }
    void write(size_t row, size_t column, const uint8_t* symbols, size_t count) const {
        shift(symbols, count, static_cast<T>(plan.alphabet.low), out + row * plan.shape.cols + column, path);
    }
};

struct Floats {
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
void decode_all(const Plan& plan, Source source, Places places, size_t threads, Path path, const Target& target) {
    const std::vector<Part> parts = split(plan.shape, source);
    const Decoding<Target> decoding(plan, places.size, path, target);
    std::vector<std::vector<int64_t>> found(parts.size());
    // To start a thread takes as long as one chunk.
    on_threads(parts.size(), std::min(threads, parts.size() / 2), [&](auto next) {
        Bench bench(plan.shape);
        for (size_t k; (k = next()) < parts.size();) found[k] = decoding.decode(parts[k], bench);
    });
    size_t total = 0;
    for (const std::vector<int64_t>& some : found) total += some.size();
    if (total != places.size) throw Malformed("every escape must have its value");
    for (const std::vector<int64_t>& some : found) places.data = std::copy(some.begin(), some.end(), places.data);
}

template <class T>
void decode_as(const Plan& plan, Source source, void* out, Places places, size_t threads, Path path) {
    decode_all(plan, source, places, threads, path, Integers<T>{plan, static_cast<T*>(out), path});
}

}  // namespace

void decode_integers(const Plan& plan, Source source, void* out, size_t bytes, Places places, size_t threads, Path path) {
    if (bytes == 1) decode_as<uint8_t>(plan, source, out, places, threads, path);
    else if (bytes == 2) decode_as<uint16_t>(plan, source, out, places, threads, path);
    else if (bytes == 4) decode_as<uint32_t>(plan, source, out, places, threads, path);
    else decode_as<uint64_t>(plan, source, out, places, threads, path);
}

void decode_floats(const Plan& plan, Source source, void* out, Format format, const Scales& scales, Places places,
                   size_t threads, Path path) {
    decode_all(plan, source, places, threads, path, Floats{plan, static_cast<uint8_t*>(out), format, scales, path});
}

}  // namespace attar
