#include "encode_static.hpp"

#include <algorithm>

#include "crew.hpp"
#include "pages.hpp"
#include "place.hpp"
#include "static.hpp"

namespace attar {

namespace {

// Lanes by the bytes of a chunk: a lane costs about one.
constexpr double kSingle = 1 << 12;
size_t lanes_for(double bytes) { return bytes < kSingle ? 1 : bytes < 2 * kSingle ? 32 : bytes < 4 * kSingle ? 64 : 128; }

// One chunk: its bytes, and the escapes in it.
struct Piece {
    ChunkBytes bytes;
    std::vector<int64_t> places;
};

class Encoding {
  public:
    Encoding(SymbolMatrix symbols, const Chosen& plan, bool laned, ChunkRoom& room, Path path)
        : symbols_(symbols), plan_(plan), room_(room), tables_({plan.fit.frequencies.data(), plan.table_of.back() + 1, size_of(plan)}, plan.sides.wide),
          bits_(static_cast<double>(plan.fit.code) / (1 << 16) / static_cast<double>(symbols.rows * symbols.cols)),
          least_(laned ? kSingle : 0), path_(path) {
        if (symbols.rows > 1) order_ = sort_lines(plan.levels.rows, plan.levels.cols, plan.table_of);
    }

    Piece encode(size_t start, size_t stop) const { return symbols_.rows == 1 ? line(start, stop) : lines(start, stop); }

  private:
    static size_t size_of(const Chosen& plan) { return plan.alphabet.width + plan.alphabet.escape; }

    ChunkBytes coded(const uint8_t* symbols, size_t count, const std::vector<int32_t>& runs) const {
        const size_t lanes = lanes_for(std::max(bits_ / 8 * static_cast<double>(count), least_));
        const ChunkText text = encode_chunk(symbols, count, {runs.data(), runs.size() / 3}, tables_, lanes, path_);
        ChunkBytes bytes;
        bytes.size = text.size();
        uint8_t* const to = room_.take(bytes.size, bytes.own);
        text.put(to);
        bytes.data = to;
        return bytes;
    }

    template <class Place>
    void find(const uint8_t* symbols, size_t count, std::vector<int64_t>& found, Place place) const {
        if (plan_.alphabet.escape) find_escapes(symbols, count, plan_.alphabet.width, SIZE_MAX, found, place);
    }

    Piece line(size_t start, size_t stop) const {
        Piece piece;
        const size_t count = stop - start;
        find(symbols_.data + start, count, piece.places, [&](size_t at) { return start + at; });
        piece.bytes = coded(symbols_.data + start, count, {1, static_cast<int32_t>(count), 0});
        return piece;
    }

    Piece lines(size_t start, size_t stop) const {
        Piece piece;
        const size_t cols = symbols_.cols;
        std::vector<int32_t> runs;
        over_groups(start, stop, [&](size_t, size_t rows, const Span& span) {
            for (size_t number : {rows, span.width, span.table}) runs.push_back(static_cast<int32_t>(number));
        });
        Kept<uint8_t> sorted;
        sorted.room((stop - start) * cols);
        const uint8_t* symbols = sorted.data.data();
        const auto row = reinterpret_cast<const int32_t*>(order_.rows.data() + start);
        const auto column = reinterpret_cast<const int32_t*>(order_.columns.data());
        collect(symbols_.data, {row, stop - start, column, cols, symbols_.rows, {runs.data(), runs.size() / 3}}, sorted.data.data(), path_);
        piece.bytes = coded(symbols, (stop - start) * cols, runs);
        size_t first = 0;  // column of the span
        over_groups(start, stop, [&](size_t line, size_t rows, const Span& span) {
            find(symbols, rows * span.width, piece.places, [&](size_t at) {
                return order_.rows[line + at / span.width] * cols + order_.columns[first + at % span.width];
            });
            symbols += rows * span.width;
            first = (first + span.width) % cols;
        });
        return piece;
    }

    // act(first sorted row, rows, span) for the rows of one level after the other, and each span of theirs.
    template <class Act>
    void over_groups(size_t start, size_t stop, Act act) const {
        for (size_t level = 0; start < stop; ++level) {
            const size_t end = std::min(order_.first[level + 1], stop);
            if (end <= start) continue;
            for (const Span& span : order_.spans[level]) act(start, end - start, span);
            start = end;
        }
    }

    SymbolMatrix symbols_;
    const Chosen& plan_;
    ChunkRoom& room_;
    EncodeTables tables_;
    double bits_, least_;  // of a symbol, and bytes of a chunk
    Path path_;
    SortedLines order_;
};

// About as many bytes as the chunks of a plan take.
size_t room_for(const Chosen& plan, size_t chunks) {
    const size_t code = static_cast<size_t>(plan.fit.code >> 19);
    return code + code / 256 + chunks * 8 * kMaxLanes;
}

}  // namespace

uint8_t* ChunkRoom::take(size_t size, std::vector<uint8_t>& own) {
    const size_t start = used_.fetch_add(size), end = kept_.data.size();
    if (start <= end && size <= end - start) return kept_.data.data() + start;
    own.resize(size);
    return own.data();
}

StaticCode encode_static(SymbolMatrix symbols, const Alphabet& alphabet, const int64_t* counts, bool laned, size_t threads,
                         Path path) {
    Chosen plan = choose_plan(symbols, alphabet, counts, path);
    plan.sides.wide = may_be_wide(alphabet.width + alphabet.escape) && symbols.rows * symbols.cols >= kWorthWide;
    const size_t lines = symbols.rows == 1 ? symbols.cols : symbols.rows;
    const size_t step = step_of({symbols.rows, symbols.cols}, plan.sides.streams);
    std::vector<Piece> pieces((lines + step - 1) / step);
    StaticCode code{plan.sides, plan.fit.code, plan.side, {}, {}, nullptr};
    code.room = std::make_unique<ChunkRoom>(room_for(plan, pieces.size()));
    const Encoding encoding(symbols, plan, laned, *code.room, path);
    Crew(std::min(threads, pieces.size())).run(pieces.size(), [&](auto next) {
        for (size_t k; (k = next()) < pieces.size();) pieces[k] = encoding.encode(k * step, std::min((k + 1) * step, lines));
    });
    for (Piece& piece : pieces) {
        code.places.insert(code.places.end(), piece.places.begin(), piece.places.end());
        code.chunks.push_back(std::move(piece.bytes));
    }
    return code;
}

}  // namespace attar
