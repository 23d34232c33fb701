// Efficient local attention in training: the block's step forward, and its gradients. float32.
#include "operators.h"
#include "training.h"

namespace convattn {
namespace {

// The gates of one axis from its strips, (N, C, L): a convolution, a group norm, and a sigmoid.
class Axis {
   public:
    Axis(const Tensor& conv, int64_t channels, int64_t length, int64_t groups, double eps)
        : channels_(channels), length_(length), groups_(groups), eps_(eps) {
        if (conv.dim != 3 || conv.sizes[0] != channels || channels % conv.sizes[1] ||
            conv.sizes[2] % 2 == 0 || groups < 1 || channels % groups) {
            refuse("expected a grouped convolution with an odd kernel, and a norm that fits");
        }
        per_ = conv.sizes[1], k_ = conv.sizes[2];
        step_ = length + k_ - 1, wide_ = padded(length);
        const Parameter given(conv, channels * per_ * k_);
        weight_.assign(given.values, given.values + channels * per_ * k_);
        back_.resize(weight_.size());
        for (int64_t c = 0; c < channels; ++c) {
            const int64_t first = c / per_ * per_;  // of the channel's group
            for (int64_t other = 0; other < per_; ++other) {
                const float* from = weight_.data() + (c * per_ + other) * k_;
                std::reverse_copy(from, from + k_,
                                  back_.data() + ((first + other) * per_ + c - first) * k_);
            }
        }
    }
    int64_t strip() const { return channels_ * length_; }
    int64_t per() const { return per_; }

    // Of an image: the convolved strips, and the gates.
    void forward(const float* z, const Parameter& gamma, const Parameter& beta, bool silu,
                 float scale, float* convolved, float* gates) const {
        Floats out = convolve(weight_, z);
        copy(out, convolved);
        layers().group_norm({channels_, groups_, length_, wide_, gamma.values, beta.values, eps_, silu,
                             scale},
                            out.data(), 0, groups_);
        copy(out, gates);
    }
    // d, of the gates, becomes that of the convolved strips; gives that of the means, `by` times,
    // and the image's parts of those of gamma and beta.
    void backward(const float* convolved, const float* gates, const Parameter& gamma,
                  const Parameter& beta, bool silu, float scale, float by, float* d, float* dz,
                  float* d_gamma, float* d_beta) const {
        layers().through_sigmoid(d, gates, strip(), scale);
        for (int64_t g = 0; g < groups_; ++g) {
            through_norm(g, convolved, gamma, beta, silu, d, d_gamma, d_beta);
        }
        copy(convolve(back_, d), dz);
        for (int64_t i = 0; i < strip(); ++i) dz[i] *= by;
    }
    // Of the channels of group g; dw (C, per, k), z and d of all images.
    void gradient_of_weight(int64_t g, const float* z, const float* d, int64_t images,
                            float* dw) const {
        const int64_t lanes = padded(k_), first = g * per_;
        Floats sums(per_ * lanes), in(step_ + BEHIND);
        for (int64_t other = 0; other < per_; ++other) {
            std::fill(sums.begin(), sums.end(), 0.0f);
            for (int64_t n = 0; n < images; ++n) {
                const int64_t at = n * strip() + first * length_;
                std::memcpy(in.data() + k_ / 2, z + at + other * length_, length_ * sizeof(float));
                layers().product({d + at, length_, 1, in.data(), 1, per_, length_, k_, sums.data(),
                                   lanes, true});
            }
            for (int64_t c = 0; c < per_; ++c) {
                std::memcpy(dw + ((first + c) * per_ + other) * k_, sums.data() + c * lanes,
                            k_ * sizeof(float));
            }
        }
    }

