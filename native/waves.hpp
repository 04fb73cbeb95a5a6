// Samples of sound one by one: predicted by least squares and by long filters, their errors coded under mixed contexts.
// The twin is attar/sets/sound_twin.py; docs/format.md gives every step. What is computed in double is rounded operation by
// operation in a given order, so that every machine predicts the same integers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "rans.hpp"

namespace attar {

constexpr size_t kWavesMost = 1 << 22;         // samples of a call, at most
constexpr int32_t kLoudest = (1 << 23) + 1;    // of a sample

// The bytes of samples[n][channels], one or two channels; throws Malformed where one is louder than kLoudest.
std::vector<uint8_t> waves_encode(const int32_t* samples, size_t n, size_t channels);

// Fills samples[n][channels]; throws Malformed where the bytes are not those of so many samples.
void waves_decode(const uint8_t* data, size_t size, int32_t* samples, size_t n, size_t channels);

}  // namespace attar
