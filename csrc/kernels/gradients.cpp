// Gradients of gates.
#include "gates.h"
#include "channels_last.h"

namespace CONVATTN_ISA {
namespace {

// The gradient of one gate on one plane: what it sums its products over.
template <Kind K>
struct Collected {
    vf lanes[4];
    double channel;
    float* columns;
    float* positions;

    void row_block() {
        for (auto& lane : lanes) lane = vf{};
    }
    template <int M>
    void add(const vf* product, int64_t w, int64_t h, int64_t width) {
        if constexpr (K == CHANNEL || K == ROW) {
            for (int i = 0; i < M; ++i) lanes[i] += product[i];
        }
        if constexpr (K == COLUMN) {
            vf all = product[0];
            for (int i = 1; i < M; ++i) all += product[i];
            store(columns + w, load(columns + w) + all);
        }
        if constexpr (K == POSITION) {
            for (int i = 0; i < M; ++i) {
                float* to = positions + (h + i) * width + w;
                // what lies behind belongs to another image
                if (width < LANES) store_first(to, load_first(to, width) + product[i], width);
                else store(to, load(to) + product[i]);
            }
        }
    }
    template <int M>
    void end_of_segment(float* rows) {
        if constexpr (K == CHANNEL || K == ROW) {
            const v4 part = sums(lanes[0], lanes[1], lanes[2], lanes[3]);
            for (int i = 0; i < M; ++i) {
                if constexpr (K == CHANNEL) channel += part[i];
                if constexpr (K == ROW) rows[i] += part[i];
            }
        }
    }
};

template <Kind A, Kind B>
struct Reduce {
    template <int M, class T>
    static void rows(Gates gates, const T* dy, const T* x, int64_t readable, int64_t p, int64_t h,
                     Shape shape, Collected<A>& sum_a, Collected<B>& sum_b, float* rows_a,
                     float* rows_b) {
        const int64_t width = shape.width;
        const T *end_x = x + readable, *end_dy = dy + readable;
        OnRow ga[M], gb[M];
        for (int i = 0; i < M; ++i) {
            ga[i] = on_row<A>(gates.a, p, h + i, shape);
            gb[i] = on_row<B>(gates.b, p, h + i, shape);
        }
        for (int64_t from = 0; from < width; from += CHAIN * LANES) {
            const int64_t to = least(width, from + CHAIN * LANES);
            sum_a.row_block();
            sum_b.row_block();
            for (int64_t at = from; at < to; at += LANES) {
                vf for_a[M], for_b[M];
                const int64_t n = least(LANES, to - at);
                // the last vector of a row begins earlier; values that were counted are masked
                const int64_t w = n == LANES || width < LANES ? at : width - LANES;
                const vi mask = w == at ? first(n) : last(n);
                for (int i = 0; i < M; ++i) {
                    const int64_t here = i * width + w;
                    vf va, vb, vx, vy;
                    if (width >= LANES) {
                        va = value_at<A>(ga[i], w), vb = value_at<B>(gb[i], w);
                        vx = load(x + here), vy = load(dy + here);
                    } else {
                        va = value_at_end<A>(ga[i], w, n, gates.a.end);
                        vb = value_at_end<B>(gb[i], w, n, gates.b.end);
                        vx = load_any(x + here, n, end_x), vy = load_any(dy + here, n, end_dy);
                    }
                    for_a[i] = vx * vy;
                    for_b[i] = for_a[i] * va;
                    if constexpr (B != NONE) for_a[i] *= vb;
                }
                if (n < LANES) {
                    for (int i = 0; i < M; ++i) {
                        for_a[i] = keep(for_a[i], mask), for_b[i] = keep(for_b[i], mask);
                    }
                }
                sum_a.template add<M>(for_a, w, h, width);
                if constexpr (B != NONE) sum_b.template add<M>(for_b, w, h, width);
            }
            sum_a.template end_of_segment<M>(rows_a);
            if constexpr (B != NONE) sum_b.template end_of_segment<M>(rows_b);
        }
    }

