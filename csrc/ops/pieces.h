// Pooling and gating, for the operators that are made of them.
#pragma once

#include <utility>

#include "tensor.h"

namespace convattn {

// (N, C) of a map's type.
Tensor means_of(const Tensor& x);

// x * a * b + (a value for each channel, or one for each row and one for each column); what is
// missing is an empty handle.
Tensor gated(const Tensor& x, const Tensor& a, const Tensor& b, const Tensor& mean,
             const Tensor& row, const Tensor& column);

// The gradients of a and b in y = x * a * b.
std::pair<Tensor, Tensor> gradients_of_gates(const Tensor& dy, const Tensor& x, const Tensor& a,
                                             const Tensor& b);

}  // namespace convattn
