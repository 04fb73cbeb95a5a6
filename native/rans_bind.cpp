// Python bindings of the coder; the signatures are those of attar/coding/twin.py.
#include "rans_bind.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <string>

#include "path.hpp"
#include "rans.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const uint16_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using RunArray = nb::ndarray<const int32_t, nb::shape<-1, 3>, nb::c_contig, nb::device::cpu>;

attar::Frequencies frequencies_of(const Table& table) { return {table.data(), table.shape(0), table.shape(1)}; }

attar::Runs runs_of(const RunArray& runs) { return {runs.data(), runs.shape(0)}; }

nb::bytes encode(const Bytes& symbols, const RunArray& runs, const attar::EncodeTables& tables, size_t lanes) {
    std::vector<uint8_t> out;
    {
        nb::gil_scoped_release release;
        out = attar::encode(symbols.data(), symbols.size(), runs_of(runs), tables, lanes, attar::path_in_use());
    }
    return nb::bytes(out.data(), out.size());
}

void decode(const Bytes& data, const Output& symbols, const RunArray& runs, const attar::DecodeTables& tables) {
    nb::gil_scoped_release release;
    attar::decode(data.data(), data.size(), symbols.data(), symbols.size(), runs_of(runs), tables, attar::path_in_use());
}

std::string simd_path() {
    switch (attar::path_in_use()) {
        case attar::Path::avx512: return "native avx512";
        case attar::Path::avx2: return "native avx2";
        case attar::Path::neon: return "native neon";
        default: return "native scalar";
    }
}

}  // namespace

void bind_rans(nb::module_& m) {
    nb::exception<attar::Malformed>(m, "Malformed", PyExc_ValueError);
    nb::class_<attar::DecodeTables>(m, "DecodeTables", "What a decoder looks up, from uint16 frequencies [tables, alphabet].")
        .def(
            "__init__",
            [](attar::DecodeTables* self, const Table& frequencies, bool wide) {
                const bool entries = attar::wants_entries(attar::path_in_use(), wide);
                new (self) attar::DecodeTables(frequencies_of(frequencies), wide, entries);
            },
            "frequencies"_a.noconvert(), "wide"_a = false)
        .def("__len__", &attar::DecodeTables::count);
    nb::class_<attar::EncodeTables>(m, "EncodeTables", "What an encoder looks up, from uint16 frequencies [tables, alphabet].")
        .def(
            "__init__",
            [](attar::EncodeTables* self, const Table& frequencies, bool wide) {
                new (self) attar::EncodeTables(frequencies_of(frequencies), wide);
            },
            "frequencies"_a.noconvert(), "wide"_a = false)
        .def("__len__", &attar::EncodeTables::count);
    m.def("encode", &encode, "symbols"_a.noconvert(), "runs"_a.noconvert(), "tables"_a, "lanes"_a,
          "A chunk of uint8 symbols [n] in int32 runs [k, 3].");
    m.def("decode", &decode, "data"_a.noconvert(), "symbols"_a.noconvert(), "runs"_a.noconvert(), "tables"_a,
          "Fill uint8 symbols [n] from a chunk; raises Malformed.");
    m.def("simd_path", &simd_path, "The instruction set in use.");
}
