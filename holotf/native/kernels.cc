// What lies between the convolutions, for the CPU: bound by memory, and a few times faster by hand than compiled by XLA; there each
// sample is worked on by one thread while it lies in that core's cache. And convolutions, on processors with a matrix unit or vectors
// of 512 bits: of bfloat16, and of float32 where fewer products do. Results do not depend on the number of threads.
//
// Values are float32 or bfloat16; every sum is float32. The formulas are those of the Python functions that call these
// (layers/normalise.py, layers/rigid.py, layers/tiles.py, renderers/compositing.py), and tests hold the two together.
//
// TensorFlow's C interface keeps this independent of its C++ headers: it compiles in seconds and its ABI is stable.

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <vector>

// Matrices of bfloat16 are multiplied by tiles (AMX) where the processor has them, otherwise by vectors of 512 bits.
#if defined(HOLOTF_EMULATE_TILES)  // for tests, as are HOLOTF_NO_TILES and HOLOTF_PAIRS: slow
#define HOLOTF_TILES
#include "emulated_tiles.h"
#elif defined(__AMX_BF16__) && !defined(HOLOTF_NO_TILES)
#define HOLOTF_TILES
#endif
#if defined(__AVX512BF16__) && !defined(HOLOTF_TILES)
#define HOLOTF_MAY_PAIR
#endif
#if defined(HOLOTF_TILES) || defined(__AVX512BW__)
#define HOLOTF_CONVOLUTIONS
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_tensor.h"

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

// ---- Instance normalisation with scale, shift and leaky ReLU --------------------------------------------------------------------

struct Norm {
  int64_t batch, positions, channels, per_sample;  // per_sample: 1 where scale and shift are [B,C], 0 where they are [C]
};

template <typename T>
void norm_forward(const Norm& n, const T* x, const float* scale, const float* shift, float epsilon, float slope, int64_t threads,
                  T* y, float* mean, float* rate) {
  const int64_t C = n.channels, P = n.positions;
  parallel_for(n.batch, threads, [&](int64_t b) {
    const T* xs = x + b * P * C;
    T* ys = y + b * P * C;
    float *m = mean + b * C, *r = rate + b * C;
    std::vector<float> part(C), gain(C), offset(C);
    blocked_sum(P, C, m, part.data(), [&](int64_t s, float* sum) {
      for (int64_t c = 0; c < C; ++c) sum[c] += to_float(xs[s * C + c]);
    });
    for (int64_t c = 0; c < C; ++c) m[c] /= P;
    blocked_sum(P, C, r, part.data(), [&](int64_t s, float* sum) {
      for (int64_t c = 0; c < C; ++c) {
        float centred = to_float(xs[s * C + c]) - m[c];
        sum[c] += centred * centred;
      }
    });
    const float *scales = scale + n.per_sample * b * C, *shifts = shift + n.per_sample * b * C;
    for (int64_t c = 0; c < C; ++c) {
      r[c] = 1.f / std::sqrt(r[c] / P + epsilon);
      gain[c] = r[c] * scales[c];
      offset[c] = shifts[c];
    }
    for (int64_t s = 0; s < P; ++s)
      for (int64_t c = 0; c < C; ++c) {
        float v = (to_float(xs[s * C + c]) - m[c]) * gain[c] + offset[c];
        store(std::max(v, slope * v), ys + s * C + c);
      }
  });
}

// dx = gain rate (g - mean g - normal mean(g normal)), dscale = sum g normal, dshift = sum g; g is the gradient past the ReLU.
template <typename T>
void norm_backward(const Norm& n, const T* x, const float* scale, const float* shift, const float* mean, const float* rate,
                   const T* dy, float slope, int64_t threads, T* dx, float* dscale, float* dshift) {
  const int64_t C = n.channels, P = n.positions;
  parallel_for(n.batch, threads, [&](int64_t b) {
    const T *xs = x + b * P * C, *dys = dy + b * P * C;
    T* dxs = dx + b * P * C;
    const float *m = mean + b * C, *r = rate + b * C;
    const float *scales = scale + n.per_sample * b * C, *shifts = shift + n.per_sample * b * C;
    float *sum_gn = dscale + b * C, *sum_g = dshift + b * C;
    std::vector<float> both(4 * C), mean_g(C), mean_gn(C), gain(C);
    auto past_relu = [slope](T upstream, float y) { return to_float(upstream) * (y > 0.f ? 1.f : slope); };
    blocked_sum(P, 2 * C, both.data(), both.data() + 2 * C, [&](int64_t s, float* sum) {
      const T *xc = xs + s * C, *gc = dys + s * C;
#pragma GCC ivdep
      for (int64_t c = 0; c < C; ++c) {
        const float normal = (to_float(xc[c]) - m[c]) * r[c];
        const float g = past_relu(gc[c], normal * scales[c] + shifts[c]);
        sum[c] += g;
        sum[C + c] += g * normal;
      }
    });
    for (int64_t c = 0; c < C; ++c) {
      sum_g[c] = both[c];
      sum_gn[c] = both[C + c];
      mean_g[c] = both[c] / P;
      mean_gn[c] = both[C + c] / P;
      gain[c] = scales[c] * r[c];
    }
    for (int64_t s = 0; s < P; ++s) {
      const T *xc = xs + s * C, *gc = dys + s * C;
#pragma GCC ivdep
      for (int64_t c = 0; c < C; ++c) {
        const float normal = (to_float(xc[c]) - m[c]) * r[c];
        const float g = past_relu(gc[c], normal * scales[c] + shifts[c]);
        store(gain[c] * (g - mean_g[c] - normal * mean_gn[c]), dxs + s * C + c);
      }
    }
  });
}

// ---- Trilinear resampling --------------------------------------------------------------------------------------------------------

// The eight voxels around the point that each output voxel samples: calls visit(output, inputs[8], weights[8]).
// What lies outside has weight 0; at a position that is not a number every weight is NaN.
template <typename Visit>
void trilinear(const float* m, int64_t n, const Visit& visit) {
  const float middle = (n - 1) / 2.f, half = n / 2.f;
  std::vector<int32_t> index(6 * n);  // [depth, height, width; lower, upper corner; w]: of a line of outputs at a time
  std::vector<float> weight(6 * n);
  int64_t out = 0;
  for (int64_t d = 0; d < n; ++d)
    for (int64_t h = 0; h < n; ++h) {
      const float y = middle - h, z = middle - d;  // y up, z toward the viewer
      for (int i = 0; i < 3; ++i) {
        const float *row = m + 4 * (2 - i), sign = i == 2 ? 1.f : -1.f;
        int32_t *low = index.data() + 2 * i * n, *high = low + n;
        float *to_low = weight.data() + 2 * i * n, *to_high = to_low + n;
#pragma GCC ivdep
        for (int32_t w = 0; w < n; ++w) {
          const float at = middle + sign * (row[0] * (w - middle) + row[1] * y + row[2] * z + row[3] * half);
          const bool inside = at > -1.f && at < n;  // no, if it is not a number
          const float near = std::min<float>(std::max(at, -1.f), n), outside = near - near;  // 0, or NaN
          const float floor = std::floor(inside ? at : 0.f), part = at - floor;
          const int32_t corner = static_cast<int32_t>(floor);
          low[w] = std::max(corner, 0);
          high[w] = std::min<int32_t>(corner + 1, n - 1);
          to_low[w] = inside && corner >= 0 ? 1.f - part : outside;
          to_high[w] = inside && corner + 1 < n ? part : outside;
        }
      }
      for (int64_t w = 0; w < n; ++w, ++out) {
        int64_t inputs[8];
        float weights[8];
        for (int k = 0; k < 8; ++k) {
          const int64_t a = (k >> 2) * n + w, b = (2 + (k >> 1 & 1)) * n + w, c = (4 + (k & 1)) * n + w;
          inputs[k] = (index[a] * n + index[b]) * n + index[c];
          weights[k] = weight[a] * weight[b] * weight[c];
        }
        visit(out, inputs, weights);
      }
    }
}

// y = sum weight x[input]. An input of weight 0 has no part in it, not even if it is NaN: zeros are read in its place.
template <typename T, typename To>
inline void sample(const T* x, const T* zeros, int64_t channels, const int64_t* inputs, const float* w, To* y) {
  const T* from[8];
  for (int k = 0; k < 8; ++k) {
    const T* there = x + inputs[k] * channels;
    from[k] = w[k] <= 0.f ? zeros : there;  // not ==, which costs a branch
  }
#pragma GCC ivdep
  for (int64_t c = 0; c < channels; ++c) {
    float sum = 0.f;
    for (int k = 0; k < 8; ++k) sum += w[k] * to_float(from[k][c]);
    store(sum, y + c);
  }
}

// Each output is such a sample.
template <typename T>
void resample_forward(int64_t batch, int64_t n, int64_t channels, const T* x, const float* matrix, int64_t threads, T* y) {
  const int64_t C = channels, size = n * n * n * C;
  const std::vector<T> zeros(C);
  const T* nothing = zeros.data();
  parallel_for(batch, threads, [&](int64_t b) {
    trilinear(matrix + 12 * b, n, [&](int64_t output, const int64_t* inputs, const float* w) {
      sample(x + b * size, nothing, C, inputs, w, y + b * size + output * C);
    });
  });
}

// Its adjoint: dx[input] += weight dy[output]. Where one position is not a number, no input is known to have no part in it.
template <typename T>
void resample_backward(int64_t batch, int64_t n, int64_t channels, const T* dy, const float* matrix, int64_t threads, T* dx) {
  const int64_t C = channels, size = n * n * n * C;
  parallel_for(batch, threads, [&](int64_t b) {
    std::vector<float> sums(size), upstream(C);
    bool unknown = false;
    trilinear(matrix + 12 * b, n, [&](int64_t output, const int64_t* inputs, const float* w) {
      const T* from = dy + b * size + output * C;
      float* g = upstream.data();
      for (int64_t c = 0; c < C; ++c) g[c] = to_float(from[c]);
      unknown |= w[0] != w[0];
      for (int k = 0; k < 8; ++k) {
        if (w[k] == 0.f) continue;
        float* to = sums.data() + inputs[k] * C;
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) to[c] += w[k] * g[c];
      }
    });
    if (unknown) std::fill(sums.begin(), sums.end(), std::numeric_limits<float>::quiet_NaN());
    for (int64_t i = 0; i < size; ++i) store(sums[i], dx + b * size + i);
  });
}

// ---- Turning and compositing -----------------------------------------------------------------------------------------------------

// What renderers/compositing.py composites of a volume that is turned on the way: for each ray, over its samples x_d from the front,
//   density_d = inside_d softplus(kernel . x_d + bias),   w_d = (1 - exp(-density_d)) prod over j < d of exp(-density_j),
//   seen = sum w_d x_d + (1 - sum w_d) ground.
// Samples outside the volume, and those behind what lets less than kOpaque through, are not looked at.
constexpr float kOpaque = 1e-9f;

// exp(x) for x <= 0, to the last bits of a float; 1 at 0, never below exp(-87), NaN of NaN. Without branches, so that it is done in vectors.
// Source: Cephes, expf.
inline float exp_of(float x) {
  constexpr float whole = 12582912.f;  // 3 2^22: adding it rounds to a whole number
  const float above = std::max(x, -87.f), shifted = above * 1.44269504f + whole, n = shifted - whole;
  const float r = above - n * 0.693359375f + n * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  for (float factor : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) y = y * r + factor;
  uint32_t bits;
  std::memcpy(&bits, &shifted, 4);
  bits = (bits - 0x4b400000u + 127u) << 23;  // 2^n
  float power;
  std::memcpy(&power, &bits, 4);
  return (y * r * r + r + 1.f) * power;
}

