// CBAM in training: the block's step forward, and its gradients. float32.
//
// The MLP sees the means of all images, then their largest values: pooled are (2 N, C), hidden
// values (2 N, m).
#include "operators.h"
#include "spatial_training.h"

namespace convattn {
namespace {

// Largest value of each plane.
void largest(const Map& map, const float* x, float* most, int32_t* where) {
    const int64_t channels = map.shape.channels;
    const float* end = x + map.n * map.image;
    const auto& extremes = *kernels().extremes;
    parts(map, false, [&](int64_t n, int64_t first, int64_t last) {
        float* to = most + n * channels;
        int32_t* at = where + n * channels;
        const float* image = x + n * map.image;
        if (map.last) return extremes.planes_last(image, end, map.shape, first, last, to, at);
        extremes.planes(image + first * map.positions, end, last - first, map.positions, to + first,
                        at + first);
    });
}

// Mean and largest value over the channels of x * gate; the gates have a margin.
void over_channels(const Map& map, const float* x, const Floats& gate, float* mean, float* most,
                   int32_t* where) {
    const auto [channels, height, width] = map.shape;
    const float* end = x + map.n * map.image;
    const auto& statistics = *kernels().full.statistics;
    const auto& extremes = *kernels().extremes;
    parts(map, true, [&, c = channels, w = width](int64_t n, int64_t first, int64_t last) {
        const float *image = x + n * map.image, *by = gate.data() + n * c;
        const int64_t at = n * map.positions, a = first * w, b = last * w;
        (map.last ? statistics.over_channels_last : statistics.over_channels)(
            image, end, map.shape, by, a, b, mean + at, nullptr);
        for (int64_t i = at + a; i < at + b; ++i) mean[i] /= (float)c;
        (map.last ? extremes.over_channels_last : extremes.over_channels)(
            image, end, map.shape, by, a, b, most + at, where + at);
    });
}

// Adds to the channel gates' gradient what comes from the pooling over the channels: of the means,
// `mean` (with a margin), and of the largest values, `most`.
void through_pooling(const Map& map, const float* x, const Floats& mean, const float* most,
                     const int32_t* where, float* d) {
    const int64_t channels = map.shape.channels;
    const int64_t of_c = map.last ? 1 : map.positions, of_i = map.last ? channels : 1;
    const float* end = x + map.n * map.image;
    const auto& statistics = *kernels().full.statistics;
    Floats sums(map.n * channels);
    parts(map, false, [&](int64_t n, int64_t first, int64_t last) {
        const float *image = x + n * map.image, *weight = mean.data() + n * map.positions;
        float* to = sums.data() + n * channels;
        if (map.last) {
            statistics.weighted_last(image, end, map.shape, first, last, weight, to);
        } else {
            statistics.weighted(image + first * map.positions, end, last - first, map.positions,
                                weight, to + first);
        }
    });
    parallel(map.n, map.positions, [&](int64_t n, int64_t until) {
        for (; n < until; ++n) {
            std::vector<double> total(sums.begin() + n * channels,
                                      sums.begin() + (n + 1) * channels);
            for (int64_t i = 0; i < map.positions; ++i) {
                const int64_t at = n * map.positions + i, c = where[at];
                total[c] += (double)x[n * map.image + c * of_c + i * of_i] * most[at];
            }
            for (int64_t c = 0; c < channels; ++c) d[n * channels + c] += (float)total[c];
        }
    });
}

// The map's gradient, each with a margin: channel * (dy * position + shift) + plus, and what goes
// to the largest values, over the channels and of each plane.
struct MapGradient {
    Floats channel, position;
    const Floats& shift;
    const float* plus;
    const float* of_channels;
    const int32_t* in_channels;
    const float* of_plane;
    const int32_t* in_plane;
};

void write(const Map& map, const MapGradient& d, const float* dy, float* dx) {
    const int64_t channels = map.shape.channels, positions = map.positions;
    const int64_t of_c = map.last ? 1 : positions, of_i = map.last ? channels : 1;
    const float* end = dy + map.n * map.image;
    const auto& kernel = *kernels().map_terms;
    written(map, dy, dx, [&](int64_t n, const float* from, float* to, float* limit, int64_t first,
                             int64_t last) {
        const int64_t c = n * channels, i = n * positions;
        const Shifted terms = {d.channel.data() + c, d.position.data() + i, d.shift.data() + i,
                               d.plus + c};
        if (map.last) {
            kernel.shifted_last(terms, from, end, to, limit, first, last, map.shape);
        } else {
            kernel.shifted(terms, from, end, to, first, last, map.shape);
        }
    });
    parallel(map.n, positions + channels, [&](int64_t n, int64_t until) {
        for (; n < until; ++n) {
            float* to = dx + n * map.image;
            for (int64_t i = 0; i < positions; ++i) {
                const int64_t at = n * positions + i, c = d.in_channels[at];
                to[c * of_c + i * of_i] += d.channel[n * channels + c] * d.of_channels[at];
            }
            for (int64_t c = 0; c < channels; ++c) {
                const int64_t at = n * channels + c;
                to[c * of_c + d.in_plane[at] * of_i] += d.of_plane[at];
            }
        }
    });
}

// The convolution's inputs in its order.
template <class T>
std::vector<T> ordered(bool maximum_first, T most, T mean) {
    if (maximum_first) return {most, mean};
    return {mean, most};
}

}  // namespace

// x, w1, b1, w2, b2, conv, a norm's eight, maximum_first, scale -> y, pooled (2 N, C), places of
// the largest values (N, C), hidden values (2 N, m), channel gate, largest values over the channels
// (N, H, W), their places, means, logits, norm, gate of positions
void cbam_step(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]), w1 = take(stack[1]), b1 = take_optional(stack[2]);
    const Tensor w2 = take(stack[3]), b2 = take_optional(stack[4]), conv = take(stack[5]);
    SpatialNorm own(stack + 6);
    const bool maximum_first = truth(stack[14]);
    const auto scale = (float)number(stack[15]);
    check_map(x);
    const Map map(x);
    const int64_t n = map.n, m = w1.numel() / map.shape.channels;
    const auto [c, height, width] = map.shape;
    const Parameter first(w1, m * c), first_bias(b1, m), second(w2, m * c), second_bias(b2, c);
    const SpatialConvolution convolution(conv, height, width, false);
    Tensor pooled = floats({2 * n, c}), in_plane = places({n, c}), hidden = floats({2 * n, m});
    Tensor channel = floats({n, c, 1, 1}), position = floats({n, 1, height, width});
    Tensor most = floats({n, height, width}), mean = floats({n, height, width});
    Tensor in_channels = places({n, height, width}), logits = floats({n, height, width});
    Tensor norm = doubles({SpatialNorm::VALUES});

    const Tensor z = means_of(x);
    std::memcpy(pooled.data, z.data, n * c * sizeof(float));
    largest(map, data_of(x), data_of(pooled) + n * c, places_of(in_plane));
    parallel(n, 3 * c * m, [&, c = c](int64_t i, int64_t until) {
        Floats sum(m);
        for (; i < until; ++i) {
            std::fill(sum.begin(), sum.end(), 0.0f);
            for (const int64_t row : {i, n + i}) {
                float* values = data_of(hidden) + row * m;
                layers().dense(first.values, first_bias.values, m, c, data_of(pooled) + row * c,
                             values);
                for (int64_t k = 0; k < m; ++k) {
                    values[k] = values[k] <= 0 ? 0 : values[k];  // NaN stays
                    sum[k] += values[k];
                }
            }
            float* to = data_of(channel) + i * c;
            layers().dense(second.values, second_bias.values, c, m, sum.data(), to);
            for (int64_t k = 0; second_bias.values && k < c; ++k) to[k] += second_bias.values[k];
            layers().sigmoids(to, c, scale);
        }
    });
    over_channels(map, data_of(x), with_margin(data_of(channel), n * c), data_of(mean),
                  data_of(most), places_of(in_channels));
    parallel(n, 64 * map.positions, [&](int64_t i, int64_t until) {
        for (; i < until; ++i) {
            const int64_t at = i * map.positions;
            convolution.forward(
                ordered<const float*>(maximum_first, data_of(most) + at, data_of(mean) + at),
                data_of(logits) + at);
        }
    });
    const int64_t count = n * map.positions;
    own.forward(data_of(logits), count, doubles_of(norm));
    SpatialNorm::gates(doubles_of(norm), data_of(logits), count, scale,
                       data_of(position));
    const Tensor none(nullptr);
    Tensor y = gated(x, channel, position, none, none, none);
    Tensor* results[] = {&y,           &pooled, &in_plane, &hidden, &channel, &most,
                         &in_channels, &mean,   &logits,   &norm,   &position};
    for (int i = 0; i < 11; ++i) stack[i] = results[i]->release();
}

