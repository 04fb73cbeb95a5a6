// Memory for the work of one call: a fresh page costs the kernel as long as counting what lies on it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace attar {

// Asks for large pages for what lies whole within some fresh memory.
inline void ask_large([[maybe_unused]] void* data, [[maybe_unused]] size_t bytes) {
#if defined(__linux__)
    constexpr uintptr_t kPage = 1 << 12;
    const uintptr_t start = (reinterpret_cast<uintptr_t>(data) + kPage - 1) / kPage * kPage;
    const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / kPage * kPage;
    if (bytes >= size_t{1} << 22) madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);
#endif
}

// Allocates large buffers on large pages, where there are such.
template <class T>
struct Pages {
    using value_type = T;
    static constexpr size_t kLarge = size_t{1} << 21;

    Pages() = default;
    template <class U>
    Pages(const Pages<U>&) {}

    T* allocate(size_t count) {
#if defined(__linux__)
        if (count * sizeof(T) >= 2 * kLarge) {
            const size_t bytes = (count * sizeof(T) + kLarge - 1) / kLarge * kLarge;
            void* data = std::aligned_alloc(kLarge, bytes);
            if (data == nullptr) throw std::bad_alloc();
            madvise(data, bytes, MADV_HUGEPAGE);
            return static_cast<T*>(data);
        }
#endif
        void* data = std::malloc(count * sizeof(T));
        if (data == nullptr) throw std::bad_alloc();
        return static_cast<T*>(data);
    }
    void deallocate(T* data, size_t) { std::free(data); }
    // Elements that nobody gives a value have none, and cost nothing.
    template <class U>
    void construct(U*) noexcept {}
    template <class U, class... Given>
    void construct(U* place, Given&&... given) {
        ::new (static_cast<void*>(place)) U(std::forward<Given>(given)...);
    }
    friend bool operator==(const Pages&, const Pages&) { return true; }
    friend bool operator!=(const Pages&, const Pages&) { return false; }
};

// Bytes that wait for a later call, on all threads together.
inline std::atomic<size_t>& bytes_kept() {
    static std::atomic<size_t> bytes{0};
    return bytes;
}

// A buffer that a later call on this thread takes up again, unless too much is kept.
template <class T>
class Kept {
  public:
    Kept() = default;
    ~Kept() { give(); }
    Kept(const Kept&) = delete;
    Kept& operator=(const Kept&) = delete;
    // At least so many elements, of any value.
    void room(size_t count) {
        if (data.size() >= count) return;
        give();
        take(count);
        if (data.size() < count) data.resize(count);
    }
    std::vector<T, Pages<T>> data;

  private:
    using Data = std::vector<T, Pages<T>>;
    static constexpr size_t kMost = 3 * (size_t{1} << 24), kBuffers = 4;
    static size_t bytes(const Data& data) { return data.capacity() * sizeof(T); }
    static bool smaller(const Data& one, const Data& other) { return one.size() < other.size(); }

    // The smallest that is large enough, if there is one.
    void take(size_t count) {
        std::vector<Data>& held = spare().held;
        auto best = held.end();
        for (auto one = held.begin(); one != held.end(); ++one) {
            if (one->size() >= count && (best == held.end() || smaller(*one, *best))) best = one;
        }
        if (best == held.end()) return;
        data = std::move(*best);
        held.erase(best);
        bytes_kept() -= bytes(data);
    }

    // Keeps the larger ones.
    void give() {
        std::vector<Data>& held = spare().held;
        if (held.size() == kBuffers) {
            const auto least = std::min_element(held.begin(), held.end(), smaller);
            if (smaller(*least, data) && bytes_kept() + bytes(data) - bytes(*least) <= kMost) {
                bytes_kept() += bytes(data) - bytes(*least);
                least->swap(data);
            }
        } else if (!data.empty() && bytes_kept() + bytes(data) <= kMost) {
            bytes_kept() += bytes(data);
            held.push_back(std::move(data));
        }
        Data().swap(data);
    }

    // Of a thread.
    struct Spare {
        std::vector<Data> held;
        ~Spare() {
            for (const Data& data : held) bytes_kept() -= bytes(data);
        }
    };
    static Spare& spare() {
        thread_local Spare held;
        return held;
    }
};

}  // namespace attar
