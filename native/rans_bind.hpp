// Adds the coder's functions to the Python module.
#pragma once

#include <nanobind/nanobind.h>

void bind_rans(nanobind::module_& m);
void bind_place(nanobind::module_& m);
void bind_static(nanobind::module_& m);
void bind_side(nanobind::module_& m);
void bind_dense(nanobind::module_& m);
void bind_plan(nanobind::module_& m);
void bind_encode(nanobind::module_& m);
void bind_values(nanobind::module_& m);
void bind_sites(nanobind::module_& m);
void bind_sets(nanobind::module_& m);
