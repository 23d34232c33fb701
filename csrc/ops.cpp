// The operators as PyTorch calls them: arguments in, work spread over its threads, results out.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "kernels.h"
#include "torch_abi.h"

namespace {

using namespace convattn;

constexpr uint64_t BUILT_FOR = (2ULL << 56) | (14ULL << 48);
constexpr int64_t GRAIN = 1 << 14;  // values that are worth a thread
constexpr int64_t BEHIND = 16;      // values that may be read behind a gate

void check(AOTITorchError error) {
    if (error) throw std::runtime_error("convattn: a call into PyTorch failed");
}

[[noreturn]] void refuse(const char* what) {
    throw std::runtime_error(std::string("convattn operators: ") + what);
}

const Kernels& kernels() {
    static const Kernels* const chosen = [] {
#ifdef CONVATTN_X86
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("fma")) {
            return &kernels_avx512;
        }
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &kernels_avx2;
#endif
        return &kernels_baseline;
    }();
    return *chosen;
}

template <class Body>
void parallel(int64_t units, int64_t values_per_unit, const Body& body) {
    const int64_t grain = std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, values_per_unit));
    check(torch_parallel_for(
        0, units, grain,
        [](int64_t begin, int64_t end, void* context) {
            (*static_cast<const Body*>(context))(begin, end);
        },
        const_cast<Body*>(&body)));
}

// A tensor that is released with its handle.
class Tensor {
   public:
    explicit Tensor(AtenTensorHandle handle) : handle_(handle) {
        if (handle == nullptr) return;
        check(aoti_torch_get_dim(handle, &dim));
        check(aoti_torch_get_sizes(handle, &sizes));
        check(aoti_torch_get_strides(handle, &strides));
        check(aoti_torch_get_dtype(handle, &dtype));
        check(aoti_torch_get_data_ptr(handle, &data));
    }
    Tensor(Tensor&& other) noexcept { *this = std::move(other); }
    Tensor& operator=(Tensor&& other) noexcept {
        std::swap(handle_, other.handle_);
        dim = other.dim, sizes = other.sizes, strides = other.strides;
        dtype = other.dtype, data = other.data;
        return *this;
    }
    ~Tensor() {
        if (handle_ != nullptr) aoti_torch_delete_tensor_object(handle_);
    }
    explicit operator bool() const { return handle_ != nullptr; }
    StableIValue release() {
        const auto value = reinterpret_cast<StableIValue>(handle_);
        handle_ = nullptr;
        return value;
    }
    int64_t numel() const {
        int64_t product = 1;
        for (int64_t i = 0; i < dim; ++i) product *= sizes[i];
        return product;
    }

    int64_t dim = 0;
    int64_t *sizes = nullptr, *strides = nullptr;
    int32_t dtype = 0;
    void* data = nullptr;

   private:
    AtenTensorHandle handle_ = nullptr;
};

Tensor take(StableIValue value) { return Tensor(reinterpret_cast<AtenTensorHandle>(value)); }

Tensor take_optional(StableIValue value) {
    if (value == 0) return Tensor(nullptr);
    auto* inner = reinterpret_cast<StableIValue*>(value);
    const StableIValue handle = *inner;
    check(torch_delete_stable_ivalue(inner));
    return take(handle);
}

Tensor empty(const std::vector<int64_t>& sizes, int32_t dtype, const int64_t* strides = nullptr) {
    std::vector<int64_t> own(sizes.size(), 1);
    for (size_t i = sizes.size(); i-- > 1;) own[i - 1] = own[i] * sizes[i];
    AtenTensorHandle handle = nullptr;
    check(aoti_torch_empty_strided((int64_t)sizes.size(), sizes.data(),
                                   strides ? strides : own.data(), dtype,
                                   aoti_torch_device_type_cpu(), 0, &handle));
    return Tensor(handle);
}
// A new map. The system hands out a large one page by page as it is first written, which costs more
// than the writing; it is asked for large pages. Where it has none nothing happens.
Tensor empty_like(const Tensor& x) {
    Tensor made = empty({x.sizes, x.sizes + x.dim}, x.dtype, x.strides);
#ifdef __linux__
    constexpr uintptr_t LARGE = 1 << 22, PAGE = 1 << 12;
    const uintptr_t bytes = made.numel() * (x.dtype == aoti_torch_dtype_float32() ? 4 : 2);
    if (bytes >= LARGE) {
        const auto start = (reinterpret_cast<uintptr_t>(made.data) + PAGE - 1) / PAGE * PAGE;
        const auto end = (reinterpret_cast<uintptr_t>(made.data) + bytes) / PAGE * PAGE;
        madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);
    }
