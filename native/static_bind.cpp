// Python bindings of plan.cpp, static.cpp and bits.cpp; sizes are checked here, before the first read. The twin is
// attar/coding/unpacking.py.
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <string>

#include "bits.hpp"
#include "path.hpp"
#include "rans_bind.hpp"
#include "static.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using attar::Malformed;
using attar::Plan;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Plane = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Line = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

Plan read_plan(const Bytes& side, size_t rows, size_t cols, bool by_row, bool by_column, bool streams, bool wide) {
    if (rows == 0 || cols == 0) throw Malformed("the matrix must not be empty");
    if (rows > INT32_MAX || (rows > 1 && cols > INT32_MAX)) throw Malformed("the matrix must have below 2^31 rows and columns");
    nb::gil_scoped_release release;
    attar::Crew alone(1);
    const bool entries = attar::wants_entries(attar::path_in_use(), wide);
    return attar::read_plan({side.data(), side.size()}, {rows, cols}, {by_row, by_column, streams, wide}, entries, alone);
}

void check(const Plan& plan, const Output& out, size_t bytes) {
    if (out.shape(0) != plan.shape.rows || out.shape(1) != plan.shape.cols * bytes) throw Malformed("out must be the matrix");
    if (reinterpret_cast<uintptr_t>(out.data()) % bytes != 0) throw Malformed("out must be aligned");
}

void decode(const Plan& plan, const Bytes& data, const Output& out, const Indices& places, size_t threads) {
    const size_t bytes = out.shape(1) / plan.shape.cols;
    if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8) throw Malformed("an integer must have 1, 2, 4 or 8 bytes");
    check(plan, out, bytes);
    nb::gil_scoped_release release;
    attar::Crew crew(attar::threads_for(plan.shape, plan.streams, threads));
    attar::decode_integers(plan, {data.data(), data.size()}, out.data(), bytes, {places.data(), places.size()}, crew,
                           attar::path_in_use());
}

attar::Format format_of(const std::string& name) {
    if (name == "float32") return attar::Format::float32;
    if (name == "float16") return attar::Format::float16;
    if (name == "bfloat16") return attar::Format::bfloat16;
    throw Malformed("the format must be float32, float16 or bfloat16");
}

void decode_scaled(const Plan& plan, const Bytes& data, const Plane& column, const Line& row, const Output& out,
                   const std::string& format, const Indices& places, size_t threads) {
    const attar::Format to = format_of(format);
    check(plan, out, to == attar::Format::float32 ? 4 : 2);
    if (column.shape(1) != plan.shape.cols || row.size() != plan.shape.rows) throw Malformed("the scales must fit the matrix");
    if (column.shape(0) == 0 || row.size() % column.shape(0) != 0) throw Malformed("the rows must divide into the groups");
    const int64_t low = static_cast<int64_t>(plan.alphabet.low);
    if (low <= -(1 << 30) || low >= 1 << 30) throw Malformed("the codes must be near zero");
    nb::gil_scoped_release release;
    attar::Crew crew(attar::threads_for(plan.shape, plan.streams, threads));
    attar::decode_floats(plan, {data.data(), data.size()}, out.data(), to, {column.data(), column.shape(0), row.data()},
                         {places.data(), places.size()}, crew, attar::path_in_use());
}

using Numbers = nb::ndarray<uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void unpack(const Bytes& data, size_t width, const Numbers& out) {
    attar::unpack(data.data(), data.size(), width, out.data(), out.size());
}

void read_escapes(const Bytes& data, const Bytes& lengths, int64_t low, size_t width, const Numbers& values) {
    if (lengths.size() != values.size()) throw Malformed("every escape must have its length");
    attar::read_escapes(data.data(), data.size(), lengths.data(), static_cast<uint64_t>(low), width, values.data(), values.size());
}

}  // namespace

void bind_static(nb::module_& m) {
    m.def("unpack", &unpack, "data"_a.noconvert(), "width"_a, "out"_a.noconvert(),
          "Fill uint64 out with packed numbers of `width` bits; raises Malformed.");
    m.def("read_escapes", &read_escapes, "data"_a.noconvert(), "lengths"_a.noconvert(), "low"_a, "width"_a, "values"_a.noconvert(),
          "Fill uint64 values, two's complement, with the escaped values of a window, whose bit lengths are uint8; raises "
          "Malformed.");
    nb::class_<Plan>(m, "StaticPlan", "What the chunks of a static array share, from its side information; raises Malformed.")
        .def(
            "__init__",
            [](Plan* self, const Bytes& side, size_t rows, size_t cols, bool by_row, bool by_column, bool streams, bool wide) {
                new (self) Plan(read_plan(side, rows, cols, by_row, by_column, streams, wide));
            },
            "side"_a.noconvert(), "rows"_a, "cols"_a, "by_row"_a, "by_column"_a, "streams"_a, "wide"_a = false)
        .def_prop_ro("low", [](const Plan& self) { return static_cast<int64_t>(self.alphabet.low); })
        .def_prop_ro("width", [](const Plan& self) { return self.alphabet.width; })
        .def_prop_ro("escape", [](const Plan& self) { return self.alphabet.escape; })
        .def("decode", &decode, "data"_a.noconvert(), "out"_a.noconvert(), "places"_a.noconvert(), "threads"_a,
             "Fill out, an integer matrix as bytes [rows, cols * itemsize], from its chunks, and int64 places with those of "
             "all escapes; raises Malformed.")
        .def("decode_scaled", &decode_scaled, "data"_a.noconvert(), "column"_a.noconvert(), "row"_a.noconvert(),
             "out"_a.noconvert(), "format"_a, "places"_a.noconvert(), "threads"_a,
             "The same of (code * column) * row in a format; column [groups, cols], row [rows].");
}
