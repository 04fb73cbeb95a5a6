// Python bindings of fit_levels.cpp and fit_tables.cpp; sizes are checked here, before the first read.
#include <nanobind/ndarray.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "fit_levels.hpp"
#include "fit_tables.hpp"
#include "path.hpp"
#include "rans_bind.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using attar::Malformed;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using CountMatrix = nb::ndarray<const int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

std::tuple<int64_t, int64_t, int64_t, int64_t> fit_levels(const Matrix& symbols, int zero, int size, bool by_row,
                                                          bool by_column, int rounds, const Output& rows, const Output& cols) {
    if (rows.size() != symbols.shape(0) || cols.size() != symbols.shape(1)) throw Malformed("the levels must fit the matrix");
    if (symbols.size() == 0 || zero < 0 || zero >= size || size > 256) throw Malformed("the counts must fit the matrix");
    nb::gil_scoped_release release;
    const attar::SymbolMatrix matrix{symbols.data(), symbols.shape(0), symbols.shape(1)};
    const attar::LevelTask task{matrix, zero, size, by_row, by_column, rounds, attar::path_in_use()};
    const attar::LevelBits bits = attar::fit_levels(task, rows.data(), cols.data());
    return {bits.none, bits.row, bits.column, bits.both};
}

void histogram(const Bytes& symbols, const nb::ndarray<int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>& counts) {
    if (counts.size() != 256) throw Malformed("there must be 256 counts");
    nb::gil_scoped_release release;
    attar::histogram(symbols.data(), symbols.size(), counts.data(), attar::path_in_use());
}

size_t window(const Bytes& bytes, uint8_t low, uint8_t width, const Output& symbols) {
    if (symbols.size() != bytes.size()) throw Malformed("the symbols must fit the bytes");
    nb::gil_scoped_release release;
    return attar::window(bytes.data(), bytes.size(), low, width, symbols.data(), attar::path_in_use());
}

attar::Counts counts_of(const CountMatrix& counts) {
    if (counts.size() == 0 || counts.shape(1) > 256) throw Malformed("the alphabet must have 1 to 256 symbols");
    if (*std::min_element(counts.data(), counts.data() + counts.size()) < 0) throw Malformed("a count must not be negative");
    return {counts.data(), counts.shape(0), counts.shape(1)};
}

// Fills table_of [classes]; the number of tables.
size_t merge_classes(const CountMatrix& counts, const Output& table_of) {
    const attar::Counts classes = counts_of(counts);
    if (table_of.size() != classes.rows || classes.rows > 256) throw Malformed("the counts must fit the matrix");
    const std::vector<size_t> starts = attar::merge_classes(classes);
    for (size_t t = 0; t < starts.size(); ++t) {
        std::fill(table_of.data() + starts[t], table_of.data() + classes.rows, static_cast<uint8_t>(t));
    }
    return starts.size();
}

attar::TableForm form_of(size_t alphabet, int mode, bool escape, int kind) {
    if (alphabet < 1 || alphabet > 256) throw Malformed("the alphabet must have 1 to 256 symbols");
    if (mode < 0 || mode >= static_cast<int>(alphabet) - static_cast<int>(escape)) throw Malformed("the mode must be a symbol");
    if (kind < 0 || kind > 4) throw Malformed("the kind must be 0 to 4");
    return {static_cast<int>(alphabet), mode, escape, kind};
}

std::tuple<int, int64_t, size_t> fit_tables(const CountMatrix& counts, int mode, bool escape,
                                   const nb::ndarray<int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>& specs,
                                   const nb::ndarray<uint16_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>& frequencies) {
    const attar::Counts given = counts_of(counts);
    const attar::TableForm form = form_of(given.alphabet, mode, escape, 0);
    const size_t width = std::max<size_t>(given.alphabet, 2);
    if (specs.shape(0) != given.rows || specs.shape(1) != width || frequencies.shape(0) != given.rows ||
        frequencies.shape(1) != given.alphabet) {
        throw Malformed("the specs and the frequencies must fit the counts");
    }
    const attar::Fit fit = attar::fit_tables(given, form);
    for (size_t t = 0; t < given.rows; ++t) std::copy_n(&fit.specs[t * fit.width], fit.width, specs.data() + t * width);
    std::copy(fit.frequencies.begin(), fit.frequencies.end(), frequencies.data());
    return {fit.kind, fit.code, fit.bytes};
}

void write_tables(attar::SideEncoder& self, size_t alphabet, int mode, bool escape, int kind,
                  const nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>& specs) {
    if (specs.shape(1) != std::max<size_t>(alphabet, 2)) throw Malformed("the specs must fit the counts");
    attar::write_tables(self, form_of(alphabet, mode, escape, kind), specs.data(), specs.shape(0), specs.shape(1));
}

}  // namespace

void bind_plan(nb::module_& m) {
    m.def("histogram", &histogram, "symbols"_a.noconvert(), "counts"_a.noconvert(),
          "Add to int64 counts [256] how often each byte occurs.");
    m.def("window", &window, "bytes"_a.noconvert(), "low"_a, "width"_a, "symbols"_a.noconvert(),
          "Fill symbols [n] with bytes less low, modulo 256 and at most width; the number of those outside.");
    m.def("fit_levels", &fit_levels, "symbols"_a.noconvert(), "zero"_a, "size"_a, "by_row"_a, "by_column"_a, "rounds"_a,
          "rows"_a.noconvert(), "cols"_a.noconvert(),
          "Fill rows and cols with levels; bits in 2^-16 without them, with those of rows, of columns, of both.");
    m.def("merge_classes", &merge_classes, "counts"_a.noconvert(), "table_of"_a.noconvert(),
          "Fill table_of [classes] from int64 counts [classes, alphabet]; the number of tables.");
    m.def("fit_tables", &fit_tables, "counts"_a.noconvert(), "mode"_a, "escape"_a, "specs"_a.noconvert(),
          "frequencies"_a.noconvert(),
          "Fill int32 specs [tables, max(alphabet, 2)] and uint16 frequencies from int64 counts [tables, alphabet]; the "
          "kind, the code's bits in 2^-16, the description's bytes.");
    m.def("write_tables", &write_tables, "coder"_a, "alphabet"_a, "mode"_a, "escape"_a, "kind"_a, "specs"_a.noconvert(),
          "Describe the tables that fit_tables chose.");
}
