// Statistics other than means: maxima, deviations, weighted sums, and those over the channels.
#include "channels_last.h"

namespace CONVATTN_ISA {
namespace {

constexpr float LEAST = -__builtin_inff();
constexpr int64_t BLOCK = 512;  // positions whose sums over the channels are in the first cache

// The larger in each lane; NaN stays.
template <class V>
V larger(V a, V b) {
    const auto mask = (b > a) | (b != b);
    using Bits = decltype(a > b);
    return (V)(((Bits)b & mask) | ((Bits)a & ~mask));
}

float largest(vf v) {
    const v4 four = in_fours(v, [](auto a, auto b) { return larger(a, b); });
    const v4 two = larger(four, __builtin_shufflevector(four, four, 2, 3, 0, 1));
    return larger(two, __builtin_shufflevector(two, two, 1, 0, 3, 2))[0];
}

vf only(vf value, int64_t n) {  // -inf in the other lanes
    const vi mask = first(n);
    return (vf)(((vi)value & mask) | ((vi)splat(LEAST) & ~mask));
}

// Sixteen values at w of a row of `size`; the last vector begins earlier, where there is one.
template <class T>
vf row_vector(const T* row, int64_t w, int64_t size, const T* end) {
    if (size < LANES) return only(load_any(row, size, end), size);
    return load(row + least(w, size - LANES));
}

template <class T>
void maxima(const T* x, const T* end, int64_t planes, int64_t size, float* to) {
    for (int64_t p = 0; p < planes; ++p, x += size) {
        vf most[4] = {splat(LEAST), splat(LEAST), splat(LEAST), splat(LEAST)};
        int64_t i = 0;
        for (; i + 4 * LANES <= size; i += 4 * LANES) {
            for (int k = 0; k < 4; ++k) most[k] = larger(most[k], load(x + i + k * LANES));
        }
        for (; i < size; i += LANES) most[0] = larger(most[0], row_vector(x, i, size, end));
        to[p] = largest(larger(larger(most[0], most[1]), larger(most[2], most[3])));
    }
}

// Sums of term(vector, its place, how many lanes count), in short chains.
template <class T, class Term>
double chained(const T* x, const T* end, int64_t size, const Term& term) {
    double total = 0;
    for (int64_t from = 0; from < size; from += 4 * CHAIN * LANES) {
        const int64_t to = least(size, from + 4 * CHAIN * LANES);
        vf acc[4] = {};
        int64_t i = from;
        for (; i + 4 * LANES <= to; i += 4 * LANES) {
            for (int k = 0; k < 4; ++k) acc[k] += term(load(x + i + k * LANES), i + k * LANES);
        }
        for (; i < to; i += LANES) {
            const int64_t n = least(LANES, to - i);
            acc[0] += keep(term(load_any(x + i, n, end), i), first(n));
        }
        total += sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
    }
    return total;
}

template <class T>
void squares(const T* x, const T* end, int64_t planes, int64_t size, const float* mean, float* to) {
    for (int64_t p = 0; p < planes; ++p, x += size) {
        const vf m = splat(mean[p]);
        to[p] = (float)chained(x, end, size, [&](vf v, int64_t) { return (v - m) * (v - m); });
    }
}

template <class T>
void weighted(const T* x, const T* end, int64_t planes, int64_t size, const float* weight,
              float* to) {
    for (int64_t p = 0; p < planes; ++p, x += size) {
        to[p] = (float)chained(x, end, size,
                               [&](vf v, int64_t i) { return v * load(weight + i); });
    }
}

template <class T>
void over_channels(const T* x, const T* end, Shape shape, const float* weight, int64_t first,
                   int64_t last, float* total, float* most) {
    const int64_t plane = shape.height * shape.width;
    for (int64_t from = first; from < last; from += BLOCK) {
        const int64_t count = least(BLOCK, last - from);
        float sums[BLOCK] = {}, parts[BLOCK] = {}, maxima[BLOCK];
        for (float& value : maxima) value = LEAST;
        for (int64_t c = 0; c < shape.channels; ++c) {
            const T* row = x + c * plane + from;
            const vf w = splat(weight == nullptr ? 1.0f : weight[c]);
            for (int64_t i = 0; i < count; i += LANES) {
                const vf v = load_any(row + i, least(LANES, count - i), end) * w;
                store(parts + i, load(parts + i) + v);
                if (most != nullptr) store(maxima + i, larger(load(maxima + i), v));
            }
            if (c % CHAIN == CHAIN - 1 || c + 1 == shape.channels) {
                for (int64_t i = 0; i < BLOCK; ++i) sums[i] += parts[i], parts[i] = 0;
            }
        }
        std::memcpy(total + from, sums, count * sizeof(float));
        if (most != nullptr) std::memcpy(most + from, maxima, count * sizeof(float));
    }
}

template <class T>
void strip_maxima(const T* x, const T* end, int64_t planes, Shape shape, Strip rows,
                  Strip columns) {
    const int64_t height = shape.height, width = shape.width;
    float* most = scratch(whole_vectors(width));
    for (int64_t p = 0; p < planes; ++p, x += height * width) {
        for (int64_t w = 0; w < width; w += LANES) store(most + w, splat(LEAST));
        for (int64_t h = 0; h < height; ++h) {
            const T* row = x + h * width;
            vf all = splat(LEAST);
            for (int64_t w = 0; w < width; w += LANES) {
                const int64_t at = width < LANES ? 0 : least(w, width - LANES);
                const vf v = row_vector(row, w, width, end);
                all = larger(all, v);
                store(most + at, larger(load(most + at), v));
            }
            rows.to[p * rows.channel + h * rows.place] = largest(all);
        }
        float* to = columns.to + p * columns.channel;
        for (int64_t w = 0; w < width; ++w) to[w * columns.place] = most[w];
    }
}

// ---------------------------------------------------------------------------- channels last

template <class T>
void maxima_last(const T* x, const T* end, Shape shape, int64_t first, int64_t last, float* to) {
    slices(first, last, [&](auto vectors, int64_t c, int64_t count) {
        constexpr int V = decltype(vectors)::value;
        vf most[2][V];
        for (auto& some : most) {
            for (vf& one : some) one = splat(LEAST);
        }
        each_last(vectors, x + c, end, shape, count, 0, shape.height * shape.width,
                  [&](vf value, int v, int64_t, int k) {
                      most[k][v] = larger(most[k][v], value);
                  });
        for (int v = 0; v < V; ++v) {
            store_first(to + c + v * LANES, larger(most[0][v], most[1][v]),
                        lanes_of(vectors, v, count));
        }
    });
}

template <class T>
void squares_last(const T* x, const T* end, Shape shape, int64_t first, int64_t last,
                  const float* mean, float* to) {
    slices(first, last, [&](auto vectors, int64_t c, int64_t count) {
        constexpr int V = decltype(vectors)::value;
        vf m[V];
        for (int v = 0; v < V; ++v) {
            m[v] = load_first(mean + c + v * LANES, lanes_of(vectors, v, count));
        }
        sums_last(vectors, x + c, end, shape, count, to + c, 1,
                  [&](vf value, int64_t, int v) { return (value - m[v]) * (value - m[v]); });
    });
}

template <class T>
void weighted_last(const T* x, const T* end, Shape shape, int64_t first, int64_t last,
                   const float* weight, float* to) {
    slices(first, last, [&](auto vectors, int64_t c, int64_t count) {
        sums_last(vectors, x + c, end, shape, count, to + c, 1,
                  [&](vf value, int64_t i, int) { return value * splat(weight[i]); });
    });
}

template <class T>
void over_channels_last(const T* x, const T* end, Shape shape, const float* weight, int64_t first,
                        int64_t last, float* total, float* most) {
    const int64_t channels = shape.channels;
    for (int64_t i = first; i < last; ++i) {
        vf acc[2] = {}, maxima = splat(LEAST);
        for (int64_t c = 0; c < channels; c += LANES) {
            const int64_t n = least(LANES, channels - c);
            vf v = load_any(x + i * channels + c, n, end);
            if (weight != nullptr) v *= load(weight + c);
            acc[c / LANES % 2] += n == LANES ? v : keep(v, CONVATTN_ISA::first(n));
            if (most != nullptr) maxima = larger(maxima, n == LANES ? v : only(v, n));
        }
        total[i] = sum(acc[0] + acc[1]);
        if (most != nullptr) most[i] = largest(maxima);
    }
}

template <class T>
void strip_maxima_last(const T* x, const T* end, Shape shape, int64_t first, int64_t last,
                       Strip rows, Strip columns) {
    const int64_t channels = shape.channels, width = shape.width;
    float* most = scratch(width * LANES);
    slices<1>(first, last, [&](auto, int64_t c, int64_t count) {
        const auto put = [&](Strip to, int64_t place, vf values) {
            for (int64_t l = 0; l < count; ++l) {
                to.to[(c + l) * to.channel + place * to.place] = values[l];
            }
        };
        for (int64_t w = 0; w < width; ++w) store(most + w * LANES, splat(LEAST));
        for (int64_t h = 0; h < shape.height; ++h) {
            vf all = splat(LEAST);
            for (int64_t w = 0; w < width; ++w) {
                const vf v = load_any(x + (h * width + w) * channels + c, count, end);
                all = larger(all, v);
                store(most + w * LANES, larger(load(most + w * LANES), v));
            }
            put(rows, h, all);
        }
        for (int64_t w = 0; w < width; ++w) put(columns, w, load(most + w * LANES));
    });
}

}  // namespace

template <class T>
constexpr convattn::Statistics<T> table() {
    return {maxima<T>,      squares<T>,      weighted<T>,      over_channels<T>,
            strip_maxima<T>, maxima_last<T>, squares_last<T>,  weighted_last<T>,
            over_channels_last<T>, strip_maxima_last<T>};
}
const convattn::Statistics<float> statistics_full = table<float>();
const convattn::Statistics<uint16_t> statistics_half = table<uint16_t>();

}  // namespace CONVATTN_ISA