// log(1 + u) for u in [0, 1]: 2 artanh(u / (2 + u)).
inline float log1p_of(float u) {
  const float t = u / (2.f + u), square = t * t;
  float y = 1.f / 15;
  for (float factor : {1.f / 13, 1.f / 11, 1.f / 9, 1.f / 7, 1.f / 5, 1.f / 3, 1.f}) y = y * square + factor;
  return 2.f * t * y;
}

// In sixteen parts, so that it is done in vectors.
inline float dot(const float* a, const float* b, int64_t n) {
  float part[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int k = 0; k < 16; ++k) part[k] += a[i + k] * b[i + k];
  for (int k = 0; i < n; ++i, ++k) part[k] += a[i] * b[i];
  for (int half = 8; half; half /= 2)
    for (int k = 0; k < half; ++k) part[k] += part[k + half];
  return part[0];
}

struct Absorption {
  const float *kernel, *bias, *ground;
};

// Goes through the samples of one turned volume, slice by slice from the front: calls each(d n + h, x, weight, slope) for each line
// of n samples, with their features [n, C] and, [n] each, their w, 0 where they are not looked at, and the derivative of their density
// by kernel . x + bias.
//   through: [n, n], what each ray lets through in the end.
template <typename T, typename Each>
void along_rays(int64_t n, int64_t channels, const T* volume, const float* matrix, const Absorption& a, float* through,
                const Each& each) {
  const int64_t C = channels;
  const std::vector<T> zeros(C);
  const T* nothing = zeros.data();
  std::vector<float> x(n * C), inside(n), z(n), weight(n), slope(n);
  std::fill_n(through, n * n, 1.f);
  trilinear(matrix, n, [&](int64_t output, const int64_t* inputs, const float* w) {
    const int64_t i = output % n, line = output / n;
    float* left = through + line % n * n;
    float covered = 0.f;
    for (int k = 0; k < 8; ++k) covered += w[k];
    inside[i] = left[i] < kOpaque ? 0.f : covered;
    z[i] = 0.f;
    if (inside[i] != 0.f) {
      float* to = x.data() + i * C;
      sample(volume, nothing, C, inputs, w, to);
      z[i] = dot(a.kernel, to, C) + *a.bias;
    }
    if (i + 1 < n) return;
#pragma GCC ivdep
    for (int64_t k = 0; k < n; ++k) {
      const float u = exp_of(-std::abs(z[k])), softplus = std::max(z[k], 0.f) + log1p_of(u);
      const float kept = exp_of(-inside[k] * softplus);
      weight[k] = left[k] * (1.f - kept);
      left[k] *= kept;
      slope[k] = inside[k] * (z[k] >= 0.f ? 1.f : u) / (1.f + u);
    }
    each(line, x.data(), weight.data(), slope.data());
  });
}

template <typename T>
void render_forward(int64_t batch, int64_t n, int64_t channels, const T* volume, const float* matrix, const Absorption& a,
                    int64_t threads, float* seen) {
  const int64_t C = channels, rays = n * n;
  parallel_for(batch, threads, [&](int64_t b) {
    float* sums = seen + b * rays * C;
    std::fill_n(sums, rays * C, 0.f);
    std::vector<float> through(rays);
    along_rays(n, C, volume + b * n * rays * C, matrix + 12 * b, a, through.data(),
               [&](int64_t line, const float* x, const float* weight, const float*) {
                 for (int64_t i = 0; i < n; ++i) {
                   if (weight[i] == 0.f) continue;
                   float* to = sums + (line % n * n + i) * C;
#pragma GCC ivdep
                   for (int64_t c = 0; c < C; ++c) to[c] += weight[i] * x[i * C + c];
                 }
               });
    for (int64_t ray = 0; ray < rays; ++ray)
      for (int64_t c = 0; c < C; ++c) sums[ray * C + c] += through[ray] * a.ground[c];
  });
}

// With a_d = dy . x_d, and r_d for what is seen behind sample d: ddensity_d = a_d prod over j <= d of exp(-density_j) - r_d,
// dx_d = w_d dy + dz_d kernel, where dz_d is the gradient of kernel . x_d + bias. dkernel, dbias and dground are of each item.
template <typename T>
void render_backward(int64_t batch, int64_t n, int64_t channels, const T* volume, const float* matrix, const Absorption& a,
                     const float* dy, int64_t threads, T* dvolume, float* dkernel, float* dbias, float* dground) {
  const int64_t C = channels, rays = n * n, voxels = n * rays;
  parallel_for(batch, threads, [&](int64_t b) {
    const T* from = volume + b * voxels * C;
    const float* upstream = dy + b * rays * C;
    std::vector<float> through(rays), behind(rays), weights(voxels), slopes(voxels), seen(voxels), dz(voxels);
    along_rays(n, C, from, matrix + 12 * b, a, through.data(),
               [&](int64_t line, const float* x, const float* weight, const float* slope) {
                 for (int64_t i = 0; i < n; ++i) {
                   const int64_t at = line * n + i;
                   weights[at] = weight[i];
                   slopes[at] = slope[i];
                   seen[at] = slope[i] == 0.f ? 0.f : dot(upstream + at % rays * C, x + i * C, C);
                 }
               });
    float* to_ground = dground + b * C;
    std::fill_n(to_ground, C, 0.f);
    for (int64_t ray = 0; ray < rays; ++ray) {
      for (int64_t c = 0; c < C; ++c) to_ground[c] += through[ray] * upstream[ray * C + c];
      behind[ray] = through[ray] * dot(upstream + ray * C, a.ground, C);
    }
    for (int64_t at = voxels - rays; at >= 0; at -= rays)
#pragma GCC ivdep
      for (int64_t ray = 0; ray < rays; ++ray) {
        const float w = weights[at + ray];
        dz[at + ray] = slopes[at + ray] * (seen[at + ray] * through[ray] - behind[ray]);
        behind[ray] += w * seen[at + ray];
        through[ray] += w;  // what came as far as this
      }
    dbias[b] = 0.f;
    for (int64_t at = 0; at < voxels; at += rays) dbias[b] += std::accumulate(dz.data() + at, dz.data() + at + rays, 0.f);
    std::vector<float> sums(voxels * C), of_density(voxels);  // of dy, and of dz, as each voxel has a part in them
    bool unknown = false;
    trilinear(matrix + 12 * b, n, [&](int64_t output, const int64_t* inputs, const float* w) {
      unknown |= w[0] != w[0];
      const float part = weights[output], slope = dz[output];
      if (part == 0.f && slope == 0.f) return;
      const float* g = upstream + output % rays * C;
      for (int k = 0; k < 8; ++k) {
        if (w[k] == 0.f) continue;
        const float scaled = w[k] * part;
        of_density[inputs[k]] += w[k] * slope;
        float* to = sums.data() + inputs[k] * C;
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) to[c] += scaled * g[c];
      }
    });
    if (unknown) std::fill(of_density.begin(), of_density.end(), std::numeric_limits<float>::quiet_NaN());
    std::vector<float> block(C);
    blocked_sum(voxels, C, dkernel + b * C, block.data(), [&](int64_t voxel, float* sum) {
      const float slope = of_density[voxel];
      const int64_t at = voxel * C;
      T* to = dvolume + (b * voxels + voxel) * C;
      for (int64_t c = 0; c < C; ++c) store(sums[at + c] + slope * a.kernel[c], to + c);
      for (int64_t c = 0; c < C && slope != 0.f; ++c) sum[c] += slope * to_float(from[at + c]);
    });
  });
}

// ---- Convolutions ----------------------------------------------------------------------------------------------------------------

// A strided "same" convolution relates small [B, d, h, w] to large [B, s d, s h, s w] by taps: large = s small + tap - pad.
struct Window {
  int64_t small[3], large[3], taps[3], stride[3], pad[3];
  int64_t area() const { return taps[0] * taps[1] * taps[2]; }
  int64_t small_size() const { return small[0] * small[1] * small[2]; }
  int64_t large_size() const { return large[0] * large[1] * large[2]; }
};

// A convolution is a product of matrices, one of them made of patches. The patches are never laid out: strips of them are read where
// they lie, in the order that the processor's instructions want, while the other factor's strips and the sums wait in the core's own
// cache. For bfloat16; plain products of float32 are no faster here than oneDNN's convolutions.
#ifdef HOLOTF_CONVOLUTIONS

constexpr int64_t kSide = 32;             // rows of a strip, and depth of a step
constexpr int64_t kStep = kSide * kSide;  // values of a strip at a step, two tiles of 16 rows of 64 bytes; sums of two strips
constexpr int64_t kTile = kStep / 2;
constexpr int64_t kStrips = 16;           // strips of either factor in a block of the product
#ifdef HOLOTF_TILES
constexpr int64_t kSteps = 8;             // its depth
#else
constexpr int64_t kSteps = 4;             // its depth: as many bytes, where they are float32
#endif

#ifdef HOLOTF_TILES
constexpr bool kTiles = true;
#else
constexpr bool kTiles = false;
#endif

alignas(64) const bfloat16 kZeros[2 * kSide] = {};  // a row that lies outside, of float32 as well

inline __mmask32 low_bits(int64_t n) { return n >= 32 ? ~0u : (1u << std::max<int64_t>(n, 0)) - 1; }

// Asks for the line behind as well: what lies there is laid out soon.
inline __m512i load(const bfloat16* from, __mmask32 mask) {
  _mm_prefetch(reinterpret_cast<const char*>(from + kSide), _MM_HINT_T0);
  return _mm512_maskz_loadu_epi16(mask, from);
}

// 16 rows of 16 words -> 16 columns of them.
inline void transpose(__m512i* r) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int k = 0; k < 2; ++k) {
      r[i + 2 * k] = _mm512_unpacklo_epi64(t[i + k], t[i + k + 2]);
      r[i + 2 * k + 1] = _mm512_unpackhi_epi64(t[i + k], t[i + k + 2]);
    }
  for (int i = 0; i < 16; i += 8)
    for (int k = 0; k < 4; ++k) {
      t[i + k] = _mm512_shuffle_i32x4(r[i + k], r[i + k + 4], 0x88);
      t[i + k + 4] = _mm512_shuffle_i32x4(r[i + k], r[i + k + 4], 0xdd);
    }
  for (int k = 0; k < 8; ++k) {
    r[k] = _mm512_shuffle_i32x4(t[k], t[k + 8], 0x88);
    r[k + 8] = _mm512_shuffle_i32x4(t[k], t[k + 8], 0xdd);
  }
}

// Lays out a strip at a step from 32 rows of `count` values along the depth. The left factor's tiles hold rows; the
// right factor's hold pairs along the depth, one row for each pair.
inline void pack_along(const bfloat16* const* rows, int64_t count, bool left, bfloat16* to) {
  for (int side = 0; side < 2; ++side) {
    __m512i r[16];
    for (int i = 0; i < 16; ++i) r[i] = load(rows[16 * side + i], low_bits(count));
    if (!left) transpose(r);
    for (int i = 0; i < 16; ++i) _mm512_store_si512(to + side * kTile + kSide * i, r[i]);
  }
}

