// The Python module: each part binds itself.
#include <nanobind/nanobind.h>

#include "feedback_bind.hpp"
#include "rans_bind.hpp"

NB_MODULE(_native, m) {
    m.doc() = "Static rANS over interleaved lanes (native/rans.hpp) and rounding with error feedback (native/feedback.hpp).";
    bind_rans(m);
    bind_place(m);
    bind_side(m);
    bind_dense(m);
    bind_plan(m);
    bind_encode(m);
    bind_static(m);
    bind_values(m);
    bind_feedback(m);
    bind_sites(m);
    bind_sets(m);
}