    template <class T>
    static void planes(Gates gates, const T* dy, const T* x, int64_t size, int64_t first,
                       int64_t last, Shape shape, float* da, float* db) {
        shape = in_rows<A, B>(shape);
        const int64_t height = shape.height, width = shape.width, plane = height * width;
        const int64_t padded = whole_vectors(width);
        // two parts for each gate: the sums at hand, and the sums of earlier sums
        float* columns = scratch(4 * padded);
        for (int64_t p = first; p < last; ++p) {
            const int64_t image = p / shape.channels;
            Collected<A> sum_a = {{}, 0, columns, A == POSITION ? da + image * plane : nullptr};
            Collected<B> sum_b = {{}, 0, columns + padded,
                            B == POSITION ? db + image * plane : nullptr};
            if (A == COLUMN || B == COLUMN) zero(columns, 4 * padded);
            float *rows_a = nullptr, *rows_b = nullptr;
            if constexpr (A == ROW) zero(rows_a = da + p * height, height);
            if constexpr (B == ROW) zero(rows_b = db + p * height, height);
            int64_t h = 0;
            const auto block = [&](auto rows_of, int m) {
                const int64_t at = p * plane + h * width;
                rows_of(gates, dy + at, x + at, size - at, p, h, shape, sum_a, sum_b, A == ROW ? rows_a + h : nullptr,
                        B == ROW ? rows_b + h : nullptr);
                h += m;
            };
            while (h + 4 <= height) {
                block(rows<4, T>, 4);
                if ((A == COLUMN || B == COLUMN) && h % (4 * CHAIN) == 0) {
                    for (int64_t i = 0; i < 2 * padded; ++i) columns[2 * padded + i] += columns[i];
                    zero(columns, 2 * padded);
                }
            }
            while (h < height) block(rows<1, T>, 1);
            if constexpr (A == CHANNEL) da[p] = (float)sum_a.channel;
            if constexpr (B == CHANNEL) db[p] = (float)sum_b.channel;
            for (int64_t w = 0; w < width; ++w) {
                if constexpr (A == COLUMN) da[p * width + w] = columns[2 * padded + w] + columns[w];
                if constexpr (B == COLUMN) {
                    db[p * width + w] = columns[3 * padded + w] + columns[padded + w];
                }
            }
        }
    }

