#include "mixed.hpp"

#include <algorithm>

#include "mixing.hpp"
#include "pages.hpp"
#include "range.hpp"
#include "target.hpp"

namespace attar {

namespace {

constexpr uint32_t kFresh = 1u << 31;
constexpr size_t kBucket = 16;  // a check, then the counters of 15 nodes of up to 4 bits
constexpr int kFewest = 8, kMost = 19;
constexpr size_t kMatched = 6;  // bytes that have to agree before a match is looked for
constexpr uint32_t kLongest = 400;
constexpr size_t kLengths = 32, kStates = 4;
using Words = std::vector<uint32_t, Pages<uint32_t>>;

int buckets_log(size_t n) {
    int log = 0;
    while (n >> log > 1) ++log;
    return std::clamp(log, kFewest, kMost);
}

ATTAR_INLINE uint32_t stirred(uint32_t hash, uint32_t value) {
    hash = (hash + value + 1) * 0x2C9277B5u;
    return hash ^ hash >> 15;
}

// The counters of contexts, by hash: each context has a bucket of its own, or takes the less used one of two.
class Buckets {
  public:
    explicit Buckets(int log) : shift_(32 - log), words_(kBucket << log, 0) {}
    uint32_t* find(uint32_t hash) {
        const uint32_t check = hash | 1;
        const size_t at = static_cast<size_t>(hash * 0x9E3779B1u >> shift_);
        uint32_t *one = &words_[at * kBucket], *other = &words_[(at ^ 1) * kBucket];
        if (one[0] == check) return one;
        if (other[0] == check) return other;
        uint32_t* taken = used(one) <= used(other) ? one : other;
        taken[0] = check;
        std::fill_n(taken + 1, kBucket - 1, kFresh);
        return taken;
    }
    void expect(uint32_t hash) const { ATTAR_PREFETCH(&words_[static_cast<size_t>(hash * 0x9E3779B1u >> shift_) * kBucket]); }

  private:
    static uint32_t used(const uint32_t* bucket) { return bucket[0] == 0 ? 0 : 1 + (bucket[1] & kSeenMost); }
    int shift_;
    Words words_;
};

// Lengths of a match, fine where they are short.
ATTAR_INLINE size_t level_of(uint32_t length) {
    if (length < 32) return length < 16 ? length : 16 + (length - 16) / 4;
    return length < kLongest ? 20 + (length - 32) / 32 : 31;
}

// The longest earlier run of bytes like the last ones, and what followed it.
class Match {
  public:
    explicit Match(int log) : shift_(32 - log), last_(size_t{1} << log, 0) {}
    void look(const uint8_t* symbols, size_t i) {
        if (length_ > 0 && symbols[from_] == symbols[i - 1]) {
            ++from_;
            length_ = std::min(length_ + 1, kLongest);
        } else {
            length_ = 0;
        }
        if (i < kMatched) return;
        uint32_t hash = 0;
        for (size_t k = 1; k <= kMatched; ++k) hash = stirred(hash, symbols[i - k]);
        uint32_t& place = last_[hash >> shift_];
        if (length_ == 0 && place > 0) {
            from_ = place;
            while (length_ < kLongest && length_ < from_ && symbols[from_ - 1 - length_] == symbols[i - 1 - length_]) ++length_;
            if (length_ < kMatched) length_ = 0;
        }
        place = static_cast<uint32_t>(i);
    }
    // The logit of a one; `node` is a one before the bits of the symbol so far, `left` how many bits it has to come.
    int logit(const MixingTables& tables, const uint8_t* symbols, uint32_t node, int left, int bits) {
        expects_ = length_ > 0 && (symbols[from_] | 1u << bits) >> left == node;
        if (!expects_) return 0;
        bit_ = symbols[from_] >> (left - 1) & 1;
        const int logit = tables.stretch[right_[level_of(length_)] >> 10];
        return bit_ ? logit : -logit;
    }
    // None, short, longer or long: each has mixers of its own.
    size_t state() const { return !expects_ ? 0 : length_ < 16 ? 1 : length_ < 32 ? 2 : 3; }
    void learn(int bit) {
        if (!expects_) return;
        int32_t& share = right_[level_of(length_)];
        share += ((bit == bit_ ? (1 << 22) - 1 : 0) - share) >> 7;
    }

  private:
    int shift_;
    Words last_;
    size_t from_ = 0;
    uint32_t length_ = 0;
    bool expects_ = false;
    int bit_ = 0;
    std::array<int32_t, kLengths> right_ = filled();
    static std::array<int32_t, kLengths> filled() {
        std::array<int32_t, kLengths> start;
        start.fill(3 << 20);
        return start;
    }
};

bool is_letter(uint8_t symbol) { return symbol >= 128 || ((symbol | 32) >= 'a' && (symbol | 32) <= 'z'); }

template <class Coder>
class Mixed {
  public:
    Mixed(Coder& coder, const MixedPlan& plan, size_t n)
        : coder_(coder), plan_(plan), match_(buckets_log(n)), mixers_(plan.columns * kStates * 256) {
        for (int k = 0; k < kContexts; ++k) buckets_.emplace_back(buckets_log(n));
    }

