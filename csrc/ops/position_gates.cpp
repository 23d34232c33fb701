// Blocks with gates for each position, in evaluation: CBAM and triplet attention.
#include "operators.h"
#include "spatial.h"

namespace convattn {

// x, w1, b1, w2, b2, conv, mean, variance, gamma, beta, eps of the norm, maximum_first, scale
void cbam(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]), w1 = take(stack[1]), b1 = take_optional(stack[2]);
    const Tensor w2 = take(stack[3]), b2 = take_optional(stack[4]), conv = take(stack[5]);
    const Tensor mean = take_optional(stack[6]), variance = take_optional(stack[7]);
    const Tensor gamma = take_optional(stack[8]), beta = take_optional(stack[9]);
    const double eps = number(stack[10]);
    const bool maximum_first = truth(stack[11]);
    const auto scale = (float)number(stack[12]);
    const Map map(x);
    const auto [channels, height, width] = map.shape;
    const int64_t hidden = w1.numel() / map.shape.channels;
    const Parameter first(w1, hidden * channels), first_bias(b1, hidden);
    const Parameter second(w2, hidden * channels), second_bias(b2, channels);
    const Layers& layers = *kernels().layers;
    Tensor y = empty_like(x);
    Room room;
    const int64_t z = room.take(channels), most = room.take(channels), f = room.take(hidden);
    const int64_t g = room.take(hidden), gate = room.take(channels);
    const int64_t total = room.take(map.positions), top = room.take(map.positions);
    const Spatial spatial(room, conv, Folded(mean, variance, gamma, beta, eps, 1), height, width,
                          false, false, scale);
    const Pass network = {1, 0, [&, c = channels](float* at, int64_t, int64_t, int64_t) {
        layers.dense(first.values, first_bias.values, hidden, c, at + z, at + f);
        layers.dense(first.values, first_bias.values, hidden, c, at + most, at + g);
        layers.apply(at + f, hidden, 1, 0, Act::RELU, 1);
        layers.apply(at + g, hidden, 1, 0, Act::RELU, 1);
        for (int64_t i = 0; i < hidden; ++i) at[f + i] += at[g + i];
        layers.dense(second.values, second_bias.values, c, hidden, at + f, at + gate);
        for (int64_t i = 0; second_bias.values && i < c; ++i) at[gate + i] += second_bias.values[i];
        layers.apply(at + gate, c, 1, 0, Act::SIGMOID, scale);
    }};
    const Pass fill = {1, 0, [&, c = channels](float* at, int64_t, int64_t, int64_t) {
        spatial.fill(at, maximum_first, at + total, 1 / (float)c);
        spatial.fill(at, !maximum_first, at + top, 1);
    }};
    typed(x, [&](auto* data) {
        const Passes passes(map, data, static_cast<decltype(data)>(y.data));
        run_passes(map, room,
                   {passes.means_and_maxima(z, most), network,
                    passes.over_channels([gate](float* at) { return at + gate; }, total, top), fill,
                    spatial.pass(), passes.gated(CHANNEL, gate, POSITION, spatial.gates)});
    });
    stack[0] = y.release();
}

// x; weight, mean, variance, gamma, beta, eps for each of the branches (C, W), (H, C), (H, W); scale
void triplet(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]);
    const auto scale = (float)number(stack[19]);
    const Map map(x);
    const auto [channels, height, width] = map.shape;
    Tensor y = empty_like(x);
    Room room;
    const auto branch = [&, &map = map](int at, int64_t rows, int64_t columns, bool across,
                                        bool turned) {
        const Tensor weight = take(stack[at]), mean = take_optional(stack[at + 1]);
        const Tensor variance = take_optional(stack[at + 2]);
        const Tensor gamma = take_optional(stack[at + 3]);
        const Tensor beta = take_optional(stack[at + 4]);
        return Spatial(room, weight, Folded(mean, variance, gamma, beta, number(stack[at + 5]), 1),
                       rows, columns, across, turned, scale);
    };
    // The channels lie innermost in channels_last, and where an axis is shorter than a vector.
    const bool wide = map.last || width < 16, high = map.last || height < 16;
    const Spatial cw = branch(1, channels, width, wide, wide && !map.last);
    const Spatial hc = branch(7, height, channels, !high, high && !map.last);
    const Spatial hw = branch(13, height, width, false, false);
    const int64_t total = room.take(map.positions), top = room.take(map.positions);
    const auto strips = [&](int64_t plane) -> Strips {
        return {hc.place(plane), cw.place(plane), high ? 1 : hc.step(), high ? hc.step() : 1,
                wide ? 1 : cw.step(), wide ? cw.step() : 1};
    };
    const Strips most = strips(0);
    const Pass fill = {1, 0, [&, c = channels](float* at, int64_t, int64_t, int64_t) {
        hw.fill(at, 0, at + top, 1);
        hw.fill(at, 1, at + total, 1 / (float)c);
    }};
    typed(x, [&](auto* data) {
        const Passes passes(map, data, static_cast<decltype(data)>(y.data));
        run_passes(map, room,
                   {passes.strips(strips(1), &most),
                    passes.over_channels([](float*) { return nullptr; }, total, top), fill,
                    cw.pass(), hc.pass(), hw.pass(),
                    passes.mean_gated(hc.gates, cw.gates, hw.gates, 1.0f / 3)});
    });
    stack[0] = y.release();
}

}  // namespace convattn