    // V vectors of channels of one image, from c on; the last has `count` of them.
    template <int V, class T>
    static void channels_last(Gates gates, const T* dy, const T* x, int64_t size, int64_t c,
                              int64_t count, Shape shape, Strip da, Strip db) {
        const int64_t channels = shape.channels, height = shape.height, width = shape.width;
        const int64_t line = width * V * LANES;
        // of both gates the sums at hand, then the sums of earlier sums
        float* const columns_a = scratch(4 * line);
        float* const columns_b = columns_a + line;
        zero(columns_a, 4 * line);
        double of_a[V * LANES] = {}, of_b[V * LANES] = {};
        const auto gate = [&](Kind kind, Gate g, int64_t h, int64_t w, int v) -> vf {
            if (kind == ROW) return load(g.data + h * channels + c + v * LANES);
            if (kind == COLUMN) return load(g.data + w * channels + c + v * LANES);
            if (kind == POSITION) return splat(g.data[h * width + w]);
            return kind == CHANNEL ? load(g.data + c + v * LANES) : splat(1.0f);
        };
        const auto put = [&](Strip to, int64_t place, const auto* values, int64_t n) {
            for (int64_t l = 0; l < n; ++l) {
                to.to[(c + l) * to.channel + place * to.place] = (float)values[l];
            }
        };
        const int64_t all = (V - 1) * LANES + count;
        const vi mask = first(count);
        for (int64_t h = 0; h < height; ++h) {
            vf row_a[V] = {}, row_b[V] = {};
            for (int64_t from = 0; from < width; from += 2 * CHAIN) {
                const int64_t to = least(width, from + 2 * CHAIN);
                vf acc_a[V] = {}, acc_b[V] = {};
                for (int64_t w = from; w < to; ++w) {
                    const int64_t place = h * width + w;
                    vf here_a = {}, here_b = {};
                    for (int v = 0; v < V; ++v) {
                        const int64_t at = place * channels + c + v * LANES;
                        const bool end = v + 1 == V;
                        const vf vx = end ? load_any(x + at, count, x + size) : load(x + at);
                        const vf vy = end ? load_any(dy + at, count, dy + size) : load(dy + at);
                        const vf va = gate(A, gates.a, h, w, v), vb = gate(B, gates.b, h, w, v);
                        const vf product = vx * vy;
                        const vf for_a = B == NONE ? product : product * vb, for_b = product * va;
                        if (A == CHANNEL || A == ROW) acc_a[v] += for_a;
                        if (B == CHANNEL || B == ROW) acc_b[v] += for_b;
                        float* const a = columns_a + (w * V + v) * LANES;
                        float* const b = columns_b + (w * V + v) * LANES;
                        if (A == COLUMN) store(a, load(a) + for_a);
                        if (B == COLUMN) store(b, load(b) + for_b);
                        if (A == POSITION) here_a += end ? keep(for_a, mask) : for_a;
                        if (B == POSITION) here_b += end ? keep(for_b, mask) : for_b;
                    }
                    if (A == POSITION) da.to[place * da.place] += sum(here_a);
                    if (B == POSITION) db.to[place * db.place] += sum(here_b);
                }
                for (int v = 0; v < V; ++v) row_a[v] += acc_a[v], row_b[v] += acc_b[v];
            }
            float values_a[V * LANES], values_b[V * LANES];
            for (int v = 0; v < V; ++v) {
                store(values_a + v * LANES, row_a[v]);
                store(values_b + v * LANES, row_b[v]);
            }
            if (A == ROW) put(da, h, values_a, all);
            if (B == ROW) put(db, h, values_b, all);
            for (int64_t l = 0; l < V * LANES; ++l) {
                if (A == CHANNEL) of_a[l] += values_a[l];
                if (B == CHANNEL) of_b[l] += values_b[l];
            }
            if ((A == COLUMN || B == COLUMN) && h % CHAIN == CHAIN - 1) {
                for (int64_t i = 0; i < 2 * line; ++i) columns_a[2 * line + i] += columns_a[i];
                zero(columns_a, 2 * line);
            }
        }
        if (A == CHANNEL) put(da, 0, of_a, all);
        if (B == CHANNEL) put(db, 0, of_b, all);
        const auto put_columns = [&](Strip to, float* columns) {
            for (int64_t i = 0; i < line; ++i) columns[i] += columns[2 * line + i];
            for (int64_t w = 0; w < width; ++w) put(to, w, columns + w * V * LANES, all);
        };
        if (A == COLUMN) put_columns(da, columns_a);
        if (B == COLUMN) put_columns(db, columns_b);
    }
};

template <class T>
void reduce(Gates gates, const T* dy, const T* x, int64_t size, int64_t first, int64_t last,
            Shape shape, float* da, float* db) {
    with_kinds<Reduce>(gates, [&](auto of) {
        of.planes(gates, dy, x, size, first, last, shape, da, db);
    });
}

template <class T>
void reduce_last(Gates gates, const T* dy, const T* x, int64_t size, int64_t first, int64_t last,
                 Shape shape, Strip da, Strip db) {
    with_kinds<Reduce>(gates, [&](auto of) {
        slices(first, last, [&](auto vectors, int64_t c, int64_t count) {
            of.template channels_last<decltype(vectors)::value>(gates, dy, x, size, c, count, shape,
                                                                da, db);
        });
    });
}

}  // namespace


template <class T>
constexpr convattn::Gradients<T> table() {
    return {reduce<T>, reduce_last<T>};
}
const convattn::Gradients<float> gradients_full = table<float>();
const convattn::Gradients<uint16_t> gradients_half = table<uint16_t>();

}  // namespace CONVATTN_ISA
