// What all kernels share: numbers of bfloat16, threads, sums.

#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>

namespace {

struct bfloat16 {
  uint16_t bits;
};

inline float to_float(float x) { return x; }
inline float to_float(bfloat16 x) {
  uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

inline void store(float x, float* to) { *to = x; }
inline void store(float x, bfloat16* to) {  // round to nearest, ties to even; a NaN stays one
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to->bits = static_cast<uint16_t>(x != x ? 0x7fc0 : rounded);
}

// Threads that help callers; they live as long as the process. A caller works itself and waits only for helpers that began: it gets
// on without any, where none is free or none can be made.
class Helpers {
 public:
  static Helpers& get() {
    static auto* helpers = new Helpers;  // never deleted: its threads may still wait when the process ends
    return *helpers;
  }

  // Calls work() here and on up to `helpers` other threads at a time; returns when all of them have.
  void run(const std::function<void()>& work, int64_t helpers) {
    Job job{&work, helpers, 0};
    std::unique_lock<std::mutex> lock(mutex_);
    try {
      while (count_ < helpers) {
        std::thread([this] { help(); }).detach();
        ++count_;
      }
    } catch (const std::system_error&) {  // as many as the system gives
    }
    jobs_.push_back(&job);
    lock.unlock();
    for (int64_t i = 0; i < helpers; ++i) wake_.notify_one();
    work();
    lock.lock();
    jobs_.erase(std::remove(jobs_.begin(), jobs_.end(), &job), jobs_.end());
    done_.wait(lock, [&] { return job.active == 0; });
  }

 private:
  struct Job {
    const std::function<void()>* work;
    int64_t wanted, active;  // helpers that may still begin, and that are at it
  };

  void help() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return !jobs_.empty(); });
      Job* job = jobs_.front();
      if (--job->wanted == 0) jobs_.pop_front();
      ++job->active;
      lock.unlock();
      (*job->work)();
      lock.lock();
      if (--job->active == 0) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::deque<Job*> jobs_;
  int64_t count_ = 0;
};

// Calls work(i) for i in [0, n), on as many threads as the op was told. What work throws is thrown here, once all have stopped.
template <typename Work>
void parallel_for(int64_t n, int64_t threads, const Work& work) {
  std::atomic<int64_t> next{0};
  std::exception_ptr error;
  std::once_flag first;
  const std::function<void()> run = [&] {
    try {
      for (int64_t i; (i = next++) < n;) work(i);
    } catch (...) {
      std::call_once(first, [&] { error = std::current_exception(); });
      next = n;
    }
  };
  if (const int64_t helpers = std::min(threads, n) - 1; helpers > 0) {
    Helpers::get().run(run, helpers);
  } else {
    run();
  }
  if (error) std::rethrow_exception(error);
}

// Sums over positions in blocks, so that rounding grows with the block and the number of blocks, not with their product.
constexpr int64_t kBlock = 64;

template <typename Add>
void blocked_sum(int64_t positions, int64_t channels, float* total, float* part, const Add& add) {
  std::fill_n(total, channels, 0.f);
  for (int64_t begin = 0; begin < positions; begin += kBlock) {
    std::fill_n(part, channels, 0.f);
    for (int64_t s = begin; s < std::min(begin + kBlock, positions); ++s) add(s, part);
    for (int64_t c = 0; c < channels; ++c) total[c] += part[c];
  }
}

}  // namespace
