#include "spatial_training.h"

namespace convattn {
namespace {

// Sums of term(i) in double, in parts that do not wait for each other.
template <class Term>
double long_sum(int64_t count, const Term& term) {
    double part[8] = {};
    int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
        for (int64_t k = 0; k < 8; ++k) part[k] += term(i + k);
    }
    for (; i < count; ++i) part[0] += term(i);
    for (int64_t k = 1; k < 8; ++k) part[0] += part[k];
    return part[0];
}

double value_of(const Tensor& t, double missing) {
    return t ? *Parameter(t, 1).values : missing;
}

}  // namespace

SpatialConvolution::SpatialConvolution(const Tensor& weight, int64_t high, int64_t wide,
                                       bool turned)
    : high_(high), wide_(wide), turned_(turned) {
    if (weight.dim != 4 || weight.sizes[2] != weight.sizes[3] || weight.sizes[2] % 2 == 0) {
        refuse("expected a convolution with an odd square kernel");
    }
    k_ = weight.sizes[2], planes_ = weight.sizes[1], step_ = padded(wide + k_ - 1);
    const int64_t size = k_ * k_;
    const Parameter given(weight, planes_ * size);
    weight_.resize(planes_ * size);
    for (int64_t p = 0; p < planes_; ++p) {
        for (int64_t i = 0; i < size; ++i) {
            const int64_t from = turned ? i % k_ * k_ + i / k_ : i;
            weight_[p * size + i] = given.values[p * size + from];
        }
    }
    flipped_ = weight_;
    for (int64_t p = 0; p < planes_; ++p) {
        std::reverse(flipped_.begin() + p * size, flipped_.begin() + (p + 1) * size);
    }
}

// A plane among so many rows and columns of zeros on each side, 16 values readable behind it.
Floats SpatialConvolution::with_zeros(const float* plane, int64_t rows,
                                      int64_t columns) const {
    Floats made((high_ + 2 * rows) * step_ + BEHIND);
    for (int64_t h = 0; h < high_; ++h) {
        std::memcpy(made.data() + (h + rows) * step_ + columns, plane + h * wide_,
                    wide_ * sizeof(float));
    }
    return made;
}

void SpatialConvolution::convolve(const Floats& weight, const Floats& in, int64_t planes,
                                  float* out) const {
    const int64_t out_step = padded(wide_);
    Floats made(high_ * out_step);
    const int64_t plane = (high_ + k_ - 1) * step_;
    layers().convolve({weight.data(), planes, k_, k_, plane, step_, wide_, out_step}, in.data(), 0,
                      high_, made.data());
    for (int64_t h = 0; h < high_; ++h) {
        std::memcpy(out + h * wide_, made.data() + h * out_step, wide_ * sizeof(float));
    }
}

void SpatialConvolution::forward(const std::vector<const float*>& pooled, float* logits) const {
    const int64_t plane = (high_ + k_ - 1) * step_;
    Floats in(planes_ * plane + BEHIND);
    for (int64_t p = 0; p < planes_; ++p) {
        const auto one = with_zeros(pooled[p], k_ / 2, k_ / 2);
        std::copy(one.begin(), one.begin() + plane, in.begin() + p * plane);
    }
    convolve(weight_, in, planes_, logits);
}

void SpatialConvolution::backward(const std::vector<const float*>& pooled, const float* d,
                                  const std::vector<float*>& d_pooled, float* d_weight) const {
    const int64_t size = k_ * k_, lanes = padded(k_), above = k_ - 1;
    const auto around = with_zeros(d, k_ / 2, k_ / 2), between = with_zeros(d, above, 0);
    Floats sums(k_ * lanes);
    for (int64_t p = 0; p < planes_; ++p) {
        convolve({flipped_.begin() + p * size, flipped_.begin() + (p + 1) * size}, around, 1,
                 d_pooled[p]);
        // a row of the plane meets as many rows of d as the kernel is high
        const auto in = with_zeros(pooled[p], k_ / 2, k_ / 2);
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int64_t r = 0; r < high_ + above; ++r) {
            layers().product({between.data() + (r + above) * step_, -step_, 1,
                              in.data() + r * step_, 1, k_, wide_, k_, sums.data(), lanes, true});
        }
        for (int64_t i = 0; i < size; ++i) {
            const int64_t to = turned_ ? i % k_ * k_ + i / k_ : i;
            d_weight[p * size + to] = sums[i / k_ * lanes + i % k_];
        }
    }
}

SpatialNorm::SpatialNorm(Stack stack)
    : mean_(take_optional(stack[0])), variance_(take_optional(stack[1])),
      gamma_(take_optional(stack[2])), beta_(take_optional(stack[3])), eps_(number(stack[4])),
      batch_(truth(stack[5])),
      running_(mean_, variance_, take_optional(stack[6]), number(stack[7]), batch_) {}

void SpatialNorm::forward(const float* values, int64_t count, double* norm) const {
    double mean = value_of(mean_, 0), rate = 1;
    if (batch_) {
        mean = long_sum(count, [&](int64_t i) { return values[i]; }) / (double)count;
        const double squares = long_sum(count, [&](int64_t i) {
            const double from = values[i] - mean;
            return from * from;
        });
        rate = 1 / std::sqrt(squares / (double)count + eps_);
        running_.move(0, mean, squares / (double)(count - 1));
    } else if (variance_) {
        rate = 1 / std::sqrt(value_of(variance_, 1) + eps_);
    }
    norm[MEAN] = mean;
    norm[RATE] = rate;
    norm[SLOPE] = rate * value_of(gamma_, 1);
    norm[OFFSET] = value_of(beta_, 0);
}

void SpatialNorm::gates(const double* norm, const float* values, int64_t count, float scale,
                        float* to) {
    for (int64_t i = 0; i < count; ++i) {
        to[i] = (float)(norm[SLOPE] * (values[i] - norm[MEAN]) + norm[OFFSET]);
    }
    layers().sigmoids(to, count, scale);
}

void SpatialNorm::backward(const double* norm, bool batch, const float* values, int64_t count,
                           float* d, float* d_gamma, float* d_beta) {
    const double mean = norm[MEAN], rate = norm[RATE], slope = norm[SLOPE];
    const double total = long_sum(count, [&](int64_t i) { return d[i]; });
    const double product = long_sum(count, [&](int64_t i) { return d[i] * (values[i] - mean); });
    *d_gamma = (float)(product * rate);
    *d_beta = (float)total;
    const double constant = batch ? total / (double)count : 0;
    const double linear = batch ? product * rate * rate / (double)count : 0;
    for (int64_t i = 0; i < count; ++i) {
        d[i] = (float)(slope * (d[i] - constant - linear * (values[i] - mean)));
    }
}

}  // namespace convattn
