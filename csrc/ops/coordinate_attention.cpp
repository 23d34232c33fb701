// Coordinate attention in evaluation.
#include "coordinate.h"

namespace convattn {
namespace {

// The gates of one axis, and the weights as the kernels want them.
struct Axis {
    Axis(const Tensor& weights, const Tensor& biases, const Map& map, int64_t hidden, int64_t from,
         int64_t length)
        : weight(weights, map.shape.channels * hidden), bias(biases, map.shape.channels) {
        const int64_t channels = map.shape.channels;
        const float *w = weight.values, *b = bias.values;
        if (map.last) {  // transposed, with what may be read behind
            own.assign(channels * (hidden + 1) + 2 * BEHIND, 0.0f);
            for (int64_t c = 0; c < channels; ++c) {
                for (int64_t k = 0; k < hidden; ++k) own[k * channels + c] = w[c * hidden + k];
            }
            w = own.data();
            if (b != nullptr) {
                float* to = own.data() + channels * hidden + BEHIND;
                std::memcpy(to, b, channels * sizeof(float));
                b = to;
            }
        }
        network = {w, b, from, length};
    }
    Parameter weight, bias;
    std::vector<float> own;
    Network2 network{};
};

// What one image needs between its two passes.
struct Work {
    Work(const Map& map, const Network& net)
        : size(net.channels * net.step + BEHIND), strips(size), hidden(net.hidden * net.step + BEHIND),
          gates(2 * (map.shape.channels * net.places + 2 * BEHIND)) {}
    int64_t size;
    std::vector<float> strips, hidden, gates;
    float* rows() { return gates.data(); }
    float* columns(const Map& map) {
        return gates.data() + map.shape.channels * map.shape.height + BEHIND;
    }
};

}  // namespace

void coordinate_attention(Stack stack, uint64_t, uint64_t) {
    const Coordinates given(stack);
    const Tensor& x = given.x;
    const Map map(x);
    const auto [channels, height, width] = map.shape;
    const int64_t hidden = given.w1.numel() / channels, places = height + width;
    const Parameter first(given.w1, hidden * channels), bias(given.b1, hidden);
    Folded norm(given.mean, given.variance, given.gamma, given.beta, given.eps, hidden);
    for (int64_t i = 0; bias.values != nullptr && i < hidden; ++i) {
        norm.offset[i] += norm.slope[i] * bias.values[i];
    }
    const Network net = {channels,           hidden,       places,
                         (places + 15) / 16 * 16, first.values, norm.slope.data(),
                         norm.offset.data(), given.relu,   given.scale};
    const Axis rows(given.wh, given.bh, map, hidden, 0, height);
    const Axis columns(given.ww, given.bw, map, hidden, height, width);
    const Kernels& k = kernels();
    Tensor y = empty_like(x);
    const auto* from = static_cast<const float*>(x.data);
    auto* to = static_cast<float*>(y.data);
    const float* end = from + map.n * map.image;
    const Map& shape = map;

    const auto pool = [&](int64_t n, Work& work, int64_t first, int64_t last) {
        float* z = work.strips.data();
        if (map.last) {
            k.full.means->strip_means_last(from + n * map.image, end, map.shape, first, last,
                                    {z, net.step, 1}, {z + shape.shape.height, net.step, 1});
        } else {
            k.full.means->strip_means(from + n * map.image + first * map.positions, end, last - first,
                               map.shape, {z + first * net.step, net.step, 1},
                               {z + first * net.step + shape.shape.height, net.step, 1});
        }
    };
    const auto gated_planes = [&](int64_t n, Work& work, int64_t first, int64_t last) {
        const int64_t h = shape.shape.height, w = shape.shape.width;
        float *gr = work.rows(), *gc = work.columns(map);
        k.coordinate_network->decode(net, rows.network, work.hidden.data(), first, last, gr);
        k.coordinate_network->decode(net, columns.network, work.hidden.data(), first, last, gc);
        const Gates gates = {COLUMN, ROW, {gc, gc + last * w}, {gr, gr + last * h}};
        k.full.gating->gate(gates, {}, from + n * map.image, end, to + n * map.image, first, last,
                    map.shape);
    };
    const auto gated_rows = [&](int64_t n, Work& work, int64_t first, int64_t last) {
        float *gr = work.rows(), *gc = work.columns(map);
        const Gates gates = {COLUMN, ROW, {gc, nullptr}, {gr, nullptr}};
        k.full.gating->gate_last(gates, {}, from + n * map.image, end, to + n * map.image,
                         to + n * map.image + last * shape.shape.width * net.channels, first, last,
                         map.shape);
    };
    const auto gates_last = [&](Work& work, int64_t first, int64_t last) {
        const int64_t h = shape.shape.height;
        if (first < h) {
            k.coordinate_network->decode_last(net, rows.network, work.hidden.data(), first, std::min(last, h),
                                 work.rows());
        }
        if (last > h) {
            k.coordinate_network->decode_last(net, columns.network, work.hidden.data(),
                                 std::max<int64_t>(first - h, 0), last - h, work.columns(map));
        }
    };

    uint32_t threads = 1;
    check(torch_get_num_threads(&threads));
    if (map.n >= threads) {  // an image to a thread, which finds it in its cache again
        parallel(map.n, map.image, [&](int64_t first, int64_t last) {
            Work work(map, net);
            for (int64_t n = first; n < last; ++n) {
                pool(n, work, 0, net.channels);
                k.coordinate_network->encode(net, work.strips.data(), work.hidden.data());
                if (map.last) {
                    gates_last(work, 0, net.places);
                    gated_rows(n, work, 0, shape.shape.height);
                } else {
                    gated_planes(n, work, 0, net.channels);
                }
            }
        });
    } else {  // all threads on one image
        Work work(map, net);
        for (int64_t n = 0; n < map.n; ++n) {
            if (map.last) {
                parallel((net.channels + 15) / 16, 16 * map.positions, [&](int64_t a, int64_t z) {
                    pool(n, work, a * 16, std::min(net.channels, z * 16));
                });
                k.coordinate_network->encode(net, work.strips.data(), work.hidden.data());
                parallel((net.places + 7) / 8, 8 * net.channels * net.hidden / 8,
                         [&](int64_t a, int64_t z) {
                             gates_last(work, a * 8, std::min(net.places, z * 8));
                         });
                parallel(shape.shape.height, map.image / shape.shape.height,
                         [&](int64_t a, int64_t z) { gated_rows(n, work, a, z); });
            } else {
                parallel(net.channels, map.positions,
                         [&](int64_t a, int64_t z) { pool(n, work, a, z); });
                k.coordinate_network->encode(net, work.strips.data(), work.hidden.data());
                parallel(net.channels, map.positions,
                         [&](int64_t a, int64_t z) { gated_planes(n, work, a, z); });
            }
        }
    }
    stack[0] = y.release();
}

}  // namespace convattn
