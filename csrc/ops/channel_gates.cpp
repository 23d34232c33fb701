// Blocks with one gate for each channel, in evaluation: SE, ECA and SRM.
#include "operators.h"
#include "whole.h"

namespace convattn {

// x, w1, b1, w2, b2, relu6, scale
void squeeze_excitation(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]), w1 = take(stack[1]), b1 = take_optional(stack[2]);
    const Tensor w2 = take(stack[3]), b2 = take_optional(stack[4]);
    const Act act = truth(stack[5]) ? Act::RELU6 : Act::RELU;
    const auto scale = (float)number(stack[6]);
    const Map map(x);
    const int64_t channels = map.shape.channels, hidden = w1.numel() / channels;
    const Parameter first(w1, hidden * channels), first_bias(b1, hidden);
    const Parameter second(w2, hidden * channels), second_bias(b2, channels);
    const Layers& layers = *kernels().layers;
    Tensor y = empty_like(x);
    Room room;
    const int64_t z = room.take(channels), f = room.take(hidden), gate = room.take(channels);
    typed(x, [&](auto* data) {
        const Passes passes(map, data, static_cast<decltype(data)>(y.data));
        const Pass network = {1, 0, [&](float* at, int64_t, int64_t, int64_t) {
            layers.dense(first.values, first_bias.values, hidden, channels, at + z, at + f);
            layers.apply(at + f, hidden, 1, 0, act, 1);
            layers.dense(second.values, second_bias.values, channels, hidden, at + f, at + gate);
            layers.apply(at + gate, channels, 1, 0, Act::SIGMOID, scale);
        }};
        run_passes(map, room, {passes.means(z), network, passes.gated(CHANNEL, gate)});
    });
    stack[0] = y.release();
}

// x, weight, circular, scale
void efficient_channel_attention(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]), weight = take(stack[1]);
    const bool circular = truth(stack[2]);
    const auto scale = (float)number(stack[3]);
    const Map map(x);
    const int64_t channels = map.shape.channels, k = weight.numel(), pad = k / 2;
    if (k % 2 == 0 || (circular && pad > channels)) refuse("expected an odd kernel that fits");
    const Parameter w(weight, k);
    const Layers& layers = *kernels().layers;
    Tensor y = empty_like(x);
    Room room;
    const int64_t z = room.take(channels + 2 * pad) + pad, gate = room.take(channels);
    typed(x, [&](auto* data) {
        const Passes passes(map, data, static_cast<decltype(data)>(y.data));
        const Pass network = {1, 0, [&](float* at, int64_t, int64_t, int64_t) {
            float* means = at + z;
            for (int64_t i = 0; circular && i < pad; ++i) {
                means[i - pad] = means[channels + i - pad];
                means[channels + i] = means[i];
            }
            const int64_t step = channels + 2 * pad;
            layers.convolve({w.values, 1, 1, k, 0, step, channels, step}, means - pad, 0, 1,
                            at + gate);
            layers.apply(at + gate, channels, 1, 0, Act::SIGMOID, scale);
        }};
        run_passes(map, room, {passes.means(z), network, passes.gated(CHANNEL, gate)});
    });
    stack[0] = y.release();
}

// x, weights (C, 2), mean, variance, gamma, beta, eps of the norm, unbiased, scale
void style_recalibration(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]), weights = take(stack[1]), mean = take(stack[2]);
    const Tensor variance = take(stack[3]), gamma = take_optional(stack[4]);
    const Tensor beta = take_optional(stack[5]);
    const double eps = number(stack[6]);
    const bool unbiased = truth(stack[7]);
    const auto scale = (float)number(stack[8]);
    const Map map(x);
    const int64_t channels = map.shape.channels;
    const Parameter w(weights, 2 * channels);
    const Folded norm(mean, variance, gamma, beta, eps, channels);
    const int64_t count = unbiased ? std::max<int64_t>(map.positions - 1, 1) : map.positions;
    const Layers& layers = *kernels().layers;
    Tensor y = empty_like(x);
    Room room;
    const int64_t z = room.take(channels), squares = room.take(channels);
    const int64_t gate = room.take(channels);
    typed(x, [&](auto* data) {
        const Passes passes(map, data, static_cast<decltype(data)>(y.data));
        const Pass network = {1, 0, [&](float* at, int64_t, int64_t, int64_t) {
            for (int64_t c = 0; c < channels; ++c) {
                const float deviation = std::sqrt(at[squares + c] / (float)count + 1e-5f);
                const float style = at[z + c] * w.values[2 * c] + deviation * w.values[2 * c + 1];
                at[gate + c] = style * norm.slope[c] + norm.offset[c];
            }
            layers.apply(at + gate, channels, 1, 0, Act::SIGMOID, scale);
        }};
        run_passes(map, room,
                   {passes.means_and_squares(z, squares), network, passes.gated(CHANNEL, gate)});
    });
    stack[0] = y.release();
}

}  // namespace convattn
