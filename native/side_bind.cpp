// Python bindings of side.cpp; keys and limits are checked here.
#include <nanobind/ndarray.h>

#include "rans_bind.hpp"
#include "read_tables.hpp"
#include "side.hpp"
#include "tables.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using attar::Malformed;

namespace {

using Numbers = nb::ndarray<int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void check_key(int key) {
    if (key < 0 || key >= attar::kKeys) throw std::invalid_argument("a key must be 0 to 31");
}

uint64_t natural(attar::SideCoder& self, int key, uint64_t value, uint64_t limit) {
    check_key(key);
    return self.natural(key, value, limit);
}

// -limit .. limit as a Python integer, because the magnitude may be 2^63.
nb::object integer(attar::SideCoder& self, int key, nb::int_ value, uint64_t limit) {
    check_key(key);
    if (limit == 0 || limit > uint64_t{1} << 63) throw std::invalid_argument("a limit must be 1 to 2^63");
    const bool negative = PyObject_RichCompareBool(value.ptr(), nb::int_(0).ptr(), Py_LT) == 1;
    nb::object size = negative ? nb::steal(PyNumber_Negative(value.ptr())) : nb::borrow(value);
    const attar::SideCoder::Signed read = self.integer(key, {negative, nb::cast<uint64_t>(size)}, limit);
    nb::object result = nb::int_(read.size);
    return read.negative ? nb::steal(PyNumber_Negative(result.ptr())) : result;
}

void run(attar::SideCoder& self, int key, int model, const Numbers& values, int64_t limit) {
    check_key(key);
    check_key(key + 7);
    if (model < 0 || model > 2 || limit < 1 || limit > int64_t{1} << 40) throw std::invalid_argument("a run must have a model 0 to 2");
    nb::gil_scoped_release release;
    self.run(key, model, values.data(), values.size(), limit);
}

void read_tables(attar::SideDecoder& self, int mode, bool escape, int kind,
                 const nb::ndarray<uint16_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>& out) {
    if (out.shape(1) < 1 || out.shape(1) > 256) throw Malformed("the alphabet must have 1 to 256 symbols");
    const int alphabet = static_cast<int>(out.shape(1));
    if (mode < 0 || mode >= alphabet - static_cast<int>(escape)) throw Malformed("the mode must be a symbol");
    if (kind < 0 || kind > 4) throw Malformed("the kind must be 0 to 4");
    nb::gil_scoped_release release;
    attar::read_tables(self, out.shape(0), {alphabet, mode, escape, kind}, out.data());
}

}  // namespace

void bind_side(nb::module_& m) {
    nb::class_<attar::SideCoder>(m, "SideCoder", "What the two directions of the side information's coder share.")
        .def("bits", [](attar::SideCoder& self, int width, uint64_t value) { return self.bits(width & 63, value); },
             "width"_a, "value"_a = 0, "A number of `width` bits, all values alike.")
        .def("natural", &natural, "key"_a, "value"_a, "limit"_a, "A number 0 .. limit, likely to be small.")
        .def("integer", &integer, "key"_a, "value"_a, "limit"_a, "A number -limit .. limit, likely to be near zero.")
        .def("run", &run, "key"_a, "model"_a, "values"_a.noconvert(), "limit"_a, "Small int64 numbers, read or filled in.");
    nb::class_<attar::SideEncoder, attar::SideCoder>(m, "SideEncoder", "Numbers to bytes.")
        .def(nb::init<>())
        .def("finish", [](attar::SideEncoder& self) {
            const std::vector<uint8_t> out = self.finish();
            return nb::bytes(out.data(), out.size());
        });
    nb::class_<attar::SideDecoder, attar::SideCoder>(m, "SideDecoder", "Bytes to numbers; raises Malformed.")
        .def("__init__", [](attar::SideDecoder* self, nb::bytes data) {
            new (self) attar::SideDecoder(static_cast<const uint8_t*>(data.data()), data.size());
        })
        .def("finish", &attar::SideDecoder::finish);
    m.def("read_tables", &read_tables, "coder"_a, "mode"_a, "escape"_a, "kind"_a, "out"_a.noconvert(),
          "Fill uint16 frequencies [tables, alphabet] from side information; raises Malformed.");
}
