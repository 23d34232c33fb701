// Global context: y = x + a vector for each image.
#include "context.h"

namespace convattn {

Tensor with_context(const GlobalContext& given, const KeptContext* kept) {
    const Map map(given.x);
    const int64_t channels = map.shape.channels, hidden = given.w1.numel() / channels;
    const Parameter key(given.mask, channels);
    const Parameter first(given.w1, hidden * channels), first_bias(given.b1, hidden);
    const Parameter second(given.w2, hidden * channels), second_bias(given.b2, channels);
    const HiddenNorm norm(given.gamma, given.beta, given.eps, hidden);
    const Layers& layers = *kernels().layers;
    Tensor y = empty_like(given.x);
    Room room;
    const int64_t w = room.take(channels), weights = room.take(map.positions);
    const int64_t context = room.take(channels), values = room.take(hidden), f = room.take(hidden);
    const int64_t added = room.take(channels), ones = room.take(channels);
    const Pass attend = {1, 0, [&](float* at, int64_t, int64_t, int64_t) {
        layers.softmax(at + weights, map.positions);
    }};
    const Pass network = {1, 0, [&](float* at, int64_t n, int64_t, int64_t) {
        layers.dense(first.values, first_bias.values, hidden, channels, at + context, at + values);
        norm.forward(at + values, at + f);
        layers.dense(second.values, second_bias.values, channels, hidden, at + f, at + added);
        for (int64_t c = 0; c < channels; ++c) at[ones + c] = 1;
        if (kept == nullptr) return;
        const auto keep = [&](float* to, int64_t from, int64_t count) {
            std::memcpy(to + n * count, at + from, count * sizeof(float));
        };
        keep(kept->weights, weights, map.positions);
        keep(kept->context, context, channels);
        keep(kept->hidden, values, hidden);
    }};
    const Pass keys = {1, 0, [&](float* at, int64_t, int64_t, int64_t) {
        std::memcpy(at + w, key.values, channels * sizeof(float));  // with a margin behind
    }};
    typed(given.x, [&](auto* data) {
        const Passes passes(map, data, static_cast<decltype(data)>(y.data));
        run_passes(map, room,
                   {keys, passes.over_channels([w](float* at) { return at + w; }, weights), attend,
                    passes.weighted_sums(weights, context), network,
                    passes.gated(CHANNEL, ones, NONE, 0, added)});
    });
    return y;
}

void global_context(Stack stack, uint64_t, uint64_t) {
    const GlobalContext given(stack);
    stack[0] = with_context(given, nullptr).release();
}

}  // namespace convattn