// dy, x, what the step kept, w1, w2, conv, whether the norm is the batch's, maximum_first, scale
// -> the gradients of x, w1, b1, w2, b2, conv, gamma and beta
void cbam_gradients(Stack stack, uint64_t, uint64_t) {
    const Tensor dy = take(stack[0]), x = take(stack[1]), pooled = take(stack[2]);
    const Tensor in_plane = take(stack[3]), hidden = take(stack[4]), channel = take(stack[5]);
    const Tensor most = take(stack[6]), in_channels = take(stack[7]), mean = take(stack[8]);
    const Tensor logits = take(stack[9]), norm = take(stack[10]), position = take(stack[11]);
    const Tensor w1 = take(stack[12]), w2 = take(stack[13]), conv = take(stack[14]);
    const bool batch = truth(stack[15]), maximum_first = truth(stack[16]);
    const auto scale = (float)number(stack[17]);
    check_map(x);
    const Map map(x);
    const int64_t n = map.n, m = w1.numel() / map.shape.channels, count = n * map.positions;
    const auto [c, height, width] = map.shape;
    for (const Tensor* t : {&most, &in_channels, &mean, &logits, &position}) check_kept(*t, count);
    check_kept(pooled, 2 * n * c);
    check_kept(hidden, 2 * n * m);
    check_kept(in_plane, n * c);
    check_kept(norm, SpatialNorm::VALUES);
    check_kept(channel, n * c);
    const SpatialConvolution convolution(conv, height, width, false);

    // the gate of positions
    const auto [d, d_position] = gradients_of_gates(dy, x, channel, position);
    layers().through_sigmoid(data_of(d_position), data_of(position), count, scale);
    Tensor d_gamma = floats({1}), d_beta = floats({1});
    SpatialNorm::backward(doubles_of(norm), batch, data_of(logits), count,
                          data_of(d_position), data_of(d_gamma), data_of(d_beta));
    const int64_t values = conv.numel();
    Floats d_most(count), d_mean(count + BEHIND), of_images(n * values);
    const float* d_logits = data_of(d_position);
    parallel(n, 128 * map.positions, [&, c = c](int64_t i, int64_t until) {
        for (; i < until; ++i) {
            const int64_t at = i * map.positions;
            convolution.backward(
                ordered<const float*>(maximum_first, data_of(most) + at, data_of(mean) + at),
                d_logits + at, ordered(maximum_first, d_most.data() + at, d_mean.data() + at),
                of_images.data() + i * values);
            for (int64_t k = 0; k < map.positions; ++k) d_mean[at + k] /= (float)c;
        }
    });
    Tensor d_conv = column_sums(of_images.data(), n, like(conv));
    through_pooling(map, data_of(x), d_mean, d_most.data(), places_of(in_channels), data_of(d));

    // the channel gate
    layers().through_sigmoid(data_of(d), data_of(channel), n * c, scale);
    const Floats first = with_margin(Parameter(w1, m * c).values, m * c);
    const Floats second = with_margin(Parameter(w2, m * c).values, m * c);
    Floats inner(2 * n * m), both(n * m + BEHIND), d_pooled(2 * n * c + BEHIND);
    layers().product({data_of(d), c, 1, second.data(), m, n, c, m, inner.data(), m, false});
    std::copy(inner.begin(), inner.begin() + n * m, inner.begin() + n * m);
    for (int64_t i = 0; i < 2 * n * m; ++i) {
        const float value = data_of(hidden)[i];
        if (!(value > 0)) inner[i] = 0;
        both[i % (n * m)] += value;
    }
    layers().product({inner.data(), m, 1, first.data(), c, 2 * n, m, c, d_pooled.data(), c,
                       false});
    const float *of_mean = d_pooled.data(), *of_plane = of_mean + n * c;
    for (int64_t i = 0; i < n * c; ++i) d_pooled[i] /= (float)map.positions;
    Tensor dx = empty_like(x), db2 = column_sums(data_of(d), n, floats({c}));
    for (int64_t i = 0; i < c; ++i) data_of(db2)[i] *= 2;
    write(map,
          {with_margin(data_of(channel), n * c), with_margin(data_of(position), count), d_mean,
           of_mean, d_most.data(), places_of(in_channels), of_plane, places_of(in_plane)},
          data_of(dy), data_of(dx));
    stack[0] = dx.release();
    stack[1] = gradient_of_weight(inner.data(), with_margin(data_of(pooled), 2 * n * c), 2 * n,
                                  like(w1)).release();
    stack[2] = column_sums(inner.data(), 2 * n, floats({m})).release();
    stack[3] = gradient_of_weight(data_of(d), both, n, like(w2)).release();
    stack[4] = db2.release();
    stack[5] = d_conv.release();
    stack[6] = d_gamma.release();
    stack[7] = d_beta.release();
}

}  // namespace convattn
