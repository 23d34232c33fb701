// Blocks with one gate for each channel, in training: SE and ECA. Each has a step forward, which
// keeps the means z, and its gradients. float32.
#include "operators.h"
#include "training.h"

namespace convattn {
namespace {

// The map's gradient, from that of the means.
Tensor through_means(const Tensor& dy, const Tensor& gate, const Tensor& dz) {
    const float by = 1.0f / (float)(dy.sizes[2] * dy.sizes[3]);
    for (int64_t i = 0; i < dz.numel(); ++i) data_of(dz)[i] *= by;
    const Tensor none(nullptr);
    return gated(dy, gate, none, dz, none, none);
}

// Each image's values between copies of its end and its beginning, or between zeros.
Floats surrounded(const float* from, int64_t n, int64_t count, int64_t pad, bool circular) {
    const int64_t step = count + 2 * pad;
    Floats made(n * step + BEHIND);
    for (int64_t i = 0; i < n; ++i) {
        const float* image = from + i * count;
        float* to = made.data() + i * step;
        std::memcpy(to + pad, image, count * sizeof(float));
        if (!circular) continue;
        std::memcpy(to, image + count - pad, pad * sizeof(float));
        std::memcpy(to + pad + count, image, pad * sizeof(float));
    }
    return made;
}

}  // namespace

// x, w1, b1, w2, b2, relu6, scale -> y, means (N, C), hidden values (N, m), gate
void squeeze_excitation_step(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]), w1 = take(stack[1]), b1 = take_optional(stack[2]);
    const Tensor w2 = take(stack[3]), b2 = take_optional(stack[4]);
    const float most = truth(stack[5]) ? 6.0f : INFINITY;
    const auto scale = (float)number(stack[6]);
    check_map(x);
    const int64_t n = x.sizes[0], c = x.sizes[1], m = w1.numel() / c;
    const Parameter first(w1, m * c), first_bias(b1, m), second(w2, m * c), second_bias(b2, c);
    Tensor z = means_of(x), f = floats({n, m}), gate = floats({n, c, 1, 1});
    parallel(n, 2 * c * m, [&](int64_t from, int64_t to) {
        for (; from < to; ++from) {
            float *hidden = data_of(f) + from * m, *logits = data_of(gate) + from * c;
            layers().dense(first.values, first_bias.values, m, c, data_of(z) + from * c, hidden);
            for (int64_t k = 0; k < m; ++k) {  // NaN stays
                hidden[k] = hidden[k] <= 0 ? 0 : hidden[k] > most ? most : hidden[k];
            }
            layers().dense(second.values, second_bias.values, c, m, hidden, logits);
            layers().sigmoids(logits, c, scale);
        }
    });
    stack[0] = gated_by(x, gate).release();
    stack[1] = z.release();
    stack[2] = f.release();
    stack[3] = gate.release();
}

// dy, x, means, hidden values, gate, w1, w2, relu6, scale -> the gradients of x, w1, b1, w2, b2
void squeeze_excitation_gradients(Stack stack, uint64_t, uint64_t) {
    const Tensor dy = take(stack[0]), x = take(stack[1]), z = take(stack[2]), f = take(stack[3]);
    const Tensor gate = take(stack[4]), w1 = take(stack[5]), w2 = take(stack[6]);
    const float most = truth(stack[7]) ? 6.0f : INFINITY;
    const auto scale = (float)number(stack[8]);
    check_map(x);
    const int64_t n = x.sizes[0], c = x.sizes[1], m = w1.numel() / c;
    check_kept(z, n * c);
    check_kept(f, n * m);
    const Floats first = with_margin(Parameter(w1, m * c).values, m * c);
    const Floats second = with_margin(Parameter(w2, m * c).values, m * c);
    const Floats means = with_margin(data_of(z), n * c), hidden = with_margin(data_of(f), n * m);

    const Tensor d = through_gate(dy, x, gate, scale), dz = floats({n, c, 1, 1});
    Floats inner(n * m);
    parallel(n, 2 * c * m, [&](int64_t from, int64_t to) {
        float* own = inner.data() + from * m;
        layers().product({data_of(d) + from * c, c, 1, second.data(), m, to - from, c, m, own, m,
                           false});
        for (int64_t i = 0; i < (to - from) * m; ++i) {
            const float value = hidden[from * m + i];
            if (!(value > 0 && value < most)) own[i] = 0;
        }
        layers().product({own, m, 1, first.data(), c, to - from, m, c, data_of(dz) + from * c, c,
                           false});
    });
    stack[0] = through_means(dy, gate, dz).release();
    stack[1] = gradient_of_weight(inner.data(), means, n, like(w1)).release();
    stack[2] = column_sums(inner.data(), n, floats({m})).release();
    stack[3] = gradient_of_weight(data_of(d), hidden, n, like(w2)).release();
    stack[4] = column_sums(data_of(d), n, floats({c})).release();
}

// x, weight, circular, scale -> y, means (N, C), gate
void efficient_channel_attention_step(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]), weight = take(stack[1]);
    const bool circular = truth(stack[2]);
    const auto scale = (float)number(stack[3]);
    check_map(x);
    const int64_t n = x.sizes[0], c = x.sizes[1], k = weight.numel(), pad = k / 2;
    if (k % 2 == 0 || (circular && pad > c)) refuse("expected an odd kernel that fits");
    const Parameter w(weight, k);
    Tensor z = means_of(x), gate = floats({n, c, 1, 1});
    const Floats wide = surrounded(data_of(z), n, c, pad, circular);
    for (int64_t i = 0; i < n; ++i) {  // the k values from each channel's first neighbour on
        layers().product({w.values, 0, 1, wide.data() + i * (c + 2 * pad), 1, 1, k, c,
                           data_of(gate) + i * c, c, false});
    }
    layers().sigmoids(data_of(gate), n * c, scale);
    stack[0] = gated_by(x, gate).release();
    stack[1] = z.release();
    stack[2] = gate.release();
}

// dy, x, means, gate, weight, circular, scale -> the gradients of x and weight
void efficient_channel_attention_gradients(Stack stack, uint64_t, uint64_t) {
    const Tensor dy = take(stack[0]), x = take(stack[1]), z = take(stack[2]);
    const Tensor gate = take(stack[3]), weight = take(stack[4]);
    const bool circular = truth(stack[5]);
    const auto scale = (float)number(stack[6]);
    check_map(x);
    const int64_t n = x.sizes[0], c = x.sizes[1], k = weight.numel(), pad = k / 2;
    if (k % 2 == 0 || (circular && pad > c)) refuse("expected an odd kernel that fits");
    check_kept(z, n * c);
    const Parameter w(weight, k);
    const Tensor d = through_gate(dy, x, gate, scale), dz = floats({n, c, 1, 1});
    const Floats means = surrounded(data_of(z), n, c, pad, circular);
    const Floats wide = surrounded(data_of(d), n, c, pad, circular);
    const int64_t step = c + 2 * pad, whole = padded(k);
    Floats sums(whole);
    for (int64_t i = 0; i < n; ++i) {
        layers().product({w.values + k - 1, 0, -1, wide.data() + i * step, 1, 1, k, c,
                           data_of(dz) + i * c, c, false});
        layers().product({data_of(d) + i * c, 0, 1, means.data() + i * step, 1, 1, c, whole,
                           sums.data(), whole, true});
    }
    Tensor dw = like(weight);
    std::memcpy(dw.data, sums.data(), k * sizeof(float));
    stack[0] = through_means(dy, gate, dz).release();
    stack[1] = dw.release();
}

}  // namespace convattn
