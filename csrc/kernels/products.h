// Products of small matrices.
#pragma once

#include "common.h"

namespace CONVATTN_ISA {
namespace {

// The left factor of a product: element (i, k) is data[i * row + k * step].
struct Factor {
    const float* data;
    int64_t row, step;
};

// out[i][v] = sum over k of w(i, k) * z[k][v], R rows of w (fewer are repeated) and V vectors of z.
template <int R, int V>
void product(Factor w, int64_t rows, int64_t length, const float* z, int64_t step, vf (*out)[V]) {
    const float* row[R];
    for (int i = 0; i < R; ++i) {
        row[i] = w.data + least(i, rows - 1) * w.row;
        for (int v = 0; v < V; ++v) out[i][v] = vf{};
    }
    for (int64_t from = 0; from < length; from += 4 * CHAIN) {
        const int64_t to = least(length, from + 4 * CHAIN);
        vf acc[R][V] = {};
        for (int64_t k = from; k < to; ++k) {
            vf value[V];
            for (int v = 0; v < V; ++v) value[v] = load(z + k * step + v * LANES);
            for (int i = 0; i < R; ++i) {
                for (int v = 0; v < V; ++v) acc[i][v] += row[i][k * w.step] * value[v];
            }
        }
        for (int i = 0; i < R; ++i) {
            for (int v = 0; v < V; ++v) out[i][v] += acc[i][v];
        }
    }
}

// Calls put(row, place, vector) with all of w z, the rows of a place in order.
template <int R, int V, class Put>
void tiles(Factor w, int64_t first, int64_t last, int64_t length, const float* z, int64_t step,
           int64_t from, int64_t to, const Put& put) {
    vf out[R][V];
    for (int64_t i = first; i < last; i += R) {
        product<R, V>({w.data + i * w.row, w.row, w.step}, last - i, length, z + from, step, out);
        for (int64_t k = 0; k < least(R, last - i); ++k) {
            for (int v = 0; v < V && from + v * LANES < to; ++v) {
                put(i + k, from + v * LANES, out[k][v]);
            }
        }
    }
}

template <class Put>
void multiply(Factor w, int64_t first, int64_t last, int64_t length, const float* z, int64_t step,
              int64_t places, const Put& put) {
    int64_t l = 0;
    const auto some = [&](auto most, auto vectors) {  // vectors of places, most rows at a time
        constexpr int V = decltype(vectors)::value;
        in_even_steps<decltype(most)::value>(last - first, [&](auto rows) {
            tiles<decltype(rows)::value, V>(w, first, last, length, z, step, l, places, put);
        });
        l += V * LANES;
    };
    while (MANY_REGISTERS && l + 3 * LANES < places) some(Number<4>(), Number<4>());
    while (l + LANES < places) some(Number<6>(), Number<2>());
    if (l < places) some(Number<8>(), Number<1>());
}

}  // namespace
}  // namespace CONVATTN_ISA
