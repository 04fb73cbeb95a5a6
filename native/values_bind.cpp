// Python bindings of values.cpp and planes.cpp; sizes are checked here, before the first read. The twin is
// attar/coding/values.py.
#include <nanobind/nanobind.h>

#include <deque>
#include <vector>

#include "path.hpp"
#include "planes.hpp"
#include "rans_bind.hpp"
#include "values.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using attar::Malformed;

namespace {

// The bytes of any contiguous buffer: a small array is decoded in less time than other views of it take.
class Bytes {
  public:
    Bytes(nb::handle object, bool writable) {
        if (PyObject_GetBuffer(object.ptr(), &view_, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) != 0) throw nb::python_error();
    }
    ~Bytes() { PyBuffer_Release(&view_); }
    Bytes(const Bytes&) = delete;
    Bytes& operator=(const Bytes&) = delete;
    uint8_t* data() const { return static_cast<uint8_t*>(view_.buf); }
    size_t size() const { return static_cast<size_t>(view_.len); }
    attar::Source source() const { return {data(), size()}; }

  private:
    Py_buffer view_;
};

// Bytes that are decoded sooner than another thread takes over.
constexpr size_t kSoon = size_t{1} << 14;

template <class Work>
void unlocked(size_t size, Work work) {
    if (size < kSoon) return work();
    nb::gil_scoped_release release;
    work();
}

void check(const uint8_t* out, size_t size, size_t count, size_t width) {
    if (width != 1 && width != 2 && width != 4 && width != 8) throw Malformed("a number must have 1, 2, 4 or 8 bytes");
    if (count == 0 || size % width != 0 || size / width != count) throw Malformed("out must hold the numbers");
    if (reinterpret_cast<uintptr_t>(out) % width != 0) throw Malformed("out must be aligned");
}

void check(const Bytes& out, size_t count, size_t width) { check(out.data(), out.size(), count, width); }

void decode_values(nb::handle data, nb::handle out, size_t rows, size_t cols, size_t width, int64_t lowest, int64_t highest,
                   size_t threads) {
    if (rows > INT32_MAX || (rows > 1 && cols > INT32_MAX)) throw Malformed("the matrix must have below 2^31 rows and columns");
    const Bytes from(data, false), to(out, true);
    check(to, rows * cols, width);
    unlocked(to.size(), [&] {
        attar::decode_values(from.source(), {rows, cols}, {to.data(), width, lowest, highest}, threads, attar::path_in_use());
    });
}

attar::PlaneArray array_of(const Bytes& data, size_t width, uint8_t* out, size_t size) {
    return {data.source(), width, width == 0 ? 0 : size / width, out};
}

void decode_planes(nb::handle data, nb::handle out, size_t width, size_t threads) {
    const Bytes from(data, false), to(out, true);
    check(to, width == 0 ? 0 : to.size() / width, width);
    unlocked(to.size(), [&] {
        attar::decode_planes(array_of(from, width, to.data(), to.size()), threads, attar::path_in_use());
    });
}

void decode_planes_of_many(nb::sequence data, nb::handle out, nb::sequence starts, nb::sequence sizes, nb::sequence widths,
                           size_t threads) {
    const Bytes to(out, true);
    const size_t count = nb::len(data);
    if (nb::len(starts) != count || nb::len(sizes) != count || nb::len(widths) != count) {
        throw Malformed("each array must have a start, a size and a width");
    }
    std::deque<Bytes> held;
    std::vector<attar::PlaneArray> arrays;
    for (size_t k = 0; k < count; ++k) {
        const size_t start = nb::cast<size_t>(starts[k]), size = nb::cast<size_t>(sizes[k]), width = nb::cast<size_t>(widths[k]);
        if (start > to.size() || size > to.size() - start) throw Malformed("out must hold the numbers");
        check(to.data() + start, size, width == 0 ? 0 : size / width, width);
        held.emplace_back(data[k], false);
        arrays.push_back(array_of(held.back(), width, to.data() + start, size));
    }
    unlocked(to.size(), [&] { attar::decode_planes(arrays, threads, attar::path_in_use()); });
}

}  // namespace

void bind_values(nb::module_& m) {
    m.def("decode_values", &decode_values, "data"_a, "out"_a, "rows"_a, "cols"_a, "width"_a, "lowest"_a, "highest"_a,
          "threads"_a, "Fill out, a matrix of integers of `width` bytes, with the values of a `rans` array; raises Malformed.");
    m.def("decode_planes", &decode_planes, "data"_a, "out"_a, "width"_a, "threads"_a,
          "Fill out, words of `width` bytes, with those of a `planes` array; raises Malformed.");
    m.def("decode_planes_of_many", &decode_planes_of_many, "data"_a, "out"_a, "starts"_a, "sizes"_a, "widths"_a, "threads"_a,
          "Fill parts of out, given in bytes, with the words of many `planes` arrays; raises Malformed.");
}
