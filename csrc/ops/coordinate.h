// What the operators of coordinate attention are given.
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

}  // namespace convattn