#endif
    return made;
}

bool has_strides(const Tensor& x, std::initializer_list<int> order) {  // innermost axis first
    int64_t step = 1;
    for (const int axis : order) {
        if (x.sizes[axis] != 1 && x.strides[axis] != step) return false;
        step *= x.sizes[axis];
    }
    return true;
}

// A feature map (N, C, H, W), contiguous or channels_last.
struct Map {
    explicit Map(const Tensor& x) {
        if (x.dim != 4 || x.numel() == 0) refuse("expected a map (N, C, H, W) that is not empty");
        n = x.sizes[0];
        shape = {x.sizes[1], x.sizes[2], x.sizes[3]};
        if (has_strides(x, {3, 2, 1, 0})) {
            last = false;
        } else if (has_strides(x, {1, 3, 2, 0})) {
            last = true;
        } else {
            refuse("expected a contiguous or channels_last map");
        }
        positions = shape.height * shape.width;
        image = shape.channels * positions;
    }
    int64_t n, positions, image;
    Shape shape;
    bool last;
};

// Runs with a pointer of the map's type.
template <class Run>
void typed(const Tensor& x, const Run& run) {
    if (x.dtype == aoti_torch_dtype_float32()) return run(static_cast<float*>(x.data));
    if (x.dtype == aoti_torch_dtype_bfloat16()) return run(static_cast<uint16_t*>(x.data));
    refuse("expected float32 or bfloat16");
}
const Table<float>& table(const float*) { return kernels().full; }
const Table<uint16_t>& table(const uint16_t*) { return kernels().half; }

float widen(float value) { return value; }
float widen(uint16_t value) {
    const uint32_t bits = (uint32_t)value << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}
void narrow(float value, float* to) { *to = value; }
void narrow(float value, uint16_t* to) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    *to = value != value ? 0x7fc0 : (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Results in float32: the tensor's own memory, or memory that is narrowed into it.
class Wide {
   public:
    explicit Wide(const Tensor& tensor, bool zeroed = false) : tensor_(tensor) {
        if (tensor.dtype != aoti_torch_dtype_float32()) own_.reset(new float[tensor.numel()]);
        values = own_ ? own_.get() : static_cast<float*>(tensor.data);
        if (zeroed) std::memset(values, 0, tensor.numel() * sizeof(float));
    }
    void finish() const {
        if (!own_) return;
        for (int64_t i = 0; i < tensor_.numel(); ++i) {
            narrow(own_[i], static_cast<uint16_t*>(tensor_.data) + i);
        }
    }
    float* values;

   private:
    const Tensor& tensor_;
    std::unique_ptr<float[]> own_;
};

// ------------------------------------------------------------------------------------ means

void strip_means(StableIValue* stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]);
    const Map map(x);
    const auto [channels, height, width] = map.shape;
    Tensor rows = empty({map.n, channels, height}, x.dtype);
    Tensor columns = empty({map.n, channels, width}, x.dtype);
    const Wide r(rows), k(columns);
    typed(x, [&, channels = channels, height = height, width = width](auto* data) {
        const auto* end = data + map.n * map.image;
        if (!map.last) {
            parallel(map.n * channels, map.positions, [&](int64_t first, int64_t last) {
                table(data).strip_means(data + first * map.positions, end, last - first,
                                        map.shape, {r.values + first * height, height, 1},
                                        {k.values + first * width, width, 1});
            });
            return;
        }
        const int64_t parts = (channels + 15) / 16;
        parallel(map.n * parts, 16 * map.positions, [&](int64_t first, int64_t last) {
            while (first < last) {
                const int64_t n = first / parts, from = first % parts;
                const int64_t to = std::min(parts, from + last - first);
                table(data).strip_means_last(
                    data + n * map.image, end, map.shape, from * 16, std::min(channels, to * 16),
                    {r.values + n * channels * height, height, 1},
                    {k.values + n * channels * width, width, 1});
                first += to - from;
            }
        });
    });
    r.finish();
    k.finish();
    stack[0] = rows.release();
    stack[1] = columns.release();
}

