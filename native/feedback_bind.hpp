// Adds feedback.cpp's functions to the Python module.
#pragma once

#include <nanobind/nanobind.h>

void bind_feedback(nanobind::module_& m);