   private:
    // Rows `wide_` apart, of rows without a step.
    Floats convolve(const Floats& weight, const float* from) const {
        Floats in(channels_ * step_ + BEHIND), out(channels_ * wide_);
        for (int64_t c = 0; c < channels_; ++c) {
            std::memcpy(in.data() + c * step_ + k_ / 2, from + c * length_,
                        length_ * sizeof(float));
        }
        for (int64_t c = 0; c < channels_; ++c) {
            layers().convolve(
                {weight.data() + c * per_ * k_, per_, 1, k_, step_, step_, length_, wide_},
                in.data() + c / per_ * per_ * step_, 0, 1, out.data() + c * wide_);
        }
        return out;
    }
    void copy(const Floats& from, float* to) const {
        for (int64_t c = 0; c < channels_; ++c) {
            std::memcpy(to + c * length_, from.data() + c * wide_, length_ * sizeof(float));
        }
    }
    void through_norm(int64_t g, const float* values, const Parameter& gamma, const Parameter& beta,
                      bool silu, float* d, float* d_gamma, float* d_beta) const {
        const int64_t together = channels_ / groups_, from = g * together, to = from + together;
        const int64_t a = from * length_, b = to * length_;
        const double count = (double)(b - a);
        double mean = 0, variance = 0, total = 0, product = 0;
        for (int64_t i = a; i < b; ++i) mean += values[i];
        mean /= count;
        for (int64_t i = a; i < b; ++i) variance += (values[i] - mean) * (values[i] - mean);
        const double rate = 1 / std::sqrt(variance / count + eps_);
        for (int64_t c = from; c < to; ++c) {
            const double slope = gamma.values ? gamma.values[c] : 1;
            const double offset = beta.values ? beta.values[c] : 0;
            double of_slope = 0, of_offset = 0;
            for (int64_t i = c * length_; i < (c + 1) * length_; ++i) {
                const double normal = (values[i] - mean) * rate;
                if (silu) {
                    const double v = slope * normal + offset, s = 1 / (1 + std::exp(-v));
                    d[i] *= (float)(s * (1 + v * (1 - s)));
                }
                of_slope += d[i] * normal;
                of_offset += d[i];
            }
            d_gamma[c] = (float)of_slope;
            d_beta[c] = (float)of_offset;
            total += slope * of_offset;
            product += slope * of_slope;
        }
        total /= count, product /= count;
        for (int64_t c = from; c < to; ++c) {
            const double slope = gamma.values ? gamma.values[c] : 1;
            for (int64_t i = c * length_; i < (c + 1) * length_; ++i) {
                const double normal = (values[i] - mean) * rate;
                d[i] = (float)(rate * (slope * d[i] - total - normal * product));
            }
        }
    }

    int64_t channels_, length_, groups_, per_ = 0, k_ = 0, step_ = 0, wide_ = 0;
    double eps_;
    Floats weight_, back_;  // back: of the gradient, the kernels reversed
};

// The rows' and the columns', from conv, gamma and beta of each on the stack.
struct Given {
    Given(Stack stack, const Tensor& x, int64_t groups, double eps)
        : conv{take(stack[0]), take(stack[3])},
          affine{take_optional(stack[1]), take_optional(stack[2]), take_optional(stack[4]),
                 take_optional(stack[5])},
          gamma{{affine[0], x.sizes[1]}, {affine[2], x.sizes[1]}},
          beta{{affine[1], x.sizes[1]}, {affine[3], x.sizes[1]}},
          axes{{conv[0], x.sizes[1], x.sizes[2], groups, eps},
               {conv[1], x.sizes[1], x.sizes[3], groups, eps}} {}
    const Tensor conv[2], affine[4];
    const Parameter gamma[2], beta[2];
    const Axis axes[2];
};

// Runs on each axis of each image.
template <class Run>
void each(const Tensor& x, const Run& run) {
    const int64_t values = x.sizes[1] * (x.sizes[2] + x.sizes[3]) * 16;
    parallel(2 * x.sizes[0], values, [&](int64_t from, int64_t to) {
        for (; from < to; ++from) run(from % 2, from / 2);
    });
}

std::pair<Tensor, Tensor> strips(const Tensor& x) {
    const int64_t n = x.sizes[0], c = x.sizes[1];
    return {floats({n, c, x.sizes[2], 1}), floats({n, c, 1, x.sizes[3]})};
}

}  // namespace

// x; conv, gamma, beta of the rows and of the columns; groups, eps, silu, scale
// -> y, and of each axis the means, the convolved means and the gates
void local_attention_step(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]);
    check_map(x);
    const Given given(stack + 1, x, (int64_t)stack[7], number(stack[8]));
    const bool silu = truth(stack[9]);
    const auto scale = (float)number(stack[10]);
    auto [z_rows, z_columns] = strip_means_of(x);
    auto [rows, columns] = strips(x);
    auto [g_rows, g_columns] = strips(x);
    const float* z[] = {data_of(z_rows), data_of(z_columns)};
    float *convolved[] = {data_of(rows), data_of(columns)};
    float *gates[] = {data_of(g_rows), data_of(g_columns)};
    each(x, [&](int64_t a, int64_t n) {
        const int64_t at = n * given.axes[a].strip();
        given.axes[a].forward(z[a] + at, given.gamma[a], given.beta[a], silu, scale,
                              convolved[a] + at, gates[a] + at);
    });
    const Tensor none(nullptr);
    Tensor y = gated(x, g_rows, g_columns, none, none, none);
    Tensor* results[] = {&y, &z_rows, &rows, &g_rows, &z_columns, &columns, &g_columns};
    for (int i = 0; i < 7; ++i) stack[i] = results[i]->release();
}

