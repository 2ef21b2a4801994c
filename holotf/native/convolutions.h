// Convolutions and their gradients as products: the windows and patches that these are made of (layers/tiles.py).

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "common.h"
#include "products.h"

namespace {

// A strided "same" convolution relates small [B, d, h, w] to large [B, s d, s h, s w] by taps: large = s small + tap - pad.
struct Window {
  int64_t small[3], large[3], taps[3], stride[3], pad[3];
  int64_t area() const { return taps[0] * taps[1] * taps[2]; }
  int64_t small_size() const { return small[0] * small[1] * small[2]; }
  int64_t large_size() const { return large[0] * large[1] * large[2]; }
};

#ifdef HOLOTF_CONVOLUTIONS

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

#endif  // HOLOTF_CONVOLUTIONS

}  // namespace
