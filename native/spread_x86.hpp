// Words of a stream to the lanes that read one.
#pragma once

#include "target.hpp"

#ifdef ATTAR_X86

#include <cstddef>
#include <cstdint>

namespace attar {

// For each of the 256 masks of lanes that read a word: which bytes of the next eight words each lane of so many bytes takes, its
// lowest ones (128: none).
template <size_t kLane>
struct Spread {
    alignas(8 * kLane) uint8_t bytes[256][8 * kLane];
    Spread() {
        for (uint32_t mask = 0; mask < 256; ++mask) {
            uint32_t next = 0;
            for (uint32_t lane = 0; lane < 8; ++lane) {
                const uint32_t reads = mask >> lane & 1;
                for (uint32_t k = 0; k < kLane; ++k) {
                    bytes[mask][kLane * lane + k] = static_cast<uint8_t>(reads != 0 && k < 2 ? 2 * next + k : 128);
                }
                next += reads;
            }
        }
    }
};

template <size_t kLane>
const Spread<kLane>& spread() {
    static const Spread<kLane> table;
    return table;
}

}  // namespace attar

#endif
