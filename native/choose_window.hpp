// The choice of an alphabet by how often each value occurs: attar/coding/windows.py in C++.
#pragma once

#include <cstddef>
#include <cstdint>

#include "plan.hpp"

namespace attar {

// The values that occur, ascending, and how often.
struct Distinct {
    const int64_t* value;
    const int64_t* count;
    size_t size;
};

// The window whose code is expected to be shortest, by the entropy within and the outliers' distances without. A narrow one
// may take some bits more; with a price, any, where a byte less would cost more nanoseconds of decoding.
Alphabet choose_window(const Distinct& values, int64_t price);

// counts[width + escape] = how often each symbol occurs.
void count_symbols(const Distinct& values, const Alphabet& alphabet, int64_t* counts);

}  // namespace attar
