// The running statistics of a batch norm.
#pragma once

#include "tensor.h"

namespace convattn {

// With a counter, of batches, it is counted up, and the running mean and variance move by
// `momentum`, or are averages of all batches if that is negative.
class Running {
   public:
    Running(const Tensor& mean, const Tensor& variance, const Tensor& counter, double momentum,
            bool batch)
        : share_(momentum) {
        if (!counter) return;
        if (!batch || !mean || !variance || counter.dtype != aoti_torch_dtype_int64() ||
            mean.dtype != aoti_torch_dtype_float32() ||
            variance.dtype != aoti_torch_dtype_float32()) {
            refuse("running statistics are float32, their counter int64, and move in training");
        }
        mean_ = static_cast<float*>(mean.data);
        variance_ = static_cast<float*>(variance.data);
        const int64_t batches = ++*static_cast<int64_t*>(counter.data);
        if (share_ < 0) share_ = 1 / (double)batches;
    }
    // Towards the batch's of channel k; its variance is unbiased.
    void move(int64_t k, double mean, double variance) const {
        if (mean_ == nullptr) return;
        mean_[k] = (float)((1 - share_) * mean_[k] + share_ * mean);
        variance_[k] = (float)((1 - share_) * variance_[k] + share_ * variance);
    }

   private:
    float *mean_ = nullptr, *variance_ = nullptr;
    double share_;
};

}  // namespace convattn