// The same from 32 lines of the depth, of `count` values across it.
inline void pack_across(const bfloat16* const* lines, int64_t count, bool left, bfloat16* to) {
  const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8,  //
                                       39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  __m512i pairs[2][16];
  for (int i = 0; i < 16; ++i) {
    const __m512i even = load(lines[2 * i], low_bits(count)), odd = load(lines[2 * i + 1], low_bits(count));
    pairs[0][i] = _mm512_permutex2var_epi16(even, low, odd);
    pairs[1][i] = _mm512_permutex2var_epi16(even, high, odd);
  }
  for (int side = 0; side < 2; ++side) {
    if (left && kTiles) transpose(pairs[side]);
    for (int i = 0; i < 16; ++i) _mm512_store_si512(to + side * kTile + kSide * i, pairs[side][i]);
  }
}

#ifdef HOLOTF_TILES

struct __attribute__((packed)) TileConfig {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
const TileConfig kTileConfig;

// The compiler does not know that tile instructions read and write memory: what it has in hand must be there by then.
inline void fence() { asm volatile("" ::: "memory"); }

// Asks for the next eight lines of the cache.
inline void fetch(const char** from) {
  for (int i = 0; i < 8; ++i, *from += 64) _mm_prefetch(*from, _MM_HINT_T0);
}

// sums [32, 32] (+)= left right^T, over the steps.
template <bool across>  // as its lines came; laid out alike
inline void multiply(const bfloat16* left, const bfloat16* right, int64_t steps, bool from_zero, float* sums) {
  constexpr int64_t line = kSide * sizeof(float);
  fence();
  if (from_zero) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, sums, line);
    _tile_loadd(1, sums + 16, line);
    _tile_loadd(2, sums + 16 * kSide, line);
    _tile_loadd(3, sums + 16 * kSide + 16, line);
  }
  const auto* ahead = reinterpret_cast<const char*>(right + 2 * kStep);
  const auto* next = reinterpret_cast<const char*>(sums + kStep);
  for (int64_t k = 0; k < steps; ++k, left += kStep, right += kStep) {
    _tile_loadd(4, left, 64);
    _tile_loadd(6, right, 64);
    fetch(&ahead);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, left + kTile, 64);
    fetch(&ahead);
    _tile_dpbf16ps(2, 5, 6);
    _tile_loadd(7, right + kTile, 64);
    fetch(&ahead);
    _tile_dpbf16ps(1, 4, 7);
    fetch(&ahead);
    fetch(&next);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, line);
  _tile_stored(1, sums + 16, line);
  _tile_stored(2, sums + 16 * kSide, line);
  _tile_stored(3, sums + 16 * kSide + 16, line);
}

bool may_multiply() {
#ifdef HOLOTF_EMULATE_TILES
  return true;
#else  // the operating system lends their registers to a process that asks (ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
  return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#endif
}

// A thread's use of the tiles, around its calls of `multiply`.
inline void begin() { _tile_loadconfig(&kTileConfig); }
inline void end() {
  _tile_release();
  fence();
}

#else

bool may_multiply() { return true; }
inline void begin() {}
inline void end() {}

#endif  // HOLOTF_TILES

constexpr int kRows = 8, kHalf = 16;

// Eight rows of sums [32, 32] at a time, in registers while `add` adds to them.
template <typename Add>
inline void by_rows(bool from_zero, float* sums, const Add& add) {
  for (int64_t row = 0; row < kSide; row += kRows, sums += kRows * kSide) {
    __m512 sum[kRows][2];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i)
      for (int side = 0; side < 2; ++side)
        sum[i][side] = from_zero ? _mm512_setzero_ps() : _mm512_load_ps(sums + i * kSide + side * kHalf);
    add(row, sum);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i)
      for (int side = 0; side < 2; ++side) _mm512_store_ps(sums + i * kSide + side * kHalf, sum[i][side]);
  }
}

// sums [32, 32] (+)= left right^T, over the steps, of factors in float32: the left one's lines of 32 as they were packed, along the
// depth or across it, the right one's across.
template <bool across>
inline void multiply(const float* left, const float* right, int64_t steps, bool from_zero, float* sums) {
  constexpr int64_t apart = across ? 1 : kSide, deeper = across ? kSide : 1;
  by_rows(from_zero, sums, [&](int64_t row, auto& sum) {
    const float* r = right;
    const float* ahead = (row < kHalf ? right : left) + steps * kStep + row / kRows % 2 * steps * kStep / 2;
    for (int64_t k = 0; k < steps; ++k) {
      const float* l = left + k * kStep + row * apart;
      for (int64_t d = 0; d < kSide; ++d, l += deeper, r += kSide, ahead += kHalf) {
        _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T1);
        const __m512 low = _mm512_load_ps(r), high = _mm512_load_ps(r + kHalf);
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
          const __m512 value = _mm512_set1_ps(l[i * apart]);
          sum[i][0] = _mm512_fmadd_ps(value, low, sum[i][0]);
          sum[i][1] = _mm512_fmadd_ps(value, high, sum[i][1]);
        }
      }
    }
  });
}

inline __m512 widened(__m256i words) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16)); }

// Lays out a strip at a step in float32, 32 lines of `count` values one after the other.
inline void pack_lines(const bfloat16* const* lines, int64_t count, float* to) {
  for (int i = 0; i < kSide; ++i, to += kSide) {
    const __m512i line = load(lines[i], low_bits(count));
    _mm512_store_ps(to, widened(_mm512_castsi512_si256(line)));
    _mm512_store_ps(to + kHalf, widened(_mm512_extracti64x4_epi64(line, 1)));
  }
}

inline void pack_across(const bfloat16* const* lines, int64_t count, bool, float* to) { pack_lines(lines, count, to); }

inline void pack_along(const bfloat16* const* rows, int64_t count, bool left, float* to) {
  if (left) return pack_lines(rows, count, to);
  alignas(64) bfloat16 pairs[kStep];  // [2 sides, 16 of the depth, 16 rows, 2 of the depth]
  pack_along(rows, count, false, pairs);
  for (int i = 0; i < kSide; ++i) {
    const __m512i both = _mm512_load_si512(pairs + i * kSide);
    float* line = to + i % kHalf * 2 * kSide + i / kHalf * kHalf;
    _mm512_store_si512(line, _mm512_slli_epi32(both, 16));
    _mm512_store_si512(line + kSide, _mm512_and_si512(both, _mm512_set1_epi32(0xffff0000)));
  }
}

#ifdef HOLOTF_MAY_PAIR
// Whether factors stay in bfloat16, to be multiplied a pair of values at a time: twice as fast as the above on AMD's processors, half as
// fast on Intel's.
inline bool by_pairs() {
#ifdef HOLOTF_PAIRS
  return true;
#else
  static const bool amd = (__builtin_cpu_init(), __builtin_cpu_is("amd"));
  return amd;
#endif
}

// The same of factors in bfloat16; the left one's lines across the depth in pairs of them, as the right one's. Inlined, it would lack
// registers.
template <bool across>
__attribute__((noinline)) void multiply(const bfloat16* left, const bfloat16* right, int64_t steps, bool from_zero, float* sums) {
  by_rows(from_zero, sums, [&](int64_t row, auto& sum) {
    // The half of the next steps of a factor.
    const bfloat16* ahead = (row < kHalf ? right : left) + steps * kStep + row / kRows % 2 * steps * kTile;
    constexpr int64_t apart = across ? 2 : kSide, deeper = across ? kSide : 2;
    for (int64_t k = 0; k < steps; ++k) {
      const bfloat16* l = left + k * kStep + (across ? row / kHalf * kTile + row % kHalf * 2 : row * kSide);
      const bfloat16* r = right + k * kStep;
      for (int pair = 0; pair < kHalf; ++pair, l += deeper, r += kSide, ahead += kSide) {
        _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T1);
        const auto low = (__m512bh)_mm512_load_si512(r), high = (__m512bh)_mm512_load_si512(r + kTile);
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
          int32_t both;
          std::memcpy(&both, l + i * apart, sizeof both);
          const auto value = (__m512bh)_mm512_set1_epi32(both);
          sum[i][0] = _mm512_dpbf16_ps(sum[i][0], value, low);
          sum[i][1] = _mm512_dpbf16_ps(sum[i][1], value, high);
        }
      }
    }
  });
}
#endif

// Memory for so many values.
template <typename Value>
auto room(int64_t values) {
  std::unique_ptr<Value, void (*)(void*)> memory(static_cast<Value*>(std::aligned_alloc(64, values * sizeof(Value))), std::free);
  if (!memory) throw std::bad_alloc();
  return memory;
}

// A product of `rows` strips by `columns` strips over `steps` of depth, of factors kept as `Value`.
//   left(strip, step, to), right(strip, step, to): lay out a strip at a step; the left one's lines come across the depth or along it.
//   finish(row, column, sums): takes 32 sums of a row, from a column on.
// The order of the sums does not depend on the number of threads.
template <typename Value, bool across, typename Left, typename Right, typename Finish>
void product_of(int64_t rows, int64_t columns, int64_t steps, int64_t threads, const Left& left, const Right& right,
                const Finish& finish) {
  constexpr int64_t run = kSteps * kStep;
  const int64_t abreast = (columns + kStrips - 1) / kStrips;
  // A filter's gradient of few blocks is shared out along its depth, alike for any number of threads; else blocks are less tall.
  const int64_t most = across && !kTiles ? (steps + 63) / 64 : 1;
  const int64_t parts = std::clamp<int64_t>(16 / std::max<int64_t>((rows + kStrips - 1) / kStrips * abreast, 1), 1, most);
  const auto partial = room<float>(parts > 1 ? parts * rows * columns * kStep : 0);
  int64_t tall = kStrips;
  while (tall > 1 && (rows + tall - 1) / tall * abreast * parts < 2 * threads) tall /= 2;
  const int64_t blocks = (rows + tall - 1) / tall * abreast;
  parallel_for(blocks * parts, threads, [&](int64_t piece) {
    const int64_t block = piece / parts, part = piece % parts;
    const int64_t r0 = block / abreast * tall, r1 = std::min(r0 + tall, rows), height = r1 - r0;
    const int64_t c0 = block % abreast * kStrips, c1 = std::min(c0 + kStrips, columns), width = c1 - c0;
    const int64_t first = steps * part / parts, last = steps * (part + 1) / parts;
    const size_t bytes = (1 + width) * run * sizeof(Value) + height * width * kStep * sizeof(float);
    std::unique_ptr<void, void (*)(void*)> memory(std::aligned_alloc(64, bytes), std::free);
    if (!memory) throw std::bad_alloc();
    auto* lefts = static_cast<Value*>(memory.get());
    Value* rights = lefts + run;
    float* sums = reinterpret_cast<float*>(rights + width * run);
    begin();
    for (int64_t k0 = first; k0 < last; k0 += kSteps) {
      const int64_t count = std::min(kSteps, last - k0);
      for (int64_t k = 0; k < count; ++k)
        for (int64_t c = 0; c < width; ++c) right(c0 + c, k0 + k, rights + c * run + k * kStep);
      for (int64_t r = 0; r < height; ++r) {
        for (int64_t k = 0; k < count; ++k) left(r0 + r, k0 + k, lefts + k * kStep);
        for (int64_t c = 0; c < width; ++c)
          multiply<across>(lefts, rights + c * run, count, k0 == first, sums + (r * width + c) * kStep);
      }
    }
    end();
    for (int64_t r = 0; r < height; ++r)
      for (int64_t c = 0; c < width && parts > 1; ++c)
        std::copy_n(sums + (r * width + c) * kStep, kStep, partial.get() + ((part * rows + r0 + r) * columns + c0 + c) * kStep);
    for (int64_t r = 0; r < height && parts == 1; ++r)
      for (int64_t i = 0; i < kSide; ++i)
        for (int64_t c = 0; c < width; ++c)
          finish((r0 + r) * kSide + i, (c0 + c) * kSide, sums + (r * width + c) * kStep + i * kSide);
  });
  if (parts == 1) return;
  parallel_for(rows * columns, threads, [&](int64_t strip) {
    float* sums = partial.get() + strip * kStep;
    for (int64_t part = 1; part < parts; ++part)
      for (int64_t i = 0; i < kStep; ++i) sums[i] += sums[part * rows * columns * kStep + i];
    for (int64_t i = 0; i < kSide; ++i) finish(strip / columns * kSide + i, strip % columns * kSide, sums + i * kSide);
  });
}

