// Trilinear resampling (layers/rigid.py).

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "common.h"

namespace {

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

}  // namespace
