// Room for symbols that outlives a call: fresh pages take the system as long as decoding into them takes.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace attar {

constexpr size_t kSlack = 128;  // bytes beyond a buffer that vectors may touch

// Bytes that are not set before they are used.
class Buffer {
  public:
    uint8_t* reserve(size_t size) {
        if (size > size_) {
            size_ = 0;
            data_.reset();
            data_.reset(new uint8_t[size + kSlack]);
            size_ = size;
        }
        return data_.get();
    }
    size_t size() const { return size_; }

  private:
    std::unique_ptr<uint8_t[]> data_;
    size_t size_ = 0;
};

// A buffer that a later call takes up again, on whatever thread, unless it is large.
class SpareBuffer {
  public:
    SpareBuffer() {
        for (std::atomic<Buffer*>& place : places()) {
            buffer_.reset(place.exchange(nullptr));
            if (buffer_) return;
        }
        buffer_ = std::make_unique<Buffer>();
    }
    ~SpareBuffer() {
        if (buffer_->size() > kLargest) return;
        for (std::atomic<Buffer*>& place : places()) {
            Buffer* none = nullptr;
            if (!place.compare_exchange_strong(none, buffer_.get())) continue;
            buffer_.release();
            return;
        }
    }
    SpareBuffer(const SpareBuffer&) = delete;
    SpareBuffer& operator=(const SpareBuffer&) = delete;
    uint8_t* reserve(size_t size) { return buffer_->reserve(size); }

  private:
    static constexpr size_t kLargest = size_t{1} << 20;
    // Never emptied, and without a lock: a process may be forked or end at any time.
    static std::array<std::atomic<Buffer*>, 8>& places() {
        static std::array<std::atomic<Buffer*>, 8> held{};
        return held;
    }
    std::unique_ptr<Buffer> buffer_;
};

}  // namespace attar