template <bool across, typename Left, typename Right, typename Finish>
void product(int64_t rows, int64_t columns, int64_t steps, int64_t threads, const Left& left, const Right& right,
             const Finish& finish) {
#ifdef HOLOTF_TILES
  product_of<bfloat16, across>(rows, columns, steps, threads, left, right, finish);
#else
#ifdef HOLOTF_MAY_PAIR
  if (by_pairs()) return product_of<bfloat16, across>(rows, columns, steps, threads, left, right, finish);
#endif
  product_of<float, across>(rows, columns, steps, threads, left, right, finish);
#endif
}

// What the positions of one side of a convolution see of the other side, `taps` of the kernel's at a time.
template <typename T = bfloat16>
struct Patches {
  const T* data;
  int64_t batch, positions, image, channels;  // image: values of one
  std::vector<int64_t> taps = {};             // which of the kernel's
  std::vector<int32_t> at = {};               // [taps, positions]: which value of an image, or -1 outside
  int64_t rows() const { return batch * positions; }

  // Where the values from `channel` on lie that 32 rows see through a tap.
  void find(int64_t row, int64_t tap, int64_t channel, const T** to) const {
    const int64_t known = std::min(kSide, rows() - row);
    const auto* outside = reinterpret_cast<const T*>(kZeros);
    std::fill(to + known, to + kSide, outside);
    int64_t position = row % positions;
    const T* from = data + row / positions * image + channel;
    for (int64_t i = 0, count; i < known; i += count, position = 0, from += image) {
      count = std::min(known - i, positions - position);
      const int32_t* where = at.data() + tap * positions + position;
      for (int64_t k = 0; k < count; ++k) to[i + k] = where[k] < 0 ? outside : from + where[k];
    }
  }
};

inline int64_t strips(int64_t n) { return (n + kSide - 1) / kSide; }

using Place = std::array<int64_t, 3>;

// Adds what each position of a grid sees: stride position + shift, for each shift, in images of `extent`.
inline void see(const int64_t* grid, const int64_t* stride, const std::vector<Place>& shifts, const int64_t* extent, Patches<>* p) {
  Place q;
  for (const auto& shift : shifts)
    for (q[0] = 0; q[0] < grid[0]; ++q[0])
      for (q[1] = 0; q[1] < grid[1]; ++q[1])
        for (q[2] = 0; q[2] < grid[2]; ++q[2]) {
          int64_t at = 0;
          for (int i = 0; i < 3 && at >= 0; ++i) {
            const int64_t from = stride[i] * q[i] + shift[i];
            at = from >= 0 && from < extent[i] ? at * extent[i] + from : -1;
          }
          p->at.push_back(at < 0 ? -1 : at * p->channels);
        }
}

// Where tap number t of a kernel stands in it.
inline Place tap_of(const Window& w, int64_t t) {
  return {t / (w.taps[1] * w.taps[2]), t / w.taps[2] % w.taps[1], t % w.taps[2]};
}

// Small positions see the large side at stride position + tap - pad, through every tap.
inline Patches<> gathered(const Window& w, const bfloat16* large, int64_t batch, int64_t channels) {
  Patches<> p{large, batch, w.small_size(), w.large_size() * channels, channels};
  std::vector<Place> shifts;
  for (int64_t t = 0; t < w.area(); ++t) {
    Place shift = tap_of(w, t);
    for (int i = 0; i < 3; ++i) shift[i] -= w.pad[i];
    p.taps.push_back(t);
    shifts.push_back(shift);
  }
  see(w.small, w.stride, shifts, w.large, &p);
  return p;
}

// Large positions stride q + phase see the small side at q + (phase + pad - tap) / stride, through the taps for which that is whole.
inline Patches<> spread(const Window& w, const Place& phase, const bfloat16* small, int64_t batch, int64_t channels) {
  Patches<> p{small, batch, w.small_size(), w.small_size() * channels, channels};
  std::vector<Place> shifts;
  for (int64_t t = 0; t < w.area(); ++t) {
    Place shift = tap_of(w, t);
    bool whole = true;
    for (int i = 0; i < 3; ++i) {
      const int64_t distance = phase[i] + w.pad[i] - shift[i];
      whole = whole && distance % w.stride[i] == 0;
      shift[i] = distance / w.stride[i];
    }
    if (!whole) continue;
    p.taps.push_back(t);
    shifts.push_back(shift);
  }
  const int64_t one[3] = {1, 1, 1};
  see(w.small, one, shifts, w.small, &p);
  return p;
}

// out(row)[output] = bias[output] + sum over taps of patch(row, tap) . W[tap].
//   across: W[tap] is [channels, outputs]; otherwise [outputs, channels].
template <typename Out>
void patches_times(const Patches<>& p, const bfloat16* weights, bool across, int64_t outputs, const float* bias, int64_t threads,
                   const Out& out) {
  const int64_t C = p.channels, taps = p.taps.size();
  auto left = [&](int64_t strip, int64_t step, auto* to) {  // all taps of some channels: what they see overlaps
    const int64_t channel = step / taps * kSide;
    const bfloat16* rows[kSide];
    p.find(strip * kSide, step % taps, channel, rows);
    pack_along(rows, C - channel, true, to);
  };
  auto right = [&](int64_t strip, int64_t step, auto* to) {
    const int64_t channel = step / taps * kSide, output = strip * kSide;
    const bfloat16* w = weights + p.taps[step % taps] * C * outputs;
    const bfloat16* rows[kSide];
    for (int64_t i = 0; i < kSide; ++i) {
      if (across)
        rows[i] = channel + i < C ? w + (channel + i) * outputs + output : kZeros;
      else
        rows[i] = output + i < outputs ? w + (output + i) * C + channel : kZeros;
    }
    if (across)
      pack_across(rows, outputs - output, false, to);
    else
      pack_along(rows, C - channel, false, to);
  };
  product<false>(strips(p.rows()), strips(outputs), taps * strips(C), threads, left, right,
          [&](int64_t row, int64_t output, const float* sums) {
            if (row >= p.rows()) return;
            auto* to = out(row) + output;
            for (int64_t i = 0; i < std::min(kSide, outputs - output); ++i) store(sums[i] + bias[output + i], to + i);
          });
}

// dW[tap, channel, output] = sum over rows of patch(row, tap)[channel] small[row, output].
inline void filter_gradient(const Patches<>& p, const bfloat16* small, int64_t outputs, int64_t threads, float* dw) {
  const int64_t C = p.channels, deep = strips(C);
  auto left = [&](int64_t strip, int64_t step, auto* to) {
    const int64_t channel = strip % deep * kSide;
    const bfloat16* rows[kSide];
    p.find(step * kSide, strip / deep, channel, rows);
    pack_across(rows, C - channel, true, to);
  };
  auto right = [&](int64_t strip, int64_t step, auto* to) {
    const bfloat16* rows[kSide];
    for (int64_t i = 0, row = step * kSide; i < kSide; ++i, ++row)
      rows[i] = row < p.rows() ? small + row * outputs + strip * kSide : kZeros;
    pack_across(rows, outputs - strip * kSide, false, to);
  };
  product<true>(p.taps.size() * deep, strips(outputs), strips(p.rows()), threads, left, right,
          [&](int64_t row, int64_t output, const float* sums) {
            const int64_t tap = row / kSide / deep, channel = row - tap * deep * kSide;
            if (channel >= C) return;
            std::copy_n(sums, std::min(kSide, outputs - output), dw + (tap * C + channel) * outputs + output);
          });
}

// Filters of two taps by fewer products (Winograd 1980, F(2, 2)). Along an axis, two neighbours are sums of two of three products:
//   y0 = a x0 + b x1 = a (x0 - x1) + (a + b) x1,   y1 = a x1 + b x2 = (a + b) x1 + b (x2 - x1).
// A window of 3^axes places gives a tile of 2^axes; of either, the last axis is the first digit.

constexpr int64_t power(int64_t base, int exponent) { return exponent ? base * power(base, exponent - 1) : 1; }

// The place [2^axes] of a tile, as one of [3^axes].
constexpr int corner(int place) { return place % 2 + place / 2 % 2 * 3 + place / 4 * 9; }

template <typename Value>
constexpr int64_t kAtOnce = 16384 / kStep / sizeof(Value);  // steps that are multiplied

inline __m256i rounded(__m512 x) {
#ifdef __AVX512BF16__
  return (__m256i)_mm512_cvtneps_pbh(x);
#else
  const __m512i bits = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff)), 16);
  return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(up, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc0)));
#endif
}

inline __m512 take(const float* from, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, from); }
inline __m512 take(const bfloat16* from, __mmask16 mask) { return widened(_mm256_maskz_loadu_epi16(mask, from)); }

inline void put(__m512 x, float* to, __mmask16 mask = 0xffff) { _mm512_mask_storeu_ps(to, mask, x); }
inline void put(__m512 x, bfloat16* to, __mmask16 mask = 0xffff) { _mm256_mask_storeu_epi16(to, mask, rounded(x)); }

// Calls each(i) for the first of every three values along each axis of [3^axes], with the step to the second.
template <int axes, int step = 1, typename Each>
inline void for_triples(const Each& each) {
#pragma GCC unroll 27
  for (int i = 0; i < power(3, axes - 1); ++i) each(i / step * 3 * step + i % step, step);
  if constexpr (3 * step < power(3, axes)) for_triples<axes, 3 * step>(each);
}

// Lays out the values that 32 tiles are products of, [3^axes, 32, 32], each `apart` from the last: along an axis
// (x0 - x1, x1, x2 - x1) of 3 values, (x0, x0 + x1, x1) of 2.
template <int axes, int values, typename T, typename Value>
void lay_out(const T* const (*lines)[kSide], int64_t count, int64_t apart, Value* to) {
  constexpr int seen = power(3, axes);
  for (int64_t i = 0; i < kSide; ++i)
    for (int64_t half = 0; half < kSide; half += kHalf, to += kHalf) {
      const auto mask = static_cast<__mmask16>(low_bits(count - half));
      __m512 x[seen] = {};
#pragma GCC unroll 27
      for (int line = 0; line < power(values, axes); ++line) {
        const int at = values == 3 ? line : 2 * corner(line);
        x[at] = take(lines[line][i] + half, mask);
      }
      for_triples<axes>([&](int first, int step) {
        if (values == 3) {
          x[first] = _mm512_sub_ps(x[first], x[first + step]);
          x[first + 2 * step] = _mm512_sub_ps(x[first + 2 * step], x[first + step]);
        } else {
          x[first + step] = _mm512_add_ps(x[first], x[first + 2 * step]);
        }
      });
#pragma GCC unroll 27
      for (int place = 0; place < seen; ++place) put(x[place], to + place * apart);
    }
}

// The same across the depth, as `multiply` wants it.
template <int axes, int values, typename T>
void lay_out_across(const T* const (*lines)[kSide], int64_t count, int64_t apart, float* to) {
  lay_out<axes, values>(lines, count, apart, to);
}

