// Means of maps whose channels are last.
#pragma once

#include "channels_last.h"

namespace CONVATTN_ISA {
namespace {

// The sums a + b of n values, divided.
void put_means(const float* a, const float* b, int64_t n, float by, float* to, int64_t place) {
    float few[LANES];
    for (int64_t i = 0; i < n; i += LANES) {
        const vf mean = (load(a + i) + load(b + i)) / by;
        if (place == 1 && i + LANES <= n) {
            store(to + i, mean);
            continue;
        }
        store(few, mean);
        for (int64_t l = 0; l < least(LANES, n - i); ++l) to[(i + l) * place] = few[l];
    }
}

// M rows of a map whose channels are last, V vectors of channels of which the last has `count`.
template <int M, int V, class T>
void add_rows_last(const T* x, const T* end, Shape shape, int64_t count, float* columns,
                   float (*rows)[V * LANES]) {
    const int64_t channels = shape.channels, row = shape.width * channels;
    vf total[M][V] = {};
    for (int64_t from = 0; from < shape.width; from += 2 * CHAIN) {
        const int64_t to = least(shape.width, from + 2 * CHAIN);
        vf acc[M][V] = {};
        for (int64_t w = from; w < to; ++w) {
            for (int v = 0; v < V; ++v) {
                vf column = {};
                for (int i = 0; i < M; ++i) {
                    const T* at = x + i * row + w * channels + v * LANES;
                    const vf value = v + 1 == V ? load_any(at, count, end) : load(at);
                    acc[i][v] += value;
                    column = i ? column + value : value;
                }
                float* sum = columns + (w * V + v) * LANES;
                store(sum, load(sum) + column);
            }
        }
        for (int i = 0; i < M; ++i) {
            for (int v = 0; v < V; ++v) total[i][v] += acc[i][v];
        }
    }
    for (int i = 0; i < M; ++i) {
        for (int v = 0; v < V; ++v) store(rows[i] + v * LANES, total[i][v]);
    }
}

template <int V, class T>
void strips_of(const T* x, const T* end, Shape shape, int64_t count, Strip rows, Strip columns) {
    const int64_t height = shape.height, width = shape.width, size = width * V * LANES;
    const int64_t channels = (V - 1) * LANES + count;
    float* part = scratch(2 * size);
    float* total = part + size;
    zero(part, 2 * size);
    float means[4][V * LANES];
    const auto put = [&](int64_t h, int m) {
        for (int i = 0; i < m; ++i) {
            for (int v = 0; v < V; ++v) {
                store(means[i] + v * LANES, load(means[i] + v * LANES) / (float)width);
            }
            float* to = rows.to + (h + i) * rows.place;
            for (int64_t c = 0; c < channels; ++c) to[c * rows.channel] = means[i][c];
        }
    };
    int64_t h = 0;
    for (; h + 4 <= height; h += 4) {
        const T* four = x + h * width * shape.channels;
        add_rows_last<4, V>(four, end, shape, count, part, means);
        put(h, 4);
        if (h / 4 % CHAIN == CHAIN - 1) {
            for (int64_t i = 0; i < size; ++i) total[i] += part[i];
            zero(part, size);
        }
    }
    for (; h < height; ++h) {
        const T* one = x + h * width * shape.channels;
        add_rows_last<1, V>(one, end, shape, count, part, means);
        put(h, 1);
    }
    for (int64_t w = 0; w < width; ++w) {
        const int64_t i = w * V * LANES;
        put_means(total + i, part + i, channels, (float)height,
                  columns.to + w * columns.place, columns.channel);
    }
}

template <class T>
void strip_means_last(const T* x, const T* end, Shape shape, int64_t first, int64_t last,
                      Strip rows, Strip columns) {
    slices<2>(first, last, [&](auto vectors, int64_t c, int64_t count) {
        strips_of<decltype(vectors)::value>(x + c, end, shape, count,
                                            {rows.to + c * rows.channel, rows.channel, rows.place},
                                            {columns.to + c * columns.channel, columns.channel,
                                             columns.place});
    });
}

template <class T>
void means_last(const T* x, const T* end, Shape shape, int64_t first, int64_t last, float* to) {
    slices(first, last, [&](auto vectors, int64_t c, int64_t count) {
        const auto positions = (double)(shape.height * shape.width);
        sums_last(vectors, x + c, end, shape, count, to + c, positions,
                  [](vf value, int64_t, int) { return value; });
    });
}

}  // namespace
}  // namespace CONVATTN_ISA
