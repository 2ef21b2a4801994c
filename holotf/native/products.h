// A convolution is a product of matrices, one of them made of patches. The patches are never laid out: strips of them are read where
// they lie, in the order that the processor's instructions want, while the other factor's strips and the sums wait in the core's own
// cache. For bfloat16; plain products of float32 are no faster here than oneDNN's convolutions.
//
// Tiles (AMX) multiply where the processor has them, otherwise vectors of 512 bits; without either HOLOTF_CONVOLUTIONS is not defined.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "common.h"

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

#ifdef HOLOTF_CONVOLUTIONS

namespace {

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

}  // namespace

#endif  // HOLOTF_CONVOLUTIONS
