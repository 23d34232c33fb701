// Triplet attention in training: the block's step forward, and its gradients. float32.
//
// Three branches pool the map over one axis each, to largest values and means, and make gates of
// them. What belongs to a branch lies together, an image after the other; a branch's planes lie as
// the kernels read gates: (C, W), (C, H), (H, W), or (W, C), (H, C), (H, W) for channels_last.
#include "operators.h"
#include "spatial_training.h"

namespace convattn {
namespace {

enum { COLUMNS, ROWS, POSITIONS, BRANCHES };

// How values of the branches lie.
struct Plan {
    explicit Plan(const Map& m) : map(m) {
        const auto [c, h, w] = m.shape;
        const int64_t across[2] = {w, h};
        for (int b : {COLUMNS, ROWS}) {
            high[b] = m.last ? across[b] : c, wide[b] = m.last ? c : across[b];
            by_channel[b] = m.last ? 1 : across[b], by_place[b] = m.last ? c : 1;
            turned[b] = m.last == (b == COLUMNS);
        }
        high[POSITIONS] = h, wide[POSITIONS] = w;
        pooled[COLUMNS] = h, pooled[ROWS] = w, pooled[POSITIONS] = c;
        for (int b = 0; b < BRANCHES; ++b) {
            size[b] = high[b] * wide[b];
            start[b] = total;
            total += m.n * size[b];
        }
    }
    template <class T>
    T* at(T* all, int b, int64_t n) const {
        return all + start[b] + n * size[b];
    }
    Strip strip(float* all, int b, int64_t n, int64_t channel) const {
        return {at(all, b, n) + channel * by_channel[b], by_channel[b], by_place[b]};
    }
    Largest largest(float* most, int32_t* where, int b, int64_t n, int64_t channel) const {
        const int64_t skip = channel * by_channel[b];
        return {at(most, b, n) + skip, at(where, b, n) + skip, by_channel[b], by_place[b]};
    }
    GateSum sum(const float* all, int64_t n, float scale) const {
        const float* end = all + total + BEHIND;
        return {{at(all, ROWS, n), end}, {at(all, COLUMNS, n), end}, {at(all, POSITIONS, n), end},
                scale};
    }
    SpatialConvolution convolution(const Tensor& weight, int b) const {
        return {weight, high[b], wide[b], turned[b]};
    }
    // Runs on each branch of each image.
    template <class Run>
    void each(const Run& run) const {
        parallel(map.n * BRANCHES, total / map.n * 32, [&](int64_t from, int64_t to) {
            for (; from < to; ++from) run((int)(from % BRANCHES), from / BRANCHES);
        });
    }

