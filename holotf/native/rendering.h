// Turning and compositing (renderers/compositing.py).

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "common.h"
#include "resampling.h"

namespace {

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

}  // namespace
