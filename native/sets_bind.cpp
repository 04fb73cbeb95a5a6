// Python bindings of mixed.cpp and waves.cpp; sizes are checked here. The twins are attar/sets/mixed_twin.py, sound_twin.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "mixed.hpp"
#include "mixing.hpp"
#include "rans_bind.hpp"
#include "waves.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using attar::Malformed;

namespace {

template <class T, int Axes>
using In = nb::ndarray<const T, nb::ndim<Axes>, nb::c_contig, nb::device::cpu>;
template <class T, int Axes>
using Out = nb::ndarray<T, nb::ndim<Axes>, nb::c_contig, nb::device::cpu>;

attar::MixedPlan plan_of(const In<int32_t, 3>& distances, const In<uint8_t, 1>& bits, uint32_t limit) {
    const bool right = distances.shape(0) == bits.size() && distances.shape(1) == attar::kContexts && distances.shape(2) == attar::kReach;
    if (!right) throw Malformed("each column must have six contexts of six distances");
    return {bits.size(), limit, bits.data(), distances.data()};
}

nb::bytes encode_mixed(In<int32_t, 3> distances, In<uint8_t, 1> bits, uint32_t limit, In<uint8_t, 1> symbols) {
    const attar::MixedPlan plan = plan_of(distances, bits, limit);
    std::vector<uint8_t> out;
    {
        nb::gil_scoped_release release;
        out = attar::mixed_encode(plan, symbols.data(), symbols.size());
    }
    return nb::bytes(out.data(), out.size());
}

void decode_mixed(In<int32_t, 3> distances, In<uint8_t, 1> bits, uint32_t limit, In<uint8_t, 1> data, Out<uint8_t, 1> symbols) {
    const attar::MixedPlan plan = plan_of(distances, bits, limit);
    nb::gil_scoped_release release;
    attar::mixed_decode(plan, data.data(), data.size(), symbols.data(), symbols.size());
}

nb::bytes encode_waves(In<int32_t, 2> samples) {
    std::vector<uint8_t> out;
    {
        nb::gil_scoped_release release;
        out = attar::waves_encode(samples.data(), samples.shape(0), samples.shape(1));
    }
    return nb::bytes(out.data(), out.size());
}

void decode_waves(In<uint8_t, 1> data, Out<int32_t, 2> samples) {
    nb::gil_scoped_release release;
    attar::waves_decode(data.data(), data.size(), samples.data(), samples.shape(0), samples.shape(1));
}

}  // namespace

void bind_sets(nb::module_& m) {
    m.def("mixed_encode", &encode_mixed, "distances"_a.noconvert(), "bits"_a.noconvert(), "limit"_a, "symbols"_a.noconvert(),
          "The bytes of uint8 symbols; raises Malformed.");
    m.def("mixed_decode", &decode_mixed, "distances"_a.noconvert(), "bits"_a.noconvert(), "limit"_a, "data"_a.noconvert(),
          "symbols"_a.noconvert(), "Fill uint8 symbols; raises Malformed.");
    m.def("waves_encode", &encode_waves, "samples"_a.noconvert(), "The bytes of int32 samples [n, 1 or 2]; raises Malformed.");
    m.def("waves_decode", &decode_waves, "data"_a.noconvert(), "samples"_a.noconvert(), "Fill int32 samples; raises Malformed.");
}
