#include "planes.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "buffer.hpp"
#include "crew.hpp"
#include "plan.hpp"
#include "static.hpp"
#include "values.hpp"

namespace attar {

namespace {

constexpr uint8_t kConstant = 0, kSplit = 1, kCut = 2;
constexpr unsigned kCutBits = 16;     // sections of an array that is cut are so many words, or a multiple
constexpr size_t kMost = 8;           // planes
constexpr size_t kBlock = size_t{1} << 13;  // numbers that are joined while they are in the cache; whole steps of any lanes

// One plane: its bytes, or what they are decoded from where it is a static array.
struct Plane {
    const uint8_t* bytes = nullptr;
    std::vector<uint8_t> own;
    std::optional<Plan> plan;
    std::vector<uint64_t> escaped;
    std::vector<Part> parts;
    std::vector<std::vector<int64_t>> places;  // of the escapes, by part
};

bool is_static(Source source) { return source.size != 0 && source.data[0] >= kStatic; }

Plane take_plane(Reader& reader, size_t count, Path path) {
    const Source source = reader.sized();
    Plane plane;
    if (source.size > count) throw Malformed("a plane must not have more bytes than there are values");
    if (source.size == count) {
        plane.bytes = source.data;
    } else if (is_static(source)) {
        Reader inner(source);
        const uint8_t form = inner.byte();
        Crew alone(1);
        plane.plan.emplace(take_plan(inner, form, {1, count}, path, alone));
        const Alphabet& alphabet = plane.plan->alphabet;
        if (alphabet.low > 255 || alphabet.low + alphabet.width > 256) throw Malformed("a plane must be of bytes");
        plane.escaped = take_escapes(inner, alphabet, count, 0, path);
        for (uint64_t value : plane.escaped) {
            if (value > 255) throw Malformed("a plane must be of bytes");
        }
        plane.parts = split(*plane.plan, inner.rest());
        plane.places.resize(plane.parts.size());
    } else {
        plane.own.resize(count);
        decode_values(source, {1, count}, {plane.own.data(), 1, 0, 255}, 1, path);
        plane.bytes = plane.own.data();
    }
    return plane;
}

// Consecutive words with planes of their own.
struct Section {
    std::vector<Plane> planes;
    size_t count, step;  // words, and words of a part
    uint8_t* out;
};

// Some consecutive words, block by block.
class PartOfWords {
  public:
    PartOfWords(Section& section, size_t start, Path path)
        : section_(section), part_(start / section.step), at_(start), stop_(std::min(section.count, start + section.step)),
          path_(path), room_(symbols_.reserve(width() * kBlock)) {
        for (size_t k = 0; k < width(); ++k) {
            const Plane& plane = section.planes[k];
            if (!plane.plan) continue;
            const Source source = plane.parts[part_].source;
            decoders_[k].emplace(source.data, source.size, stop_ - at_, plane.plan->tables, path);
            joined_.low[k] = static_cast<uint8_t>(plane.plan->alphabet.low);
        }
    }

    // What is left.
    void decode() {
        while (at_ != stop_) {
            const size_t count = std::min(kBlock, stop_ - at_);
            for (size_t k = 0; k < width(); ++k) {
                if (decoders_[k]) decoders_[k]->run(0, room(k), count);
            }
            join(count);
        }
        for (std::optional<ChunkDecoder>& decoder : decoders_) {
            if (decoder) decoder->finish();
        }
    }

    // Two of as many planes, whose chunks are decoded at once as far as both have whole steps.
    static void decode_both(PartOfWords& one, PartOfWords& other) {
        const auto count = [&] {
            return std::min({kBlock, one.stop_ - one.at_, other.stop_ - other.at_}) / kMaxLanes * kMaxLanes;
        };
        while (const size_t some = count()) {
            for (size_t k = 0; k < one.width(); ++k) {
                Run first{0, one.room(k), one.decoders_[k] ? some : 0}, second{0, other.room(k), other.decoders_[k] ? some : 0};
                if (first.count != 0 && second.count != 0) {
                    ChunkDecoder::run_both(*one.decoders_[k], first, *other.decoders_[k], second);
                }
                if (first.count != 0) one.decoders_[k]->run(0, first.symbols, first.count);
                if (second.count != 0) other.decoders_[k]->run(0, second.symbols, second.count);
            }
            one.join(some);
            other.join(some);
        }
        one.decode();
        other.decode();
    }

  private:
    size_t width() const { return section_.planes.size(); }
    uint8_t* room(size_t k) { return room_ + k * kBlock; }

    // The next words, of which what is coded is decoded.
    void join(size_t count) {
        for (size_t k = 0; k < width(); ++k) {
            Plane& plane = section_.planes[k];
            joined_.data[k] = plane.plan ? room(k) : plane.bytes + at_;
            if (!plane.plan || !plane.plan->alphabet.escape) continue;
            find_escapes(room(k), count, plane.plan->alphabet.width, plane.escaped.size(), plane.places[part_],
                         [&](size_t i) { return at_ + i; });
        }
        join_planes(joined_, width(), count, section_.out + at_ * width(), path_);
        at_ += count;
    }

