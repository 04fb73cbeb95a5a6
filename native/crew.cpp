#include "crew.hpp"

#include <chrono>
#include <condition_variable>
#include <system_error>
#include <thread>

#include "target.hpp"

namespace attar {

namespace {

// Until `done`, or for kPatience: what is waited for takes less as a rule, and to sleep and be woken takes the system 0.05 ms.
constexpr std::chrono::microseconds kPatience{300};

template <class Done>
void wait_a_little(Done done) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    do {
        for (int k = 0; k < 32; ++k) {
            if (done()) return;
            ATTAR_PAUSE();
        }
        std::this_thread::yield();  // where processors are few
    } while (std::chrono::steady_clock::now() < end);
}

}  // namespace

// What the threads have in common; the last one to leave takes it along.
struct Crew::Shared {
    std::mutex lock;
    std::condition_variable called, left;
    std::atomic<size_t> calls{0};  // so far; the last one ends it all
    std::atomic<size_t> inside{0};
    const std::function<void()>* work = nullptr;  // that others may still take part in
    bool over = false;
};

Crew::Crew(size_t threads) : size_(std::max<size_t>(threads, 1)) {
    if (threads < 2) return;
    shared_ = std::make_shared<Shared>();
    try {
        for (size_t k = 1; k < threads; ++k) std::thread([shared = shared_] { serve(*shared); }).detach();
    } catch (const std::system_error&) {
        // Fewer threads do the same work.
    }
}

Crew::~Crew() {
    if (!shared_) return;
    {
        std::lock_guard<std::mutex> held(shared_->lock);
        shared_->over = true;
        ++shared_->calls;
    }
    shared_->called.notify_all();
}

void Crew::serve(Shared& shared) {
    size_t seen = 0;
    const auto called = [&] { return shared.calls != seen; };
    for (;;) {
        wait_a_little(called);
        std::unique_lock<std::mutex> held(shared.lock);
        shared.called.wait(held, called);
        if (shared.over) return;
        seen = shared.calls;
        if (shared.work == nullptr) continue;
        const std::function<void()>& work = *shared.work;
        ++shared.inside;
        held.unlock();
        work();
        held.lock();
        if (--shared.inside == 0) shared.left.notify_one();
    }
}

void Crew::on_all(const std::function<void()>& work) {
    {
        std::lock_guard<std::mutex> held(shared_->lock);
        shared_->work = &work;
        ++shared_->calls;
    }
    shared_->called.notify_all();
    work();
    {
        std::lock_guard<std::mutex> held(shared_->lock);
        shared_->work = nullptr;
    }
    const auto alone = [&] { return shared_->inside == 0; };
    wait_a_little(alone);
    std::unique_lock<std::mutex> held(shared_->lock);
    shared_->left.wait(held, alone);
}

}  // namespace attar
