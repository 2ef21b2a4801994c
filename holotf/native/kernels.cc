// What lies between the convolutions, for the CPU: bound by memory, and a few times faster by hand than compiled by XLA; there each
// sample is worked on by one thread while it lies in that core's cache. And convolutions, on processors with a matrix unit or vectors
// of 512 bits: of bfloat16, and of float32 where fewer products do. Results do not depend on the number of threads.
//
// Values are float32 or bfloat16; every sum is float32. The formulas are those of the Python functions that call these
// (layers/normalise.py, layers/rigid.py, layers/tiles.py, renderers/compositing.py), and tests hold the two together.
//
// TensorFlow's C interface keeps this independent of its C++ headers: it compiles in seconds and its ABI is stable. The headers beside
// this file are parts of it, one for each kind of kernel, and of nothing else: hence their unnamed namespaces.

#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_tensor.h"

#include "common.h"
#include "convolutions.h"
#include "norm.h"
#include "products.h"
#include "rendering.h"
#include "resampling.h"
#include "winograd.h"

namespace {

struct Attributes {
  TF_DataType type;
  int64_t kernel = 0, stride = 0, pad = 0, threads = 1;
  float epsilon = 0, slope = 0;
  bool together = false;
};

// What TensorFlow says of a call.
class Status {
 public:
  Status() = default;
  Status(const Status&) = delete;
  ~Status() { TF_DeleteStatus(status_); }
  operator TF_Status*() const { return status_; }
  bool ok() const { return TF_GetCode(status_) == TF_OK; }
  const char* message() const { return TF_Message(status_); }

 private:
  TF_Status* status_ = TF_NewStatus();
};

void* create(TF_OpKernelConstruction* context) {
  auto* a = new Attributes;
  Status status;
  auto read = [&](const char* name, auto get, auto* to) {
    const bool has = TF_OpKernelConstruction_HasAttr(context, name, status);
    if (status.ok() && has) get(context, name, to, status);
    if (!status.ok()) TF_OpKernelConstruction_Failure(context, status);
  };
  unsigned char together = false;
  read("T", TF_OpKernelConstruction_GetAttrType, &a->type);
  read("kernel", TF_OpKernelConstruction_GetAttrInt64, &a->kernel);
  read("stride", TF_OpKernelConstruction_GetAttrInt64, &a->stride);
  read("pad", TF_OpKernelConstruction_GetAttrInt64, &a->pad);
  read("threads", TF_OpKernelConstruction_GetAttrInt64, &a->threads);
  read("epsilon", TF_OpKernelConstruction_GetAttrFloat, &a->epsilon);
  read("slope", TF_OpKernelConstruction_GetAttrFloat, &a->slope);
  read("together", TF_OpKernelConstruction_GetAttrBool, &together);
  a->together = together;
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
  explicit Call(TF_OpKernelContext* context) : context_(context) {
    for (int i = 0; i < TF_NumInputs(context); ++i) {
      TF_Tensor* tensor = nullptr;
      TF_GetInput(context, i, &tensor, status_);
      inputs_.emplace_back(tensor);
      if (!status_.ok()) throw std::runtime_error("input " + std::to_string(i) + ": " + status_.message());
    }
  }
  template <typename T>
  const T* in(int i) const {
    return static_cast<const T*>(TF_TensorData(inputs_[i].get()));
  }
  std::vector<int64_t> shape(int i) const {
    const TF_Tensor* tensor = inputs_[i].get();
    std::vector<int64_t> dims(TF_NumDims(tensor));
    for (size_t k = 0; k < dims.size(); ++k) dims[k] = TF_Dim(tensor, k);
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
    outputs_.emplace_back(tensor);
    if (!status_.ok() || !tensor) throw std::bad_alloc();
    return static_cast<T*>(TF_TensorData(tensor));
  }

 private:
  struct Delete {
    void operator()(TF_Tensor* tensor) const { TF_DeleteTensor(tensor); }
  };
  using Tensor = std::unique_ptr<TF_Tensor, Delete>;

  TF_OpKernelContext* context_;
  Status status_;
  std::vector<Tensor> inputs_, outputs_;
};

// Of x [B, ..., C], scale and shift: [C] or [B, C].
Norm norm_of(const Attributes& a, const Call& call) {
  const auto x = call.shape(0), scale = call.shape(1);
  require(x.size() >= 2, "x is " + text(x) + ", not [B, ..., C]");
  Norm n{x.front(), 1, x.back(), scale.size() == 2, a.together};
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
  const Norm n = norm_of(a, call);
  T* y = call.out<T>(shape);
  float* mean = call.out<float>({n.rows(), n.channels});
  float* rate = call.out<float>({n.rows(), n.channels});
  norm_forward(n, call.in<T>(0), call.in<float>(1), call.in<float>(2), a.epsilon, a.slope, a.threads, y, mean, rate);
}

template <typename T>
void norm_backward_op(const Attributes& a, Call& call) {
  const auto shape = call.shape(0);
  const Norm n = norm_of(a, call);
  call.expect(3, {n.rows(), n.channels});
  call.expect(4, {n.rows(), n.channels});
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
    require(shape[i] % parts == 0, text(call.shape(0)) + " cannot be parted by " + std::to_string(parts));
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
    require(shape[1 + i] % 2 == 0, text(call.shape(0)) + " cannot be parted by stride 2");
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
  Status status;
  TF_SetStatus(status, code, ("holotf: " + message).c_str());
  TF_OpKernelContext_Failure(context, status);
}

void add_op(const char* name, std::vector<const char*> inputs, std::vector<const char*> outputs, std::vector<const char*> attributes,
            void (*run)(void*, TF_OpKernelContext*), const char* types = "T: {float, bfloat16}") {
  Status status;
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder(name);
  for (auto* spec : inputs) TF_OpDefinitionBuilderAddInput(op, spec);
  for (auto* spec : outputs) TF_OpDefinitionBuilderAddOutput(op, spec);
  TF_OpDefinitionBuilderAddAttr(op, types);
  TF_OpDefinitionBuilderAddAttr(op, "threads: int");
  for (auto* spec : attributes) TF_OpDefinitionBuilderAddAttr(op, spec);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(op, &TF_ShapeInferenceContextSetUnknownShape);  // Python sets them
  TF_RegisterOpDefinition(op, status);
  if (status.ok()) TF_RegisterKernelBuilder(name, TF_NewKernelBuilder(name, "CPU", &create, run, &destroy), status);
  if (!status.ok()) std::fprintf(stderr, "holotf: %s cannot be registered: %s\n", name, status.message());
}

__attribute__((constructor)) void add_ops() {
  add_op("HolotfNormForward", {"x: T", "scale: float", "shift: float"}, {"y: T", "mean: float", "rate: float"},
         {"epsilon: float", "slope: float", "together: bool = false"}, compute<norm_forward_op<float>, norm_forward_op<bfloat16>>);
  add_op("HolotfNormBackward", {"x: T", "scale: float", "shift: float", "mean: float", "rate: float", "dy: T"},
         {"dx: T", "dscale: float", "dshift: float"}, {"slope: float", "together: bool = false"},
         compute<norm_backward_op<float>, norm_backward_op<bfloat16>>);
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
