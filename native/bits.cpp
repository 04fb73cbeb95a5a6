#include "bits.hpp"

#include <algorithm>

#include "tables.hpp"

namespace attar {

namespace {

// Bits of checked bytes.
struct BitRow {
    const uint8_t* data;
    uint64_t at = 0;
    uint64_t peek() const { return data[at >> 3] >> (7 - (at & 7)) & 1; }
    uint64_t next() {
        const uint64_t bit = peek();
        ++at;
        return bit;
    }
};

void check(uint64_t bits, size_t size) {
    if (size != (bits + 7) / 8) throw Malformed("the packed bits must be as many as their bytes");
}

}  // namespace

void unpack(const uint8_t* data, size_t size, size_t width, uint64_t* out, size_t count) {
    if (width < 1 || width > 64) throw Malformed("packed numbers must have 1 to 64 bits");
    check(static_cast<uint64_t>(count) * width, size);
    BitRow bits{data};
    for (size_t i = 0; i < count; ++i) {
        uint64_t value = 0;
        for (size_t k = 0; k < width; ++k) value = value << 1 | bits.next();
        out[i] = value;
    }
}

void read_escapes(const uint8_t* data, size_t size, const uint8_t* lengths, uint64_t low, uint64_t width, uint64_t* values,
                  size_t count) {
    uint64_t total = 0;
    int longest = 0;
    for (size_t i = 0; i < count; ++i) {
        longest = std::max<int>(longest, lengths[i]);
        total += lengths[i] == 0 ? 0u : lengths[i] - 1u;
        values[i] = lengths[i] == 0 || lengths[i] > 64 ? 0 : uint64_t{1} << (lengths[i] - 1);
    }
    if (longest > 64) throw Malformed("an escaped value must have at most 64 bits");
    check(total, size);
    BitRow bits{data};
    for (int plane = 0; plane + 1 < longest; ++plane) {
        for (size_t i = 0; i < count && bits.at < total; ++i) {
            // No processor guesses which of them have a bit left.
            const uint64_t has = lengths[i] > plane + 1;
            values[i] |= (bits.peek() & has) << plane;
            bits.at += has;
        }
    }
    for (size_t i = 0; i < count; ++i) {
        const uint64_t distance = values[i] >> 1 ^ (0 - (values[i] & 1));
        values[i] = low + distance + (values[i] & 1 ? 0 : width);
    }
}

}  // namespace attar
