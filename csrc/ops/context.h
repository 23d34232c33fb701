// What the operators of global context share.
#pragma once

#include "operators.h"
#include "whole.h"

namespace convattn {

// x, mask, w1, b1?, gamma?, beta?, eps of the layer norm, w2, b2?. The mask's bias cancels in the
// softmax.
struct GlobalContext {
    explicit GlobalContext(Stack stack)
        : x(take(stack[0])), mask(take(stack[1])), w1(take(stack[2])), b1(take_optional(stack[3])),
          gamma(take_optional(stack[4])), beta(take_optional(stack[5])), eps(number(stack[6])),
          w2(take(stack[7])), b2(take_optional(stack[8])) {}
    const Tensor x, mask, w1, b1, gamma, beta;
    const double eps;
    const Tensor w2, b2;
};

// Of each image, for the gradients: softmax (H, W), context (C), hidden values before the norm.
struct KeptContext {
    float *weights, *context, *hidden;
};

// y = x + the context's vector. Without `kept` nothing is kept.
Tensor with_context(const GlobalContext& given, const KeptContext* kept);

// Layer norm over the hidden values of an image, and ReLU.
class HiddenNorm {
   public:
    HiddenNorm(const Tensor& gamma, const Tensor& beta, double eps, int64_t count)
        : gamma_(gamma, count), beta_(beta, count), eps_(eps), count_(count) {}

    void forward(const float* values, float* f) const {
        const Normed normed(*this, values);
        for (int64_t i = 0; i < count_; ++i) {
            const auto value = (float)(normed(i) * gamma(i) + (beta_.values ? beta_.values[i] : 0));
            f[i] = value < 0 ? 0 : value;
        }
    }
    // From f and its gradient d those of the values, of gamma and of beta; d may be that of beta.
    void backward(const float* values, const float* f, const float* d, float* dvalues,
                  float* dgamma, float* dbeta) const {
        const Normed normed(*this, values);
        double mean = 0, along = 0;
        for (int64_t i = 0; i < count_; ++i) {
            dbeta[i] = f[i] > 0 ? d[i] : 0;
            dgamma[i] = (float)(dbeta[i] * normed(i));
            mean += dbeta[i] * gamma(i) / (double)count_;
            along += dbeta[i] * gamma(i) * normed(i) / (double)count_;
        }
        for (int64_t i = 0; i < count_; ++i) {
            dvalues[i] = (float)(normed.rate * (dbeta[i] * gamma(i) - mean - along * normed(i)));
        }
    }

   private:
    struct Normed {
        Normed(const HiddenNorm& norm, const float* from) : values(from) {
            const auto count = (double)norm.count_;
            for (int64_t i = 0; i < norm.count_; ++i) mean += values[i];
            mean /= count;
            double variance = 0;
            for (int64_t i = 0; i < norm.count_; ++i) {
                variance += (values[i] - mean) * (values[i] - mean);
            }
            rate = 1 / std::sqrt(variance / count + norm.eps_);
        }
        double operator()(int64_t i) const { return (values[i] - mean) * rate; }
        const float* values;
        double mean = 0, rate;
    };
    double gamma(int64_t i) const { return gamma_.values ? gamma_.values[i] : 1; }

    const Parameter gamma_, beta_;
    const double eps_;
    const int64_t count_;
};

}  // namespace convattn