    // Codes the symbols, or fills them in.
    void run(uint8_t* symbols, size_t n) {
        for (size_t i = 0, column = 0; i < n; ++i, column = column + 1 == plan_.columns ? 0 : column + 1) {
            if (i > 0) {
                match_.look(symbols, i);
                word_ = is_letter(symbols[i - 1]) ? stirred(word_, symbols[i - 1] | 32) : 0;
            }
            hash(symbols, i, column);
            symbols[i] = static_cast<uint8_t>(one(symbols, column, symbols[i]));
        }
    }

  private:
    void hash(const uint8_t* symbols, size_t i, size_t column) {
        const int32_t* distance = plan_.distances + column * kContexts * kReach;
        for (uint32_t k = 0; k < kContexts; ++k, distance += kReach) {
            uint32_t hash = stirred(static_cast<uint32_t>(column), k);
            for (size_t r = 0; r < kReach && distance[r] != 0; ++r) {
                const size_t far = static_cast<size_t>(distance[r]);
                hash = stirred(hash, distance[r] == kWord ? word_ : far <= i ? symbols[i - far] : 256u);
            }
            hash_[k] = hash;
            buckets_[k].expect(hash);
        }
    }

    // A symbol's bits, the highest first, in one or two runs of up to four, each with a bucket of its own in every context.
    ATTAR_INLINE uint32_t one(const uint8_t* symbols, size_t column, uint32_t wanted) {
        const int bits = plan_.bits[column];
        uint32_t node = 1;
        for (int left = bits; left > 0;) {
            const int run = (left - 1) % 4 + 1;
            uint32_t* bucket[kContexts];
            for (int k = 0; k < kContexts; ++k) {
                bucket[k] = buckets_[static_cast<size_t>(k)].find(node == 1 ? hash_[k] : stirred(hash_[k], node));
            }
            uint32_t place = 1;
            for (int j = 0; j < run; ++j, --left) {
                uint32_t* counters[kContexts];
                for (int k = 0; k < kContexts; ++k) counters[k] = bucket[k] + place;
                const int expected = match_.logit(tables_, symbols, node, left, bits);
                Mixer& mixer = mixers_[(column * kStates + match_.state()) * 256 + node];
                const int wish = static_cast<int>(wanted >> (left - 1) & 1);
                const int bit = mixer.bit(coder_, tables_, counters, expected, wish, plan_.limit);
                match_.learn(bit);
                place = place << 1 | static_cast<uint32_t>(bit);
                node = node << 1 | static_cast<uint32_t>(bit);
            }
        }
        return node & ((1u << bits) - 1);
    }

    Coder& coder_;
    const MixedPlan& plan_;
    const MixingTables& tables_ = mixing_tables();
    std::vector<Buckets> buckets_;
    Match match_;
    std::vector<Mixer> mixers_;
    uint32_t hash_[kContexts] = {};
    uint32_t word_ = 0;
};

void check(const MixedPlan& plan, size_t n) {
    if (n > kMixedMost || plan.columns == 0 || n % plan.columns != 0) throw Malformed("there must be whole rows, not too many");
    if (plan.columns > kColumnsMost) throw Malformed("there must be 4096 columns at most");
    const auto right = [](uint8_t bits) { return bits >= 1 && bits <= 8; };
    if (plan.limit == 0 || plan.limit > kSeenMost) throw Malformed("a counter must count up to 1023 at most");
    if (!std::all_of(plan.bits, plan.bits + plan.columns, right)) throw Malformed("a symbol must have 1 to 8 bits");
    const int32_t* end = plan.distances + plan.columns * kContexts * kReach;
    if (std::any_of(plan.distances, end, [](int32_t d) { return d < kWord; })) throw Malformed("a distance must lie behind");
}

}  // namespace

std::vector<uint8_t> mixed_encode(const MixedPlan& plan, const uint8_t* symbols, size_t n) {
    check(plan, n);
    for (size_t i = 0; i < n; ++i) {
        if (symbols[i] >> plan.bits[i % plan.columns] != 0) throw Malformed("a symbol must have its column's bits");
    }
    RangeEncoder coder;
    std::vector<uint8_t> copy(symbols, symbols + n);
    Mixed<RangeEncoder>(coder, plan, n).run(copy.data(), n);
    return coder.finish();
}

void mixed_decode(const MixedPlan& plan, const uint8_t* data, size_t size, uint8_t* symbols, size_t n) {
    check(plan, n);
    std::fill_n(symbols, n, uint8_t{0});
    RangeDecoder coder(data, size);
    Mixed<RangeDecoder>(coder, plan, n).run(symbols, n);
    coder.finish();
}

}  // namespace attar
