// What lies between the convolutions, for the CPU: bound by memory, and a few times faster by hand than compiled by XLA.
//
// Each sample is worked on by one thread while it lies in that core's cache, so results do not depend on the number of threads.
// Values are float32 or bfloat16; every sum is float32. The formulas are those of the Python functions that call these
// (layers/normalise.py, layers/rigid.py, layers/convolution.py), and tests hold the two together.
//
// TensorFlow's C interface keeps this independent of its C++ headers: it compiles in seconds and its ABI is stable.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

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

// Calls work(i) for i in [0, n), on as many threads as the op was told.
template <typename Work>
void parallel_for(int64_t n, int64_t threads, const Work& work) {
  std::atomic<int64_t> next{0};
  auto run = [&] {
    for (int64_t i; (i = next++) < n;) work(i);
  };
  std::vector<std::thread> helpers;
  for (int64_t t = 1; t < std::min(threads, n); ++t) helpers.emplace_back(run);
  run();
  for (auto& helper : helpers) helper.join();
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
// What lies outside has weight 0 and input 0.
template <typename Visit>
void trilinear(const float* m, int64_t n, const Visit& visit) {
  const float middle = (n - 1) / 2.f, half = n / 2.f;
  int64_t out = 0;
  for (int64_t d = 0; d < n; ++d)
    for (int64_t h = 0; h < n; ++h)
      for (int64_t w = 0; w < n; ++w, ++out) {
        const float x = w - middle, y = middle - h, z = middle - d;  // y up, z toward the viewer
        float world[3];
        for (int i = 0; i < 3; ++i) world[i] = m[4 * i] * x + m[4 * i + 1] * y + m[4 * i + 2] * z + m[4 * i + 3] * half;
        const float at[3] = {middle - world[2], middle - world[1], world[0] + middle};  // depth, height, width
        int64_t index[3][2] = {};
        float weight[3][2] = {};
        for (int i = 0; i < 3; ++i) {
          if (!(at[i] > -1.f && at[i] < n)) continue;  // outside, or not a number
          const float low = std::floor(at[i]);
          for (int k = 0; k < 2; ++k) {
            const int64_t corner = static_cast<int64_t>(low) + k;
            if (corner < 0 || corner >= n) continue;
            index[i][k] = corner;
            weight[i][k] = k ? at[i] - low : low + 1 - at[i];
          }
        }
        int64_t inputs[8];
        float weights[8];
        for (int k = 0; k < 8; ++k) {
          const int a = k >> 2, b = k >> 1 & 1, c = k & 1;
          weights[k] = weight[0][a] * weight[1][b] * weight[2][c];
          inputs[k] = weights[k] > 0.f ? (index[0][a] * n + index[1][b]) * n + index[2][c] : 0;
        }
        visit(out, inputs, weights);
      }
}

// y[output] = sum weight x[input].
template <typename T>
void resample_forward(int64_t batch, int64_t n, int64_t channels, const T* x, const float* matrix, int64_t threads, T* y) {
  const int64_t C = channels, size = n * n * n * C;
  parallel_for(batch, threads, [&](int64_t b) {
    trilinear(matrix + 12 * b, n, [&](int64_t output, const int64_t* inputs, const float* w) {
      const T* from[8];
      for (int k = 0; k < 8; ++k) from[k] = x + b * size + inputs[k] * C;
      T* to = y + b * size + output * C;
#pragma GCC ivdep
      for (int64_t c = 0; c < C; ++c) {
        float sum = 0.f;
        for (int k = 0; k < 8; ++k) sum += w[k] * to_float(from[k][c]);
        store(sum, to + c);
      }
    });
  });
}

// Its adjoint: dx[input] += weight dy[output].
template <typename T>
void resample_backward(int64_t batch, int64_t n, int64_t channels, const T* dy, const float* matrix, int64_t threads, T* dx) {
  const int64_t C = channels, size = n * n * n * C;
  parallel_for(batch, threads, [&](int64_t b) {
    std::vector<float> sums(size), upstream(C);
    trilinear(matrix + 12 * b, n, [&](int64_t output, const int64_t* inputs, const float* w) {
      const T* from = dy + b * size + output * C;
      float* g = upstream.data();
      for (int64_t c = 0; c < C; ++c) g[c] = to_float(from[c]);
      for (int k = 0; k < 8; ++k) {
        if (w[k] == 0.f) continue;
        float* to = sums.data() + inputs[k] * C;
#pragma GCC ivdep
        for (int64_t c = 0; c < C; ++c) to[c] += w[k] * g[c];
      }
    });
    for (int64_t i = 0; i < size; ++i) store(sums[i], dx + b * size + i);
  });
}

// ---- Patches ---------------------------------------------------------------------------------------------------------------------

// A strided "same" convolution relates small [B, d, h, w] to large [B, s d, s h, s w] by taps: large = s small + tap - pad.
struct Window {
  int64_t small[3], large[3], taps[3], stride[3], pad[3];
  int64_t area() const { return taps[0] * taps[1] * taps[2]; }
  int64_t small_size() const { return small[0] * small[1] * small[2]; }
  int64_t large_size() const { return large[0] * large[1] * large[2]; }
};

// Calls visit(row, at): row of the patches [small..., taps...], at of the large side, or -1 outside.
template <typename Visit>
void each_tap(const Window& w, const Visit& visit) {
  int64_t row = 0, small[3], tap[3], at[3];
  for (small[0] = 0; small[0] < w.small[0]; ++small[0])
    for (small[1] = 0; small[1] < w.small[1]; ++small[1])
      for (small[2] = 0; small[2] < w.small[2]; ++small[2])
        for (tap[0] = 0; tap[0] < w.taps[0]; ++tap[0])
          for (tap[1] = 0; tap[1] < w.taps[1]; ++tap[1])
            for (tap[2] = 0; tap[2] < w.taps[2]; ++tap[2], ++row) {
              bool inside = true;
              for (int i = 0; i < 3; ++i) {
                at[i] = w.stride[i] * small[i] + tap[i] - w.pad[i];
                inside = inside && at[i] >= 0 && at[i] < w.large[i];
              }
              visit(row, inside ? (at[0] * w.large[1] + at[1]) * w.large[2] + at[2] : -1);
            }
}

// large [B, large..., C] -> patches [B, small..., taps..., C], and the sum of large over positions [B, C].
template <typename T>
void unfold(const Window& w, int64_t batch, int64_t channels, const T* large, int64_t threads, T* patches, float* sums) {
  const int64_t C = channels, rows = w.small_size() * w.area();
  parallel_for(batch, threads, [&](int64_t b) {
    const T* from = large + b * w.large_size() * C;
    T* to = patches + b * rows * C;
    each_tap(w, [&](int64_t row, int64_t at) {
      if (at < 0)
        std::memset(static_cast<void*>(to + row * C), 0, C * sizeof(T));
      else
        std::memcpy(static_cast<void*>(to + row * C), from + at * C, C * sizeof(T));
    });
    std::vector<float> part(C);
    blocked_sum(w.large_size(), C, sums + b * C, part.data(), [&](int64_t s, float* sum) {
      for (int64_t c = 0; c < C; ++c) sum[c] += to_float(from[s * C + c]);
    });
  });
}

// The adjoint: patches [B, small..., taps..., C] and bias [C] -> large [B, large..., C], the sum of the patches that overlap.
template <typename T>
void fold(const Window& w, int64_t batch, int64_t channels, const T* patches, const float* bias, int64_t threads, T* large) {
  const int64_t C = channels, rows = w.small_size() * w.area(), size = w.large_size() * C;
  parallel_for(batch, threads, [&](int64_t b) {
    std::vector<float> sums(size);
    for (int64_t i = 0; i < size; i += C) std::copy_n(bias, C, sums.data() + i);
    each_tap(w, [&](int64_t row, int64_t at) {
      if (at < 0) return;
      float* to = sums.data() + at * C;
      const T* from = patches + (b * rows + row) * C;
      for (int64_t c = 0; c < C; ++c) to[c] += to_float(from[c]);
    });
    for (int64_t i = 0; i < size; ++i) store(sums[i], large + b * size + i);
  });
}

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
  template <typename T>
  T* out(const std::vector<int64_t>& dims) {
    int64_t bytes = sizeof(T);
    for (int64_t d : dims) bytes *= d;
    const auto type = sizeof(T) == 4 ? TF_FLOAT : TF_BFLOAT16;
    outputs_.push_back(TF_AllocateOutput(context_, outputs_.size(), type, dims.data(), dims.size(), bytes, status_));
    return static_cast<T*>(TF_TensorData(outputs_.back()));
  }

 private:
  TF_OpKernelContext* context_;
  TF_Status* status_;
  std::vector<TF_Tensor*> inputs_, outputs_;
};

