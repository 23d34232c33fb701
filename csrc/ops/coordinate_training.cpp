// Coordinate attention in training: the block's step forward, and its gradients.
//
// A strip has a value for each channel and place of one axis. Here all strips of an image lie
// together, by rows and then by columns, in the map's own format: (C, H), (C, W) or, for
// channels_last, (H, C), (W, C). Hidden values are (H + W, lanes), a hidden channel in a lane.
#include "coordinate.h"
#include "running.h"
#include "training.h"

namespace convattn {
namespace {

// How a step's values lie.
struct Plan {
    Plan(const Map& m, int64_t count)
        : map(m), hidden(count), lanes(padded(count + 1)), channels(m.shape.channels),
          length{m.shape.height, m.shape.width}, places(length[0] + length[1]),
          strips(channels * places), by_channel{m.last ? 1 : length[0], m.last ? 1 : length[1]},
          by_place(m.last ? channels : 1) {}

    // Of axis a of image n, in memory of all strips or of all hidden values.
    template <class T>
    T* strip(T* all, int64_t n, int a) const {
        return all + n * strips + (a ? channels * length[0] : 0);
    }
    template <class T>
    T* inner(T* all, int64_t n, int a) const {
        return all + (n * places + (a ? length[0] : 0)) * lanes;
    }
    int64_t all_strips() const { return map.n * strips + BEHIND; }
    int64_t all_inner() const { return map.n * places * lanes; }

    // Runs on each axis of each image.
    template <class Run>
    void axes(const Run& run) const {
        parallel(2 * map.n, strips * lanes / 2, [&](int64_t from, int64_t to) {
            for (; from < to; ++from) run(from / 2, (int)(from % 2));
        });
    }

