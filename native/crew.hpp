// Threads for the work of one call, which start while that work is still being prepared.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>

namespace attar {

// Up to `threads` threads, the caller's among them. The others are on their way when the constructor returns: to start one takes
// the system some 0.05 ms, in which the caller goes on. Nobody waits for one that is late, or for one to end, and they are
// fewer where the system has no more.
class Crew {
  public:
    explicit Crew(size_t threads);
    // Sends the others home.
    ~Crew();
    Crew(const Crew&) = delete;
    Crew& operator=(const Crew&) = delete;

    // With those that could not be had.
    size_t size() const { return size_; }

    // Calls work(next) on this thread and on those others that are there by then; next() gives 0 .. count - 1, each to one of
    // them, and then count. What one of them throws ends all, and is thrown here.
    template <class Work>
    void run(size_t count, Work work) {
        if (!shared_) {
            size_t index = 0;
            work([&] { return std::min(index++, count); });
            return;
        }
        std::atomic<size_t> index{0};
        std::exception_ptr error;
        std::mutex lock;
        auto next = [&] { return std::min(index.fetch_add(1), count); };
        const std::function<void()> guarded = [&] {
            try {
                work(next);
            } catch (...) {
                index = count;
                std::lock_guard<std::mutex> held(lock);
                if (!error) error = std::current_exception();
            }
        };
        on_all(guarded);
        if (error) std::rethrow_exception(error);
    }

  private:
    struct Shared;
    static void serve(Shared& shared);
    void on_all(const std::function<void()>& work);

    size_t size_;
    std::shared_ptr<Shared> shared_;  // none where there are no others
};

}  // namespace attar
