// Coordinate attention in training: the gradients of its step.
#include "coordinate_training.h"

namespace convattn {
namespace {

// A layer's weight (C, m) as (C, lanes).
Floats with_lanes(const Plan& plan, const Parameter& weight) {
    Floats made(plan.channels * plan.lanes + BEHIND);
    for (int64_t c = 0; c < plan.channels; ++c) {
        std::memcpy(made.data() + c * plan.lanes, weight.values + c * plan.hidden,
                    plan.hidden * sizeof(float));
    }
    return made;
}

// Strips of one axis from hidden values t (length, lanes): by * sum over k of t(l, k) w(k, c), with
// the first layer's weight, behind which 16 values may be read.
void spread(const Plan& plan, int a, const Floats& weight, const float* t, float by, float* strip) {
    const int64_t length = plan.length[a], c = plan.channels, m = plan.hidden, lanes = plan.lanes;
    Floats scaled(t, t + length * lanes);
    for (float& value : scaled) value *= by;
    if (plan.map.last) {
        layers().product({scaled.data(), lanes, 1, weight.data(), c, length, m, c, strip, c,
                          false});
    } else {
        const Floats turned = transposed(scaled.data(), length, m, lanes);
        layers().product({weight.data(), 1, c, turned.data(), padded(length), c, m, length, strip,
                          length, false});
    }
}

}  // namespace

// dy, x, gates, strips, hidden values, norm, w1, wh, ww, relu, scale, batch ->
// the gradients of x, w1, b1, gamma, beta, wh, bh, ww and bw.
void coordinate_attention_gradients(Stack stack, uint64_t, uint64_t) {
    const Tensor dy = take(stack[0]), x = take(stack[1]), gates = take(stack[2]);
    const Tensor z = take(stack[3]), h = take(stack[4]), norm = take(stack[5]);
    const Tensor w1 = take(stack[6]), wh = take(stack[7]), ww = take(stack[8]);
    const bool relu = truth(stack[9]), batch = truth(stack[11]);
    const auto scale = (float)number(stack[10]);

    check_map(x);
    const Map map(x);
    check_gradient(dy, x, map);
    const Plan plan(map, w1.numel() / map.shape.channels);
    check_kept(gates, plan.all_strips());
    check_kept(z, plan.all_strips());
    check_kept(h, plan.all_inner());
    check_kept(norm, NORM * plan.lanes);
    const int64_t m = plan.hidden, c = plan.channels, lanes = plan.lanes;
    const Parameter first(w1, m * c);
    const Parameter weight[2] = {{wh, c * m}, {ww, c * m}};
    const CoordinateNetwork& network = *kernels().coordinate_network;
    const float* normal = data_of(norm);
    const Hidden hidden[2] = {hidden_of(plan, 0, normal, relu), hidden_of(plan, 1, normal, relu)};

    // the gates' gradients, and those of the logits behind them
    Floats d(plan.all_strips());
    const int64_t size = map.n * map.image;
    parts(map, false, [&](int64_t n, int64_t a, int64_t b) {
        const int64_t at = n * map.image;
        const Gates own = gates_of(plan, data_of(gates), n);
        float *rows = plan.strip(d.data(), n, 0), *columns = plan.strip(d.data(), n, 1);
        const auto& gradients = *kernels().full.gradients;
        if (map.last) {
            gradients.reduce_last(own, data_of(dy) + at, data_of(x) + at, size - at, a, b,
                                  map.shape, {columns, 1, c}, {rows, 1, c});
        } else {
            gradients.reduce(own, data_of(dy) + at, data_of(x) + at, size - at, a, b, map.shape,
                             columns, rows);
        }
    });
    const Floats out[2] = {with_lanes(plan, weight[0]), with_lanes(plan, weight[1])};
    Floats inner(plan.all_inner()), f(plan.all_inner());
    std::vector<double> sums(2 * map.n * 2 * lanes);
    plan.axes([&](int64_t n, int a) {
        float *of_gates = plan.strip(d.data(), n, a), *t = plan.inner(inner.data(), n, a);
        layers().through_sigmoid(of_gates, plan.strip(data_of(gates), n, a), c * plan.length[a],
                                 scale);
        gather(plan, a, of_gates, out[a], t);
        const float* own = plan.inner(data_of(h), n, a);
        network.activate(hidden[a], own, plan.inner(f.data(), n, a));
        network.through_activation(hidden[a], own, t, sums.data() + (2 * n + a) * 2 * lanes);
    });

    // the norm
    Tensor dgamma = floats({m}), dbeta = floats({m}), db1 = floats({m});
    Floats constant(lanes), linear(lanes);
    const double count = (double)(map.n * plan.places);
    for (int64_t k = 0; k < m; ++k) {
        double total = 0, product = 0;
        for (int64_t i = 0; i < 2 * map.n; ++i) {
            total += sums[i * 2 * lanes + k];
            product += sums[i * 2 * lanes + lanes + k];
        }
        const double rate = normal[RATE * lanes + k];
        data_of(dbeta)[k] = (float)total;
        data_of(dgamma)[k] = (float)(product * rate);
        constant[k] = batch ? (float)(total / count) : 0.0f;
        linear[k] = batch ? (float)(product * rate * rate / count) : 0.0f;
    }
    // the strips, and the map
    const Floats in = with_margin(first.values, m * c);
    Floats pooled(plan.all_strips());
    plan.axes([&](int64_t n, int a) {
        float* t = plan.inner(inner.data(), n, a);
        network.through_norm(hidden[a], plan.inner(data_of(h), n, a), constant.data(),
                             linear.data(), t);
        spread(plan, a, in, t, 1.0f / (float)plan.length[1 - a], plan.strip(pooled.data(), n, a));
    });
    std::vector<double> through(lanes);  // rounding alone, where a batch's mean is taken away
    network.moments({map.n * plan.places, lanes, m, nullptr, nullptr, nullptr, relu}, inner.data(),
                    nullptr, through.data());
    for (int64_t k = 0; k < m; ++k) data_of(db1)[k] = (float)through[k];
    Tensor dx = empty_like(x);
    gate(plan, data_of(gates), pooled.data(), data_of(dy), data_of(dx));

    // the weights; a channel's belong to one thread
    Tensor dw1 = like(w1), dw[2] = {like(wh), like(ww)}, db[2] = {floats({c}), floats({c})};
    parallel((c + 15) / 16, 16 * map.n * plan.places * lanes, [&](int64_t from, int64_t to) {
        const int64_t start = from * 16, rows = std::min(c, to * 16) - start;
        Floats made(3 * rows * lanes);
        float* of[3] = {made.data(), made.data() + rows * lanes, made.data() + 2 * rows * lanes};
        for (int64_t n = 0; n < map.n; ++n) {
            for (int a : {0, 1}) {
                const auto add = [&](const float* strips, const Floats& right, float* result) {
                    const float* at = plan.strip(strips, n, a);
                    layers().product({at + start * plan.by_channel[a], plan.by_channel[a],
                                      plan.by_place, plan.inner(right.data(), n, a), lanes, rows,
                                      plan.length[a], lanes, result, lanes, true});
                };
                add(d.data(), f, of[a]);
                add(data_of(z), inner, of[2]);
            }
        }
        for (int64_t i = 0; i < rows; ++i) {
            for (int a : {0, 1}) {
                std::memcpy(data_of(dw[a]) + (start + i) * m, of[a] + i * lanes, m * sizeof(float));
                data_of(db[a])[start + i] = of[a][i * lanes + m];
            }
        }
        network.transpose(of[2], rows, m, lanes, data_of(dw1) + start, c);
    });
    Tensor* results[] = {&dx, &dw1, &db1, &dgamma, &dbeta, &dw[0], &db[0], &dw[1], &db[1]};
    for (int i = 0; i < 9; ++i) stack[i] = results[i]->release();
}

}  // namespace convattn