    const Map& map;
    int64_t hidden, lanes, channels, length[2], places, strips, by_channel[2], by_place;
};

// (rows, columns), rows `step` apart, to (columns, rows) with 16 values behind.
Floats transposed(const float* from, int64_t rows, int64_t columns, int64_t step) {
    const int64_t to_step = padded(rows);
    Floats made(columns * to_step + BEHIND);
    kernels().coordinate_network->transpose(from, rows, columns, step, made.data(), to_step);
    return made;
}

// The first layer's weight (m, C) as (C, lanes).
Floats inward(const Plan& plan, const float* weight) {
    const int64_t c = plan.channels, lanes = plan.lanes;
    Floats made(c * lanes + BEHIND);
    kernels().coordinate_network->transpose(weight, plan.hidden, c, c, made.data(), lanes);
    return made;
}

// Another's, (C, m), likewise.
Floats with_lanes(const Plan& plan, const Parameter& weight) {
    Floats made(plan.channels * plan.lanes + BEHIND);
    for (int64_t c = 0; c < plan.channels; ++c) {
        std::memcpy(made.data() + c * plan.lanes, weight.values + c * plan.hidden,
                    plan.hidden * sizeof(float));
    }
    return made;
}

// Hidden values of one axis from strips: sum over c of strip(c, l) w(c, k).
void gather(const Plan& plan, int a, const float* strip, const Floats& wide, float* t) {
    layers().product({strip, plan.by_place, plan.by_channel[a], wide.data(), plan.lanes,
                      plan.length[a], plan.channels, plan.lanes, t, plan.lanes, false});
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

Gates gates_of(const Plan& plan, const float* gates, int64_t n) {
    const float* end = gates + plan.all_strips();
    return {COLUMN, ROW, {plan.strip(gates, n, 1), end}, {plan.strip(gates, n, 0), end}};
}

// y = x * a * b + (what is added).
void gate(const Plan& plan, const float* gates, const float* added, const float* x, float* y) {
    const Map& map = plan.map;
    const float* end = x + map.n * map.image;
    const auto& gating = *kernels().full.gating;
    written(map, x, y, [&](int64_t n, const float* from, float* to, float* limit, int64_t first,
                           int64_t last) {
        Added more = {NOTHING, {}, {}, {}};
        if (added != nullptr) {
            const float* behind = added + plan.all_strips();
            more = {PER_STRIP, {}, {plan.strip(added, n, 0), behind},
                    {plan.strip(added, n, 1), behind}};
        }
        const Gates own = gates_of(plan, gates, n);
        if (map.last) {
            gating.gate_last(own, more, from, end, to, limit, first, last, map.shape);
        } else {
            gating.gate(own, more, from, end, to, first, last, map.shape);
        }
    });
}

// Of each lane: slope, offset, mean and 1 / standard deviation; slope * (h - mean) + offset.
enum { SLOPE, OFFSET, MEAN, RATE, NORM };

// The hidden values of one axis.
Hidden hidden_of(const Plan& plan, int a, const float* norm, bool relu) {
    return {plan.length[a],        plan.lanes, plan.hidden, norm + SLOPE * plan.lanes,
            norm + OFFSET * plan.lanes, norm + MEAN * plan.lanes, relu};
}

}  // namespace

// x, w1, b1?, mean?, variance?, gamma?, beta?, eps, wh, bh?, ww, bw?, relu, scale, batch, counter?,
// momentum -> y, gates, strips, hidden values before the norm, norm (4, lanes). The running mean
// and variance move as in Running.
void coordinate_attention_step(Stack stack, uint64_t, uint64_t) {
    const Coordinates given(stack);
    const Tensor &x = given.x, &mean = given.mean, &variance = given.variance;
    const bool relu = given.relu, batch = truth(stack[14]);
    const Tensor counter = take_optional(stack[15]);
    check_map(x);

    const Map map(x);
    const Plan plan(map, given.w1.numel() / map.shape.channels);
    const int64_t m = plan.hidden, c = plan.channels;
    const Parameter first(given.w1, m * c), bias(given.b1, m), middle(mean, m);
    const Parameter spread_of(variance, m), by(given.gamma, m), plus(given.beta, m);
    const ToGates out[2] = {{given.wh, given.bh, c, m, map.last},
                            {given.ww, given.bw, c, m, map.last}};
    const CoordinateNetwork& network = *kernels().coordinate_network;

    Tensor y = empty_like(x);
    Tensor gates = floats({plan.all_strips()}), z = floats({plan.all_strips()});
    Tensor h = floats({plan.all_inner()}), norm = floats({NORM * plan.lanes});
    for (const Tensor* t : {&gates, &z}) {
        std::memset(data_of(*t) + map.n * plan.strips, 0, BEHIND * sizeof(float));
    }
    const float *from = data_of(x), *end = from + map.n * map.image;
    parts(map, false, [&](int64_t n, int64_t a, int64_t b) {
        float *rows = plan.strip(data_of(z), n, 0), *columns = plan.strip(data_of(z), n, 1);
        const float* image = from + n * map.image;
        if (map.last) {
            kernels().full.means->strip_means_last(image, end, map.shape, a, b, {rows, 1, c},
                                                   {columns, 1, c});
        } else {
            kernels().full.means->strip_means(
                image + a * map.positions, end, b - a, map.shape,
                {rows + a * plan.length[0], plan.length[0], 1},
                {columns + a * plan.length[1], plan.length[1], 1});
        }
    });
    const Floats in = inward(plan, first.values);
    plan.axes([&](int64_t n, int a) {
        gather(plan, a, plan.strip(data_of(z), n, a), in, plan.inner(data_of(h), n, a));
    });

    float* normal = data_of(norm);
    std::memset(normal, 0, NORM * plan.lanes * sizeof(float));
    const Hidden every = {map.n * plan.places, plan.lanes, m, nullptr, nullptr, nullptr, relu};
    const double count = (double)(map.n * plan.places);
    std::vector<double> sums(2 * plan.lanes);
    const Running running(mean, variance, counter, number(stack[16]), batch);
    if (batch) {
        network.moments(every, data_of(h), nullptr, sums.data());
        for (int64_t k = 0; k < m; ++k) normal[MEAN * plan.lanes + k] = (float)(sums[k] / count);
        network.moments(every, data_of(h), normal + MEAN * plan.lanes, sums.data() + plan.lanes);
    }
    for (int64_t k = 0; k < m; ++k) {
        double centre = 0, rate = 1;
        if (batch) {
            centre = normal[MEAN * plan.lanes + k];
            rate = 1 / std::sqrt(sums[plan.lanes + k] / count + given.eps);
            running.move(k, centre + at(bias, k, 0), sums[plan.lanes + k] / (count - 1));
        } else {  // the bias moves the mean that is subtracted
            centre = (double)at(middle, k, 0) - at(bias, k, 0);
            if (variance) rate = 1 / std::sqrt((double)spread_of.values[k] + given.eps);
        }
        const double slope = rate * at(by, k, 1);
        normal[SLOPE * plan.lanes + k] = (float)slope;
        normal[OFFSET * plan.lanes + k] = at(plus, k, 0);
        normal[MEAN * plan.lanes + k] = (float)centre;
        normal[RATE * plan.lanes + k] = (float)rate;
    }
    plan.axes([&](int64_t n, int a) {
        const int64_t length = plan.length[a];
        Floats f(length * plan.lanes);
        network.activate(hidden_of(plan, a, normal, relu), plan.inner(data_of(h), n, a), f.data());
        const Floats turned = transposed(f.data(), length, m, plan.lanes);
        const Network net = {c,       m,       length, padded(length), nullptr,
                             nullptr, nullptr, relu,   given.scale};
        const Network2 layer = out[a].of(0, length);
        float* to = plan.strip(data_of(gates), n, a);
        if (map.last) network.decode_last(net, layer, turned.data(), 0, length, to);
        else network.decode(net, layer, turned.data(), 0, c, to);
    });
    gate(plan, data_of(gates), nullptr, from, data_of(y));

    stack[0] = y.release();
    stack[1] = gates.release();
    stack[2] = z.release();
    stack[3] = h.release();
    stack[4] = norm.release();
}

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
