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
    ToGates(const Tensor& weight, const Tensor& bias, float scale, const Map& map, int64_t hidden)
        : channels_(map.shape.channels), hidden_(hidden), scale_(scale),
          weight_(weight, channels_ * hidden), bias_(bias, channels_), w_(weight_.values),
          b_(bias_.values) {
        if (!map.last) return;
        const int64_t size = channels_ * hidden;  // transposed, with what may be read behind
        own_.reset(new float[size + channels_ + 2 * BEHIND]);
        kernels().coordinate_network->transpose(w_, channels_, hidden, hidden, own_.get(),
                                                channels_);
        w_ = own_.get();
        if (b_ != nullptr) b_ = std::copy_n(b_, channels_, own_.get() + size + BEHIND) - channels_;
    }
    // From the hidden values of places [from, from + length), rows `step` apart.
    Decoding of(int64_t from, int64_t length, int64_t step) const {
        return {channels_, hidden_, w_, b_, scale_, from, length, step};
    }

   private:
    int64_t channels_, hidden_;
    float scale_;
    Parameter weight_, bias_;
    const float *w_, *b_;
    std::unique_ptr<float[]> own_;
};

}  // namespace convattn
