// Instance and batch normalisation with scale, shift and leaky ReLU (layers/normalise.py).

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "common.h"

namespace {

struct Norm {
  int64_t batch, positions, channels;
  bool per_sample;  // scale and shift are [B,C], not [C]
  bool together;    // the moments are those of all samples: mean and rate are [1,C], not [B,C]

  int64_t rows() const { return together ? 1 : batch; }
  int64_t row(int64_t b) const { return together ? 0 : b; }
  int64_t count() const { return together ? batch * positions : positions; }
};

// Calls first(b), then second(row) once all its samples are done, and so on: a sample after the other where each has moments of its
// own, so that it stays in the cache; step by step where all share them.
template <typename First, typename Second, typename... Rest>
void by_steps(const Norm& n, int64_t threads, const First& first, const Second& second, const Rest&... rest) {
  if (!n.together) {
    parallel_for(n.batch, threads, [&](int64_t b) { first(b), second(b), (rest(b), ...); });
    return;
  }
  parallel_for(n.batch, threads, first);
  second(0);
  if constexpr (sizeof...(rest) == 1) {
    parallel_for(n.batch, threads, rest...);
  } else {
    by_steps(n, threads, rest...);
  }
}

// Sums of all samples in their order, [B, width] -> [width]; of this sample alone where each has its own.
inline void add_up(const Norm& n, int64_t row, const float* sums, int64_t width, float* total) {
  std::fill_n(total, width, 0.f);
  for (int64_t b = n.together ? 0 : row; b < (n.together ? n.batch : row + 1); ++b)
    for (int64_t c = 0; c < width; ++c) total[c] += sums[b * width + c];
}

inline float past_relu(float upstream, float y, float slope) { return upstream * (y > 0.f ? 1.f : slope); }

template <typename T>
void norm_forward(const Norm& n, const T* x, const float* scale, const float* shift, float epsilon, float slope, int64_t threads,
                  T* y, float* mean, float* rate) {
  const int64_t C = n.channels, P = n.positions;
  std::vector<float> sums(n.batch * C);
  auto sum = [&](int64_t b) {
    const T* xs = x + b * P * C;
    std::vector<float> part(C);
    blocked_sum(P, C, &sums[b * C], part.data(), [&](int64_t s, float* sum) {
      for (int64_t c = 0; c < C; ++c) sum[c] += to_float(xs[s * C + c]);
    });
  };
  auto means = [&](int64_t row) {
    float* m = mean + row * C;
    add_up(n, row, sums.data(), C, m);
    for (int64_t c = 0; c < C; ++c) m[c] /= n.count();
  };
  auto squares = [&](int64_t b) {
    const T* xs = x + b * P * C;
    const float* m = mean + n.row(b) * C;
    std::vector<float> part(C);
    blocked_sum(P, C, &sums[b * C], part.data(), [&](int64_t s, float* sum) {
      for (int64_t c = 0; c < C; ++c) {
        float centred = to_float(xs[s * C + c]) - m[c];
        sum[c] += centred * centred;
      }
    });
  };
  auto rates = [&](int64_t row) {
    float* r = rate + row * C;
    add_up(n, row, sums.data(), C, r);
    for (int64_t c = 0; c < C; ++c) r[c] = 1.f / std::sqrt(r[c] / n.count() + epsilon);
  };
  auto apply = [&](int64_t b) {
    const T* xs = x + b * P * C;
    T* ys = y + b * P * C;
    const float *m = mean + n.row(b) * C, *r = rate + n.row(b) * C;
    const float *scales = scale + n.per_sample * b * C, *shifts = shift + n.per_sample * b * C;
    std::vector<float> gain(C), offset(shifts, shifts + C);
    for (int64_t c = 0; c < C; ++c) gain[c] = r[c] * scales[c];
    for (int64_t s = 0; s < P; ++s)
      for (int64_t c = 0; c < C; ++c) {
        float v = (to_float(xs[s * C + c]) - m[c]) * gain[c] + offset[c];
        store(std::max(v, slope * v), ys + s * C + c);
      }
  };
  by_steps(n, threads, sum, means, squares, rates, apply);
}

// dx = rate (scale g - mean(scale g) - normal mean(scale g normal)), dscale = sum g normal, dshift = sum g of each sample; g is the
// gradient past the ReLU, the means are over what has its moments in common.
template <typename T>
void norm_backward(const Norm& n, const T* x, const float* scale, const float* shift, const float* mean, const float* rate,
                   const T* dy, float slope, int64_t threads, T* dx, float* dscale, float* dshift) {
  const int64_t C = n.channels, P = n.positions;
  std::vector<float> sums(n.batch * 2 * C), means(n.rows() * 2 * C);  // of scale g and of scale g normal
  auto sum = [&](int64_t b) {
    const T *xs = x + b * P * C, *dys = dy + b * P * C;
    const float *m = mean + n.row(b) * C, *r = rate + n.row(b) * C;
    const float *scales = scale + n.per_sample * b * C, *shifts = shift + n.per_sample * b * C;
    const float below = slope;  // a copy that no store can reach, so that loops become vectors
    std::vector<float> both(4 * C);
    blocked_sum(P, 2 * C, both.data(), both.data() + 2 * C, [&](int64_t s, float* sum) {
      const T *xc = xs + s * C, *gc = dys + s * C;
#pragma GCC ivdep
      for (int64_t c = 0; c < C; ++c) {
        const float normal = (to_float(xc[c]) - m[c]) * r[c];
        const float g = past_relu(to_float(gc[c]), normal * scales[c] + shifts[c], below);
        sum[c] += g;
        sum[C + c] += g * normal;
      }
    });
    for (int64_t c = 0; c < C; ++c) {
      dshift[b * C + c] = both[c];
      dscale[b * C + c] = both[C + c];
      sums[(2 * b) * C + c] = scales[c] * both[c];
      sums[(2 * b + 1) * C + c] = scales[c] * both[C + c];
    }
  };
  auto divide = [&](int64_t row) {
    float* of = &means[row * 2 * C];
    add_up(n, row, sums.data(), 2 * C, of);
    for (int64_t c = 0; c < 2 * C; ++c) of[c] /= n.count();
  };
  auto apply = [&](int64_t b) {
    const T *xs = x + b * P * C, *dys = dy + b * P * C;
    T* dxs = dx + b * P * C;
    const float *m = mean + n.row(b) * C, *r = rate + n.row(b) * C, *mean_g = &means[n.row(b) * 2 * C], *mean_gn = mean_g + C;
    const float *scales = scale + n.per_sample * b * C, *shifts = shift + n.per_sample * b * C;
    const float below = slope;
    for (int64_t s = 0; s < P; ++s) {
      const T *xc = xs + s * C, *gc = dys + s * C;
#pragma GCC ivdep
      for (int64_t c = 0; c < C; ++c) {
        const float normal = (to_float(xc[c]) - m[c]) * r[c];
        const float g = past_relu(to_float(gc[c]), normal * scales[c] + shifts[c], below);
        store(r[c] * (scales[c] * g - mean_g[c] - normal * mean_gn[c]), dxs + s * C + c);
      }
    }
  };
  by_steps(n, threads, sum, divide, apply);
}

}  // namespace
