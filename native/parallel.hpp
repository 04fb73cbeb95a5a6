// Work on several threads of its own: for what takes much longer than starting them does.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace attar {

// Calls work(next) on up to `threads` threads, this one among them; next() gives 0 .. count - 1, each to one of them, and
// then count. What one of them throws ends all, and is thrown here.
template <class Work>
void on_threads(size_t count, size_t threads, Work work) {
    std::atomic<size_t> index{0};
    std::exception_ptr error;
    std::mutex lock;
    auto next = [&] { return std::min(index.fetch_add(1), count); };
    auto guarded = [&] {
        try {
            work(next);
        } catch (...) {
            index = count;
            std::lock_guard<std::mutex> held(lock);
            if (!error) error = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    try {
        while (others.size() + 1 < std::min(threads, count)) others.emplace_back(guarded);
    } catch (const std::system_error&) {
        // Fewer threads do the same work.
    }
    guarded();
    for (std::thread& other : others) other.join();
    if (error) std::rethrow_exception(error);
}

}  // namespace attar
