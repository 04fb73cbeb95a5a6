// Python bindings of sites.cpp; sizes are checked here, before the first read. The twin is attar/sets/twin.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "path.hpp"
#include "rans_bind.hpp"
#include "sites.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using attar::Malformed;

namespace {

template <class T, int Axes>
using In = nb::ndarray<const T, nb::ndim<Axes>, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void hold(bool right, const char* rule) {
    if (!right) throw Malformed(rule);
}

// A model that keeps its arrays alive.
class Model {
  public:
    Model(In<int32_t, 2> tap, In<int32_t, 2> error, In<int32_t, 1> zone, In<int16_t, 3> weight, In<int16_t, 2> spread,
          In<uint8_t, 2> regime, In<int16_t, 1> mean, In<int16_t, 1> energy, In<int16_t, 1> side, In<uint8_t, 4> table)
        : tap_(tap), error_(error), zone_(zone), weight_(weight), spread_(spread), regime_(regime), mean_(mean), energy_(energy),
          side_(side), table_(table) {
        const size_t sites = tap.shape(0), taps = tap.shape(1), errors = error.shape(1), zones = weight.shape(0);
        hold(taps >= 4 && error.shape(0) == sites && zone.shape(0) == sites, "the sites must agree");
        hold(weight.shape(1) == taps + 1 && weight.shape(2) == attar::kRegimes, "weights must fit the taps");
        hold(spread.shape(0) == zones && spread.shape(1) == errors + attar::kPairs + 1, "spreads must fit the errors");
        hold(regime.shape(0) == 3 && regime.shape(1) == 2, "regimes must have three thresholds on two sides");
        hold(table.shape(0) == energy.size() + 1 && table.shape(1) == mean.size() + 1 && table.shape(2) == side.size() + 1 &&
                 table.shape(3) == side.size() + 1,
             "each context must have a table");
        model = {sites, taps, errors, zones, tap.data(), error.data(), zone.data(), weight.data(), spread.data(), regime.data(),
                 mean.data(), energy.data(), side.data(), mean.size(), energy.size(), side.size(), table.data()};
        attar::check(model);
    }
    attar::SiteModel model;

  private:
    In<int32_t, 2> tap_, error_;
    In<int32_t, 1> zone_;
    In<int16_t, 3> weight_;
    In<int16_t, 2> spread_;
    In<uint8_t, 2> regime_;
    In<int16_t, 1> mean_, energy_, side_;
    In<uint8_t, 4> table_;
};

void scan(const Model& model, In<uint8_t, 2> planes, Out<uint8_t> residuals, Out<uint16_t> contexts) {
    const size_t n = planes.shape(1);
    hold(planes.shape(0) == model.model.sites && residuals.size() == planes.size() && contexts.size() == planes.size(),
         "the planes must fit the sites");
    nb::gil_scoped_release release;
    attar::scan_sites(model.model, planes.data(), n, residuals.data(), contexts.data(), attar::path_in_use());
}

nb::bytes encode(In<uint8_t, 2> residuals, In<uint8_t, 2> tables, In<uint16_t, 2> frequencies) {
    hold(tables.shape(0) == residuals.shape(0) && tables.shape(1) == residuals.shape(1), "each symbol must have a table");
    hold(frequencies.shape(1) == 256, "a table must have 256 symbols");
    std::vector<uint8_t> out;
    {
        nb::gil_scoped_release release;
        out = attar::encode_sites(residuals.data(), tables.data(), residuals.shape(0), residuals.shape(1), frequencies.data(),
                                  frequencies.shape(0));
    }
    return nb::bytes(out.data(), out.size());
}

void decode(const Model& model, In<uint8_t, 1> data, In<uint16_t, 2> frequencies, Out<uint8_t> out) {
    hold(out.shape(1) == model.model.sites, "the planes must fit the sites");
    hold(frequencies.shape(1) == 256, "a table must have 256 symbols");
    nb::gil_scoped_release release;
    attar::decode_sites(model.model, data.data(), data.size(), frequencies.data(), frequencies.shape(0), out.data(),
                        out.shape(0), attar::path_in_use());
}

}  // namespace

void bind_sites(nb::module_& m) {
    nb::class_<Model>(m, "SiteModel", "What sites are predicted and coded with; raises Malformed where it points outside.")
        .def(nb::init<In<int32_t, 2>, In<int32_t, 2>, In<int32_t, 1>, In<int16_t, 3>, In<int16_t, 2>, In<uint8_t, 2>,
                      In<int16_t, 1>, In<int16_t, 1>, In<int16_t, 1>, In<uint8_t, 4>>());
    m.def("scan_sites", &scan, "model"_a, "planes"_a, "residuals"_a, "contexts"_a, "Residuals and contexts of planes.");
    m.def("encode_sites", &encode, "residuals"_a, "tables"_a, "frequencies"_a, "Residuals to bytes.");
    m.def("decode_sites", &decode, "model"_a, "data"_a, "frequencies"_a, "out"_a, "Bytes to arrays [n, sites].");
}
