// A static array's side information and chunks: attar/coding/static.py in C++.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "choose_plan.hpp"
#include "counts.hpp"
#include "pages.hpp"

namespace attar {

// Room for all chunks, in whatever order they are done; one that no longer fits has its own.
class ChunkRoom {
  public:
    explicit ChunkRoom(size_t size) { kept_.room(size); }
    uint8_t* take(size_t size, std::vector<uint8_t>& own);

  private:
    Kept<uint8_t> kept_;
    std::atomic<size_t> used_{0};
};

struct ChunkBytes {
    const uint8_t* data = nullptr;
    size_t size = 0;
    std::vector<uint8_t> own;
};

// The bits of the symbols' code in 1/2^16 are an estimate. places are those of the escapes in the matrix, in the order of
// coding.
struct StaticCode {
    Sides sides;
    int64_t bits;
    std::vector<uint8_t> side;
    std::vector<int64_t> places;
    std::vector<ChunkBytes> chunks;
    std::unique_ptr<ChunkRoom> room;
};

// Symbols of an alphabet, which occur as often as counts[alphabet] says; `laned` where lanes are worth a byte each even in
// a chunk that is short. Throws Malformed where the counts are wrong.
StaticCode encode_static(SymbolMatrix symbols, const Alphabet& alphabet, const int64_t* counts, bool laned, size_t threads,
                         Path path);

}  // namespace attar