void global_mean(StableIValue* stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]);
    const Map map(x);
    const int64_t channels = map.shape.channels;
    Tensor mean = empty({map.n, channels}, x.dtype);
    const Wide m(mean);
    typed(x, [&](auto* data) {
        const auto* end = data + map.n * map.image;
        if (!map.last) {
            parallel(map.n * channels, map.positions, [&](int64_t first, int64_t last) {
                table(data).means(data + first * map.positions, end, last - first, map.positions,
                                  m.values + first);
            });
            return;
        }
        const int64_t parts = (channels + 15) / 16;
        parallel(map.n * parts, 16 * map.positions, [&](int64_t first, int64_t last) {
            while (first < last) {
                const int64_t n = first / parts, from = first % parts;
                const int64_t to = std::min(parts, from + last - first);
                table(data).means_last(data + n * map.image, end, map.shape, from * 16,
                                       std::min(channels, to * 16), m.values + n * channels);
                first += to - from;
            }
        });
    });
    m.finish();
    stack[0] = mean.release();
}

// ------------------------------------------------------------------------------------ gates

Kind kind_of(const Tensor& gate, const Map& map) {
    if (!gate) return NONE;
    if (gate.dim != 4 || gate.sizes[0] != map.n) refuse("a gate's shape does not fit the map's");
    const bool c = gate.sizes[1] == map.shape.channels, h = gate.sizes[2] == map.shape.height;
    const bool w = gate.sizes[3] == map.shape.width;
    const bool one_c = gate.sizes[1] == 1, one_h = gate.sizes[2] == 1, one_w = gate.sizes[3] == 1;
    if (c && one_h && one_w) return CHANNEL;
    if (c && h && one_w) return ROW;
    if (c && one_h && w) return COLUMN;
    if (one_c && h && w) return POSITION;
    refuse("a gate's shape is none of (N, C, 1, 1), (N, C, H, 1), (N, C, 1, W), (N, 1, H, W)");
}

// A gate in the layout that the kernels read, in float32; its own memory if that is so already.
class Values {
   public:
    Values(const Tensor& gate, const Map& map) : kind(kind_of(gate, map)) {
        if (kind == NONE) return;
        const int64_t size = gate.numel();
        image = size / map.n;
        const bool direct =
            gate.dtype == aoti_torch_dtype_float32() && has_strides(gate, {3, 2, 1, 0});
        if (direct && !map.last) {
            data_ = static_cast<const float*>(gate.data);
            end_ = data_ + size;
            return;
        }
        own_.reset(new float[size + BEHIND]());
        const bool last = map.last;
        typed(gate, [&](const auto* from) {
            parallel(map.n, image, [&](int64_t first, int64_t end) {
                for (int64_t n = first; n < end; ++n) copy(gate, from, n, last);
            });
        });
        data_ = own_.get();
        end_ = data_ + size + BEHIND;
    }
    Gate all() const { return {data_, end_}; }
    Gate of_image(int64_t n) const {
        return kind == NONE ? Gate{nullptr, nullptr} : Gate{data_ + n * image, end_};
    }

    Kind kind;
    int64_t image = 0;  // values of one image