Norm norm_of(const std::vector<int64_t>& x, const std::vector<int64_t>& scale) {
  Norm n{x.front(), 1, x.back(), scale.size() == 2};
  for (size_t i = 1; i + 1 < x.size(); ++i) n.positions *= x[i];
  return n;
}

// The window between the small side's dims and the large side's; missing leading axes have size 1.
Window window_of(const Attributes& a, const std::vector<int64_t>& shape, int64_t axes, bool from_large) {
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
  const Norm n = norm_of(shape, call.shape(1));
  T* y = call.out<T>(shape);
  float* mean = call.out<float>({n.batch, n.channels});
  float* rate = call.out<float>({n.batch, n.channels});
  norm_forward(n, call.in<T>(0), call.in<float>(1), call.in<float>(2), a.epsilon, a.slope, a.threads, y, mean, rate);
}

template <typename T>
void norm_backward_op(const Attributes& a, Call& call) {
  const auto shape = call.shape(0);
  const Norm n = norm_of(shape, call.shape(1));
  T* dx = call.out<T>(shape);
  float* dscale = call.out<float>({n.batch, n.channels});
  float* dshift = call.out<float>({n.batch, n.channels});
  norm_backward(n, call.in<T>(0), call.in<float>(1), call.in<float>(2), call.in<float>(3), call.in<float>(4), call.in<T>(5),
                a.slope, a.threads, dx, dscale, dshift);
}