template <int axes, int values>
void lay_out_across(const bfloat16* const (*lines)[kSide], int64_t count, int64_t apart, bfloat16* to) {
  alignas(64) bfloat16 laid_out[power(3, axes)][kSide][kSide];
  lay_out<axes, values>(lines, count, kStep, laid_out[0][0]);
  for (int64_t place = 0; place < power(3, axes); ++place) {
    const bfloat16* rows[kSide];
    for (int64_t i = 0; i < kSide; ++i) rows[i] = laid_out[place][i];
    pack_across(rows, kSide, false, to + place * apart);
  }
}

// (m0 + m1, m1 + m2, .) of every three along each axis.
template <int axes>
inline void add_up(__m512* m) {
  for_triples<axes>([&](int first, int step) {
    m[first] = _mm512_add_ps(m[first], m[first + step]);
    m[first + step] = _mm512_add_ps(m[first + step], m[first + 2 * step]);
  });
}

// Where what tiles give is put: in images of `image` values from `data` on, at [tiles, 2^axes] values.
template <typename T>
struct Outputs {
  T* data;
  int64_t image, tiles;
  std::vector<int64_t> at = {};
};

// Lays out a strip at a step of sums of taps of a kernel, [taps, outputs, channels], if across [taps, channels, outputs].
template <typename Value>
void lay_out_sum(const float* kernel, bool across, const std::vector<int64_t>& taps, int64_t outputs, int64_t output, int64_t channels,
                 int64_t channel, Value* to) {
  const int64_t lines = across ? channels : outputs, length = across ? outputs : channels;
  const int64_t line = across ? channel : output, from = across ? output : channel;
  alignas(64) Value sums[kSide][kSide] = {};
  for (int64_t i = 0; i < kSide && line + i < lines; ++i)
    for (int64_t half = 0; half < kSide; half += kHalf) {
      const auto mask = static_cast<__mmask16>(low_bits(length - from - half));
      __m512 sum = _mm512_setzero_ps();
      for (int64_t tap : taps) sum = _mm512_add_ps(sum, take(kernel + (tap * lines + line + i) * length + from + half, mask));
      put(sum, sums[i] + half);
    }
  if constexpr (std::is_same_v<Value, float>) {
    for (int64_t i = 0; i < kSide; ++i)
      for (int64_t k = 0; k < kSide; ++k) to[i * kSide + k] = across ? sums[i][k] : sums[k][i];
  } else {
    const bfloat16* rows[kSide];
    for (int64_t i = 0; i < kSide; ++i) rows[i] = sums[i];
    if (across)
      pack_across(rows, kSide, false, to);
    else
      pack_along(rows, kSide, false, to);
  }
}

// What tiles make of the windows of some images: the sum over these of a product for each place of a window.
//   windows: of each image, [3^axes] places of the tiles.
//   kernel [taps, outputs, channels], if across [taps, channels, outputs].
//   taps(image, place): those of the kernel whose sum a place of a window is multiplied by.
template <typename Value, int axes, typename T, typename Taps>
void winograd_of(const std::vector<Patches<T>>& windows, const float* kernel, bool across, const Taps& taps, int64_t outputs,
                 const float* bias, int64_t threads, const Outputs<T>& out) {
  constexpr int seen = power(3, axes), places = power(2, axes);
  constexpr int64_t at_once = kAtOnce<Value>;
  const int64_t C = windows[0].channels, deep = strips(C), steps = windows.size() * deep, run = steps * kStep;
  // Strips of tiles that share the other factor: more where that has to come from memory.
  const int64_t together = strips(outputs) * seen * run * sizeof(Value) > 8 << 20 ? 2 : 1;
  const int64_t rows = windows[0].rows(), tall = (strips(rows) + together - 1) / together, blocks = std::min(tall, 4 * threads);
  const auto rights = room<Value>(strips(outputs) * seen * run);  // what all strips of tiles are multiplied by
  parallel_for(strips(outputs) * seen, threads, [&](int64_t which) {
    const int64_t output = which / seen * kSide;
    for (int64_t step = 0; step < steps; ++step)
      lay_out_sum(kernel, across, taps(step / deep, which % seen), outputs, output, C, step % deep * kSide,
                  rights.get() + which * run + step * kStep);
  });
  parallel_for(blocks, threads, [&](int64_t block) {
    const auto lefts = room<Value>(together * seen * run);
    const auto sums = room<float>(together * seen * kStep);
    const int64_t last = std::min(tall * (block + 1) / blocks * together * kSide, rows);
    for (int64_t row = tall * block / blocks * together * kSide; row < last; row += together * kSide) {
      const int64_t count = std::min(last - row, together * kSide);
      for (int64_t strip = 0; strip < strips(count); ++strip)
        for (int64_t step = 0; step < steps; ++step) {
          const int64_t channel = step % deep * kSide;
          const T* lines[seen][kSide];
          for (int tap = 0; tap < seen; ++tap) windows[step / deep].find(row + strip * kSide, tap, channel, lines[tap]);
          lay_out<axes, 3>(lines, C - channel, run, lefts.get() + strip * seen * run + step * kStep);
        }
      for (int64_t first = 0; first < outputs; first += kSide) {
        for (int64_t tap = 0; tap < seen; ++tap)
          for (int64_t strip = 0; strip < strips(count); ++strip)
            for (int64_t k = 0; k < steps; k += at_once)
              multiply<false>(lefts.get() + (strip * seen + tap) * run + k * kStep,
                              rights.get() + (first / kSide * seen + tap) * run + k * kStep, std::min(at_once, steps - k), k == 0,
                              sums.get() + (strip * seen + tap) * kStep);
        for (int64_t i = 0; i < count; ++i) {
          const int64_t image = (row + i) / out.tiles;
          const int64_t* at = out.at.data() + ((row + i) - image * out.tiles) * places;
          for (int64_t output = first; output < std::min(first + kSide, outputs); output += kHalf) {
            const auto mask = static_cast<__mmask16>(low_bits(std::min<int64_t>(outputs - output, kHalf)));
            const float* from = sums.get() + i / kSide * seen * kStep + i % kSide * kSide + output - first;
            __m512 y[seen];
#pragma GCC unroll 27
            for (int tap = 0; tap < seen; ++tap) y[tap] = _mm512_load_ps(from + tap * kStep);
            add_up<axes>(y);
            const __m512 added = _mm512_maskz_loadu_ps(mask, bias + output);
#pragma GCC unroll 8
            for (int place = 0; place < places; ++place) {
              const __m512 sum = _mm512_add_ps(y[corner(place)], added);
              put(sum, out.data + image * out.image + at[place] + output, mask);
            }
          }
        }
      }
    }
  });
}

template <int axes, typename T, typename Taps>
void winograd(const std::vector<Patches<T>>& windows, const float* kernel, bool across, const Taps& taps, int64_t outputs,
              const float* bias, int64_t threads, const Outputs<T>& out) {
#ifdef HOLOTF_MAY_PAIR
  if constexpr (std::is_same_v<T, bfloat16>)
    if (by_pairs()) return winograd_of<bfloat16, axes>(windows, kernel, across, taps, outputs, bias, threads, out);
#endif
  winograd_of<float, axes>(windows, kernel, across, taps, outputs, bias, threads, out);
}

// Places on a grid of tiles: along each axis stride tile + first + i step, i from 0 on.
struct Steps {
  int64_t stride, first, step;
};

// Calls each(tile, which, place) for the places of each tile, `count` along an axis.
template <int axes, typename Each>
void for_places(const int64_t* grid, int count, const std::array<Steps, 3>& steps, const Each& each) {
  for (int64_t tile = 0; tile < grid[0] * grid[1] * grid[2]; ++tile) {
    const int64_t at[3] = {tile / (grid[1] * grid[2]), tile / grid[2] % grid[1], tile % grid[2]};
    for (int64_t which = 0; which < power(count, axes); ++which) {
      Place place = {};
      for (int64_t i = 2, rest = which; i >= 3 - axes; --i, rest /= count)
        place[i] = steps[i].stride * at[i] + steps[i].first + rest % count * steps[i].step;
      each(tile, which, place);
    }
  }
}

// The value at a place in an image, or -1 outside.
inline int64_t value_at(const Place& place, const int64_t* extent, int64_t channels) {
  int64_t at = 0;
  for (int i = 0; i < 3; ++i) {
    if (place[i] < 0 || place[i] >= extent[i]) return -1;
    at = at * extent[i] + place[i];
  }
  return at * channels;
}

template <int axes, int count = 3, typename T>
Patches<T> windows_of(const int64_t* grid, const std::array<Steps, 3>& steps, const T* data, int64_t batch, const int64_t* extent,
                   int64_t channels) {
  const int64_t tiles = grid[0] * grid[1] * grid[2];
  Patches<T> p{data, batch, tiles, extent[0] * extent[1] * extent[2] * channels, channels};
  p.at.resize(tiles * power(count, axes));
  for_places<axes>(grid, count, steps, [&](int64_t tile, int64_t tap, const Place& place) {
    p.at[tap * tiles + tile] = value_at(place, extent, channels);
  });
  return p;
}

template <int axes, typename T>
Outputs<T> outputs_of(const int64_t* grid, const std::array<Steps, 3>& steps, T* data, const int64_t* extent, int64_t channels) {
  Outputs<T> out{data, extent[0] * extent[1] * extent[2] * channels, grid[0] * grid[1] * grid[2]};
  for_places<axes>(grid, 2, steps, [&](int64_t, int64_t, const Place& at) { out.at.push_back(value_at(at, extent, channels)); });
  return out;
}

using Sum = std::vector<int64_t>;  // of taps

// The taps whose sum a place is multiplied by, of `count` along each axis; along(axis, place) gives those of an axis, the last is 0.
template <int axes, typename Along>
Sum taps_at(int64_t count, int64_t place, const Along& along) {
  Sum found = {0};
  for (int64_t axis = 0, step = 1; axis < axes; ++axis, place /= 3, step *= count) {
    Sum more;
    for (int64_t tap : along(axis, place % 3))
      for (int64_t others : found) more.push_back(others + step * tap);
    found = more;
  }
  return found;
}