    Section& section_;
    size_t part_, at_, stop_;
    Path path_;
    SpareBuffer symbols_;
    uint8_t* room_;  // [width][kBlock]
    PlaneBytes joined_{};
    std::optional<ChunkDecoder> decoders_[kMost];
};

// Puts the escaped bytes of plane k into the words.
void mend(const Plane& plane, size_t k, size_t width, uint8_t* out) {
    std::vector<int64_t> places;
    for (const std::vector<int64_t>& some : plane.places) places.insert(places.end(), some.begin(), some.end());
    if (places.size() != plane.escaped.size()) throw Malformed("every escape must have its value");
    const unsigned bits = static_cast<unsigned>(8 * width), low = static_cast<unsigned>(8 * k);
    for (size_t i = 0; i < places.size(); ++i) {
        uint8_t* at = out + static_cast<size_t>(places[i]) * width;
        uint64_t word = 0;
        for (size_t b = 0; b < width; ++b) word |= uint64_t{at[b]} << (8 * b);
        // Byte k of the rotated word lies one bit lower here, and its lowest bit, of the lowest byte, at the top.
        const uint64_t byte = plane.escaped[i];
        const uint64_t mask = low == 0 ? uint64_t{127} | uint64_t{1} << (bits - 1) : uint64_t{255} << (low - 1);
        const uint64_t moved = low == 0 ? byte >> 1 | (byte & 1) << (bits - 1) : byte << (low - 1);
        word = (word & ~mask) | moved;
        for (size_t b = 0; b < width; ++b) at[b] = static_cast<uint8_t>(word >> (8 * b));
    }
}

void fill(Source value, size_t width, size_t count, uint8_t* out) {
    std::memcpy(out, value.data, width);
    for (size_t done = 1; done < count; done *= 2) std::memcpy(out + done * width, out, std::min(done, count - done) * width);
}

// Reads what words are made of; those of a constant section are made at once.
void take_section(Reader& reader, uint8_t form, size_t width, size_t count, uint8_t* out, Path path,
                  std::vector<Section>& sections) {
    if (form == kConstant) return fill(reader.take(width), width, count, out);
    if (form != kSplit) throw Malformed("the form must be 0, 1 or 2");
    sections.push_back({{}, count, part_of(count, kChunk), out});
    for (size_t k = 0; k < width; ++k) sections.back().planes.push_back(take_plane(reader, count, path));
}

// A part of a section, from a word on.
struct Place {
    Section* section;
    size_t start;
};

void decode_sections(std::vector<Section>& sections, size_t threads, Path path) {
    std::vector<Place> parts;
    for (Section& section : sections) {
        for (size_t start = 0; start < section.count; start += section.step) parts.push_back({&section, start});
    }
    // Two by two as far as all threads have as many of them; then one by one.
    Crew crew(std::min(threads, parts.size() / 2));
    const size_t pairs = has_vbmi2() ? parts.size() / (2 * crew.size()) * crew.size() : 0, work = parts.size() - pairs;
    crew.run(work, [&](auto next) {
        for (size_t p; (p = next()) < work;) {
            const Place* const at = parts.data() + (p < pairs ? 2 * p : p + pairs);
            PartOfWords one(*at[0].section, at[0].start, path);
            if (p < pairs) {
                PartOfWords other(*at[1].section, at[1].start, path);
                PartOfWords::decode_both(one, other);
            } else {
                one.decode();
            }
        }
    });
    for (const Section& section : sections) {
        const size_t width = section.planes.size();
        for (size_t k = 0; k < width; ++k) {
            if (section.planes[k].plan) mend(section.planes[k], k, width, section.out);
        }
    }
}

// Reads what the words of an array are made of.
void take_sections(const PlaneArray& array, Path path, std::vector<Section>& sections) {
    Reader reader(array.source);
    const uint8_t form = reader.byte();
    if (form != kCut) {
        take_section(reader, form, array.width, array.count, array.out, path, sections);
    } else {
        for (size_t at = 0; at < array.count;) {
            const size_t left = array.count - at;
            const uint64_t blocks = reader.varint();
            if (blocks == 0 || blocks - 1 > (left - 1) >> kCutBits) throw Malformed("a section must lie in the array");
            const size_t count = std::min<size_t>(left, static_cast<size_t>(blocks) << kCutBits);
            const uint8_t inner = reader.byte();
            take_section(reader, inner, array.width, count, array.out + at * array.width, path, sections);
            at += count;
        }
    }
    reader.finish();
}

}  // namespace

void decode_planes(const PlaneArray& array, size_t threads, Path path) {
    std::vector<Section> sections;
    take_sections(array, path, sections);
    decode_sections(sections, threads, path);
}

void decode_planes(const std::vector<PlaneArray>& arrays, size_t threads, Path path) {
    size_t words = 0;
    for (const PlaneArray& array : arrays) words += array.count;
    // One after the other: parts of several arrays in turn read and write memory here and there, and wait for it.
    Crew(std::min({threads, arrays.size(), words / (2 * kChunk)})).run(arrays.size(), [&](auto next) {
        for (size_t k; (k = next()) < arrays.size();) decode_planes(arrays[k], 1, path);
    });
}

}  // namespace attar