template <typename T, void (*run)(int64_t, int64_t, int64_t, const T*, const float*, int64_t, T*)>
void resample_op(const Attributes& a, Call& call) {
  const auto shape = call.shape(0);
  run(shape[0], shape[1], shape[4], call.in<T>(0), call.in<float>(1), a.threads, call.out<T>(shape));
}

template <typename T>
void unfold_op(const Attributes& a, Call& call) {
  const auto shape = call.shape(0);
  const int64_t axes = shape.size() - 2, batch = shape[0], channels = shape.back();
  const Window w = window_of(a, shape, axes, true);
  T* patches = call.out<T>({batch * w.small_size(), w.area() * channels});
  float* sums = call.out<float>({batch, channels});
  unfold(w, batch, channels, call.in<T>(0), a.threads, patches, sums);
}

template <typename T>
void fold_op(const Attributes& a, Call& call) {  // patches [B, small..., taps * C]
  auto shape = call.shape(0);
  const int64_t axes = shape.size() - 2, batch = shape[0], channels = call.shape(1)[0];
  const Window w = window_of(a, shape, axes, false);
  for (int64_t i = 1; i <= axes; ++i) shape[i] *= a.stride;
  shape.back() = channels;
  fold(w, batch, channels, call.in<T>(0), call.in<float>(1), a.threads, call.out<T>(shape));
}

template <void (*with_float)(const Attributes&, Call&), void (*with_bfloat16)(const Attributes&, Call&)>
void compute(void* attributes, TF_OpKernelContext* context) {
  const auto& a = *static_cast<Attributes*>(attributes);
  Call call(context);
  (a.type == TF_FLOAT ? with_float : with_bfloat16)(a, call);
}

void add_op(const char* name, std::vector<const char*> inputs, std::vector<const char*> outputs, std::vector<const char*> attributes,
            void (*run)(void*, TF_OpKernelContext*)) {
  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder(name);
  for (auto* spec : inputs) TF_OpDefinitionBuilderAddInput(op, spec);
  for (auto* spec : outputs) TF_OpDefinitionBuilderAddOutput(op, spec);
  TF_OpDefinitionBuilderAddAttr(op, "T: {float, bfloat16}");
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
  add_op("HolotfUnfold", {"large: T"}, {"patches: T", "sums: float"}, {"kernel: int", "stride: int", "pad: int"},
         compute<unfold_op<float>, unfold_op<bfloat16>>);
  add_op("HolotfFold", {"patches: T", "bias: float"}, {"large: T"}, {"kernel: int", "stride: int", "pad: int"},
         compute<fold_op<float>, fold_op<bfloat16>>);
}

}  // namespace
