// Memory for the work of one call: a fresh page costs the kernel as long as counting what lies on it.
#pragma once

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

// A buffer that a later call on this thread takes up again, unless it is large.
template <class T>
class Kept {
  public:
    Kept() {
        if (spare().empty()) return;
        data = std::move(spare().back());
        spare().pop_back();
    }
    ~Kept() {
        if (data.capacity() * sizeof(T) < 2 * Pages<T>::kLarge && spare().size() < 2) spare().push_back(std::move(data));
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
    static std::vector<std::vector<T, Pages<T>>>& spare() {
        thread_local std::vector<std::vector<T, Pages<T>>> held;
        return held;
    }
};

}  // namespace attar
