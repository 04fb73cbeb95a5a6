// Python bindings of dense.cpp; the signatures are those of attar/coding/dense_twin.py.
#include "dense.hpp"

#include <nanobind/ndarray.h>

#include "path.hpp"
#include "rans_bind.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Values = nb::ndarray<const int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Into = nb::ndarray<int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

nb::bytes encode(const Values& values, int shift, int level, size_t period) {
    std::vector<uint8_t> out;
    {
        nb::gil_scoped_release release;
        out = attar::dense_encode(values.data(), values.shape(0), values.shape(1), {shift, level, period}, attar::path_in_use());
    }
    return nb::bytes(out.data(), out.size());
}

void decode(const Bytes& data, const Into& values, int shift, int level, size_t period) {
    nb::gil_scoped_release release;
    attar::dense_decode(data.data(), data.size(), values.data(), values.shape(0), values.shape(1), {shift, level, period},
                        attar::path_in_use());
}

}  // namespace

void bind_dense(nb::module_& m) {
    m.def("dense_encode", &encode, "values"_a.noconvert(), "shift"_a, "level"_a, "period"_a,
          "The bytes of int64 values [rows, cols] within 2^30 of zero; raises Malformed.");
    m.def("dense_decode", &decode, "data"_a.noconvert(), "values"_a.noconvert(), "shift"_a, "level"_a, "period"_a,
          "Fill int64 values [rows, cols]; raises Malformed.");
}
