// Filters of two taps by fewer products (Winograd 1980, F(2, 2)). Along an axis, two neighbours are sums of two of three products:
//   y0 = a x0 + b x1 = a (x0 - x1) + (a + b) x1,   y1 = a x1 + b x2 = (a + b) x1 + b (x2 - x1).
// A window of 3^axes places gives a tile of 2^axes; of either, the last axis is the first digit.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <numeric>
#include <type_traits>
#include <vector>

#include "common.h"
#include "convolutions.h"
#include "products.h"

#ifdef HOLOTF_CONVOLUTIONS

namespace {

constexpr int64_t power(int64_t base, int exponent) { return exponent ? base * power(base, exponent - 1) : 1; }

// The place [2^axes] of a tile, as one of [3^axes].
constexpr int corner(int place) { return place % 2 + place / 2 % 2 * 3 + place / 4 * 9; }

constexpr int64_t kPieces = 8;  // of a gradient of few blocks

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

// The gradient of its kernel, [4^axes, outputs, inputs]. In each phase, of products summed over all tiles,
//   m0 = (x0 - x1) dy0,   m1 = x1 (dy0 + dy1),   m2 = (x2 - x1) dy1,
// the gradients of a and b are m0 + m1 and m1 + m2. A block of strips of both sides is laid out and multiplied a few steps at a time,
// all in the core's own cache; few blocks are shared out along the depth, alike for any number of threads.
template <typename Value, int axes, typename T>
void winograd_filter_of(int64_t batch, const int64_t* small, const int64_t* large, const T* dy, int64_t outputs, const T* x,
                        int64_t inputs, int64_t threads, float* dkernel) {
  constexpr int seen = power(3, axes), given = power(2, axes);
  constexpr int64_t at_once = kAtOnce<Value> / 4, most = axes < 3 ? 16 : 4;  // steps, and pairs of strips, in a block: below 1 MiB
  const auto grid = halved<axes>(small);
  const int64_t rows = strips(outputs), columns = strips(inputs), steps = strips(batch * grid[0] * grid[1] * grid[2]);
  const int64_t runs = (steps + at_once - 1) / at_once;
  int64_t tall = std::min<int64_t>(rows, axes < 3 ? 4 : 2);  // a square, but where there are few strips
  const int64_t wide = std::min(columns, most / tall);
  tall = std::min(rows, most / wide);
  const int64_t abreast = (columns + wide - 1) / wide, blocks = (rows + tall - 1) / tall * abreast, block_of = tall * wide * seen * kStep;
  const int64_t deep = std::clamp<int64_t>(kPieces / blocks, 1, (runs + 7) / 8);
  const auto sums = room<float>(blocks * deep * block_of);  // [blocks, deep, tall, wide, 3^axes]
  for (int64_t phase = 0; phase < given; ++phase) {
    const auto windows = windows_of<axes>(grid.data(), seen_in(phase), x, batch, small, inputs);
    const auto parts = windows_of<axes, 2>(grid.data(), given_in(phase), dy, batch, large, outputs);
    parallel_for(blocks * deep, threads, [&](int64_t piece) {
      const int64_t block = piece / deep, part = piece % deep, first = runs * part / deep, last = runs * (part + 1) / deep;
      const int64_t row = block / abreast * tall, height = std::min(tall, rows - row);
      const int64_t column = block % abreast * wide, width = std::min(wide, columns - column);
      const auto lefts = room<Value>(height * seen * at_once * kStep), rights = room<Value>(width * seen * at_once * kStep);
      for (int64_t run = first; run < last; ++run) {
        const int64_t count = std::min(at_once, steps - run * at_once), apart = count * kStep;
        for (int64_t k = 0; k < count; ++k) {
          const int64_t tile = (run * at_once + k) * kSide;
          for (int64_t i = 0; i < height; ++i) {
            const T* lines[given][kSide];
            for (int place = 0; place < given; ++place) parts.find(tile, place, (row + i) * kSide, lines[place]);
            lay_out_across<axes, 2>(lines, outputs - (row + i) * kSide, apart, lefts.get() + i * seen * apart + k * kStep);
          }
          for (int64_t i = 0; i < width; ++i) {
            const T* lines[seen][kSide];
            for (int place = 0; place < seen; ++place) windows.find(tile, place, (column + i) * kSide, lines[place]);
            lay_out_across<axes, 3>(lines, inputs - (column + i) * kSide, apart, rights.get() + i * seen * apart + k * kStep);
          }
        }
        for (int64_t place = 0; place < seen; ++place)
          for (int64_t i = 0; i < width; ++i)
            for (int64_t strip = 0; strip < height; ++strip)
              multiply<true>(lefts.get() + (strip * seen + place) * apart, rights.get() + (i * seen + place) * apart, count, run == first,
                             sums.get() + piece * block_of + ((strip * wide + i) * seen + place) * kStep);
      }
    });
    float* to[given];  // a is that of tap 3 - p, b of tap 1 - p
    for (int64_t part = 0; part < given; ++part) {
      int64_t tap = 0;
      for (int64_t axis = axes - 1; axis >= 0; --axis) tap = 4 * tap + 3 - (phase >> axis & 1) - 2 * (part >> axis & 1);
      to[part] = dkernel + tap * outputs * inputs;
    }
    parallel_for(rows * columns, threads, [&](int64_t which) {
      const int64_t row = which / columns, column = which % columns, block = row / tall * abreast + column / wide;
      const float* from = sums.get() + block * deep * block_of + (row % tall * wide + column % wide) * seen * kStep;
      for (int64_t output = row * kSide; output < std::min((row + 1) * kSide, outputs); ++output)
        for (int64_t input = column * kSide; input < std::min((column + 1) * kSide, inputs); input += kHalf) {
          __m512 m[seen];
#pragma GCC unroll 27
          for (int place = 0; place < seen; ++place) {
            const float* sum = from + place * kStep + output % kSide * kSide + input % kSide;
            m[place] = _mm512_load_ps(sum);
            for (int64_t part = 1; part < deep; ++part) m[place] = _mm512_add_ps(m[place], _mm512_load_ps(sum + part * block_of));
          }
          add_up<axes>(m);
          const auto mask = static_cast<__mmask16>(low_bits(std::min<int64_t>(inputs - input, kHalf)));
#pragma GCC unroll 8
          for (int part = 0; part < given; ++part)
            _mm512_mask_storeu_ps(to[part] + output * inputs + input, mask, m[corner(part)]);
        }
    });
  }
}

template <int axes, typename T>
void winograd_filter(int64_t batch, const int64_t* small, const int64_t* large, const T* dy, int64_t outputs, const T* x,
                     int64_t inputs, int64_t threads, float* dkernel) {
#ifdef HOLOTF_MAY_PAIR
  if constexpr (std::is_same_v<T, bfloat16>)
    if (by_pairs()) return winograd_filter_of<bfloat16, axes>(batch, small, large, dy, outputs, x, inputs, threads, dkernel);
#endif
  winograd_filter_of<float, axes>(batch, small, large, dy, outputs, x, inputs, threads, dkernel);
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

}  // namespace

#endif  // HOLOTF_CONVOLUTIONS
