// huff0, zstd's Huffman coder, over blocks of 128 KiB, which is the most that one of its calls takes.
// Each block: its coded length in 4 bytes, then its bytes; a length of 0 says plain bytes, of 1 one repeated byte.
// mode 1 decodes with the single-symbol tables (X1), 2 with the double-symbol ones (X2), 0 lets huff0 choose as zstd
// does. The fast loops of zstd 1.5.7, in assembler where they are, are in use.
#include <stdint.h>
#include <string.h>

#define HUF_STATIC_LINKING_ONLY
#include "common/huf.h"

#define BLOCK ((size_t)128 << 10)

enum { FLAGS = HUF_flags_bmi2 | HUF_flags_optimalDepth };

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

size_t attar_huff0_bound(size_t size) { return size + 4 * (size / BLOCK + 1) + 512; }

// Coded bytes; dst holds attar_huff0_bound(size).
size_t attar_huff0_encode(uint8_t* dst, const uint8_t* src, size_t size) {
    static uint64_t work[HUF_WORKSPACE_SIZE_U64];
    static HUF_CElt table[HUF_CTABLE_SIZE_ST(255)];
    uint8_t* out = dst;
    for (size_t at = 0; at < size; at += BLOCK) {
        size_t const part = smaller(BLOCK, size - at);
        HUF_repeat repeat = HUF_repeat_none;
        size_t coded = HUF_compress4X_repeat(out + 4, part - 1, src + at, part, 255, 11, work, sizeof(work), table,
                                             &repeat, FLAGS);
        if (HUF_isError(coded)) coded = 0;
        uint32_t const length = (uint32_t)coded;
        memcpy(out, &length, 4);
        if (coded == 0) memcpy(out + 4, src + at, part);
        if (coded == 1) out[4] = src[at];
        out += 4 + (coded == 0 ? part : coded);
    }
    return (size_t)(out - dst);
}

// 0, or 1 where the bytes are not those of attar_huff0_encode.
int attar_huff0_decode(uint8_t* dst, size_t size, const uint8_t* src, size_t coded_size, int mode) {
    static uint64_t work[HUF_DECOMPRESS_WORKSPACE_SIZE_U32 / 2 + 1];
    HUF_CREATE_STATIC_DTABLEX2(table, HUF_TABLELOG_MAX);
    const uint8_t* const end = src + coded_size;
    for (size_t at = 0; at < size; at += BLOCK) {
        size_t const part = smaller(BLOCK, size - at);
        uint32_t length;
        if (end - src < 4) return 1;
        memcpy(&length, src, 4);
        src += 4;
        size_t const held = length == 0 ? part : length;
        if ((size_t)(end - src) < held) return 1;
        if (length == 0) {
            memcpy(dst + at, src, part);
        } else if (length == 1) {
            memset(dst + at, src[0], part);
        } else {
            size_t head, done;
            int const two = mode == 2 || (mode == 0 && HUF_selectDecoder(part, held));
            table[0] = (HUF_DTable)(two ? HUF_TABLELOG_MAX : HUF_TABLELOG_MAX - 1) * 0x01000001;
            head = two ? HUF_readDTableX2_wksp(table, src, held, work, sizeof(work), FLAGS)
                       : HUF_readDTableX1_wksp(table, src, held, work, sizeof(work), FLAGS);
            if (HUF_isError(head) || head >= held) return 1;
            done = HUF_decompress4X_usingDTable(dst + at, part, src + head, held - head, table, FLAGS);
            if (HUF_isError(done) || done != part) return 1;
        }
        src += held;
    }
    return src != end;
}
