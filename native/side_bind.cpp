// Python bindings of side.hpp; keys and limits are checked here.
#include <nanobind/ndarray.h>

#include "rans_bind.hpp"
#include "side.hpp"
#include "tables.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Numbers = nb::ndarray<int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void check_key(int key) {
    if (key < 0 || key >= attar::kKeys) throw std::invalid_argument("a key must be 0 to 31");
}

template <class Coder>
uint64_t natural(Coder& self, int key, uint64_t value, uint64_t limit) {
    check_key(key);
    return self.natural(key, value, limit);
}

// -limit .. limit as a Python integer, because the magnitude may be 2^63.
template <class Coder>
nb::object integer(Coder& self, int key, nb::int_ value, uint64_t limit) {
    check_key(key);
    if (limit == 0 || limit > uint64_t{1} << 63) throw std::invalid_argument("a limit must be 1 to 2^63");
    const bool negative = PyObject_RichCompareBool(value.ptr(), nb::int_(0).ptr(), Py_LT) == 1;
    nb::object size = negative ? nb::steal(PyNumber_Negative(value.ptr())) : nb::borrow(value);
    const typename Coder::Signed read = self.integer(key, {negative, nb::cast<uint64_t>(size)}, limit);
    nb::object result = nb::int_(read.size);
    return read.negative ? nb::steal(PyNumber_Negative(result.ptr())) : result;
}

template <class Coder>
void run(Coder& self, int key, int model, const Numbers& values, int64_t limit) {
    check_key(key);
    check_key(key + 7);
    if (model < 0 || model > 2) throw std::invalid_argument("a run must have a model 0 to 2");
    if (limit < 1 || limit > int64_t{1} << 40) throw std::invalid_argument("a limit must be 1 to 2^40");
    nb::gil_scoped_release release;
    self.run(key, model, values.data(), values.size(), limit);
}

// What the two directions share.
template <class Coder>
nb::class_<Coder> bind_coder(nb::module_& m, const char* name, const char* text) {
    return nb::class_<Coder>(m, name, text)
        .def("bits", [](Coder& self, int width, uint64_t value) { return self.bits(width & 63, value); },
             "width"_a, "value"_a = 0, "A number of `width` bits, all values alike.")
        .def("natural", &natural<Coder>, "key"_a, "value"_a, "limit"_a, "A number 0 .. limit, likely to be small.")
        .def("integer", &integer<Coder>, "key"_a, "value"_a, "limit"_a, "A number -limit .. limit, likely to be near zero.")
        .def("run", &run<Coder>, "key"_a, "model"_a, "values"_a.noconvert(), "limit"_a, "Small int64 numbers, read or filled in.");
}

}  // namespace

void bind_side(nb::module_& m) {
    bind_coder<attar::SideEncoder>(m, "SideEncoder", "Numbers to bytes.")
        .def(nb::init<>())
        .def("finish", [](attar::SideEncoder& self) {
            const std::vector<uint8_t> out = self.finish();
            return nb::bytes(out.data(), out.size());
        });
    bind_coder<attar::SideDecoder>(m, "SideDecoder", "Bytes to numbers; raises Malformed.")
        .def("__init__", [](attar::SideDecoder* self, nb::bytes data) {
            new (self) attar::SideDecoder(static_cast<const uint8_t*>(data.data()), data.size());
        }, nb::keep_alive<1, 2>())
        .def("finish", &attar::SideDecoder::finish);
}
