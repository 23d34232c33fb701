// Global context in evaluation: y = x + a vector for each image.
#include "operators.h"
#include "whole.h"

namespace convattn {

// x, mask, w1, b1, gamma, beta, eps of the layer norm, w2, b2. The mask's bias cancels in the softmax.
void global_context(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]), mask = take(stack[1]), w1 = take(stack[2]);
    const Tensor b1 = take_optional(stack[3]), gamma = take_optional(stack[4]);
    const Tensor beta = take_optional(stack[5]);
    const double eps = number(stack[6]);
    const Tensor w2 = take(stack[7]), b2 = take_optional(stack[8]);
    const Map map(x);
    const int64_t channels = map.shape.channels, hidden = w1.numel() / channels;
    const Parameter key(mask, channels);
    const Parameter first(w1, hidden * channels), first_bias(b1, hidden);
    const Parameter second(w2, hidden * channels), second_bias(b2, channels);
    const Parameter g(gamma, hidden), b(beta, hidden);
    const Layers& layers = *kernels().layers;
    Tensor y = empty_like(x);
    Room room;
    const int64_t w = room.take(channels), weights = room.take(map.positions);
    const int64_t context = room.take(channels), f = room.take(hidden), added = room.take(channels);
    const int64_t ones = room.take(channels);
    const Pass attend = {1, 0, [&](float* at, int64_t, int64_t, int64_t) {
        layers.softmax(at + weights, map.positions);
    }};
    const Pass network = {1, 0, [&](float* at, int64_t, int64_t, int64_t) {
        float* values = at + f;
        layers.dense(first.values, first_bias.values, hidden, channels, at + context, values);
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < hidden; ++i) mean += values[i];
        mean /= (double)hidden;
        for (int64_t i = 0; i < hidden; ++i) variance += (values[i] - mean) * (values[i] - mean);
        const double by = 1 / std::sqrt(variance / (double)hidden + eps);
        for (int64_t i = 0; i < hidden; ++i) {
            values[i] = (float)((values[i] - mean) * by * (g.values ? g.values[i] : 1) +
                                (b.values ? b.values[i] : 0));
        }
        layers.apply(values, hidden, 1, 0, Act::RELU, 1);
        layers.dense(second.values, second_bias.values, channels, hidden, values, at + added);
        for (int64_t c = 0; c < channels; ++c) at[ones + c] = 1;
    }};
    const Pass keys = {1, 0, [&](float* at, int64_t, int64_t, int64_t) {
        std::memcpy(at + w, key.values, channels * sizeof(float));  // with a margin behind
    }};
    typed(x, [&](auto* data) {
        const Passes passes(map, data, static_cast<decltype(data)>(y.data));
        run_passes(map, room,
                   {keys, passes.over_channels([w](float* at) { return at + w; }, weights), attend,
                    passes.weighted_sums(weights, context), network,
                    passes.gated(CHANNEL, ones, NONE, 0, added)});
    });
    stack[0] = y.release();
}

}  // namespace convattn