    const Map& map;
    int64_t high[BRANCHES], wide[BRANCHES], size[BRANCHES], start[BRANCHES], pooled[BRANCHES];
    int64_t by_channel[2], by_place[2], total = 0;
    bool turned[BRANCHES] = {};
};

void pool(const Plan& plan, const float* x, float* most, float* mean, int32_t* where) {
    const Map& map = plan.map;
    const auto [channels, height, width] = map.shape;
    const float* end = x + map.n * map.image;
    const auto& means = *kernels().full.means;
    const auto& extremes = *kernels().extremes;
    parts(map, false, [&](int64_t n, int64_t first, int64_t last) {
        const float* image = x + n * map.image;
        const auto strip = [&](int b) { return plan.strip(mean, b, n, map.last ? 0 : first); };
        const auto largest = [&](int b) {
            return plan.largest(most, where, b, n, map.last ? 0 : first);
        };
        if (map.last) {
            means.strip_means_last(image, end, map.shape, first, last, strip(ROWS), strip(COLUMNS));
            extremes.strips_last(image, end, map.shape, first, last, largest(ROWS),
                                 largest(COLUMNS));
        } else {
            image += first * map.positions;
            means.strip_means(image, end, last - first, map.shape, strip(ROWS), strip(COLUMNS));
            extremes.strips(image, end, last - first, map.shape, largest(ROWS), largest(COLUMNS));
        }
    });
    const auto& statistics = *kernels().full.statistics;
    parts(map, true, [&, c = channels, w = width](int64_t n, int64_t first, int64_t last) {
        const float* image = x + n * map.image;
        float* to = plan.at(mean, POSITIONS, n);
        (map.last ? statistics.over_channels_last : statistics.over_channels)(
            image, end, map.shape, nullptr, first * w, last * w, to, nullptr);
        for (int64_t i = first * w; i < last * w; ++i) to[i] /= (float)c;
        (map.last ? extremes.over_channels_last : extremes.over_channels)(
            image, end, map.shape, nullptr, first * w, last * w, plan.at(most, POSITIONS, n),
            plan.at(where, POSITIONS, n));
    });
}

// y = x * (the mean of the gates) + (the sum of what is added).
void gate(const Plan& plan, const float* gates, const float* added, const float* x, float* y) {
    const Map& map = plan.map;
    const float* end = x + map.n * map.image;
    const auto& gating = *kernels().full.gating;
    written(map, x, y, [&](int64_t n, const float* from, float* to, float* limit, int64_t first,
                           int64_t last) {
        const GateSum own = plan.sum(gates, n, 1.0f / BRANCHES);
        const GateSum more = added == nullptr ? GateSum() : plan.sum(added, n, 1);
        const GateSum* sum = added == nullptr ? nullptr : &more;
        if (map.last) {
            gating.mean_gate_last(own, sum, from, end, to, limit, first, last, map.shape);
        } else {
            gating.mean_gate(own, sum, from, end, to, first, last, map.shape);
        }
    });
}

// The sums of dy * x over each axis.
void reduce(const Plan& plan, const float* dy, const float* x, float* d) {
    const Map& map = plan.map;
    const auto [channels, height, width] = map.shape;
    const int64_t all = map.n * map.image;
    const auto& gradients = *kernels().full.gradients;
    const Floats ones(std::max(channels * std::max(height, width), map.positions) + BEHIND, 1.0f);
    const Gate one = {ones.data(), ones.data() + ones.size()};
    parts(map, false, [&](int64_t n, int64_t first, int64_t last) {
        const int64_t at = n * map.image;
        const Gates strips = {ROW, COLUMN, one, one};
        if (map.last) {
            gradients.reduce_last(strips, dy + at, x + at, all - at, first, last, map.shape,
                                  plan.strip(d, ROWS, n, 0), plan.strip(d, COLUMNS, n, 0));
        } else {
            gradients.reduce(strips, dy + at, x + at, all - at, first, last, map.shape,
                             plan.at(d, ROWS, n), plan.at(d, COLUMNS, n));
        }
    });
    parallel(map.n, map.image, [&, c = channels](int64_t n, int64_t until) {
        for (; n < until; ++n) {
            const int64_t at = n * map.image;
            const Gates positions = {POSITION, NONE, one, {}};
            float* to = plan.at(d, POSITIONS, n);
            if (map.last) {
                gradients.reduce_last(positions, dy + at, x + at, all - at, 0, c, map.shape,
                                      {to, 0, 1}, {});
            } else {
                gradients.reduce(positions, dy + at, x + at, all - at, 0, c, map.shape, to,
                                 nullptr);
            }
        }
    });
}

// Adds the gradients of the largest values where these lie.
void scatter(const Plan& plan, const float* d, const int32_t* where, float* dx) {
    const Map& map = plan.map;
    const auto [channels, height, width] = map.shape;
    const int64_t of_c = map.last ? 1 : map.positions, of_w = map.last ? channels : 1;
    const int64_t of_h = of_w * width;
    const int64_t length[2] = {width, height}, along[2] = {of_w, of_h}, beyond[2] = {of_h, of_w};
    parts(map, false, [&](int64_t n, int64_t first, int64_t last) {
        for (int b : {COLUMNS, ROWS}) {
            const float* from = plan.at(d, b, n);
            const int32_t* places = plan.at(where, b, n);
            for (int64_t c = first; c < last; ++c) {
                float* to = dx + n * map.image + c * of_c;
                for (int64_t i = 0; i < length[b]; ++i) {
                    const int64_t at = c * plan.by_channel[b] + i * plan.by_place[b];
                    to[i * along[b] + places[at] * beyond[b]] += from[at];
                }
            }
        }
    });
    parts(map, true, [&, w = width](int64_t n, int64_t first, int64_t last) {
        const float* from = plan.at(d, POSITIONS, n);
        const int32_t* places = plan.at(where, POSITIONS, n);
        for (int64_t i = first * w; i < last * w; ++i) {
            dx[n * map.image + i * of_w + places[i] * of_c] += from[i];
        }
    });
}

}  // namespace

// x; weight, and a norm's eight, for the branches (C, W), (H, C), (H, W); scale
// -> y, gates, largest values, where they lie, means, logits, norms
void triplet_step(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]);
    check_map(x);
    const Map map(x);
    const Plan plan(map);
    std::vector<SpatialConvolution> convolutions;
    std::vector<SpatialNorm> norms;
    for (int b = 0; b < BRANCHES; ++b) {
        convolutions.push_back(plan.convolution(take(stack[1 + 9 * b]), b));
        norms.emplace_back(stack + 2 + 9 * b);
    }
    const auto scale = (float)number(stack[1 + 9 * BRANCHES]);
    Tensor y = empty_like(x), gates = floats({plan.total + BEHIND}), logits = floats({plan.total});
    Tensor most = floats({plan.total}), mean = floats({plan.total});
    Tensor where = places({plan.total});
    Tensor norm = doubles({BRANCHES * SpatialNorm::VALUES});

    pool(plan, data_of(x), data_of(most), data_of(mean), places_of(where));
    plan.each([&](int b, int64_t n) {
        convolutions[b].forward({plan.at(data_of(most), b, n), plan.at(data_of(mean), b, n)},
                                plan.at(data_of(logits), b, n));
    });
    parallel(BRANCHES, plan.total, [&](int64_t b, int64_t until) {
        for (; b < until; ++b) {
            double* own = doubles_of(norm) + b * SpatialNorm::VALUES;
            const int64_t count = map.n * plan.size[b];
            norms[b].forward(data_of(logits) + plan.start[b], count, own);
            float* to = data_of(gates) + plan.start[b];
            SpatialNorm::gates(own, data_of(logits) + plan.start[b], count, scale, to);
        }
    });
    std::memset(data_of(gates) + plan.total, 0, BEHIND * sizeof(float));
    gate(plan, data_of(gates), nullptr, data_of(x), data_of(y));
    Tensor* results[] = {&y, &gates, &most, &where, &mean, &logits, &norm};
    for (int i = 0; i < 7; ++i) stack[i] = results[i]->release();
}