// The gradient of the kernel of such tiles: of a = m0 + m1 and b = m1 + m2, of products summed over all tiles,
//   m0 = (x0 - x1) dy0,   m1 = x1 (dy0 + dy1),   m2 = (x2 - x1) dy1.
//   windows: [3^axes] places of x, parts: [2^axes] of dy.
//   to(part): where the gradient of a part [2^axes] of the kernel goes, [channels of dy, channels of x].
template <typename Value, int axes, typename T, typename To>
void winograd_filter_of(const Patches<T>& windows, const Patches<T>& parts, int64_t threads, const To& to) {
  constexpr int seen = power(3, axes);
  constexpr int64_t at_once = kAtOnce<Value>;
  const int64_t outputs = parts.channels, inputs = windows.channels, steps = strips(windows.rows());
  const auto lefts = room<Value>(strips(outputs) * seen * steps * kStep);  // [strips, runs, 3^axes, at_once], the last run shorter
  const auto run_of = [&](int64_t strip, int64_t k0) { return lefts.get() + (strip * steps + k0) * seen * kStep; };
  parallel_for(strips(outputs) * steps, threads, [&](int64_t which) {
    const int64_t strip = which / steps, step = which % steps, k0 = step / at_once * at_once, count = std::min(at_once, steps - k0);
    const T* lines[power(2, axes)][kSide];
    for (int part = 0; part < power(2, axes); ++part) parts.find(step * kSide, part, strip * kSide, lines[part]);
    lay_out_across<axes, 2>(lines, outputs - strip * kSide, count * kStep, run_of(strip, k0) + (step - k0) * kStep);
  });
  parallel_for(strips(inputs), threads, [&](int64_t column) {
    const auto rights = room<Value>(seen * at_once * kStep);
    const auto sums = room<float>(strips(outputs) * seen * kStep);
    for (int64_t k0 = 0; k0 < steps; k0 += at_once) {
      const int64_t count = std::min(at_once, steps - k0);
      for (int64_t k = 0; k < count; ++k) {
        const T* lines[seen][kSide];
        for (int place = 0; place < seen; ++place) windows.find((k0 + k) * kSide, place, column * kSide, lines[place]);
        lay_out_across<axes, 3>(lines, inputs - column * kSide, count * kStep, rights.get() + k * kStep);
      }
      for (int64_t place = 0; place < seen; ++place)
        for (int64_t strip = 0; strip < strips(outputs); ++strip)
          multiply<true>(run_of(strip, k0) + place * count * kStep, rights.get() + place * count * kStep, count, k0 == 0,
                         sums.get() + (strip * seen + place) * kStep);
    }
    for (int64_t output = 0; output < outputs; ++output)
      for (int64_t input = column * kSide; input < std::min((column + 1) * kSide, inputs); input += kHalf) {
        const float* from = sums.get() + output / kSide * seen * kStep + output % kSide * kSide + input % kSide;
        __m512 m[seen];
#pragma GCC unroll 27
        for (int place = 0; place < seen; ++place) m[place] = _mm512_load_ps(from + place * kStep);
        add_up<axes>(m);
        const auto mask = static_cast<__mmask16>(low_bits(std::min<int64_t>(inputs - input, kHalf)));
#pragma GCC unroll 8
        for (int part = 0; part < power(2, axes); ++part)
          _mm512_mask_storeu_ps(to(part) + output * inputs + input, mask, m[corner(part)]);
      }
  });
}

// Enlarging x 2 and convolving with three taps k: along an axis, x[m - 1 ... m + 1] with a = k[2], a + b = the sum of k and b = k[0]
// gives y[2 m] and y[2 m + 1].
template <int axes, typename T>
void enlarge(int64_t batch, const int64_t* small, const int64_t* large, int64_t channels, const T* x, const float* kernel,
             int64_t outputs, const float* bias, int64_t threads, T* y) {
  const Steps seen{1, -1, 1}, given{2, 0, 1};
  const auto taps = [](int64_t, int64_t place) {
    return taps_at<axes>(3, place, [](int64_t, int64_t at) { return at == 0 ? Sum{2} : at == 1 ? Sum{0, 1, 2} : Sum{0}; });
  };
  winograd<axes>(std::vector{windows_of<axes>(small, {seen, seen, seen}, x, batch, small, channels)}, kernel, false, taps, outputs, bias, threads,
                 outputs_of<axes>(small, {given, given, given}, y, large, outputs));
}

// Two positions of the small side make a tile along an axis.
template <int axes>
std::array<int64_t, 3> halved(const int64_t* small) {
  std::array<int64_t, 3> grid = {1, 1, 1};
  for (int i = 3 - axes; i < 3; ++i) grid[i] = small[i] / 2;
  return grid;
}

// Whether a phase [2^axes] is the second along axis i of three.
inline int64_t second(int64_t phase, int64_t i) { return phase >> (2 - i) & 1; }

// What the tiles of a phase see of the small side, and give on the large one.
inline std::array<Steps, 3> seen_in(int64_t phase) {
  return {Steps{2, second(phase, 0) - 1, 1}, {2, second(phase, 1) - 1, 1}, {2, second(phase, 2) - 1, 1}};
}
inline std::array<Steps, 3> given_in(int64_t phase) {
  return {Steps{4, second(phase, 0), 2}, {4, second(phase, 1), 2}, {4, second(phase, 2), 2}};
}

// A transposed convolution of stride 2 with four taps k: along an axis, for p in {0, 1}, x[2 m - 1 + p ... 2 m + 1 + p] with
// a = k[3 - p], b = k[1 - p] gives y[4 m + p] and y[4 m + 2 + p].
template <int axes, typename T>
void winograd_spread(int64_t batch, const int64_t* small, const int64_t* large, int64_t channels, const T* x,
                     const float* kernel, int64_t outputs, const float* bias, int64_t threads, T* y) {
  const auto grid = halved<axes>(small);
  for (int64_t phase = 0; phase < power(2, axes); ++phase) {
    const auto taps = [&](int64_t, int64_t place) {
      return taps_at<axes>(4, place, [&](int64_t axis, int64_t at) {
        const int64_t p = phase >> axis & 1;
        return at == 0 ? Sum{3 - p} : at == 1 ? Sum{1 - p, 3 - p} : Sum{1 - p};
      });
    };
    winograd<axes>(std::vector{windows_of<axes>(grid.data(), seen_in(phase), x, batch, small, channels)}, kernel, false, taps, outputs, bias, threads,
                   outputs_of<axes>(grid.data(), given_in(phase), y, large, outputs));
  }
}

// The gradient of its kernel, [4^axes, outputs, inputs].
template <int axes, typename T>
void winograd_filter(int64_t batch, const int64_t* small, const int64_t* large, const T* dy, int64_t outputs, const T* x,
                     int64_t inputs, int64_t threads, float* dkernel) {
  const auto grid = halved<axes>(small);
  for (int64_t phase = 0; phase < power(2, axes); ++phase) {
    const auto windows = windows_of<axes>(grid.data(), seen_in(phase), x, batch, small, inputs);
    const auto parts = windows_of<axes, 2>(grid.data(), given_in(phase), dy, batch, large, outputs);
    const auto to = [&](int64_t part) {  // a is that of tap 3 - p, b of tap 1 - p
      int64_t tap = 0;
      for (int64_t axis = axes - 1; axis >= 0; --axis) tap = 4 * tap + 3 - (phase >> axis & 1) - 2 * (part >> axis & 1);
      return dkernel + tap * outputs * inputs;
    };
#ifdef HOLOTF_MAY_PAIR
    if constexpr (std::is_same_v<T, bfloat16>)
      if (by_pairs()) {
        winograd_filter_of<bfloat16, axes>(windows, parts, threads, to);
        continue;
      }
#endif
    winograd_filter_of<float, axes>(windows, parts, threads, to);
  }
}

// The convolution that is its gradient: along an axis, summed over p, x[4 m - p], x[4 m - p + 2] and x[4 m - p + 4] with
// a = k[1 - p], b = k[3 - p] give y[2 m] and y[2 m + 1].
template <int axes, typename T>
void winograd_gather(int64_t batch, const int64_t* small, const int64_t* large, int64_t channels, const T* x,
                     const float* kernel, int64_t outputs, const float* bias, int64_t threads, T* y) {
  const auto grid = halved<axes>(small);
  std::vector<Patches<T>> windows;
  for (int64_t phase = 0; phase < power(2, axes); ++phase) {
    std::array<Steps, 3> seen;
    for (int i = 0; i < 3; ++i) seen[i] = {4, -second(phase, i), 2};
    windows.push_back(windows_of<axes>(grid.data(), seen, x, batch, large, channels));
  }
  const auto taps = [](int64_t phase, int64_t place) {
    return taps_at<axes>(4, place, [&](int64_t axis, int64_t at) {
      const int64_t p = phase >> axis & 1;
      return at == 0 ? Sum{1 - p} : at == 1 ? Sum{1 - p, 3 - p} : Sum{3 - p};
    });
  };
  const Steps given{2, 0, 1};
  winograd<axes>(windows, kernel, true, taps, outputs, bias, threads,
                 outputs_of<axes>(grid.data(), {given, given, given}, y, small, outputs));
}

// What the gradients of enlarging x 2 and convolving with three taps are products of (layers/tiles.py): along each axis, for a position m
// of the small side, large[2 m - 1] - large[2 m + 1], large[2 m] + large[2 m + 1] and large[2 m + 2] - large[2 m].
//   large [batch, 2 small..., channels], out [batch, small..., 3^axes, channels]
template <int axes>
void differences(int64_t batch, const int64_t* small, int64_t channels, const bfloat16* large, int64_t threads, bfloat16* out) {
  constexpr int kLanes = kSide, seen = 1 << 2 * axes, given = axes == 1 ? 3 : axes == 2 ? 9 : 27;
  const int64_t rest = std::accumulate(small + 1, small + axes, int64_t{1}, std::multiplies<>());
  parallel_for(batch * small[0], threads, [&](int64_t slice) {
    alignas(64) float values[seen][kLanes], fewer[seen][kLanes];
    for (int64_t place = 0; place < rest; ++place) {
      int64_t at[axes] = {slice % small[0]};
      for (int64_t i = axes - 1, left = place; i > 0; left /= small[i--]) at[i] = left % small[i];
      const bfloat16* lines[seen];
      for (int line = 0; line < seen; ++line) {
        int64_t from = slice / small[0];
        bool inside = true;
        for (int i = 0; i < axes; ++i) {
          const int64_t where = 2 * at[i] - 1 + (line >> 2 * (axes - 1 - i) & 3);
          inside = inside && where >= 0 && where < 2 * small[i];
          from = from * 2 * small[i] + where;
        }
        lines[line] = inside ? large + from * channels : nullptr;
      }
      bfloat16* to = out + (slice * rest + place) * given * channels;
      for (int64_t channel = 0; channel < channels; channel += kLanes) {
        const int64_t count = std::min<int64_t>(kLanes, channels - channel);
        for (int line = 0; line < seen; ++line) {
          const bfloat16* from = lines[line] ? lines[line] + channel : kZeros;
          if (count == kLanes)
            for (int c = 0; c < kLanes; ++c) values[line][c] = to_float(from[c]);
          else
            for (int64_t c = 0; c < count; ++c) values[line][c] = to_float(from[c]);
        }
        for (int outer = seen / 4, inner = 1; outer > 0; outer /= 4, inner *= 3) {  // the last axis first
          for (int o = 0; o < outer; ++o)
            for (int i = 0; i < inner; ++i) {
              const auto* v = &values[o * 4 * inner + i];
              auto* d = &fewer[o * 3 * inner + i];
              for (int c = 0; c < kLanes; ++c) {
                d[0][c] = v[0][c] - v[2 * inner][c];
                d[inner][c] = v[inner][c] + v[2 * inner][c];
                d[2 * inner][c] = v[3 * inner][c] - v[inner][c];
              }
            }
          std::memcpy(values, fewer, sizeof(float) * kLanes * outer * 3 * inner);
        }
        for (int j = 0; j < given; ++j)
          if (count == kLanes)
            for (int c = 0; c < kLanes; ++c) store(values[j][c], to + j * channels + channel + c);
          else
            for (int64_t c = 0; c < count; ++c) store(values[j][c], to + j * channels + channel + c);
      }
    }
  });
}
#endif  // HOLOTF_CONVOLUTIONS

// ---- TensorFlow's side -----------------------------------------------------------------------------------------------------------

struct Attributes {
  TF_DataType type;
  int64_t kernel = 0, stride = 0, pad = 0, threads = 1;
  float epsilon = 0, slope = 0;
};

void* create(TF_OpKernelConstruction* context) {
  auto* a = new Attributes;
  TF_Status* status = TF_NewStatus();
  auto integer = [&](const char* name, int64_t* to) {
    if (TF_OpKernelConstruction_HasAttr(context, name, status)) TF_OpKernelConstruction_GetAttrInt64(context, name, to, status);
  };
  auto real = [&](const char* name, float* to) {
    if (TF_OpKernelConstruction_HasAttr(context, name, status)) TF_OpKernelConstruction_GetAttrFloat(context, name, to, status);
  };
  TF_OpKernelConstruction_GetAttrType(context, "T", &a->type, status);
  integer("kernel", &a->kernel), integer("stride", &a->stride), integer("pad", &a->pad), integer("threads", &a->threads);
  real("epsilon", &a->epsilon), real("slope", &a->slope);
  TF_DeleteStatus(status);
  return a;
}

