// Gradients of gates.
#include "gates.h"

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
                store(to, load(to) + product[i]);
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
                       int64_t last, Shape shape, float* da, float* db, int64_t positions) {
        shape = in_rows<A, B>(shape);
        const int64_t height = shape.height, width = shape.width, plane = height * width;
        const int64_t padded = whole_vectors(width);
        // two parts for each gate: the sums at hand, and the sums of earlier sums
        float* columns = scratch(4 * padded);
        for (int64_t p = first; p < last; ++p) {
            const int64_t image = p / shape.channels;
            Collected<A> sum_a = {{}, 0, columns, A == POSITION ? da + image * positions : nullptr};
            Collected<B> sum_b = {{}, 0, columns + padded,
                            B == POSITION ? db + image * positions : nullptr};
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

    // Sixteen channels of one image.
    template <class T>
    static void channels_last(Gates gates, const T* dy, const T* x, int64_t size, int64_t c,
                              int64_t count, Shape shape, Strip da, Strip db) {
        const int64_t channels = shape.channels, height = shape.height, width = shape.width;
        float* columns = scratch(4 * width * LANES);
        const int64_t half = 2 * width * LANES;
        zero(columns, 2 * half);
        double of_a[LANES] = {}, of_b[LANES] = {};
        const auto gate = [&](Kind kind, Gate g, int64_t h, int64_t w) -> vf {
            if (kind == ROW) return load(g.data + h * channels + c);
            if (kind == COLUMN) return load(g.data + w * channels + c);
            if (kind == POSITION) return splat(g.data[h * width + w]);
            return kind == CHANNEL ? load(g.data + c) : splat(1.0f);
        };
        const auto put = [&](Strip to, int64_t place, const auto& values) {
            for (int64_t l = 0; l < count; ++l) {
                to.to[(c + l) * to.channel + place * to.place] = (float)values[l];
            }
        };
        const vi mask = first(count);
        for (int64_t h = 0; h < height; ++h) {
            vf row_a = {}, row_b = {};
            for (int64_t from = 0; from < width; from += 2 * CHAIN) {
                const int64_t to = least(width, from + 2 * CHAIN);
                vf acc_a = {}, acc_b = {};
                for (int64_t w = from; w < to; ++w) {
                    const int64_t at = (h * width + w) * channels + c;
                    const vf vx = load_any(x + at, count, x + size);
                    const vf vy = load_any(dy + at, count, dy + size);
                    const vf va = gate(A, gates.a, h, w), vb = gate(B, gates.b, h, w);
                    const vf product = vx * vy;
                    const vf for_a = B == NONE ? product : product * vb, for_b = product * va;
                    if (A == CHANNEL || A == ROW) acc_a += for_a;
                    if (B == CHANNEL || B == ROW) acc_b += for_b;
                    float* column = columns + 2 * w * LANES;
                    if (A == COLUMN) store(column, load(column) + for_a);
                    if (B == COLUMN) store(column + LANES, load(column + LANES) + for_b);
                    const int64_t place = h * width + w;
                    if (A == POSITION) da.to[place * da.place] += sum(keep(for_a, mask));
                    if (B == POSITION) db.to[place * db.place] += sum(keep(for_b, mask));
                }
                row_a += acc_a;
                row_b += acc_b;
            }
            if (A == ROW) put(da, h, row_a);
            if (B == ROW) put(db, h, row_b);
            for (int64_t l = 0; l < LANES; ++l) {
                if (A == CHANNEL) of_a[l] += row_a[l];
                if (B == CHANNEL) of_b[l] += row_b[l];
            }
            if ((A == COLUMN || B == COLUMN) && h % CHAIN == CHAIN - 1) {
                for (int64_t i = 0; i < half; ++i) columns[half + i] += columns[i];
                zero(columns, half);
            }
        }
        if (A == CHANNEL) put(da, 0, of_a);
        if (B == CHANNEL) put(db, 0, of_b);
        for (int64_t w = 0; w < width; ++w) {
            const float* column = columns + 2 * w * LANES;
            const vf all_a = load(column + half) + load(column);
            const vf all_b = load(column + half + LANES) + load(column + LANES);
            if (A == COLUMN) put(da, w, all_a);
            if (B == COLUMN) put(db, w, all_b);
        }
    }
};

template <class T>
void reduce(Gates gates, const T* dy, const T* x, int64_t size, int64_t first, int64_t last,
            Shape shape, float* da, float* db, int64_t positions) {
    with_kinds<Reduce>(gates, [&](auto of) {
        of.planes(gates, dy, x, size, first, last, shape, da, db, positions);
    });
}

template <class T>
void reduce_last(Gates gates, const T* dy, const T* x, int64_t size, int64_t first, int64_t last,
                 Shape shape, Strip da, Strip db) {
    with_kinds<Reduce>(gates, [&](auto of) {
        for (int64_t c = first; c < last; c += LANES) {
            of.channels_last(gates, dy, x, size, c, least(LANES, last - c), shape, da, db);
        }
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
