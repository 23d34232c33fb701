// Coordinate attention in evaluation.
#include "coordinate.h"

namespace convattn {
namespace {

// The gates of one axis, from its places among the hidden values.
class Axis {
   public:
    Axis(Room& room, const ToGates& layer, int64_t channels, int64_t from, int64_t length,
         int64_t step)
        : gates(room.take(channels * length)), out_(layer.of(from, length, step)) {}
    void by_channel(float* room, const float* f, int64_t first, int64_t last) const {
        kernels().coordinate_network->decode(out_, f, first, last, room + gates);
    }
    // Of places [first, last) of both axes.
    void by_place(float* room, const float* f, int64_t first, int64_t last) const {
        first = std::max<int64_t>(first - out_.from, 0);
        last = std::min(last - out_.from, out_.length);
        if (first < last) {
            kernels().coordinate_network->decode_last(out_, f, first, last, room + gates);
        }
    }
    const int64_t gates;

   private:
    const Decoding out_;
};

}  // namespace

void coordinate_attention(Stack stack, uint64_t, uint64_t) {
    const Coordinates given(stack);
    const Map map(given.x);
    const auto [channels, height, width] = map.shape;
    const int64_t hidden = given.w1.numel() / channels, places = height + width;
    const Parameter first(given.w1, hidden * channels), bias(given.b1, hidden);
    Folded norm(given.mean, given.variance, given.gamma, given.beta, given.eps, hidden);
    for (int64_t i = 0; bias.values != nullptr && i < hidden; ++i) {
        norm.offset[i] += norm.slope[i] * bias.values[i];
    }
    const Encoding in = {channels, hidden, places, padded(places),
                         first.values, norm.slope.data(), norm.offset.data(), given.relu};
    const ToGates to_rows(given.wh, given.bh, given.scale, map, hidden);
    const ToGates to_columns(given.ww, given.bw, given.scale, map, hidden);
    const CoordinateNetwork& network = *kernels().coordinate_network;
    // Channels are pooled and encoded by parts, the same for any number of threads.
    const int64_t part = std::max<int64_t>(16, padded(channels / 16));
    const int64_t count = (channels + part - 1) / part, size = hidden * in.step;
    Tensor y = empty_like(given.x);
    Room room;
    const int64_t z = room.take(channels * in.step), parts = room.take(count * size);
    const int64_t f = room.take(size);
    const Axis rows(room, to_rows, channels, 0, height, in.step);
    const Axis columns(room, to_columns, channels, height, width, in.step);
    const Pass activated = {1, 0, [&](float* at, int64_t, int64_t, int64_t) {
        network.activated(in, at + parts, count, at + f);
    }};
    // a value of the map costs as much as eight products
    const Pass by_channel = {
        channels, hidden * places / 8, [&](float* at, int64_t, int64_t from, int64_t to) {
            rows.by_channel(at, at + f, from, to);
            columns.by_channel(at, at + f, from, to);
        }};
    const Pass by_place = {
        (places + 7) / 8, channels * hidden, [&](float* at, int64_t, int64_t from, int64_t to) {
            rows.by_place(at, at + f, from * 8, to * 8);
            columns.by_place(at, at + f, from * 8, to * 8);
        }};
    typed(given.x, [&](auto* data) {
        const Passes passes(map, data, static_cast<decltype(data)>(y.data));
        const Pass strips = passes.strips({z, z + map.shape.height, in.step, 1, in.step, 1});
        const int64_t unit = map.last ? 16 : 1;  // of the strips
        const Pass encoded = {
            count, part * map.positions, [&](float* at, int64_t n, int64_t from, int64_t to) {
                for (int64_t i = from; i < to; ++i) {
                    const int64_t a = i * part, b = std::min(in.channels, a + part);
                    strips.run(at, n, a / unit, (b + unit - 1) / unit);
                    network.encode(in, a, b, at + z, at + parts + i * size);
                }
            }};
        const Pass gated = passes.gated(COLUMN, columns.gates, ROW, rows.gates);
        if (map.last) return run_passes(map, room, {encoded, activated, by_place, gated});
        run_passes(map, room, {encoded, activated, together(by_channel, gated)});
    });
    stack[0] = y.release();
}

}  // namespace convattn
