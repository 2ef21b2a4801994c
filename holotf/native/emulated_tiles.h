// Intel's tile instructions (AMX) in scalar code, so that the code around them can be tested where the processor has none, and under
// sanitizers, which do not see what an instruction reads. A build with -DHOLOTF_EMULATE_TILES has them in place of the intrinsics.
//
// Each does what the pseudo code in Intel's Software Developer's Manual, volume 2, says (LDTILECFG, TILELOADD, TILESTORED, TILEZERO,
// TILERELEASE, TDPBF16PS), on tiles of its thread, and ends the process where a processor would fault.

#pragma once

#ifndef __AVX512BW__
#error "emulated tiles: the code around them needs a processor with AVX-512BW"
#endif

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace emulated_tiles {

constexpr int kTiles = 8, kRows = 16, kBytes = 64;

struct Config {
  uint8_t palette, start, reserved[14];  // palette: 0 before LDTILECFG and after TILERELEASE
  uint16_t bytes[16];                    // of a row
  uint8_t rows[16];
};
static_assert(sizeof(Config) == 64, "as LDTILECFG reads it");

inline thread_local Config config = {};
inline thread_local uint8_t tiles[kTiles][kRows][kBytes] = {};

inline void require(bool holds, const char* otherwise) {
  if (holds) return;
  std::fprintf(stderr, "emulated tiles: %s\n", otherwise);
  std::abort();
}

inline void release() {
  config = {};
  std::memset(tiles, 0, sizeof tiles);
}

inline void load_config(const void* from) {
  release();
  std::memcpy(&config, from, sizeof config);
  require(config.palette == 1 && config.start == 0, "not palette 1, from row 0 on");
  for (uint8_t byte : config.reserved) require(byte == 0, "a reserved byte is not 0");
  for (int t = 0; t < 16; ++t) {
    require(config.rows[t] <= (t < kTiles ? kRows : 0) && config.bytes[t] <= (t < kTiles ? kBytes : 0), "a tile is too large");
    require((config.rows[t] == 0) == (config.bytes[t] == 0), "a tile has rows or columns alone");
  }
}

inline void require_configured(int tile) {
  require(config.palette == 1 && config.rows[tile] > 0, "a tile is used that is not configured");
}

inline void zero(int tile) {
  require_configured(tile);
  std::memset(tiles[tile], 0, sizeof tiles[tile]);
}

inline void load(int tile, const void* from, int64_t stride) {
  zero(tile);
  for (int row = 0; row < config.rows[tile]; ++row)
    std::memcpy(tiles[tile][row], static_cast<const char*>(from) + row * stride, config.bytes[tile]);
}

inline void store(int tile, void* to, int64_t stride) {
  require_configured(tile);
  for (int row = 0; row < config.rows[tile]; ++row)
    std::memcpy(static_cast<char*>(to) + row * stride, tiles[tile][row], config.bytes[tile]);
}

// What is smaller than any normal number is a zero of its sign: of every operand (DAZ) and every result (FTZ).
inline float flushed(float x) { return std::abs(x) < std::numeric_limits<float>::min() ? std::copysign(0.f, x) : x; }

inline float value(uint16_t bfloat16) {
  const uint32_t bits = static_cast<uint32_t>(bfloat16) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return flushed(out);
}

// sums[m, n] += sum over k of left[m, 2 k] right[k, 2 n] + sum over k of left[m, 2 k + 1] right[k, 2 n + 1], each of the two in its
// order, by a fused multiply-add at a time.
inline void dot(int sums, int left, int right) {
  for (int tile : {sums, left, right}) require_configured(tile);
  require(sums != left && sums != right && left != right, "a product of a tile with itself");
  const int pairs = config.bytes[left] / 4, columns = config.bytes[sums] / 4;
  require(config.bytes[left] % 4 == 0 && config.bytes[sums] % 4 == 0 && config.rows[sums] == config.rows[left] &&
              config.bytes[sums] == config.bytes[right] && config.rows[right] == pairs,
          "shapes that do not fit");
  for (int m = 0; m < config.rows[sums]; ++m) {
    uint16_t row[kBytes / 2], pair[kBytes / 2];
    float even[kBytes / 4] = {}, odd[kBytes / 4] = {}, total[kBytes / 4];
    std::memcpy(row, tiles[left][m], sizeof row);
    std::memcpy(total, tiles[sums][m], sizeof total);
    for (int k = 0; k < pairs; ++k) {
      std::memcpy(pair, tiles[right][k], sizeof pair);
      for (int n = 0; n < columns; ++n) {
        even[n] = flushed(std::fma(value(row[2 * k]), value(pair[2 * n]), even[n]));
        odd[n] = flushed(std::fma(value(row[2 * k + 1]), value(pair[2 * n + 1]), odd[n]));
      }
    }
    for (int n = 0; n < columns; ++n) total[n] = flushed(flushed(total[n]) + flushed(even[n] + odd[n]));
    std::memcpy(tiles[sums][m], total, sizeof total);
  }
}

}  // namespace emulated_tiles

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(from) emulated_tiles::load_config(from)
#define _tile_release() emulated_tiles::release()
#define _tile_zero(tile) emulated_tiles::zero(tile)
#define _tile_loadd(tile, from, stride) emulated_tiles::load(tile, from, stride)
#define _tile_stored(tile, to, stride) emulated_tiles::store(tile, to, stride)
#define _tile_dpbf16ps(sums, left, right) emulated_tiles::dot(sums, left, right)