   private:
    template <class T>
    void copy(const Tensor& gate, const T* from, int64_t n, bool last) {
        const int64_t c = gate.sizes[1], height = gate.sizes[2], width = gate.sizes[3];
        const int64_t step_c = last ? 1 : height * width, step_l = last ? c : 1;
        const int64_t* s = gate.strides;
        for (int64_t h = 0; h < height; ++h) {
            for (int64_t w = 0; w < width; ++w) {
                float* to = own_.get() + n * image + (h * width + w) * step_l;
                const T* start = from + n * s[0] + h * s[2] + w * s[3];
                for (int64_t i = 0; i < c; ++i) to[i * step_c] = widen(start[i * s[1]]);
            }
        }
    }
    std::unique_ptr<float[]> own_;
    const float *data_ = nullptr, *end_ = nullptr;
};

Tensor gated(const Tensor& x, const Tensor& a, const Tensor& b, const Tensor& mean,
             const Tensor& row, const Tensor& column) {
    const Map map(x);
    const Values va(a, map), vb(b, map), vm(mean, map), vr(row, map), vc(column, map);
    // a map of one row or column has strips that look like something else, but lie the same
    if ((mean && vm.image != map.shape.channels) || bool(row) != bool(column) ||
        (row && vr.image != map.shape.channels * map.shape.height) ||
        (column && vc.image != map.shape.channels * map.shape.width)) {
        refuse("what is added does not fit the map");
    }
    const Sum sum = row ? PER_STRIP : mean ? PER_CHANNEL : NOTHING;
    Tensor y = empty_like(x);
    typed(x, [&](auto* data) {
        auto* to = static_cast<decltype(data)>(y.data);
        const auto* end = data + map.n * map.image;
        const int64_t height = map.shape.height, line = map.shape.width * map.shape.channels;
        if (!map.last) {
            const Gates gates = {va.kind, vb.kind, va.all(), vb.all()};
            const Added added = {sum, vm.all(), vr.all(), vc.all()};
            parallel(map.n * map.shape.channels, map.positions, [&](int64_t first, int64_t last) {
                table(data).gate(gates, added, data, end, to, first, last, map.shape);
            });
            return;
        }
        parallel(map.n * height, line, [&](int64_t first, int64_t last) {
            auto* limit = to + last * line;
            while (first < last) {
                const int64_t n = first / height, from = first % height;
                const int64_t until = std::min(height, from + last - first);
                const Gates gates = {va.kind, vb.kind, va.of_image(n), vb.of_image(n)};
                const Added added = {sum, vm.of_image(n), vr.of_image(n), vc.of_image(n)};
                table(data).gate_last(gates, added, data + n * map.image, end, to + n * map.image,
                                      limit, from, until, map.shape);
                first += until - from;
            }
        });
    });
    return y;
}

void apply_gates(StableIValue* stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]), a = take(stack[1]), b = take_optional(stack[2]);
    const Tensor none(nullptr);
    stack[0] = gated(x, a, b, none, none, none).release();
}

void map_gradient(StableIValue* stack, uint64_t, uint64_t) {
    const Tensor dy = take(stack[0]), a = take(stack[1]), b = take_optional(stack[2]);
    const Tensor mean = take_optional(stack[3]), row = take_optional(stack[4]);
    const Tensor column = take_optional(stack[5]);
    stack[0] = gated(dy, a, b, mean, row, column).release();
}

// Where the gradient of a gate goes: its tensor, with a margin of its own where it is added to.
class Gradient {
   public:
    Gradient(const Tensor& gate, Kind kind, const Map& map) : kind_(kind), map_(map) {
        if (kind == NONE) {
            tensor = empty({0}, aoti_torch_dtype_float32());
            return;
        }
        tensor = empty({gate.sizes, gate.sizes + 4}, gate.dtype);
        image_ = tensor.numel() / map.n;
        if (kind == POSITION || gate.dtype != aoti_torch_dtype_float32()) {
            stride = kind == POSITION ? image_ + BEHIND : image_;
            own_.reset(new float[map.n * stride]());
            values = own_.get();
        } else {
            stride = image_;
            values = static_cast<float*>(tensor.data);
        }
    }
    Strip of_image(int64_t n) const {
        const int64_t length = kind_ == ROW      ? map_.shape.height
                               : kind_ == COLUMN ? map_.shape.width
                                                 : 1;
        return {values + n * stride, kind_ == POSITION ? 0 : length, 1};
    }
    StableIValue finish() {
        if (own_) {
            typed(tensor, [&](auto* to) {
                for (int64_t n = 0; n < map_.n; ++n) {
                    for (int64_t i = 0; i < image_; ++i) {
                        narrow(own_[n * stride + i], to + n * image_ + i);
                    }
                }
            });
        }
        return tensor.release();
    }

