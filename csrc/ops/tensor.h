// Tensors and threads of PyTorch, as the operators use them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "../kernels.h"
#include "../torch_abi.h"

namespace convattn {

constexpr uint64_t BUILT_FOR = (2ULL << 56) | (14ULL << 48);
constexpr int64_t GRAIN = 1 << 14;  // values that are worth a thread
constexpr int64_t BEYOND_CACHES = 1 << 24;  // bytes of a map that is not read again from a cache
constexpr int64_t BEHIND = 16;      // values that may be read behind a gate

inline void check(AOTITorchError error) {
    if (error) throw std::runtime_error("convattn: a call into PyTorch failed");
}

[[noreturn]] inline void refuse(const char* what) {
    throw std::runtime_error(std::string("convattn operators: ") + what);
}

// The best that the processor takes; if CONVATTN_OPS names others, those or the baseline.
inline const Kernels& kernels() {
    static const Kernels* const chosen = [] {
#ifdef CONVATTN_X86
        const char* const named = std::getenv("CONVATTN_OPS");
        const auto wanted = [&](const Kernels& some) {
            return named == nullptr || *named == 0 || std::strcmp(named, some.name) == 0;
        };
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("fma") && wanted(kernels_avx512)) {
            return &kernels_avx512;
        }
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
            wanted(kernels_avx2)) {
            return &kernels_avx2;
        }
#endif
        return &kernels_baseline;
    }();
    return *chosen;
}

// To whole vectors of sixteen.
inline int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

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

inline Tensor take(StableIValue value) { return Tensor(reinterpret_cast<AtenTensorHandle>(value)); }

inline Tensor take_optional(StableIValue value) {
    if (value == 0) return Tensor(nullptr);
    auto* inner = reinterpret_cast<StableIValue*>(value);
    const StableIValue handle = *inner;
    check(torch_delete_stable_ivalue(inner));
    return take(handle);
}

inline Tensor empty(const std::vector<int64_t>& sizes, int32_t dtype, const int64_t* strides = nullptr) {
    std::vector<int64_t> own(sizes.size(), 1);
    for (size_t i = sizes.size(); i-- > 1;) own[i - 1] = own[i] * sizes[i];
    AtenTensorHandle handle = nullptr;
    check(aoti_torch_empty_strided((int64_t)sizes.size(), sizes.data(),
                                   strides ? strides : own.data(), dtype,
                                   aoti_torch_device_type_cpu(), 0, &handle));
    return Tensor(handle);
}
inline int64_t bytes_of(const Tensor& x) {
    return x.numel() * (x.dtype == aoti_torch_dtype_float32() ? 4 : 2);
}
// A new map. The system hands out a large one page by page as it is first written, which costs more
// than the writing; it is asked for large pages. Where it has none nothing happens. Smaller ones
// mostly lie where earlier ones did: glibc's malloc gives back at once what is above 32 MB alone.
inline Tensor empty_like(const Tensor& x) {
    Tensor made = empty({x.sizes, x.sizes + x.dim}, x.dtype, x.strides);
#ifdef __linux__
    constexpr uintptr_t LARGE = 1 << 25, PAGE = 1 << 12;
    const uintptr_t bytes = bytes_of(made);
    if (bytes >= LARGE) {
        const auto start = (reinterpret_cast<uintptr_t>(made.data) + PAGE - 1) / PAGE * PAGE;
        const auto end = (reinterpret_cast<uintptr_t>(made.data) + bytes) / PAGE * PAGE;
        madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);
    }
#endif
    return made;
}

inline bool has_strides(const Tensor& x, std::initializer_list<int> order) {  // innermost axis first
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
        large = bytes_of(x) >= BEYOND_CACHES;
    }
    int64_t n, positions, image;
    Shape shape;
    bool last, large;
};

inline void check_gradient(const Tensor& dy, const Tensor& x, const Map& map) {
    const Map own(dy);
    if (map.n != own.n || map.image != own.image || dy.dtype != x.dtype ||
        !has_strides(dy, map.last ? std::initializer_list<int>{1, 3, 2, 0}
                                  : std::initializer_list<int>{3, 2, 1, 0})) {
        refuse("the gradient is not of the map's shape, type and format");
    }
}

// Runs with a pointer of the map's type.
template <class Run>
void typed(const Tensor& x, const Run& run) {
    if (x.dtype == aoti_torch_dtype_float32()) return run(static_cast<float*>(x.data));
    if (x.dtype == aoti_torch_dtype_bfloat16()) return run(static_cast<uint16_t*>(x.data));
    refuse("expected float32 or bfloat16");
}
inline const Table<float>& table(const float*) { return kernels().full; }
inline const Table<uint16_t>& table(const uint16_t*) { return kernels().half; }

inline float widen(float value) { return value; }
inline float widen(uint16_t value) {
    const uint32_t bits = (uint32_t)value << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}
inline void narrow(float value, float* to) { *to = value; }
inline void narrow(float value, uint16_t* to) {
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

}  // namespace convattn
