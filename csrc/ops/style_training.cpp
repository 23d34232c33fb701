// Style-based recalibration in training: a step forward and its gradients. float32.
//
// What lies between the map and the gates is computed in double: a norm over few images magnifies
// rounding, and it takes a large mean away again.
#include "operators.h"
#include "running.h"
#include "training.h"

namespace convattn {
namespace {

int64_t count_of(const Map& map, bool unbiased) {
    return unbiased ? std::max<int64_t>(map.positions - 1, 1) : map.positions;
}

// Means and deviations, (2, N, C).
Tensor styles_of(const Tensor& x, const Map& map, int64_t count) {
    const int64_t channels = map.shape.channels;
    Tensor styles = doubles({2, map.n, channels});
    Room room;
    const int64_t z = room.take(channels), sums = room.take(channels);
    const int64_t squares = room.take(channels);
    const float* end = data_of(x) + x.numel();
    const Means<float>& means = *kernels().full.means;
    const MapTerms& kernel = *kernels().map_terms;
    const Passes passes(map, data_of(x), static_cast<float*>(nullptr));
    const auto measure = [&](float* at, const float* from, int64_t first, int64_t last) {
        if (map.last) {
            means.means_last(from, end, map.shape, first, last, at + z);
            return kernel.moments_last(from, end, map.shape, first, last, at + z, at + sums,
                                       at + squares);
        }
        const int64_t planes = last - first, size = map.positions;
        means.means(from, end, planes, size, at + z + first);
        kernel.moments(from, end, planes, size, at + z + first, at + sums + first,
                       at + squares + first);
    };
    const Pass finish = {1, 0, [&](float* at, int64_t n, int64_t, int64_t) {
        double *mean = doubles_of(styles) + n * channels, *deviation = mean + map.n * channels;
        for (int64_t c = 0; c < channels; ++c) {  // without what a float mean leaves
            const double rest = at[sums + c] / (double)map.positions;
            const double variance = (at[squares + c] - at[sums + c] * rest) / (double)count;
            mean[c] = at[z + c] + rest;
            deviation[c] = std::sqrt(std::max(variance, 0.0) + 1e-5);
        }
    }};
    run_passes(map, room, {passes.channels(measure), finish});
    return styles;
}

// What the norm sees of channel c: w_1 mean + w_2 deviation.
struct Styles {
    double operator()(int64_t n) const {
        return w[0] * mean[n * channels] + w[1] * deviation[n * channels];
    }
    const double *mean, *deviation;
    const float* w;
    int64_t channels;
};

Styles styles_at(const Tensor& styles, const Parameter& weights, int64_t n, int64_t c, int64_t at) {
    const double* mean = doubles_of(styles) + at;
    return {mean, mean + n * c, weights.values + 2 * at, c};
}

}  // namespace

// x, weights (C, 2), mean?, variance?, gamma?, beta?, eps of the norm, unbiased, scale, batch,
// counter?, momentum -> y, means and deviations (2, N, C), the norm's mean and 1 / deviation
// (2, C), gate. The norm is by the batch's statistics, or else by the running ones, which move as
// in Running.
void style_recalibration_step(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]), weights = take(stack[1]), mean = take_optional(stack[2]);
    const Tensor variance = take_optional(stack[3]), gamma = take_optional(stack[4]);
    const Tensor beta = take_optional(stack[5]);
    const double eps = number(stack[6]);
    const bool unbiased = truth(stack[7]), batch = truth(stack[9]);
    const auto scale = (float)number(stack[8]);
    const Tensor counter = take_optional(stack[10]);
    check_map(x);
    const Map map(x);
    const int64_t n = map.n, c = map.shape.channels;
    if (batch ? n == 1 : !mean || !variance) refuse("the norm has no statistics");
    const Parameter w(weights, 2 * c), middle(mean, c), spread(variance, c);
    const Parameter g(gamma, c), b(beta, c);
    const Running running(mean, variance, counter, number(stack[11]), batch);
    Tensor styles = styles_of(x, map, count_of(map, unbiased));
    Tensor norm = doubles({2, c}), gate = floats({n, c, 1, 1});
    parallel(c, 16 * n, [&](int64_t from, int64_t to) {
        for (int64_t k = from; k < to; ++k) {
            const Styles style = styles_at(styles, w, n, c, k);
            double centre = 0, square = 0;
            if (batch) {
                for (int64_t i = 0; i < n; ++i) centre += style(i) / (double)n;
                for (int64_t i = 0; i < n; ++i) square += std::pow(style(i) - centre, 2);
                running.move(k, centre, square / (double)(n - 1));
                square /= (double)n;
            } else {
                centre = middle.values[k], square = spread.values[k];
            }
            const double rate = 1 / std::sqrt(square + eps), slope = rate * at(g, k, 1);
            doubles_of(norm)[k] = centre;
            doubles_of(norm)[c + k] = rate;
            for (int64_t i = 0; i < n; ++i) {
                data_of(gate)[i * c + k] = (float)(slope * (style(i) - centre) + at(b, k, 0));
            }
        }
    });
    layers().sigmoids(data_of(gate), n * c, scale);
    stack[0] = gated_by(x, gate).release();
    stack[1] = styles.release();
    stack[2] = norm.release();
    stack[3] = gate.release();
}

