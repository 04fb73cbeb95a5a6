// The NEON path: four lanes a vector; in each group of 32 four vectors of even lanes, then four of odd ones.
#include "rans.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace attar {

#if defined(__aarch64__)

namespace {

// For each of the 16 masks of lanes that read a word: which bytes of the next four words each lane takes (255: none).
struct Spread {
    uint8_t bytes[16][16];
    uint8_t words[16];
    Spread() {
        for (uint32_t mask = 0; mask < 16; ++mask) {
            uint8_t next = 0;
            for (uint32_t lane = 0; lane < 4; ++lane) {
                bool reads = mask >> lane & 1;
                for (uint32_t k = 0; k < 4; ++k) {
                    bytes[mask][4 * lane + k] = reads && k < 2 ? static_cast<uint8_t>(2 * next + k) : uint8_t{255};
                }
                next = static_cast<uint8_t>(next + reads);
            }
            words[mask] = next;
        }
    }
};

const Spread& spread() {
    static const Spread table;
    return table;
}

// One symbol out of each of four lanes, as 32-bit numbers.
inline uint32x4_t step(const uint32_t* entries, const Spread& order, uint32x4_t& x, const uint8_t*& word) {
    const uint32_t weights[4] = {1, 2, 4, 8};
    uint32x4_t slot = vandq_u32(x, vdupq_n_u32(0xfff));
    uint32x4_t entry = vdupq_n_u32(entries[vgetq_lane_u32(slot, 0)]);
    entry = vsetq_lane_u32(entries[vgetq_lane_u32(slot, 1)], entry, 1);
    entry = vsetq_lane_u32(entries[vgetq_lane_u32(slot, 2)], entry, 2);
    entry = vsetq_lane_u32(entries[vgetq_lane_u32(slot, 3)], entry, 3);
    uint32x4_t frequency = vaddq_u32(vandq_u32(vshrq_n_u32(entry, 12), vdupq_n_u32(0xfff)), vdupq_n_u32(1));
    x = vmlaq_u32(vandq_u32(entry, vdupq_n_u32(0xfff)), frequency, vshrq_n_u32(x, 12));
    uint32x4_t low = vcltq_u32(x, vdupq_n_u32(kLow));
    uint32_t mask = vaddvq_u32(vandq_u32(low, vld1q_u32(weights)));
    uint8x16_t next = vcombine_u8(vld1_u8(word), vdup_n_u8(0));
    uint32x4_t words = vreinterpretq_u32_u8(vqtbl1q_u8(next, vld1q_u8(order.bytes[mask])));
    x = vbslq_u32(low, vorrq_u32(vshlq_n_u32(x, 16), words), x);
    word += 2 * static_cast<size_t>(order.words[mask]);
    return vshrq_n_u32(entry, 24);
}

inline uint16x8_t narrow(uint32x4_t first, uint32x4_t second) {
    return vcombine_u16(vmovn_u32(first), vmovn_u32(second));
}

}  // namespace

Path available(Path wish) { return wish == Path::scalar ? Path::scalar : Path::neon; }

size_t decode_neon(const uint32_t* entries, uint8_t* symbols, size_t count, size_t lanes, Cursor& cursor) {
    const Spread& order = spread();
    uint32x4_t x[kMaxLanes / 4];
    for (size_t v = 0; v < lanes / 4; ++v) x[v] = vld1q_u32(cursor.state + 4 * v);
    const uint8_t* word = cursor.word;
    size_t at = 0;
    for (; at + lanes <= count && static_cast<size_t>(cursor.readable - word) >= kAhead; at += lanes) {
        for (size_t g = 0; g < lanes / 32; ++g) {
            uint32x4_t symbol[8];
            for (size_t v = 0; v < 8; ++v) symbol[v] = step(entries, order, x[8 * g + v], word);
            for (size_t half = 0; half < 2; ++half) {
                uint16x8_t even = narrow(symbol[2 * half], symbol[2 * half + 1]);
                uint16x8_t odd = narrow(symbol[4 + 2 * half], symbol[5 + 2 * half]);
                uint8x16_t bytes = vreinterpretq_u8_u16(vorrq_u16(even, vshlq_n_u16(odd, 8)));
                vst1q_u8(symbols + at + 32 * g + 16 * half, bytes);
            }
        }
    }
    for (size_t v = 0; v < lanes / 4; ++v) vst1q_u32(cursor.state + 4 * v, x[v]);
    cursor.word = word;
    return at;
}

#else

#if !defined(__x86_64__) || !(defined(__GNUC__) || defined(__clang__))
Path available(Path) { return Path::scalar; }
#endif

size_t decode_neon(const uint32_t*, uint8_t*, size_t, size_t, Cursor&) { return 0; }

#endif

}  // namespace attar