// dy, x, gates, largest values, where they lie, means, logits, norms, three weights, whether each
// norm is the batch's, scale -> the gradients of x, and of weight, gamma and beta of each branch
void triplet_gradients(Stack stack, uint64_t, uint64_t) {
    const Tensor dy = take(stack[0]), x = take(stack[1]), gates = take(stack[2]);
    const Tensor most = take(stack[3]), where = take(stack[4]), mean = take(stack[5]);
    const Tensor logits = take(stack[6]), norm = take(stack[7]);
    const Tensor weights[] = {take(stack[8]), take(stack[9]), take(stack[10])};
    const bool batch[] = {truth(stack[11]), truth(stack[12]), truth(stack[13])};
    const auto scale = (float)number(stack[14]);
    check_map(x);
    const Map map(x);
    check_gradient(dy, x, map);
    const Plan plan(map);
    for (const Tensor* t : {&most, &where, &mean, &logits}) check_kept(*t, plan.total);
    check_kept(gates, plan.total + BEHIND);
    check_kept(norm, BRANCHES * SpatialNorm::VALUES);
    const double* normal = doubles_of(norm);

    Floats d(plan.total), d_most(plan.total), d_mean(plan.total + BEHIND);
    reduce(plan, data_of(dy), data_of(x), d.data());
    Tensor d_gamma[] = {floats({1}), floats({1}), floats({1})};
    Tensor d_beta[] = {floats({1}), floats({1}), floats({1})};
    parallel(BRANCHES, plan.total, [&](int64_t b, int64_t until) {
        for (; b < until; ++b) {
            const int64_t count = map.n * plan.size[b];
            float* own = d.data() + plan.start[b];
            for (int64_t i = 0; i < count; ++i) own[i] *= 1.0f / BRANCHES;
            layers().through_sigmoid(own, data_of(gates) + plan.start[b], count, scale);
            SpatialNorm::backward(normal + b * SpatialNorm::VALUES, batch[b],
                                  data_of(logits) + plan.start[b], count, own,
                                  data_of(d_gamma[b]), data_of(d_beta[b]));
        }
    });
    std::vector<SpatialConvolution> convolutions;
    for (int b = 0; b < BRANCHES; ++b) convolutions.push_back(plan.convolution(weights[b], b));
    const int64_t values = weights[0].numel();
    Floats of_images(map.n * BRANCHES * values);
    plan.each([&](int b, int64_t n) {
        float* to = plan.at(d_mean.data(), b, n);
        convolutions[b].backward({plan.at(data_of(most), b, n), plan.at(data_of(mean), b, n)},
                                 plan.at(d.data(), b, n), {plan.at(d_most.data(), b, n), to},
                                 of_images.data() + (b * map.n + n) * values);
        const float by = 1.0f / (float)plan.pooled[b];
        for (int64_t i = 0; i < plan.size[b]; ++i) to[i] *= by;
    });
    Tensor dx = empty_like(x);
    gate(plan, data_of(gates), d_mean.data(), data_of(dy), data_of(dx));
    scatter(plan, d_most.data(), places_of(where), data_of(dx));
    stack[0] = dx.release();
    for (int b = 0; b < BRANCHES; ++b) {
        const float* parts = of_images.data() + b * map.n * values;
        stack[1 + 3 * b] = column_sums(parts, map.n, like(weights[b])).release();
        stack[2 + 3 * b] = d_gamma[b].release();
        stack[3 + 3 * b] = d_beta[b].release();
    }
}

}  // namespace convattn
