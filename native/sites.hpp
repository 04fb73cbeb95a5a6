// Sets of byte arrays of one shape: a site is a place in the shape, a plane its bytes in all arrays. Sites are coded one after
// the other, each plane by a linear prediction from planes before it and a table chosen by what is known of each byte.
// The twin is attar/sets/twin.py; docs/format.md gives the arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "rans.hpp"

namespace attar {

constexpr size_t kRegimes = 16, kPairs = 4, kStates = 64;

// Borrowed; see attar/sets/model.py for the meaning and the shapes.
struct SiteModel {
    size_t sites, taps, errors, zones;
    const int32_t* tap;      // [sites, taps]: earlier sites, -1 for zeros
    const int32_t* error;    // [sites, errors]: earlier sites, -1 for zeros
    const int32_t* zone;     // [sites]
    const int16_t* weight;   // [zones, taps + 1, 16]
    const int16_t* spread;   // [zones, errors + pairs + 1]
    const uint8_t* regime;   // [3, 2]: thresholds of the first and the second tap; regime = 4 * the first's level + the second's
    const int16_t *mean, *energy, *side;  // rising thresholds: of the prediction in quarters (0 .. 1020), of the expected
    size_t means, energies, sides;        // error in sixteenths (0 .. 2047), of a tap less the prediction; their numbers
    const uint8_t* table;    // [energies + 1, means + 1, sides + 1, sides + 1]

    size_t contexts() const { return (energies + 1) * (means + 1) * (sides + 1) * (sides + 1); }
};

// The planes that one site's bytes are worked out of.
struct Site {
    const uint8_t *const *taps, *const *errors;
    const int16_t *weight, *spread;
};

// Predictions and contexts of the arrays from `first` on, in whole vectors; the first that is left.
size_t work_avx512(const SiteModel& model, const Site& site, size_t first, size_t n, uint8_t* guess, uint16_t* context);

// Throws Malformed where an index points outside.
void check(const SiteModel& model);

// Residuals and contexts [sites, n] of planes [sites, n].
void scan_sites(const SiteModel& model, const uint8_t* planes, size_t n, uint8_t* residuals, uint16_t* contexts, Path path);

// Residuals with the table of each (both [sites, n]) to bytes; frequencies [tables, 256] sum to 4096 each.
std::vector<uint8_t> encode_sites(const uint8_t* residuals, const uint8_t* tables, size_t sites, size_t n,
                                  const uint16_t* frequencies, size_t count);

// Fills out [n, sites]; throws Malformed where the bytes are not what encode_sites writes.
void decode_sites(const SiteModel& model, const uint8_t* data, size_t size, const uint16_t* frequencies, size_t count,
                  uint8_t* out, size_t n, Path path);

}  // namespace attar
