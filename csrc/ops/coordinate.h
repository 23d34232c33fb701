// What the operators of coordinate attention share.
#pragma once

#include "operators.h"
#include "whole.h"

namespace convattn {

// x, w1, b1?, mean?, variance?, gamma?, beta?, eps, wh, bh?, ww, bw?, relu, scale.
struct Coordinates {
    explicit Coordinates(Stack stack)
        : x(take(stack[0])), w1(take(stack[1])), b1(take_optional(stack[2])),
          mean(take_optional(stack[3])), variance(take_optional(stack[4])),
          gamma(take_optional(stack[5])), beta(take_optional(stack[6])), eps(number(stack[7])),
          wh(take(stack[8])), bh(take_optional(stack[9])), ww(take(stack[10])),
          bw(take_optional(stack[11])), relu(truth(stack[12])), scale((float)number(stack[13])) {}
    const Tensor x, w1, b1, mean, variance, gamma, beta;
    const double eps;
    const Tensor wh, bh, ww, bw;
    const bool relu;
    const float scale;
};

// The layer from hidden values to the gates of one axis, as the kernels want it.
class ToGates {
   public:
    ToGates(const Tensor& weight, const Tensor& bias, int64_t channels, int64_t hidden, bool last)
        : weight_(weight, channels * hidden), bias_(bias, channels), w_(weight_.values),
          b_(bias_.values) {
        if (!last) return;
        const int64_t size = channels * hidden;  // transposed, with what may be read behind
        own_.reset(new float[size + channels + 2 * BEHIND]);
        kernels().coordinate_network->transpose(w_, channels, hidden, hidden, own_.get(), channels);
        w_ = own_.get();
        if (b_ != nullptr) b_ = std::copy_n(b_, channels, own_.get() + size + BEHIND) - channels;
    }
    // From the hidden values of places [from, from + length).
    Network2 of(int64_t from, int64_t length) const { return {w_, b_, from, length}; }

   private:
    Parameter weight_, bias_;
    const float *w_, *b_;
    std::unique_ptr<float[]> own_;
};

}  // namespace convattn