// dy, x, means and deviations, norm, gate, weights, gamma?, unbiased, scale, batch -> the gradients
// of x, weights, gamma, beta
void style_recalibration_gradients(Stack stack, uint64_t, uint64_t) {
    const Tensor dy = take(stack[0]), x = take(stack[1]), styles = take(stack[2]);
    const Tensor norm = take(stack[3]), gate = take(stack[4]), weights = take(stack[5]);
    const Tensor gamma = take_optional(stack[6]);
    const bool unbiased = truth(stack[7]), batch = truth(stack[9]);
    const auto scale = (float)number(stack[8]);
    check_map(x);
    const Map map(x);
    const int64_t n = map.n, c = map.shape.channels, count = count_of(map, unbiased);
    check_kept(styles, 2 * n * c);
    check_kept(norm, 2 * c);
    const Parameter w(weights, 2 * c), g(gamma, c);
    const Tensor d = through_gate(dy, x, gate, scale);
    Tensor dweights = like(weights), dgamma = floats({c}), dbeta = floats({c});
    Floats plus(n * c), slope(n * c), middle(n * c);
    parallel(c, 16 * n, [&](int64_t from, int64_t to) {
        for (int64_t k = from; k < to; ++k) {
            const Styles style = styles_at(styles, w, n, c, k);
            const double centre = doubles_of(norm)[k], rate = doubles_of(norm)[c + k];
            const auto normal = [&](int64_t i) { return (style(i) - centre) * rate; };
            double total = 0, along = 0, dw[2] = {};
            for (int64_t i = 0; i < n; ++i) {
                total += data_of(d)[i * c + k];
                along += data_of(d)[i * c + k] * normal(i);
            }
            for (int64_t i = 0; i < n; ++i) {
                const double mean = style.mean[i * c], deviation = style.deviation[i * c];
                double dz = data_of(d)[i * c + k];
                if (batch) dz -= (total + along * normal(i)) / (double)n;
                dz *= rate * at(g, k, 1);
                dw[0] += dz * mean;
                dw[1] += dz * deviation;
                const double by = dz * style.w[1] / (deviation * (double)count);
                const auto near = (float)mean;
                middle[i * c + k] = near;
                slope[i * c + k] = (float)by;
                plus[i * c + k] =
                    (float)(dz * style.w[0] / (double)map.positions + by * (near - mean));
            }
            for (int j : {0, 1}) data_of(dweights)[2 * k + j] = (float)dw[j];
            data_of(dgamma)[k] = (float)along;
            data_of(dbeta)[k] = (float)total;
        }
    });

    Tensor dx = empty_like(x);
    Room room;
    const int64_t gates = room.take(c), added = room.take(c);
    const int64_t by = room.take(c), near = room.take(c);
    const Pass prepare = {1, 0, [&](float* at, int64_t i, int64_t, int64_t) {
        const auto put = [&](int64_t to, const float* from) {
            std::memcpy(at + to, from + i * c, c * sizeof(float));
        };
        put(gates, data_of(gate));
        put(added, plus.data());
        put(by, slope.data());
        put(near, middle.data());
    }};
    const auto terms = [&](const float* at) {
        return Deviations{at + gates, at + added, at + by, at + near};
    };
    const MapTerms& kernel = *kernels().map_terms;
    const Passes passes(map, data_of(dy), data_of(dx));
    const Pass output = passes.output(
        [&](float* at, const float* from, float* to, int64_t first, int64_t last) {
            const int64_t start = from - data_of(dy);
            kernel.deviations(terms(at), from, data_of(x) + start, n * map.image - start, to, first,
                              last, map.shape);
        },
        [&](float* at, const float* from, float* to, float* limit, int64_t first, int64_t last) {
            const int64_t start = from - data_of(dy);
            kernel.deviations_last(terms(at), from, data_of(x) + start, n * map.image - start, to,
                                   limit, first, last, map.shape);
        });
    run_passes(map, room, {prepare, output});
    stack[0] = dx.release();
    stack[1] = dweights.release();
    stack[2] = dgamma.release();
    stack[3] = dbeta.release();
}

}  // namespace convattn
