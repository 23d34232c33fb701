// A gate by a convolution of pooled planes, a batch norm of one channel and a sigmoid, in training.
#pragma once

#include "operators.h"
#include "running.h"
#include "training.h"

namespace convattn {

// The convolution between planes (high, wide) that lie without margins.
class SpatialConvolution {
   public:
    // `turned`: the planes' axes are the other way round than the weight's.
    SpatialConvolution(const Tensor& weight, int64_t high, int64_t wide, bool turned);

    // Logits of an image from its pooled planes.
    void forward(const std::vector<const float*>& pooled, float* logits) const;
    // The gradients of the pooled planes, and that of the weight, from the logits'.
    void backward(const std::vector<const float*>& pooled, const float* d,
                  const std::vector<float*>& d_pooled, float* d_weight) const;

   private:
    Floats with_zeros(const float* plane, int64_t rows, int64_t columns) const;
    void convolve(const Floats& weight, const Floats& in, int64_t planes, float* out) const;

    int64_t high_, wide_, k_, planes_, step_;
    bool turned_;
    Floats weight_, flipped_;  // flipped: each plane's for itself
};

// Of one channel. It takes eight arguments: mean?, variance?, gamma?, beta?, eps, batch, counter?,
// momentum. With `batch` the norm is by the values' own statistics; the running ones move as in
// Running.
class SpatialNorm {
   public:
    enum { MEAN, RATE, SLOPE, OFFSET, VALUES };  // slope * (value - mean) + offset

    explicit SpatialNorm(Stack stack);
    // From all values; `norm` is what is kept.
    void forward(const float* values, int64_t count, double* norm) const;
    // scale * sigmoid of the normed values.
    static void gates(const double* norm, const float* values, int64_t count, float scale,
                      float* to);
    // d, of the normed values, becomes that of the values; gives the gradients of gamma and beta.
    static void backward(const double* norm, bool batch, const float* values, int64_t count,
                         float* d, float* d_gamma, float* d_beta);

   private:
    Tensor mean_, variance_, gamma_, beta_;
    double eps_;
    bool batch_;
    Running running_;
};

}  // namespace convattn
