// Means of maps (N, C, H, W).
#include "common.h"
#include "means_last.h"

namespace CONVATTN_ISA {
namespace {

// Rows [h, h + M) of a plane: their means to `rows`, and themselves added to `columns`.
template <int M, class T>
void add_rows(const T* x, const T* end, int64_t width, float* columns, float* rows, int64_t place) {
    float total[4] = {};
    for (int64_t from = 0; from < width; from += CHAIN * LANES) {
        const int64_t to = least(width, from + CHAIN * LANES);
        vf acc[4] = {};
        int64_t w = from;
        for (; w + LANES <= to; w += LANES) {
            vf v[4] = {};
            for (int i = 0; i < M; ++i) {
                v[i] = load(x + i * width + w);
                acc[i] += v[i];
            }
            store(columns + w, load(columns + w) + ((v[0] + v[1]) + (v[2] + v[3])));
        }
        if (w < to) {  // the last vector begins earlier, if the row is longer than one
            vf v[4] = {};
            const int64_t n = to - w;
            if (width >= LANES) w = to - LANES;
            for (int i = 0; i < M; ++i) {
                v[i] = width >= LANES ? keep(load(x + i * width + w), last(n))
                                      : load_within(x + i * width + w, n, end);
                acc[i] += v[i];
            }
            store(columns + w, load(columns + w) + ((v[0] + v[1]) + (v[2] + v[3])));
        }
        const v4 part = sums(acc[0], acc[1], acc[2], acc[3]);
        for (int i = 0; i < M; ++i) total[i] += part[i];
    }
    const v4 means = v4{total[0], total[1], total[2], total[3]} / (float)width;
    for (int i = 0; i < M; ++i) rows[i * place] = means[i];
}

// Rows of at most one vector: a plane's column sums stay in a register.
template <class T>
void short_strip_means(const T* x, const T* end, int64_t planes, Shape shape, Strip rows,
                       Strip columns) {
    const int64_t height = shape.height, width = shape.width;
    const vi mask = first(width);
    const float by_width = (float)width, by_height = (float)height;
    for (int64_t p = 0; p < planes; ++p, x += height * width) {
        float* to = rows.to + p * rows.channel;
        const bool inside = x + height * width + LANES <= end;
        const auto row = [&](int64_t h) {
            const T* from = x + h * width;
            return inside ? keep(load(from), mask) : load_within(from, width, end);
        };
        vf column = {};
        int64_t h = 0;
        for (; h + 4 <= height; h += 4, to += 4 * rows.place) {
            const vf a = row(h), b = row(h + 1), c = row(h + 2), d = row(h + 3);
            column += (a + b) + (c + d);
            const v4 four = sums(a, b, c, d) / by_width;
            for (int i = 0; i < 4; ++i) to[i * rows.place] = four[i];
        }
        if (h < height) {
            const int64_t left = height - h;
            const vf a = row(h), b = left > 1 ? row(h + 1) : vf{}, c = left > 2 ? row(h + 2) : vf{};
            column += (a + b) + c;
            const v4 few = sums(a, b, c, vf{}) / by_width;
            for (int i = 0; i < left; ++i) to[i * rows.place] = few[i];
        }
        float means[LANES];
        store(means, column / by_height);
        float* at = columns.to + p * columns.channel;
        for (int64_t w = 0; w < width; ++w) at[w * columns.place] = means[w];
    }
}

template <class T>
void strip_means(const T* x, const T* end, int64_t planes, Shape shape, Strip rows,
                 Strip columns) {
    if (shape.width <= LANES && shape.height <= 4 * CHAIN) {
        return short_strip_means(x, end, planes, shape, rows, columns);
    }
    const int64_t height = shape.height, width = shape.width, padded = whole_vectors(width);
    float* part = scratch(2 * padded);
    float* total = part + padded;
    for (int64_t p = 0; p < planes; ++p, x += height * width) {
        float* means = rows.to + p * rows.channel;
        zero(part, 2 * padded);
        int64_t h = 0;
        for (; h + 4 <= height; h += 4) {
            add_rows<4>(x + h * width, end, width, part, means + h * rows.place, rows.place);
            if (h / 4 % CHAIN == CHAIN - 1) {
                for (int64_t w = 0; w < width; ++w) total[w] += part[w];
                zero(part, padded);
            }
        }
        const T* rest = x + h * width;
        means += h * rows.place;
        if (height - h == 3) add_rows<3>(rest, end, width, part, means, rows.place);
        if (height - h == 2) add_rows<2>(rest, end, width, part, means, rows.place);
        if (height - h == 1) add_rows<1>(rest, end, width, part, means, rows.place);
        put_means(total, part, width, (float)height, columns.to + p * columns.channel,
                  columns.place);
    }
}

template <class T>
double long_sum(const T* x, const T* end, int64_t size) {
    double total = 0;
    for (int64_t from = 0; from < size; from += 4 * CHAIN * LANES) {
        const int64_t to = least(size, from + 4 * CHAIN * LANES);
        vf acc[4] = {};
        int64_t i = from;
        for (; i + 4 * LANES <= to; i += 4 * LANES) {
            for (int k = 0; k < 4; ++k) acc[k] += load(x + i + k * LANES);
        }
        for (; i < to; i += LANES) acc[0] += load_within(x + i, least(LANES, to - i), end);
        total += sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
    }
    return total;
}

template <class T>
void means(const T* x, const T* end, int64_t planes, int64_t size, float* to) {
    int64_t p = 0;
    if (size <= CHAIN * LANES) {  // short planes four at a time: their sums share the last steps
        for (; p + 4 <= planes; p += 4, x += 4 * size) {
            vf acc[4] = {};
            int64_t i = 0;
            for (; i + LANES <= size; i += LANES) {
                for (int k = 0; k < 4; ++k) acc[k] += load(x + k * size + i);
            }
            if (i < size) {
                for (int k = 0; k < 4; ++k) {
                    acc[k] += load_within(x + k * size + i, size - i, end);
                }
            }
            const v4 four = sums(acc[0], acc[1], acc[2], acc[3]);
            for (int k = 0; k < 4; ++k) to[p + k] = four[k] / (float)size;
        }
    }
    for (; p < planes; ++p, x += size) to[p] = (float)(long_sum(x, end, size) / (double)size);
}

}  // namespace


template <class T>
constexpr convattn::Means<T> table() {
    return {strip_means<T>, means<T>, strip_means_last<T>, means_last<T>};
}
const convattn::Means<float> means_full = table<float>();
const convattn::Means<uint16_t> means_half = table<uint16_t>();

}  // namespace CONVATTN_ISA
