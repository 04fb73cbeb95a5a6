// A chunk of a static array on its way into the matrix, run by run, so that two can go at once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "buffer.hpp"
#include "rans.hpp"
#include "static.hpp"
#include "target.hpp"
#include "unsort.hpp"

namespace attar {

// What a thread works with.
struct Bench {
    explicit Bench(const Shape& shape) : sorted(shape.rows == 1 ? 0 : shape.cols), plain(sorted.width()) {}
    SpareBuffer symbols[2];
    Rows sorted, plain;
};

// What the chunks of an array have in common. The target of the rows: Integers or Floats in static.cpp.
template <class Target>
class Decoding {
  public:
    Decoding(const Plan& plan, size_t most, Path path, const Target& target)
        : plan_(plan), unsorting_(plan.order, path), most_(most), path_(path), target_(target) {}

    // One chunk or two, and the escapes of each in the order of coding.
    void decode(const Part* parts, size_t count, Bench& bench, std::vector<int64_t>* found) const {
        Chunk one(*this, parts[0], bench.symbols[0], bench, found[0]);
        Run first = one.next();
        if (count == 2) {
            Chunk other(*this, parts[1], bench.symbols[1], bench, found[1]);
            Run second = other.next();
            while (first.count != 0 && second.count != 0) {
                ChunkDecoder::run_both(one.decoder, first, other.decoder, second);
                if (first.count == 0) first = one.next();
                if (second.count == 0) second = other.next();
            }
            other.finish(second);
        }
        one.finish(first);
    }

  private:
    // Sorted rows, of the `rows` of a level up to `end`.
    struct Few {
        size_t start, stop, end;
    };

    // One chunk: where it stands.
    class Chunk {
      public:
        Chunk(const Decoding& all, const Part& part, SpareBuffer& buffer, Bench& bench, std::vector<int64_t>& found)
            : decoder(part.source.data, part.source.size, (part.stop - part.start) * (all.line() ? 1 : all.plan_.shape.cols),
                      all.plan_.tables, all.path_),
              all_(all), part_(part), buffer_(buffer), bench_(bench), found_(found), start_(part.start), stop_(part.start) {}

        // The next run, once the one before is decoded; an empty one at the end.
        Run next() {
            if (all_.line()) return next_line();
            if (begun_ == 0 || span_ == spans().size()) {
                if (begun_ != 0) all_.put_group(begun_ - 1, start_, stop_, symbols_, bench_, found_);
                if (stop_ == part_.stop) return {0, nullptr, 0};
                open_group();
            }
            const Span& span = spans()[span_++];
            const Run run{span.table, at_, (stop_ - start_) * span.width};
            at_ += run.count;
            return run;
        }

        // The run and those behind it.
        void finish(Run run) {
            for (; run.count != 0; run = next()) decoder.run(run.table, run.symbols, run.count);
            decoder.finish();
        }

        ChunkDecoder decoder;

      private:
        const std::vector<Span>& spans() const { return all_.plan_.order.spans[begun_ - 1]; }

        // The next level that has rows here.
        void open_group() {
            const SortedLines& order = all_.plan_.order;
            start_ = stop_;
            do {
                stop_ = std::min(order.first[++begun_], part_.stop);
            } while (stop_ <= start_);
            const size_t rows = stop_ - start_, bytes = all_.target_.row_bytes();
            at_ = symbols_ = buffer_.reserve(rows * all_.plan_.shape.cols);
            span_ = 0;
            const uint32_t* const first = order.rows.data() + start_;
            decoder.expect({all_.target_.row(0), bytes, bytes / all_.plan_.shape.cols, first, first + rows});
        }

        Run next_line() {
            const size_t count = part_.stop - part_.start;
            if (symbols_ != nullptr) {
                all_.find(symbols_, count, found_, [&](size_t at) { return part_.start + at; });
                all_.target_.write(0, part_.start, symbols_, count);
                return {0, nullptr, 0};
            }
            symbols_ = buffer_.reserve(count);
            return {0, symbols_, count};
        }

        const Decoding& all_;
        const Part& part_;
        SpareBuffer& buffer_;
        Bench& bench_;
        std::vector<int64_t>& found_;
        size_t begun_ = 0, span_ = 0;                 // levels so far, and the next span of the last one
        size_t start_, stop_;                         // its rows
        uint8_t *symbols_ = nullptr, *at_ = nullptr;  // its symbols, and those of the next span
    };

    bool line() const { return plan_.shape.rows == 1; }

    // The rows of a level, decoded span by span.
    void put_group(size_t level, size_t start, size_t stop, const uint8_t* symbols, Bench& bench, std::vector<int64_t>& found) const {
        find_in_group(plan_.order.rows.data() + start, stop - start, plan_.order.spans[level], symbols, found);
        for (const size_t rows = stop - start; start < stop; start += kRowsAtOnce) {
            expect(start + kRowsAtOnce, stop);
            put_rows(level, symbols, rows, {start, std::min(start + kRowsAtOnce, stop), stop}, bench);
        }
    }

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

    void find_in_group(const uint32_t* lines, size_t rows, const std::vector<Span>& spans, const uint8_t* symbols,
                       std::vector<int64_t>& found) const {
        const uint32_t* columns = plan_.order.columns.data();
        for (const Span& span : spans) {
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

}  // namespace attar
