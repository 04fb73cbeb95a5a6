// Python bindings of place.cpp and counts.cpp; sizes are checked here, before the first read.
#include <nanobind/ndarray.h>

#include <algorithm>
#include <vector>

#include "counts.hpp"
#include "pages.hpp"
#include "path.hpp"
#include "place.hpp"
#include "rans_bind.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using attar::Malformed;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using RunArray = nb::ndarray<const int32_t, nb::shape<-1, 3>, nb::c_contig, nb::device::cpu>;

attar::Order order_of(const Indices& rows, const Indices& columns, const RunArray& runs, size_t height, size_t symbols) {
    if (symbols != rows.size() * columns.size()) throw Malformed("the symbols must fill the rows");
    return {rows.data(), rows.size(), columns.data(), columns.size(), height, {runs.data(), runs.shape(0)}};
}

void collect(const Matrix& source, const Indices& rows, const Indices& columns, const RunArray& runs, const Output& symbols) {
    if (source.shape(1) != columns.size()) throw Malformed("the matrix must have as many columns as the order");
    const attar::Order order = order_of(rows, columns, runs, source.shape(0), symbols.size());
    nb::gil_scoped_release release;
    attar::collect(source.data(), order, symbols.data(), attar::path_in_use());
}

nb::bytes encode_rows(const Matrix& source, const Indices& rows, const Indices& columns, const RunArray& runs,
                      const attar::EncodeTables& tables, size_t lanes) {
    if (source.shape(1) != columns.size()) throw Malformed("the matrix must have as many columns as the order");
    const size_t count = rows.size() * columns.size();
    const attar::Order order = order_of(rows, columns, runs, source.shape(0), count);
    std::vector<uint8_t> out;
    {
        nb::gil_scoped_release release;
        attar::Kept<uint8_t> symbols;
        symbols.room(count);
        attar::collect(source.data(), order, symbols.data.data(), attar::path_in_use());
        out = attar::encode(symbols.data.data(), count, order.runs, tables, lanes, attar::path_in_use());
    }
    return nb::bytes(out.data(), out.size());
}

attar::SymbolMatrix matrix_of(const Matrix& symbols) { return {symbols.data(), symbols.shape(0), symbols.shape(1)}; }

void count_classes(const Matrix& symbols, const Bytes& rows, const Bytes& cols,
                   const nb::ndarray<int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>& out) {
    if (rows.size() != symbols.shape(0) || cols.size() != symbols.shape(1)) throw Malformed("the levels must fit the matrix");
    if (rows.size() == 0 || cols.size() == 0 || out.shape(1) == 0 || out.shape(1) > 256) throw Malformed("the counts must fit the matrix");
    size_t highest = 0, highest_column = 0;
    for (size_t i = 0; i < rows.size(); ++i) highest = std::max<size_t>(highest, rows.data()[i]);
    for (size_t i = 0; i < cols.size(); ++i) highest_column = std::max<size_t>(highest_column, cols.data()[i]);
    if (out.shape(0) != highest + highest_column + 1) throw Malformed("the counts must fit the matrix");
    nb::gil_scoped_release release;
    attar::count_classes(matrix_of(symbols), rows.data(), cols.data(), out.shape(1), nullptr, out.data(), attar::path_in_use());
}

}  // namespace

void bind_place(nb::module_& m) {
    m.def("collect", &collect, "source"_a.noconvert(), "rows"_a.noconvert(), "columns"_a.noconvert(), "runs"_a.noconvert(),
          "symbols"_a.noconvert(), "Fill symbols [n] from the chunk's rows of source [height, width], in the chunk's order.");
    m.def("encode_rows", &encode_rows, "source"_a.noconvert(), "rows"_a.noconvert(), "columns"_a.noconvert(),
          "runs"_a.noconvert(), "tables"_a, "lanes"_a, "The chunk of what `collect` gives, as `encode` writes it.");
    m.def("count_classes", &count_classes, "symbols"_a.noconvert(), "rows"_a.noconvert(), "cols"_a.noconvert(),
          "out"_a.noconvert(), "Add to out [classes, alphabet]: how often each symbol occurs in each class of levels.");
}