    Tensor tensor{nullptr};
    float* values = nullptr;
    int64_t stride = 0;

   private:
    Kind kind_;
    const Map& map_;
    int64_t image_ = 0;
    std::unique_ptr<float[]> own_;
};

void gate_gradients(StableIValue* stack, uint64_t, uint64_t) {
    const Tensor dy = take(stack[0]), x = take(stack[1]), a = take(stack[2]);
    const Tensor b = take_optional(stack[3]);
    const Map map(x), map_dy(dy);
    if (map.n != map_dy.n || map.image != map_dy.image || dy.dtype != x.dtype ||
        !has_strides(dy, map.last ? std::initializer_list<int>{1, 3, 2, 0}
                                  : std::initializer_list<int>{3, 2, 1, 0})) {
        refuse("the gradient is not of the map's shape, type and format");
    }
    const Values va(a, map), vb(b, map);
    Gradient da(a, va.kind, map), db(b, vb.kind, map);
    typed(x, [&](auto* data) {
        const auto* from = static_cast<decltype(data)>(dy.data);
        const int64_t channels = map.shape.channels, size = map.n * map.image;
        const bool positions = va.kind == POSITION || vb.kind == POSITION;
        if (!map.last) {
            const Gates gates = {va.kind, vb.kind, va.all(), vb.all()};
            const int64_t together = positions ? channels : 1;  // planes that one thread takes
            const int64_t stride = va.kind == POSITION ? da.stride : db.stride;
            parallel(map.n * channels / together, together * map.positions,
                     [&](int64_t first, int64_t last) {
                         table(data).reduce(gates, from, data, size, first * together,
                                            last * together, map.shape, da.values, db.values,
                                            stride);
                     });
            return;
        }
        const int64_t parts = positions ? 1 : (channels + 15) / 16;
        parallel(map.n * parts, map.image / parts, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; ++i) {
                const int64_t n = i / parts, c = i % parts * 16, at = n * map.image;
                const Gates gates = {va.kind, vb.kind, va.of_image(n), vb.of_image(n)};
                table(data).reduce_last(gates, from + at, data + at, size - at, c,
                                        positions ? channels : std::min(channels, c + 16),
                                        map.shape, da.of_image(n), db.of_image(n));
            }
        });
    });
    stack[0] = da.finish();
    stack[1] = db.finish();
}

// --------------------------------------------------------------------- coordinate attention

// A float32 tensor's values in order.
const float* values_of(const Tensor& t, int64_t count) {
    if (!t) return nullptr;
    int64_t step = 1;
    for (int64_t i = t.dim; i-- > 0;) {
        if (t.sizes[i] != 1 && t.strides[i] != step) refuse("expected contiguous parameters");
        step *= t.sizes[i];
    }
    if (step != count || t.dtype != aoti_torch_dtype_float32()) {
        refuse("expected float32 parameters of the block's shapes");
    }
    return static_cast<const float*>(t.data);
}

double number(StableIValue value) {
    double result;
    std::memcpy(&result, &value, sizeof result);
    return result;
}