// dy, x, what the step kept; conv, gamma, beta of both; groups, eps, silu, scale
// -> the gradients of x, and of conv, gamma and beta of the rows and of the columns
void local_attention_gradients(Stack stack, uint64_t, uint64_t) {
    const Tensor dy = take(stack[0]), x = take(stack[1]);
    const Tensor kept[] = {take(stack[2]), take(stack[3]), take(stack[4]),
                           take(stack[5]), take(stack[6]), take(stack[7])};
    check_map(x);
    const Given given(stack + 8, x, (int64_t)stack[14], number(stack[15]));
    const bool silu = truth(stack[16]);
    const auto scale = (float)number(stack[17]);
    const int64_t images = x.sizes[0], channels = x.sizes[1];
    for (int i = 0; i < 6; ++i) check_kept(kept[i], images * given.axes[i / 3].strip());

    const auto [d_rows, d_columns] = gradients_of_gates(dy, x, kept[2], kept[5]);
    const auto [z_rows, z_columns] = strips(x);
    float *d[] = {data_of(d_rows), data_of(d_columns)};
    float *dz[] = {data_of(z_rows), data_of(z_columns)};
    const int64_t affine = images * channels;
    Floats of_gamma[] = {Floats(affine), Floats(affine)};
    Floats of_beta[] = {Floats(affine), Floats(affine)};
    each(x, [&](int64_t a, int64_t n) {
        const int64_t at = n * given.axes[a].strip(), c = n * channels;
        given.axes[a].backward(data_of(kept[3 * a + 1]) + at, data_of(kept[3 * a + 2]) + at,
                               given.gamma[a], given.beta[a], silu, scale,
                               1.0f / (float)x.sizes[3 - a], d[a] + at, dz[a] + at,
                               of_gamma[a].data() + c, of_beta[a].data() + c);
    });
    stack[0] = gated(dy, kept[2], kept[5], Tensor(nullptr), z_rows, z_columns).release();
    for (int a : {0, 1}) {
        Tensor own = like(given.conv[a]);
        const int64_t groups = channels / given.axes[a].per();
        parallel(groups, images * given.axes[a].strip() / groups * 64, [&](int64_t g, int64_t to) {
            for (; g < to; ++g) {
                given.axes[a].gradient_of_weight(g, data_of(kept[3 * a]), d[a], images,
                                                 data_of(own));
            }
        });
        stack[1 + 3 * a] = own.release();
        stack[2 + 3 * a] = column_sums(of_gamma[a].data(), images, floats({channels})).release();
        stack[3 + 3 * a] = column_sums(of_beta[a].data(), images, floats({channels})).release();
    }
}

}  // namespace convattn