void destroy(void* attributes) { delete static_cast<Attributes*>(attributes); }

// What an op cannot work on; becomes InvalidArgumentError.
void require(bool holds, const std::string& otherwise) {
  if (!holds) throw std::invalid_argument(otherwise);
}

std::string text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? "," : "") + std::to_string(shape[i]);
  return out + "]";
}

// The inputs and outputs of one call; frees them when it ends.
class Call {
 public:
  explicit Call(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {
    for (int i = 0; i < TF_NumInputs(context); ++i) {
      TF_Tensor* tensor = nullptr;
      TF_GetInput(context, i, &tensor, status_);
      inputs_.push_back(tensor);
    }
  }
  Call(const Call&) = delete;
  ~Call() {
    for (auto* tensor : inputs_) TF_DeleteTensor(tensor);
    for (auto* tensor : outputs_) TF_DeleteTensor(tensor);
    TF_DeleteStatus(status_);
  }
  template <typename T>
  const T* in(int i) const {
    return static_cast<const T*>(TF_TensorData(inputs_[i]));
  }
  std::vector<int64_t> shape(int i) const {
    std::vector<int64_t> dims(TF_NumDims(inputs_[i]));
    for (size_t k = 0; k < dims.size(); ++k) dims[k] = TF_Dim(inputs_[i], k);
    return dims;
  }
  void expect(int i, const std::vector<int64_t>& dims) const {
    require(shape(i) == dims, "input " + std::to_string(i) + " is " + text(shape(i)) + ", not " + text(dims));
  }
  template <typename T>
  T* out(const std::vector<int64_t>& dims) {
    int64_t bytes = sizeof(T);
    for (int64_t d : dims) bytes *= d;
    const auto type = sizeof(T) == 4 ? TF_FLOAT : TF_BFLOAT16;
    TF_Tensor* tensor = TF_AllocateOutput(context_, outputs_.size(), type, dims.data(), dims.size(), bytes, status_);
    if (TF_GetCode(status_) != TF_OK || !tensor) throw std::bad_alloc();
    outputs_.push_back(tensor);
    return static_cast<T*>(TF_TensorData(outputs_.back()));
  }

 private:
  TF_OpKernelContext* context_;
  TF_Status* status_;
  std::vector<TF_Tensor*> inputs_, outputs_;
};

// Of x [B, ..., C], scale and shift: [C] or [B, C].
Norm norm_of(const Call& call) {
  const auto x = call.shape(0), scale = call.shape(1);
  require(x.size() >= 2, "x is " + text(x) + ", not [B, ..., C]");
  Norm n{x.front(), 1, x.back(), scale.size() == 2};
  for (size_t i = 1; i + 1 < x.size(); ++i) n.positions *= x[i];
  const std::vector<int64_t> style = n.per_sample ? std::vector{n.batch, n.channels} : std::vector{n.channels};
  call.expect(1, style);
  call.expect(2, style);
  return n;
}

// How many dimensions the space of images [B, d.., C] has.
int64_t axes_of(const std::vector<int64_t>& images) {
  require(images.size() >= 3 && images.size() <= 5, "images are " + text(images) + ", not of one to three dimensions");
  require(images.back() > 0, "images are " + text(images) + ", without channels");
  return images.size() - 2;
}

// The window between the small side's dims and the large side's; missing leading axes have size 1.
Window window_of(const Attributes& a, const std::vector<int64_t>& shape, int64_t axes, bool from_large) {
  require(a.stride >= 1 && a.kernel >= a.stride, "a kernel of " + std::to_string(a.kernel) + " with stride " + std::to_string(a.stride));
  for (int64_t i = 1; from_large && i <= axes; ++i)
    require(shape[i] % a.stride == 0, text(shape) + " cannot be parted by stride " + std::to_string(a.stride));
  Window w;
  for (int i = 0; i < 3; ++i) {
    const int64_t axis = i - (3 - axes);
    const bool used = axis >= 0;
    w.taps[i] = used ? a.kernel : 1;
    w.stride[i] = used ? a.stride : 1;
    w.small[i] = used ? shape[1 + axis] / (from_large ? a.stride : 1) : 1;
    w.large[i] = used ? w.small[i] * a.stride : 1;
    w.pad[i] = used ? a.pad : 0;
  }
  return w;
}

template <typename T>
void norm_forward_op(const Attributes& a, Call& call) {
  const auto shape = call.shape(0);
  const Norm n = norm_of(call);
  T* y = call.out<T>(shape);
  float* mean = call.out<float>({n.batch, n.channels});
  float* rate = call.out<float>({n.batch, n.channels});
  norm_forward(n, call.in<T>(0), call.in<float>(1), call.in<float>(2), a.epsilon, a.slope, a.threads, y, mean, rate);
}

template <typename T>
void norm_backward_op(const Attributes& a, Call& call) {
  const auto shape = call.shape(0);
  const Norm n = norm_of(call);
  call.expect(3, {n.batch, n.channels});
  call.expect(4, {n.batch, n.channels});
  call.expect(5, shape);
  T* dx = call.out<T>(shape);
  float* dscale = call.out<float>({n.batch, n.channels});
  float* dshift = call.out<float>({n.batch, n.channels});
  norm_backward(n, call.in<T>(0), call.in<float>(1), call.in<float>(2), call.in<float>(3), call.in<float>(4), call.in<T>(5),
                a.slope, a.threads, dx, dscale, dshift);
}

template <typename T, void (*run)(int64_t, int64_t, int64_t, const T*, const float*, int64_t, T*)>
void resample_op(const Attributes& a, Call& call) {
  const auto shape = call.shape(0);
  require(shape.size() == 5 && shape[1] == shape[2] && shape[2] == shape[3], "a volume is " + text(shape) + ", not [B,N,N,N,C]");
  call.expect(1, {shape[0], 3, 4});
  run(shape[0], shape[1], shape[4], call.in<T>(0), call.in<float>(1), a.threads, call.out<T>(shape));
}

// Of volume [B, N, N, N, C], matrix [B, 3, 4], kernel [C], bias [], ground [C]; returns the shape of what is seen, [B, N, N, C].
std::vector<int64_t> seen_of(const Call& call) {
  const auto shape = call.shape(0);
  require(shape.size() == 5 && shape[1] == shape[2] && shape[2] == shape[3], "a volume is " + text(shape) + ", not [B,N,N,N,C]");
  call.expect(1, {shape[0], 3, 4});
  call.expect(2, {shape[4]});
  call.expect(3, {});
  call.expect(4, {shape[4]});
  return {shape[0], shape[1], shape[1], shape[4]};
}

template <typename T>
void render_forward_op(const Attributes& a, Call& call) {
  const auto seen = seen_of(call);
  render_forward(seen[0], seen[1], seen[3], call.in<T>(0), call.in<float>(1),
                 {call.in<float>(2), call.in<float>(3), call.in<float>(4)}, a.threads, call.out<float>(seen));
}

template <typename T>
void render_backward_op(const Attributes& a, Call& call) {
  const auto seen = seen_of(call);
  const int64_t batch = seen[0], channels = seen[3];
  call.expect(5, seen);
  T* dvolume = call.out<T>(call.shape(0));
  float* dkernel = call.out<float>({batch, channels});
  float* dbias = call.out<float>({batch});
  float* dground = call.out<float>({batch, channels});
  render_backward(batch, seen[1], channels, call.in<T>(0), call.in<float>(1),
                  {call.in<float>(2), call.in<float>(3), call.in<float>(4)}, call.in<float>(5), a.threads, dvolume, dkernel, dbias,
                  dground);
}

#ifdef HOLOTF_CONVOLUTIONS
int64_t channels_of(const std::vector<int64_t>& bias) {
  require(bias.size() == 1, "a bias is " + text(bias) + ", not [N]");
  return bias[0];
}

// The shape of a kernel: its taps along each axis, and then two numbers of channels.
std::vector<int64_t> taps_of(const Attributes& a, int64_t axes, int64_t first, int64_t second) {
  std::vector<int64_t> shape(axes, a.kernel);
  shape.insert(shape.end(), {first, second});
  return shape;
}

template <typename Out>
void gather_op(const Attributes& a, Call& call) {  // large [B, large..., C], weights [taps..., C, N], bias [N]
  auto shape = call.shape(0);
  const int64_t axes = axes_of(shape), outputs = channels_of(call.shape(2));
  const Window w = window_of(a, shape, axes, true);
  call.expect(1, taps_of(a, axes, shape.back(), outputs));
  const auto p = gathered(w, call.in<bfloat16>(0), shape[0], shape.back());
  for (int64_t i = 1; i <= axes; ++i) shape[i] /= a.stride;
  shape.back() = outputs;
  Out* small = call.out<Out>(shape);
  patches_times(p, call.in<bfloat16>(1), true, outputs, call.in<float>(2), a.threads,
                [&](int64_t row) { return small + row * outputs; });
}

void spread_op(const Attributes& a, Call& call) {  // small [B, small..., C], weights [taps..., N, C], bias [N]
  auto shape = call.shape(0);
  const int64_t axes = axes_of(shape), channels = shape.back(), outputs = channels_of(call.shape(2));
  const Window w = window_of(a, shape, axes, false);
  call.expect(1, taps_of(a, axes, outputs, channels));
  for (int64_t i = 1; i <= axes; ++i) shape[i] *= a.stride;
  shape.back() = outputs;
  bfloat16* large = call.out<bfloat16>(shape);
  Place phase;
  for (phase[0] = 0; phase[0] < w.stride[0]; ++phase[0])
    for (phase[1] = 0; phase[1] < w.stride[1]; ++phase[1])
      for (phase[2] = 0; phase[2] < w.stride[2]; ++phase[2]) {
        const auto p = spread(w, phase, call.in<bfloat16>(0), shape[0], channels);
        std::vector<int64_t> places;  // of an image's positions on the large side
        for (int64_t at = 0; at < p.positions; ++at) {
          const Place q{at / (w.small[1] * w.small[2]), at / w.small[2] % w.small[1], at % w.small[2]};
          int64_t place = 0;
          for (int i = 0; i < 3; ++i) place = place * w.large[i] + w.stride[i] * q[i] + phase[i];
          places.push_back(place);
        }
        patches_times(p, call.in<bfloat16>(1), false, outputs, call.in<float>(2), a.threads, [&](int64_t row) {
          const int64_t b = row / p.positions;
          return large + (b * w.large_size() + places[row - b * p.positions]) * outputs;
        });
      }
}

void filter_gradient_op(const Attributes& a, Call& call) {  // large [B, large..., C], small [B, small..., N]
  const auto shape = call.shape(0);
  const int64_t axes = axes_of(shape), channels = shape.back();
  require(axes_of(call.shape(1)) == axes, "images are " + text(shape) + " and " + text(call.shape(1)));
  const int64_t outputs = call.shape(1).back();
  const Window w = window_of(a, shape, axes, true);
  auto small = shape;
  for (int64_t i = 1; i <= axes; ++i) small[i] /= a.stride;
  small.back() = outputs;
  call.expect(1, small);
  float* dw = call.out<float>({w.area() * channels, outputs});
  if (shape[0] * w.small_size() == 0) {  // a sum of nothing
    std::fill_n(dw, w.area() * channels * outputs, 0.f);
    return;
  }
  filter_gradient(gathered(w, call.in<bfloat16>(0), shape[0], channels), call.in<bfloat16>(1), outputs, a.threads, dw);
}

enum class Way { enlarge, spread, gather };

// x [B, d..., C], weights [taps..., N, C], to gather [taps..., C, N], bias [N].
template <Way way, typename T>
void winograd_op(const Attributes& a, Call& call) {
  constexpr bool to_large = way != Way::gather;
  auto shape = call.shape(0);
  const int64_t axes = axes_of(shape), batch = shape[0], channels = shape.back(), outputs = channels_of(call.shape(2));
  std::vector<int64_t> kernel(axes, way == Way::enlarge ? 3 : 4);
  kernel.insert(kernel.end(), {to_large ? outputs : channels, to_large ? channels : outputs});
  call.expect(1, kernel);
  int64_t small[3] = {1, 1, 1}, large[3] = {1, 1, 1};
  for (int64_t i = 1; i <= axes; ++i) {
    const int64_t parts = way == Way::enlarge ? 1 : way == Way::spread ? 2 : 4;
    require(shape[i] % parts == 0, text(shape) + " cannot be parted by " + std::to_string(parts));
    small[2 - axes + i] = to_large ? shape[i] : shape[i] / 2;
    large[2 - axes + i] = 2 * small[2 - axes + i];
    shape[i] = (to_large ? large : small)[2 - axes + i];
  }
  shape.back() = outputs;
  T* y = call.out<T>(shape);
  const auto run = [&](auto* enlarge, auto* spread, auto* gather) {
    const auto chosen = way == Way::enlarge ? enlarge : way == Way::spread ? spread : gather;
    chosen(batch, small, large, channels, call.in<T>(0), call.in<float>(1), outputs, call.in<float>(2), a.threads, y);
  };
  if (axes == 1)
    run(enlarge<1, T>, winograd_spread<1, T>, winograd_gather<1, T>);
  else if (axes == 2)
    run(enlarge<2, T>, winograd_spread<2, T>, winograd_gather<2, T>);
  else
    run(enlarge<3, T>, winograd_spread<3, T>, winograd_gather<3, T>);
}

template <typename T>
void winograd_filter_op(const Attributes& a, Call& call) {  // large [B, 2 d..., C], small [B, d..., N]
  const auto shape = call.shape(0);
  auto expected = shape;
  const int64_t axes = axes_of(shape), channels = shape.back(), outputs = call.shape(1).back();
  int64_t small[3] = {1, 1, 1}, large[3] = {1, 1, 1}, taps = 1;
  for (int64_t i = 1; i <= axes; ++i, taps *= 4) {
    require(shape[i] % 4 == 0, text(shape) + " cannot be parted by 4");
    large[2 - axes + i] = shape[i];
    small[2 - axes + i] = expected[i] = shape[i] / 2;
  }
  expected.back() = outputs;
  call.expect(1, expected);
  float* dw = call.out<float>({taps * channels, outputs});
  if (std::find(expected.begin(), expected.end(), 0) != expected.end()) {  // a sum of nothing
    std::fill_n(dw, taps * channels * outputs, 0.f);
    return;
  }
  const auto run = axes == 1 ? winograd_filter<1, T> : axes == 2 ? winograd_filter<2, T> : winograd_filter<3, T>;
  run(shape[0], small, large, call.in<T>(0), channels, call.in<T>(1), outputs, a.threads, dw);
}

void differences_op(const Attributes& a, Call& call) {  // [B, 2 d..., C]
  auto shape = call.shape(0);
  const int64_t axes = axes_of(shape), channels = shape.back();
  int64_t small[3];
  for (int64_t i = 0; i < axes; ++i) {
    require(shape[1 + i] % 2 == 0, text(shape) + " cannot be parted by stride 2");
    small[i] = shape[1 + i] /= 2;
  }
  const int64_t given = axes == 1 ? 3 : axes == 2 ? 9 : 27, batch = shape[0];
  shape.back() *= given;
  const bfloat16* large = call.in<bfloat16>(0);
  bfloat16* out = call.out<bfloat16>(shape);
  (axes == 1 ? differences<1> : axes == 2 ? differences<2> : differences<3>)(batch, small, channels, large, a.threads, out);
}
#endif

void sums_op(const Attributes& a, Call& call) {  // [B, ..., C]
  const auto shape = call.shape(0);
  require(shape.size() >= 2, "x is " + text(shape) + ", not [B, ..., C]");
  const int64_t batch = shape[0], channels = shape.back();
  const int64_t positions = std::accumulate(shape.begin() + 1, shape.end() - 1, int64_t{1}, std::multiplies<>());
  const bfloat16* x = call.in<bfloat16>(0);
  float* sums = call.out<float>({batch, channels});
  parallel_for(batch, a.threads, [&](int64_t b) {
    std::vector<float> part(channels);
    blocked_sum(positions, channels, sums + b * channels, part.data(), [&](int64_t s, float* sum) {
      for (int64_t c = 0; c < channels; ++c) sum[c] += to_float(x[(b * positions + s) * channels + c]);
    });
  });
}

template <void (*with_float)(const Attributes&, Call&), void (*with_bfloat16)(const Attributes&, Call&)>
void compute(void* attributes, TF_OpKernelContext* context) {
  const auto& a = *static_cast<Attributes*>(attributes);
  TF_Code code = TF_OK;
  std::string message;
  try {
    Call call(context);
    (a.type == TF_FLOAT ? with_float : with_bfloat16)(a, call);
  } catch (const std::bad_alloc&) {
    code = TF_RESOURCE_EXHAUSTED, message = "out of memory";
  } catch (const std::invalid_argument& error) {
    code = TF_INVALID_ARGUMENT, message = error.what();
  } catch (const std::exception& error) {
    code = TF_INTERNAL, message = error.what();
  }
  if (code == TF_OK) return;
  TF_Status* status = TF_NewStatus();
  TF_SetStatus(status, code, ("holotf: " + message).c_str());
  TF_OpKernelContext_Failure(context, status);
  TF_DeleteStatus(status);
}

void add_op(const char* name, std::vector<const char*> inputs, std::vector<const char*> outputs, std::vector<const char*> attributes,
            void (*run)(void*, TF_OpKernelContext*), const char* types = "T: {float, bfloat16}") {
  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder(name);
  for (auto* spec : inputs) TF_OpDefinitionBuilderAddInput(op, spec);
  for (auto* spec : outputs) TF_OpDefinitionBuilderAddOutput(op, spec);
  TF_OpDefinitionBuilderAddAttr(op, types);
  TF_OpDefinitionBuilderAddAttr(op, "threads: int");
  for (auto* spec : attributes) TF_OpDefinitionBuilderAddAttr(op, spec);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(op, &TF_ShapeInferenceContextSetUnknownShape);  // Python sets them
  TF_RegisterOpDefinition(op, status);
  TF_RegisterKernelBuilder(name, TF_NewKernelBuilder(name, "CPU", &create, run, &destroy), status);
  TF_DeleteStatus(status);
}

__attribute__((constructor)) void add_ops() {
  add_op("HolotfNormForward", {"x: T", "scale: float", "shift: float"}, {"y: T", "mean: float", "rate: float"},
         {"epsilon: float", "slope: float"}, compute<norm_forward_op<float>, norm_forward_op<bfloat16>>);
  add_op("HolotfNormBackward", {"x: T", "scale: float", "shift: float", "mean: float", "rate: float", "dy: T"},
         {"dx: T", "dscale: float", "dshift: float"}, {"slope: float"}, compute<norm_backward_op<float>, norm_backward_op<bfloat16>>);
  add_op("HolotfResampleForward", {"volume: T", "matrix: float"}, {"out: T"}, {},
         compute<resample_op<float, resample_forward>, resample_op<bfloat16, resample_forward>>);
  add_op("HolotfResampleBackward", {"upstream: T", "matrix: float"}, {"out: T"}, {},
         compute<resample_op<float, resample_backward>, resample_op<bfloat16, resample_backward>>);
  const std::vector<const char*> rendered = {"volume: T", "matrix: float", "kernel: float", "bias: float", "ground: float"};
  auto of_seen = rendered;
  of_seen.push_back("upstream: float");
  add_op("HolotfRenderForward", rendered, {"seen: float"}, {}, compute<render_forward_op<float>, render_forward_op<bfloat16>>);
  add_op("HolotfRenderBackward", of_seen, {"dvolume: T", "dkernel: float", "dbias: float", "dground: float"}, {},
         compute<render_backward_op<float>, render_backward_op<bfloat16>>);
  // compute<nullptr, ...>: bfloat16 only, as the op itself says.
  add_op("HolotfSums", {"x: T"}, {"sums: float"}, {}, compute<nullptr, sums_op>, "T: {bfloat16}");
#ifdef HOLOTF_CONVOLUTIONS
  if (may_multiply()) {
    const std::vector<const char*> inputs = {"x: T", "weights: float", "bias: float"};
#ifdef HOLOTF_TILES  // which multiply bfloat16 faster than its differences are laid out
    const char* types = "T: {float}";
    constexpr auto spread = compute<winograd_op<Way::spread, float>, nullptr>, gather = compute<winograd_op<Way::gather, float>, nullptr>,
                   filter = compute<winograd_filter_op<float>, nullptr>;
#else
    const char* types = "T: {float, bfloat16}";
    constexpr auto spread = compute<winograd_op<Way::spread, float>, winograd_op<Way::spread, bfloat16>>,
                   gather = compute<winograd_op<Way::gather, float>, winograd_op<Way::gather, bfloat16>>,
                   filter = compute<winograd_filter_op<float>, winograd_filter_op<bfloat16>>;
    add_op("HolotfEnlarge", inputs, {"y: T"}, {}, compute<nullptr, winograd_op<Way::enlarge, bfloat16>>, "T: {bfloat16}");
#endif
    add_op("HolotfWinogradSpread", inputs, {"y: T"}, {}, spread, types);
    add_op("HolotfWinogradFilter", {"large: T", "small: T"}, {"dweights: float"}, {}, filter, types);
    add_op("HolotfWinogradGather", inputs, {"y: T"}, {}, gather, types);
    add_op("HolotfDifferences", {"large: T"}, {"small: T"}, {}, compute<nullptr, differences_op>, "T: {bfloat16}");
    const std::vector<const char*> window = {"kernel: int", "stride: int", "pad: int"};
    add_op("HolotfGather", {"large: T", "weights: T", "bias: float"}, {"small: T"}, window, compute<nullptr, gather_op<bfloat16>>,
           "T: {bfloat16}");
#ifdef HOLOTF_TILES  // where the parts of float32 (layers/tiles.py) cost less than a product of float32
    add_op("HolotfGatherWide", {"large: T", "weights: T", "bias: float"}, {"small: float"}, window, compute<nullptr, gather_op<float>>,
           "T: {bfloat16}");
#endif
    add_op("HolotfSpread", {"small: T", "weights: T", "bias: float"}, {"large: T"}, window, compute<nullptr, spread_op>,
           "T: {bfloat16}");
    add_op("HolotfFilterGradient", {"large: T", "small: T"}, {"dweights: float"}, window, compute<nullptr, filter_gradient_op>,
           "T: {bfloat16}");
  }
#endif
}

}  // namespace

// What convolutions are computed by.
extern "C" const char* holotf_convolutions() {
#if defined(HOLOTF_TILES)
  return may_multiply() ? "tiles" : "";
#elif defined(HOLOTF_CONVOLUTIONS)
#ifdef HOLOTF_MAY_PAIR
  if (by_pairs()) return "vectors of bfloat16";
#endif
  return "vectors of float32";
#else
  return "";
#endif
}
