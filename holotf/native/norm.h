// Instance normalisation with scale, shift and leaky ReLU (layers/normalise.py).

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "common.h"

namespace {

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

}  // namespace