// The gates of one axis, and the weights as the kernels want them.
struct Axis {
    Axis(const Tensor& weight, const Tensor& bias, const Map& map, int64_t hidden, int64_t from,
         int64_t length) {
        const int64_t channels = map.shape.channels;
        const float* w = values_of(weight, channels * hidden);
        const float* b = values_of(bias, channels);
        if (map.last) {  // transposed, with what may be read behind
            own.assign(channels * (hidden + 1) + 2 * BEHIND, 0.0f);
            for (int64_t c = 0; c < channels; ++c) {
                for (int64_t k = 0; k < hidden; ++k) own[k * channels + c] = w[c * hidden + k];
            }
            w = own.data();
            if (b != nullptr) {
                float* to = own.data() + channels * hidden + BEHIND;
                std::memcpy(to, b, channels * sizeof(float));
                b = to;
            }
        }
        network = {w, b, from, length};
    }
    std::vector<float> own;
    Network2 network{};
};

// What one image needs between its two passes.
struct Work {
    Work(const Map& map, const Network& net)
        : size(net.channels * net.step + BEHIND), strips(size), hidden(net.hidden * net.step + BEHIND),
          gates(2 * (map.shape.channels * net.places + 2 * BEHIND)) {}
    int64_t size;
    std::vector<float> strips, hidden, gates;
    float* rows() { return gates.data(); }
    float* columns(const Map& map) {
        return gates.data() + map.shape.channels * map.shape.height + BEHIND;
    }
};

