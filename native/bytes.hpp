// A run of bytes, and a reader of the numbers and runs in it that never passes its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tables.hpp"

namespace attar {

struct Source {
    const uint8_t* data;
    size_t size;
};

// What Reader::varint reads.
inline void put_varint(std::vector<uint8_t>& out, uint64_t value) {
    for (; value >= 128; value >>= 7) out.push_back(static_cast<uint8_t>((value & 127) | 128));
    out.push_back(static_cast<uint8_t>(value));
}

// Everything throws Malformed where the bytes do not suffice.
class Reader {
  public:
    explicit Reader(Source source) : source_(source) {}

    Source take(uint64_t size) {
        if (size > source_.size) refuse();
        const Source taken{source_.data, static_cast<size_t>(size)};
        source_.data += taken.size;
        source_.size -= taken.size;
        return taken;
    }
    Source rest() { return take(source_.size); }
    uint8_t byte() { return *take(1).data; }
    // Seven bits a byte, the lowest first.
    uint64_t varint() {
        uint64_t value = 0;
        for (unsigned shift = 0; shift < 70; shift += 7) {
            const uint8_t part = byte();
            if (shift == 63 && (part & 127) > 1) break;
            value |= static_cast<uint64_t>(part & 127) << shift;
            if (part < 128) return value;
        }
        throw Malformed("a number must have 64 bits at most");
    }
    int64_t zigzag() {
        const uint64_t value = varint();
        return static_cast<int64_t>(value >> 1 ^ (0 - (value & 1)));
    }
    // A run with its length in front.
    Source sized() { return take(varint()); }
    void finish() const {
        if (source_.size != 0) refuse();
    }

  private:
    [[noreturn]] static void refuse() { throw Malformed("the lengths must add up to the bytes"); }
    Source source_;
};

}  // namespace attar
