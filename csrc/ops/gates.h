// Gates of a map, read from their tensors.
#pragma once

#include "tensor.h"

namespace convattn {

inline Kind kind_of(const Tensor& gate, const Map& map) {
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

// Those of a map's one or two gates, a pair that the kernels have. On a map of one row or column a
// strip looks like a gate by channel.
inline std::pair<Kind, Kind> kinds_of(const Tensor& a, const Tensor& b, const Map& map) {
    const Kind kind_a = kind_of(a, map), kind_b = kind_of(b, map);
    if (kind_b == NONE) return {kind_a, kind_b};
    const auto is = [&](Kind kind, Kind wanted) {
        if (kind == wanted) return true;
        const int64_t length = wanted == ROW      ? map.shape.height
                               : wanted == COLUMN ? map.shape.width
                                                  : 0;
        return kind == CHANNEL && length == 1;
    };
    constexpr std::pair<Kind, Kind> pairs[] = {{ROW, COLUMN}, {COLUMN, ROW}, {CHANNEL, POSITION}};
    for (const auto& pair : pairs) {
        if (is(kind_a, pair.first) && is(kind_b, pair.second)) return pair;
    }
    refuse("two gates are by row and by column, or by channel and by position");
}

// A gate in the layout that the kernels read, in float32; its own memory if that is so already.
class Values {
   public:
    Values(const Tensor& gate, const Map& map, Kind k) : kind(k) {
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

}  // namespace convattn
