// Python bindings of feedback.cpp; sizes are checked here, before the first read.
#include "feedback_bind.hpp"

#include <nanobind/ndarray.h>

#include <stdexcept>

#include "feedback.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Cube = nb::ndarray<float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using ConstCube = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Codes = nb::ndarray<int32_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Offsets = nb::ndarray<const int32_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Plane = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Sheet = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using CodeSheet = nb::ndarray<int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using OffsetSheet = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <class A, class B>
void same(const A& a, const B& b) {
    for (size_t axis = 0; axis < 3; ++axis)
        if (a.shape(axis) != b.shape(axis)) throw std::invalid_argument("feedback: arrays must have one shape");
}

attar::Shape shape_of(const Codes& codes, const ConstCube& square, size_t start, size_t stop) {
    const attar::Shape shape{codes.shape(0), codes.shape(1), codes.shape(2)};
    if (square.shape(0) != shape.groups || square.shape(1) != shape.cols || square.shape(2) != shape.cols)
        throw std::invalid_argument("feedback: the factor must be [groups, cols, cols]");
    if (start > stop || stop > shape.cols) throw std::invalid_argument("feedback: the block must lie in the columns");
    return shape;
}

template <class O>
attar::Prices prices_of(const Table& table, const O& offset, int32_t radius, float slope) {
    if (table.size() == 0 || radius < 1) throw std::invalid_argument("feedback: the price table must not be empty");
    return {table.data(), table.size(), offset.data(), radius, slope};
}

void quantise(const Cube& work, const Codes& codes, const ConstCube& rows, const ConstCube& stiffness,
              const Table& table, const Offsets& offset, int32_t radius, float slope, size_t start, size_t stop) {
    same(work, codes);
    same(stiffness, codes);
    same(offset, codes);
    const auto shape = shape_of(codes, rows, start, stop);
    const auto prices = prices_of(table, offset, radius, slope);
    nb::gil_scoped_release release;
    attar::quantise_block(work.data(), codes.data(), rows.data(), stiffness.data(), shape, prices, start, stop);
}

void descend(const Cube& pull, const Cube& error, const Codes& codes, const ConstCube& hessian, const Plane& stiffness,
             const Table& table, const Offsets& offset, int32_t radius, float slope, size_t start, size_t stop) {
    same(error, codes);
    same(offset, codes);
    const auto shape = shape_of(codes, hessian, start, stop);
    if (pull.shape(0) != shape.groups || pull.shape(1) != stop - start || pull.shape(2) != shape.rows)
        throw std::invalid_argument("feedback: pull must be [groups, stop - start, rows]");
    if (stiffness.shape(0) != shape.groups || stiffness.shape(1) != shape.rows)
        throw std::invalid_argument("feedback: stiffness must be [groups, rows]");
    const auto prices = prices_of(table, offset, radius, slope);
    nb::gil_scoped_release release;
    attar::descend_block(pull.data(), error.data(), codes.data(), hessian.data(), stiffness.data(), shape, prices,
                         start, stop);
}

void descend_rows(const Sheet& pull, const Sheet& error, const CodeSheet& codes, const Plane& matrix,
                  const Plane& hessian, const Table& table, const OffsetSheet& offset, int32_t radius, float slope) {
    const size_t rows = codes.shape(0), cols = codes.shape(1);
    const auto fits = [](const auto& array, size_t first, size_t second) {
        return array.shape(0) == first && array.shape(1) == second;
    };
    if (!fits(pull, rows, cols) || !fits(error, rows, cols) || !fits(offset, rows, cols))
        throw std::invalid_argument("feedback: pull, error and offset must be [rows, cols] as the codes");
    if (!fits(matrix, rows, rows)) throw std::invalid_argument("feedback: matrix must be [rows, rows]");
    if (!fits(hessian, cols, cols)) throw std::invalid_argument("feedback: hessian must be [cols, cols]");
    const auto prices = prices_of(table, offset, radius, slope);
    nb::gil_scoped_release release;
    attar::descend_rows(pull.data(), error.data(), codes.data(), matrix.data(), hessian.data(), prices, rows, cols);
}

}  // namespace

void bind_feedback(nb::module_& m) {
    m.def("quantise_block", &quantise, "work"_a.noconvert(), "codes"_a.noconvert(), "rows"_a.noconvert(),
          "stiffness"_a.noconvert(), "price"_a.noconvert(), "offset"_a.noconvert(), "radius"_a, "slope"_a, "start"_a,
          "stop"_a, "Codes of one block of columns with feedback; work holds the errors afterwards.");
    m.def("descend_block", &descend, "pull"_a.noconvert(), "error"_a.noconvert(), "codes"_a.noconvert(),
          "hessian"_a.noconvert(), "stiffness"_a.noconvert(), "price"_a.noconvert(), "offset"_a.noconvert(),
          "radius"_a, "slope"_a, "start"_a, "stop"_a, "One block of a sweep of coordinate descent.");
    m.def("descend_rows", &descend_rows, "pull"_a.noconvert(), "error"_a.noconvert(), "codes"_a.noconvert(),
          "matrix"_a.noconvert(), "hessian"_a.noconvert(), "price"_a.noconvert(), "offset"_a.noconvert(), "radius"_a,
          "slope"_a, "A sweep of coordinate descent over some rows that are coupled.");
}
