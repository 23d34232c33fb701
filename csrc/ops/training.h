// What the training steps of blocks share. float32.
#pragma once

#include "pieces.h"
#include "whole.h"

namespace convattn {

using Floats = std::vector<float>;

inline const Layers& layers() { return *kernels().layers; }

inline float* data_of(const Tensor& t) { return static_cast<float*>(t.data); }

inline Tensor floats(const std::vector<int64_t>& sizes) {
    return empty(sizes, aoti_torch_dtype_float32());
}

inline Tensor doubles(const std::vector<int64_t>& sizes) {
    return empty(sizes, aoti_torch_dtype_float64());
}

inline double* doubles_of(const Tensor& t) {
    if (t.dtype != aoti_torch_dtype_float64()) refuse("expected what the step kept");
    return static_cast<double*>(t.data);
}

// Where largest values lie.
inline Tensor places(const std::vector<int64_t>& sizes) {
    return empty(sizes, aoti_torch_dtype_int32());
}

inline int32_t* places_of(const Tensor& t) {
    if (t.dtype != aoti_torch_dtype_int32()) refuse("expected what the step kept");
    return static_cast<int32_t*>(t.data);
}

inline float at(const Parameter& p, int64_t i, float missing) {
    return p.values ? p.values[i] : missing;
}

inline Tensor like(const Tensor& t) { return floats({t.sizes, t.sizes + t.dim}); }

inline void check_map(const Tensor& x) {
    if (x.dtype != aoti_torch_dtype_float32() || x.dim != 4) refuse("expected a float32 map");
}

inline void check_kept(const Tensor& kept, int64_t count) {
    if (kept.numel() != count) refuse("what the step kept does not fit the map");
}

// Its values with 16 more behind them, as a product may read them.
inline Floats with_margin(const float* from, int64_t count) {
    Floats made(count + BEHIND);
    std::memcpy(made.data(), from, count * sizeof(float));
    return made;
}

// The gradient of the logits, (N, C, 1, 1).
inline Tensor through_gate(const Tensor& dy, const Tensor& x, const Tensor& gate, float scale) {
    check_kept(gate, x.sizes[0] * x.sizes[1]);
    Tensor d = gradients_of_gates(dy, x, gate, Tensor(nullptr)).first;
    layers().through_sigmoid(data_of(d), data_of(gate), d.numel(), scale);
    return d;
}

inline Tensor gated_by(const Tensor& x, const Tensor& gate) {
    const Tensor none(nullptr);
    return gated(x, gate, none, none, none, none);
}

// Sums, in double, over the rows of (rows, columns), in a tensor of as many values as there are columns.
inline Tensor column_sums(const float* from, int64_t rows, Tensor sums) {
    const int64_t columns = sums.numel();
    for (int64_t i = 0; i < columns; ++i) {
        double total = 0;
        for (int64_t n = 0; n < rows; ++n) total += from[n * columns + i];
        data_of(sums)[i] = (float)total;
    }
    return sums;
}

// The gradient of a dense layer's weight (outputs, inputs), from d (n, outputs) and what the layer
// was given, (n, inputs) with a margin.
inline Tensor gradient_of_weight(const float* d, const Floats& given, int64_t n, Tensor dw) {
    const int64_t outputs = dw.sizes[0], inputs = dw.numel() / outputs;
    parallel(outputs, n * inputs, [&](int64_t from, int64_t to) {
        layers().product({d + from, 1, outputs, given.data(), inputs, to - from, n, inputs,
                           data_of(dw) + from * inputs, inputs, false});
    });
    return dw;
}

}  // namespace convattn
