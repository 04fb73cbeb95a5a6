// Memory for the work of one call: a fresh page costs the kernel as long as counting what lies on it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace attar {

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
    Kept() {
        if (spare().held.empty()) return;
        data = std::move(spare().held.back());
        spare().held.pop_back();
        bytes_kept() -= bytes(data);
    }
    ~Kept() {
        if (bytes_kept() + bytes(data) > kMost || spare().held.size() == 2) return;
        bytes_kept() += bytes(data);
        spare().held.push_back(std::move(data));
    }
    Kept(const Kept&) = delete;
    Kept& operator=(const Kept&) = delete;
    // At least so many elements, of any value.
    void room(size_t count) {
        if (data.size() >= count) return;
        data.clear();
        data.resize(count);
    }
    std::vector<T, Pages<T>> data;

  private:
    using Data = std::vector<T, Pages<T>>;
    static constexpr size_t kMost = size_t{1} << 25;
    static size_t bytes(const Data& data) { return data.capacity() * sizeof(T); }

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
