// Python bindings: the signatures are those of attar/coding/twin.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "feedback_bind.hpp"
#include "rans.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const uint16_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Levels = nb::ndarray<const int16_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// ATTAR_SIMD=scalar|avx2 chooses; AVX2 that the processor lacks is never used.
attar::Path path_in_use() {
    static const attar::Path path = [] {
        const char* wish = std::getenv("ATTAR_SIMD");
        bool scalar = wish != nullptr && std::strcmp(wish, "scalar") == 0;
        return !scalar && attar::avx2_supported() ? attar::Path::avx2 : attar::Path::scalar;
    }();
    return path;
}

attar::Contexts contexts_of(const Bytes& contexts) {
    return {contexts.size() == 0 ? nullptr : contexts.data(), contexts.size()};
}

attar::Frequencies frequencies_of(const Table& table) { return {table.data(), table.shape(0), table.shape(1)}; }

nb::bytes encode(const Bytes& symbols, const Bytes& contexts, const Table& frequencies, size_t lanes) {
    std::vector<uint8_t> out;
    {
        nb::gil_scoped_release release;
        out = attar::encode(symbols.data(), symbols.size(), contexts_of(contexts), frequencies_of(frequencies), lanes);
    }
    return nb::bytes(out.data(), out.size());
}

void decode(const Bytes& data, const Output& symbols, const Bytes& contexts, const Table& frequencies, size_t lanes) {
    nb::gil_scoped_release release;
    attar::decode(data.data(), data.size(), symbols.data(), symbols.size(), contexts_of(contexts),
                  frequencies_of(frequencies), lanes, path_in_use());
}

void fill_contexts(const Output& out, size_t start, const Levels& rows, const Levels& cols, const Bytes& table_of) {
    nb::gil_scoped_release release;
    attar::fill_contexts(out.data(), out.size(), start, rows.data(), rows.size(), cols.data(), cols.size(),
                         table_of.data(), table_of.size());
}

std::string simd_path() { return path_in_use() == attar::Path::avx2 ? "native avx2" : "native scalar"; }

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "Static rANS over interleaved lanes; see native/rans.hpp.";
    nb::exception<attar::Malformed>(m, "Malformed", PyExc_ValueError);
    m.def("encode", &encode, "symbols"_a.noconvert(), "contexts"_a.noconvert(), "frequencies"_a.noconvert(), "lanes"_a,
          "Coded bytes of uint8 symbols [n] with contexts [n] or [0] and uint16 frequencies [tables, alphabet].");
    m.def("decode", &decode, "data"_a.noconvert(), "symbols"_a.noconvert(), "contexts"_a.noconvert(),
          "frequencies"_a.noconvert(), "lanes"_a, "Fill uint8 symbols [n] from coded bytes; raises Malformed.");
    m.def("fill_contexts", &fill_contexts, "out"_a.noconvert(), "start"_a, "rows"_a.noconvert(), "cols"_a.noconvert(),
          "table_of"_a.noconvert(), "Tables of the positions start .. start + n of a matrix from its levels.");
    m.def("simd_path", &simd_path, "The instruction set in use.");
    bind_feedback(m);
}