void coordinate_attention(StableIValue* stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]), w1 = take(stack[1]), b1 = take_optional(stack[2]);
    const Tensor mean = take_optional(stack[3]), variance = take_optional(stack[4]);
    const Tensor gamma = take_optional(stack[5]), beta = take_optional(stack[6]);
    const double eps = number(stack[7]);
    const Tensor wh = take(stack[8]), bh = take_optional(stack[9]);
    const Tensor ww = take(stack[10]), bw = take_optional(stack[11]);
    const bool relu = stack[12] & 1;
    const auto scale = (float)number(stack[13]);

    const Map map(x);
    if (x.dtype != aoti_torch_dtype_float32()) refuse("expected a float32 map");
    const auto [channels, height, width] = map.shape;
    const int64_t hidden = w1.numel() / channels, places = height + width;
    // batch norm, folded: slope * (w1 z) + offset
    std::vector<float> slope(hidden, 1.0f), offset(hidden, 0.0f);
    const float *b = values_of(b1, hidden), *m = values_of(mean, hidden);
    const float *v = values_of(variance, hidden), *g = values_of(gamma, hidden);
    const float* shift = values_of(beta, hidden);
    for (int64_t i = 0; i < hidden; ++i) {
        double by = 1, plus = b ? b[i] : 0;
        if (m != nullptr && v != nullptr) {
            by = (g ? g[i] : 1) / std::sqrt(v[i] + eps);
            plus = (plus - m[i]) * by + (shift ? shift[i] : 0);
        }
        slope[i] = (float)by, offset[i] = (float)plus;
    }
    const Network net = {channels,     hidden,        places, (places + 15) / 16 * 16,
                         values_of(w1, hidden * channels), slope.data(), offset.data(), relu, scale};
    const Axis rows(wh, bh, map, hidden, 0, height), columns(ww, bw, map, hidden, height, width);
    const Kernels& k = kernels();
    Tensor y = empty_like(x);
    const auto* from = static_cast<const float*>(x.data);
    auto* to = static_cast<float*>(y.data);
    const float* end = from + map.n * map.image;
    const Map& shape = map;

    const auto pool = [&](int64_t n, Work& work, int64_t first, int64_t last) {
        float* z = work.strips.data();
        if (map.last) {
            k.full.strip_means_last(from + n * map.image, end, map.shape, first, last,
                                    {z, net.step, 1}, {z + shape.shape.height, net.step, 1});
        } else {
            k.full.strip_means(from + n * map.image + first * map.positions, end, last - first,
                               map.shape, {z + first * net.step, net.step, 1},
                               {z + first * net.step + shape.shape.height, net.step, 1});
        }
    };
    const auto gated_planes = [&](int64_t n, Work& work, int64_t first, int64_t last) {
        const int64_t h = shape.shape.height, w = shape.shape.width;
        float *gr = work.rows(), *gc = work.columns(map);
        k.middle.decode(net, rows.network, work.hidden.data(), first, last, gr);
        k.middle.decode(net, columns.network, work.hidden.data(), first, last, gc);
        const Gates gates = {COLUMN, ROW, {gc, gc + last * w}, {gr, gr + last * h}};
        k.full.gate(gates, {}, from + n * map.image, end, to + n * map.image, first, last,
                    map.shape);
    };
    const auto gated_rows = [&](int64_t n, Work& work, int64_t first, int64_t last) {
        float *gr = work.rows(), *gc = work.columns(map);
        const Gates gates = {COLUMN, ROW, {gc, nullptr}, {gr, nullptr}};
        k.full.gate_last(gates, {}, from + n * map.image, end, to + n * map.image,
                         to + n * map.image + last * shape.shape.width * net.channels, first, last,
                         map.shape);
    };
    const auto gates_last = [&](Work& work, int64_t first, int64_t last) {
        const int64_t h = shape.shape.height;
        if (first < h) {
            k.middle.decode_last(net, rows.network, work.hidden.data(), first, std::min(last, h),
                                 work.rows());
        }
        if (last > h) {
            k.middle.decode_last(net, columns.network, work.hidden.data(),
                                 std::max<int64_t>(first - h, 0), last - h, work.columns(map));
        }
    };

    uint32_t threads = 1;
    check(torch_get_num_threads(&threads));
    if (map.n >= threads) {  // an image to a thread, which finds it in its cache again
        parallel(map.n, map.image, [&](int64_t first, int64_t last) {
            Work work(map, net);
            for (int64_t n = first; n < last; ++n) {
                pool(n, work, 0, net.channels);
                k.middle.encode(net, work.strips.data(), work.hidden.data());
                if (map.last) {
                    gates_last(work, 0, net.places);
                    gated_rows(n, work, 0, shape.shape.height);
                } else {
                    gated_planes(n, work, 0, net.channels);
                }
            }
        });
    } else {  // all threads on one image
        Work work(map, net);
        for (int64_t n = 0; n < map.n; ++n) {
            if (map.last) {
                parallel((net.channels + 15) / 16, 16 * map.positions, [&](int64_t a, int64_t z) {
                    pool(n, work, a * 16, std::min(net.channels, z * 16));
                });
                k.middle.encode(net, work.strips.data(), work.hidden.data());
                parallel((net.places + 7) / 8, 8 * net.channels * net.hidden / 8,
                         [&](int64_t a, int64_t z) {
                             gates_last(work, a * 8, std::min(net.places, z * 8));
                         });
                parallel(shape.shape.height, map.image / shape.shape.height,
                         [&](int64_t a, int64_t z) { gated_rows(n, work, a, z); });
            } else {
                parallel(net.channels, map.positions,
                         [&](int64_t a, int64_t z) { pool(n, work, a, z); });
                k.middle.encode(net, work.strips.data(), work.hidden.data());
                parallel(net.channels, map.positions,
                         [&](int64_t a, int64_t z) { gated_planes(n, work, a, z); });
            }
        }
    }
    stack[0] = y.release();
}

void implement(const char* name, void (*kernel)(StableIValue*, uint64_t, uint64_t)) {
    static TorchLibraryHandle library = [] {
        TorchLibraryHandle made = nullptr;
        check(aoti_torch_library_init_impl("convattn", "CPU", __FILE__, __LINE__, &made));
        return made;
    }();
    check(torch_library_impl(library, name, kernel, BUILT_FOR));
}

}  // namespace

// What ops/_library.py calls.
extern "C" {

__attribute__((visibility("default"))) int32_t convattn_interface() { return 2; }

__attribute__((visibility("default"))) const char* convattn_processor() { return kernels().name; }

__attribute__((visibility("default"))) int32_t convattn_register() {
    try {
        implement("coordinate_attention", coordinate_attention);
        implement("strip_means", strip_means);
        implement("global_mean", global_mean);
        implement("apply_gates", apply_gates);
        implement("gate_gradients", gate_gradients);
        implement("map_gradient", map_gradient);
    } catch (...) {
        return 1;
    }
    return 0;
}
}
