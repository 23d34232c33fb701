// Coordinate attention in training: the block's step forward.
#include "coordinate_training.h"
#include "running.h"

namespace convattn {
namespace {

// The first layer's weight (m, C) as (C, lanes).
Floats inward(const Plan& plan, const float* weight) {
    const int64_t c = plan.channels, lanes = plan.lanes;
    Floats made(c * lanes + BEHIND);
    kernels().coordinate_network->transpose(weight, plan.hidden, c, c, made.data(), lanes);
    return made;
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
    const ToGates out[2] = {{given.wh, given.bh, given.scale, map, m},
                            {given.ww, given.bw, given.scale, map, m}};
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
        const Decoding layer = out[a].of(0, length, padded(length));
        float* to = plan.strip(data_of(gates), n, a);
        if (map.last) network.decode_last(layer, turned.data(), 0, length, to);
        else network.decode(layer, turned.data(), 0, c, to);
    });
    gate(plan, data_of(gates), nullptr, from, data_of(y));

    stack[0] = y.release();
    stack[1] = gates.release();
    stack[2] = z.release();
    stack[3] = h.release();
    stack[4] = norm.release();
}

}  // namespace convattn
