// Maps whose channels are last: read by several vectors of channels, and summed over positions.
#pragma once

#include "common.h"

namespace CONVATTN_ISA {
namespace {

// Channels [first, last), up to `Most` vectors together, so that whole lines of the cache are read:
// calls put(Number<V>, c, count), with `count` channels in the last of V vectors.
template <int Most = 4, class Put>
void slices(int64_t first, int64_t last, const Put& put) {
    constexpr int64_t before = (Most - 1) * LANES;
    for (; last - first > before; first += before + LANES) {
        put(Number<Most>(), first, least(LANES, last - first - before));
    }
    if constexpr (Most > 1) slices<Most / 2>(first, last, put);
}

// Of `count` channels in the last of V vectors: how many are in vector v.
template <int V>
int64_t lanes_of(Number<V>, int v, int64_t count) {
    return v + 1 == V ? count : LANES;
}

// Calls with(vector, v, position, k) for all positions in order, k = 0 and 1 in turn.
template <int V, class T, class With>
void each_last(Number<V>, const T* x, const T* end, Shape shape, int64_t count, int64_t from,
               int64_t to, const With& with) {
    const auto position = [&](int64_t i, int k) {
        const T* at = x + i * shape.channels;
        for (int v = 0; v + 1 < V; ++v) with(load(at + v * LANES), v, i, k);
        with(load_any(at + (V - 1) * LANES, count, end), V - 1, i, k);
    };
    int64_t i = from;
    for (; i + 2 <= to; i += 2) position(i, 0), position(i + 1, 1);
    if (i < to) position(i, 0);
}

// Sums of term(vector, position, v) for each channel, divided by `by`.
template <int V, class T, class Term>
void sums_last(Number<V> vectors, const T* x, const T* end, Shape shape, int64_t count, float* to,
               double by, const Term& term) {
    const int64_t positions = shape.height * shape.width;
    double total[V * LANES] = {};
    for (int64_t far = 0; far < positions; far += 2 * CHAIN * CHAIN) {
        const int64_t limit = least(positions, far + 2 * CHAIN * CHAIN);
        vf part[V] = {};
        for (int64_t from = far; from < limit; from += 2 * CHAIN) {
            vf acc[2][V] = {};
            each_last(vectors, x, end, shape, count, from, least(limit, from + 2 * CHAIN),
                      [&](vf value, int v, int64_t i, int k) { acc[k][v] += term(value, i, v); });
            for (int v = 0; v < V; ++v) part[v] += acc[0][v] + acc[1][v];
        }
        for (int v = 0; v < V; ++v) {
            for (int64_t l = 0; l < LANES; ++l) total[v * LANES + l] += part[v][l];
        }
    }
    for (int64_t l = 0; l < (V - 1) * LANES + count; ++l) to[l] = (float)(total[l] / by);
}

}  // namespace
}  // namespace CONVATTN_ISA
