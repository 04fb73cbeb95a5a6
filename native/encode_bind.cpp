// Python bindings of choose_window.cpp and encode_static.cpp; sizes are checked here, before the first read. The twins are
// attar/coding/windows.py and choosing.py.
#include <nanobind/ndarray.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

#include "bytes.hpp"
#include "choose_window.hpp"
#include "encode_static.hpp"
#include "pages.hpp"
#include "path.hpp"
#include "rans_bind.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using attar::Malformed;
using attar::StaticCode;

namespace {

// Counts and prices whose products are numbers of 64 bits.
constexpr int64_t kMost = int64_t{1} << 36, kDearest = 64;

using Matrix = nb::ndarray<const uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Counts = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Values = Counts;
using Indices = nb::ndarray<int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// The values of so many numbers, and how often each occurs.
attar::Distinct distinct_of(const Values& values, const Counts& counts, int64_t left) {
    if (values.size() == 0 || counts.size() != values.size()) throw Malformed("every value must have its count");
    for (size_t i = 0; i < values.size(); ++i) {
        if (i > 0 && values.data()[i] <= values.data()[i - 1]) throw Malformed("the values must ascend");
        if (counts.data()[i] < 1 || counts.data()[i] > left) throw Malformed("the counts must add up to the matrix");
        left -= counts.data()[i];
    }
    return {values.data(), counts.data(), values.size()};
}

void check(const Matrix& bytes, size_t width) {
    const size_t rows = bytes.shape(0), cols = bytes.shape(1);
    if (bytes.size() == 0) throw Malformed("the matrix must not be empty");
    if (rows > INT32_MAX || (rows > 1 && cols > INT32_MAX)) throw Malformed("the matrix must have below 2^31 rows and columns");
    if (width < 1 || width > 255) throw Malformed("the window must have 1 to 255 values");
}

std::tuple<int64_t, size_t, bool> choose_window(const Values& values, const Counts& counts, int64_t price) {
    if (price < 0 || price > kDearest) throw Malformed("the price must be 0 to 64");
    const attar::Alphabet chosen = attar::choose_window(distinct_of(values, counts, kMost), price);
    return {static_cast<int64_t>(chosen.low), chosen.width, chosen.escape};
}

StaticCode encode(const Matrix& bytes, uint8_t shift, int64_t low, size_t width, bool escape, const Values& values,
                  const Counts& counts, bool laned, size_t threads) {
    check(bytes, width);
    const attar::Alphabet alphabet{static_cast<uint64_t>(low), width, escape};
    std::vector<int64_t> occurs(width + escape);
    attar::count_symbols(distinct_of(values, counts, static_cast<int64_t>(bytes.size())), alphabet, occurs.data());
    nb::gil_scoped_release release;
    const attar::Path path = attar::path_in_use();
    attar::SymbolMatrix symbols{bytes.data(), bytes.shape(0), bytes.shape(1)};
    attar::Kept<uint8_t> shifted;
    if (shift != 0 || escape) {
        shifted.room(bytes.size());
        attar::window(bytes.data(), bytes.size(), shift, static_cast<uint8_t>(width), shifted.data.data(), path);
        symbols.data = shifted.data.data();
    }
    return attar::encode_static(symbols, alphabet, occurs.data(), laned, threads, path);
}

void put_places(const StaticCode& self, const Indices& out) {
    if (out.size() != self.places.size()) throw Malformed("every escape must have its place");
    std::copy(self.places.begin(), self.places.end(), out.data());
}

std::vector<uint8_t> varint(size_t value) {
    std::vector<uint8_t> out;
    attar::put_varint(out, value);
    return out;
}

// The head and the chunks, each but the last with its length in front.
nb::bytes join(const StaticCode& self, const nb::bytes& head) {
    size_t size = head.size();
    for (const auto& chunk : self.chunks) size += chunk.size + (&chunk == &self.chunks.back() ? 0 : varint(chunk.size).size());
    nb::bytes joined = nb::steal<nb::bytes>(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size)));
    if (!joined.is_valid()) throw nb::python_error();
    char* to = PyBytes_AsString(joined.ptr());
    attar::ask_large(to, size);
    auto put = [&](const void* data, size_t count) {
        if (count != 0) std::memcpy(to, data, count);
        to += count;
    };
    put(head.data(), head.size());
    for (const auto& chunk : self.chunks) {
        if (&chunk != &self.chunks.back()) {
            const std::vector<uint8_t> length = varint(chunk.size);
            put(length.data(), length.size());
        }
        put(chunk.data, chunk.size);
    }
    return joined;
}

}  // namespace

void bind_encode(nb::module_& m) {
    m.def("choose_window", &choose_window, "values"_a.noconvert(), "counts"_a.noconvert(), "price"_a,
          "The lowest value of an alphabet, its width and whether it has an escape, by how often int64 values occur.");
    nb::class_<StaticCode>(m, "StaticCode", "Bytes [rows, cols] as symbols of a window, coded; raises Malformed.")
        .def(
            "__init__",
            [](StaticCode* self, const Matrix& bytes, uint8_t shift, int64_t low, size_t width, bool escape, const Values& values,
               const Counts& counts, bool laned, size_t threads) {
                new (self) StaticCode(encode(bytes, shift, low, width, escape, values, counts, laned, threads));
            },
            "bytes"_a.noconvert(), "shift"_a, "low"_a, "width"_a, "escape"_a, "values"_a.noconvert(), "counts"_a.noconvert(),
            "laned"_a, "threads"_a)
        .def_prop_ro("sides", [](const StaticCode& self) { return self.sides.form(); })
        .def_prop_ro("bits", [](const StaticCode& self) { return self.bits; })
        .def_prop_ro("escapes", [](const StaticCode& self) { return self.places.size(); })
        .def_prop_ro("side", [](const StaticCode& self) { return nb::bytes(self.side.data(), self.side.size()); })
        .def("places", &put_places, "out"_a.noconvert(), "Fill int64 out with the places of all escapes, in the order of coding.")
        .def("join", &join, "head"_a, "The head and the chunks.");
}
