// What coordinate attention's training step and its gradients share.
//
// A strip has a value for each channel and place of one axis. Here all strips of an image lie
// together, by rows and then by columns, in the map's own format: (C, H), (C, W) or, for
// channels_last, (H, C), (W, C). Hidden values are (H + W, lanes), a hidden channel in a lane.
#pragma once

#include "coordinate.h"
#include "training.h"

namespace convattn {

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
inline Floats transposed(const float* from, int64_t rows, int64_t columns, int64_t step) {
    const int64_t to_step = padded(rows);
    Floats made(columns * to_step + BEHIND);
    kernels().coordinate_network->transpose(from, rows, columns, step, made.data(), to_step);
    return made;
}

// Hidden values of one axis from strips: sum over c of strip(c, l) w(c, k).
inline void gather(const Plan& plan, int a, const float* strip, const Floats& wide, float* t) {
    layers().product({strip, plan.by_place, plan.by_channel[a], wide.data(), plan.lanes,
                      plan.length[a], plan.channels, plan.lanes, t, plan.lanes, false});
}

inline Gates gates_of(const Plan& plan, const float* gates, int64_t n) {
    const float* end = gates + plan.all_strips();
    return {COLUMN, ROW, {plan.strip(gates, n, 1), end}, {plan.strip(gates, n, 0), end}};
}

// y = x * a * b + (what is added).
inline void gate(const Plan& plan, const float* gates, const float* added, const float* x,
                 float* y) {
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
            gating.gate_last(own, more, from, end, to, limit, first, last, map.shape,
                             map.large);
        } else {
            gating.gate(own, more, from, end, to, first, last, map.shape, map.large);
        }
    });
}

// Of each lane: slope, offset, mean and 1 / standard deviation; slope * (h - mean) + offset.
enum { SLOPE, OFFSET, MEAN, RATE, NORM };

// The hidden values of one axis.
inline Hidden hidden_of(const Plan& plan, int a, const float* norm, bool relu) {
    const auto of = [&](int what) { return norm + what * plan.lanes; };
    return {plan.length[a], plan.lanes, plan.hidden, of(SLOPE), of(OFFSET), of(MEAN), relu};
}

}  // namespace convattn
