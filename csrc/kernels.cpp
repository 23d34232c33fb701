// The kernels of one thread. Compiled once for each kind of processor, with CONVATTN_ISA its name.
//
// Nothing of the standard library is instantiated here: the linker keeps one copy of a template's
// functions, and it could be the one for another processor.
#include "kernels.h"

#include <cstdlib>

#include "vec.h"

namespace CONVATTN_ISA {
namespace {

using convattn::Added;
using convattn::Gate;
using convattn::Gates;
using convattn::Kind;
using convattn::Shape;
using convattn::Strip;
using convattn::CHANNEL;
using convattn::COLUMN;
using convattn::NONE;
using convattn::NOTHING;
using convattn::PER_CHANNEL;
using convattn::PER_STRIP;
using convattn::POSITION;
using convattn::ROW;

// Float sums are taken over at most this many values in a lane; longer ones are sums of such sums.
constexpr int64_t CHAIN = 64;

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

void zero(float* values, int64_t n) { std::memset(values, 0, n * sizeof(float)); }

struct Scratch {
    float* values = nullptr;
    int64_t size = 0;
    ~Scratch() { std::free(values); }
};

float* scratch(int64_t size) {  // of this thread
    thread_local Scratch kept;
    if (kept.size < size) {
        std::free(kept.values);
        kept.values = static_cast<float*>(std::malloc(size * sizeof(float)));
        if (kept.values == nullptr) std::abort();
        kept.size = size;
    }
    return kept.values;
}

int64_t whole_vectors(int64_t size) { return (size + LANES - 1) / LANES * LANES; }

template <class T>
vf load_any(const T* from, int64_t n, const T* end) {  // n values; anything in the other lanes
    return from + LANES <= end ? load(from) : load_first(from, n);
}

// ---------------------------------------------------------------------------------- means

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

// --------------------------------------------------------------------- means, channels last

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
    for (int64_t c = first; c < last;) {
        const int64_t left = last - c, vectors = left > LANES ? 2 : 1;
        const int64_t count = least(LANES, left - (vectors - 1) * LANES);
        const Strip r = {rows.to + c * rows.channel, rows.channel, rows.place};
        const Strip k = {columns.to + c * columns.channel, columns.channel, columns.place};
        if (vectors == 2) strips_of<2>(x + c, end, shape, count, r, k);
        if (vectors == 1) strips_of<1>(x + c, end, shape, count, r, k);
        c += (vectors - 1) * LANES + count;
    }
}

template <class T>
void means_last(const T* x, const T* end, Shape shape, int64_t first, int64_t last, float* to) {
    const int64_t positions = shape.height * shape.width;
    for (int64_t c = first; c < last; c += LANES) {
        const int64_t count = least(LANES, last - c);
        double total[LANES] = {};
        for (int64_t from = 0; from < positions; from += 4 * CHAIN) {
            const int64_t to = least(positions, from + 4 * CHAIN);
            vf acc[4] = {};
            int64_t i = from;
            for (; i + 4 <= to; i += 4) {
                for (int k = 0; k < 4; ++k) {
                    acc[k] += load_any(x + (i + k) * shape.channels + c, count, end);
                }
            }
            for (; i < to; ++i) acc[0] += load_any(x + i * shape.channels + c, count, end);
            const vf part = (acc[0] + acc[1]) + (acc[2] + acc[3]);
            for (int64_t l = 0; l < count; ++l) total[l] += part[l];
        }
        for (int64_t l = 0; l < count; ++l) to[c + l] = (float)(total[l] / (double)positions);
    }
}

// ----------------------------------------------------------------------------------- gates

// A gate on one row of a plane: one value, or a vector at each w.
struct OnRow {
    vf value;
    const float* vector;
};

template <Kind K>
OnRow on_row(Gate gate, int64_t plane, int64_t h, Shape shape) {
    if constexpr (K == CHANNEL) return {splat(gate.data[plane]), nullptr};
    if constexpr (K == ROW) return {splat(gate.data[plane * shape.height + h]), nullptr};
    if constexpr (K == COLUMN) return {vf{}, gate.data + plane * shape.width};
    if constexpr (K == POSITION) {
        const int64_t image = plane / shape.channels;
        return {vf{}, gate.data + (image * shape.height + h) * shape.width};
    }
    return {vf{}, nullptr};
}

template <Kind K>
vf value_at(const OnRow& gate, int64_t w) {
    if constexpr (K == COLUMN || K == POSITION) return load(gate.vector + w);
    return gate.value;
}
template <Kind K>
vf value_at_end(const OnRow& gate, int64_t w, int64_t n, const float* end) {
    if constexpr (K == COLUMN || K == POSITION) return load_any(gate.vector + w, n, end);
    return gate.value;
}

constexpr bool by_position(Kind kind) { return kind != ROW && kind != COLUMN; }

// Whole planes can be taken as one row each.
template <Kind A, Kind B>
Shape in_rows(Shape shape) {
    if (by_position(A) && by_position(B)) return {shape.channels, 1, shape.height * shape.width};
    return shape;
}

template <Kind B>
vf times(vf x, vf a, vf b) {
    const vf y = x * a;
    if constexpr (B == NONE) return y;
    return y * b;
}

template <convattn::Sum S>
struct Forward {
    template <Kind A, Kind B>
    struct Of {
        template <class T>
        static void planes(Gates gates, Added added, const T* x, const T* end, T* y, int64_t first,
                           int64_t last, Shape shape) {
            if (S != PER_STRIP) shape = in_rows<A, B>(shape);
            const int64_t width = shape.width, size = shape.height * width;
            const T* limit = y + last * size;
            constexpr Kind R = S == PER_STRIP ? ROW : S == PER_CHANNEL ? CHANNEL : NONE;
            constexpr Kind C = S == PER_STRIP ? COLUMN : NONE;
            const Gate row = S == PER_STRIP ? added.row : added.channel;
            for (int64_t p = first; p < last; ++p) {
                for (int64_t h = 0; h < shape.height; ++h) {
                    const OnRow ga = on_row<A>(gates.a, p, h, shape);
                    const OnRow gb = on_row<B>(gates.b, p, h, shape);
                    const OnRow more = on_row<R>(row, p, h, shape);
                    const OnRow columns = on_row<C>(added.column, p, h, shape);
                    const auto value = [&](vf v, vf a, vf b, vf column) {
                        vf to = times<B>(v, a, b);
                        if (S != NOTHING) to += more.value;
                        if (S == PER_STRIP) to += column;
                        return to;
                    };
                    const T* from = x + p * size + h * width;
                    T* to = y + p * size + h * width;
                    const auto whole = [&](int64_t w) {
                        store(to + w, value(load(from + w), value_at<A>(ga, w), value_at<B>(gb, w),
                                            value_at<C>(columns, w)));
                    };
                    int64_t w = 0;
                    for (; w + LANES <= width; w += LANES) whole(w);
                    if (w == width) continue;
                    if (width >= LANES) {  // the last vector begins earlier
                        whole(width - LANES);
                        continue;
                    }
                    store_within(to, value(load_any(from, width, end),
                                           value_at_end<A>(ga, 0, width, gates.a.end),
                                           value_at_end<B>(gb, 0, width, gates.b.end),
                                           value_at_end<C>(columns, 0, width, added.column.end)),
                                 width, limit);
                }
            }
        }

        template <class T>
        static void rows_last(Gates gates, Added added, const T* x, const T* end, T* y, T* limit,
                              int64_t first, int64_t last, Shape shape) {
            const int64_t channels = shape.channels;
            const auto start = [&](Kind kind, Gate g, int64_t h, int64_t w) -> const float* {
                if (kind == ROW) return g.data + h * channels;
                if (kind == COLUMN) return g.data + w * channels;
                if (kind == POSITION) return g.data + h * shape.width + w;
                return g.data;
            };
            for (int64_t h = first; h < last; ++h) {
                const float* rows = S == PER_STRIP ? added.row.data + h * channels
                                                   : added.channel.data;
                for (int64_t w = 0; w < shape.width; ++w) {
                    const T* from = x + (h * shape.width + w) * channels;
                    T* to = y + (h * shape.width + w) * channels;
                    const float* ga = start(A, gates.a, h, w);
                    const float* gb = start(B, gates.b, h, w);
                    const float* columns = added.column.data + w * channels;
                    const vf one_a = A == POSITION ? splat(*ga) : vf{};
                    const vf one_b = B == POSITION ? splat(*gb) : vf{};
                    const auto value = [&](vf v, int64_t c) {
                        vf all = times<B>(v, A == POSITION ? one_a : load(ga + c),
                                          B == POSITION ? one_b : B == NONE ? v : load(gb + c));
                        if (S != NOTHING) all += load(rows + c);
                        if (S == PER_STRIP) all += load(columns + c);
                        return all;
                    };
                    int64_t c = 0;
                    for (; c + LANES <= channels; c += LANES) {
                        store(to + c, value(load(from + c), c));
                    }
                    if (c == channels) continue;
                    if (channels >= LANES) {  // the last vector begins earlier
                        c = channels - LANES;
                        store(to + c, value(load(from + c), c));
                    } else {
                        store_within(to, value(load_any(from, channels, end), 0), channels, limit);
                    }
                }
            }
        }
    };
};

// ------------------------------------------------------------------------------- gradients

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

// ---------------------------------------------------------------------------------- middle

// exp(x) to 2 units in the last place, for |x| < 88; NaN stays NaN.
vf exponential(vf x) {
    const vf magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const vf shifted = x * 1.44269504f + magic;
    const vf n = shifted - magic;
    vf r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vf p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (vf)((vi)p + (((vi)shifted - (vi)magic) << 23));
}

vf select(vi mask, vf yes, vf no) {
    return (vf)(((vi)yes & mask) | ((vi)no & ~mask));
}

vf sigmoid(vf x) {  // the clamps leave NaN alone
    x = select(x > splat(87.0f), splat(87.0f), x);
    x = select(x < splat(-87.0f), splat(-87.0f), x);
    return 1.0f / (1.0f + exponential(-x));
}

vf hard_swish(vf x) {
    vf t = x + 3.0f;
    t = select(t < splat(0.0f), splat(0.0f), t);
    t = select(t > splat(6.0f), splat(6.0f), t);
    return x * t / 6.0f;
}
vf rectify(vf x) { return select(x < splat(0.0f), splat(0.0f), x); }

// out[i][v] = sum over k of w[i][k] * z[k][v], R rows of w (fewer are repeated) and V vectors of z.
template <int R, int V>
void product(const float* w, int64_t rows, int64_t length, const float* z, int64_t step,
             vf (*out)[V]) {
    const float* row[R];
    for (int i = 0; i < R; ++i) {
        row[i] = w + least(i, rows - 1) * length;
        for (int v = 0; v < V; ++v) out[i][v] = vf{};
    }
    for (int64_t from = 0; from < length; from += 4 * CHAIN) {
        const int64_t to = least(length, from + 4 * CHAIN);
        vf acc[R][V] = {};
        for (int64_t k = from; k < to; ++k) {
            vf value[V];
            for (int v = 0; v < V; ++v) value[v] = load(z + k * step + v * LANES);
            for (int i = 0; i < R; ++i) {
                for (int v = 0; v < V; ++v) acc[i][v] += row[i][k] * value[v];
            }
        }
        for (int i = 0; i < R; ++i) {
            for (int v = 0; v < V; ++v) out[i][v] += acc[i][v];
        }
    }
}

// Calls put(row, place, vector) with all of w z, the rows of a place in order.
template <int R, int V, class Put>
void tiles(const float* w, int64_t first, int64_t last, int64_t length, const float* z,
           int64_t step, int64_t from, int64_t to, const Put& put) {
    vf out[R][V];
    for (int64_t i = first; i < last; i += R) {
        product<R, V>(w + i * length, last - i, length, z + from, step, out);
        for (int64_t k = 0; k < least(R, last - i); ++k) {
            for (int v = 0; v < V && from + v * LANES < to; ++v) {
                put(i + k, from + v * LANES, out[k][v]);
            }
        }
    }
}

template <class Put>
void multiply(const float* w, int64_t first, int64_t last, int64_t length, const float* z,
              int64_t step, int64_t places, const Put& put) {
    int64_t l = 0;
    for (; l + 3 * LANES < places; l += 4 * LANES) {
        tiles<4, 4>(w, first, last, length, z, step, l, places, put);
    }
    for (; l + LANES < places; l += 2 * LANES) {
        tiles<6, 2>(w, first, last, length, z, step, l, places, put);
    }
    if (l < places) tiles<8, 1>(w, first, last, length, z, step, l, places, put);
}

void encode(convattn::Network net, const float* z, float* f) {
    multiply(net.w, 0, net.hidden, net.channels, z, net.step, net.places,
             [&](int64_t i, int64_t l, vf value) {
                 value = net.slope[i] * value + net.offset[i];
                 store(f + i * net.step + l, net.relu ? rectify(value) : hard_swish(value));
             });
}

void decode(convattn::Network net, convattn::Network2 out, const float* f, int64_t first,
            int64_t last, float* to) {
    const float* limit = to + last * out.length;
    multiply(out.weight, first, last, net.hidden, f + out.from, net.step, out.length,
             [&](int64_t c, int64_t l, vf value) {
                 if (out.bias != nullptr) value += out.bias[c];
                 const int64_t n = least(LANES, out.length - l);
                 float* at = to + c * out.length + l;
                 value = net.scale * sigmoid(value);
                 // what lies behind a row is written already, but for rows of one vector
                 if (n == LANES) store(at, value);
                 else if (out.length < LANES) store_within(at, value, n, limit);
                 else store_first(at, value, n);
             });
}

// P places and V vectors of channels.
template <int P, int V>
void places_last(convattn::Network net, convattn::Network2 out, const float* f, int64_t place,
                 int64_t places, int64_t c, float* to) {
    vf acc[P][V] = {};
    const float* from = f + out.from + place;
    int64_t at[P];
    for (int p = 0; p < P; ++p) at[p] = least(p, places - 1);
    for (int64_t k = 0; k < net.hidden; ++k) {
        vf weight[V];
        for (int v = 0; v < V; ++v) weight[v] = load(out.weight + k * net.channels + c + v * LANES);
        for (int p = 0; p < P; ++p) {
            const float value = from[k * net.step + at[p]];
            for (int v = 0; v < V; ++v) acc[p][v] += value * weight[v];
        }
    }
    for (int64_t p = 0; p < least(P, places); ++p) {
        for (int v = 0; v < V; ++v) {
            vf value = acc[p][v];
            if (out.bias != nullptr) value += load(out.bias + c + v * LANES);
            value = net.scale * sigmoid(value);
            const int64_t n = net.channels - c - v * LANES;
            float* at_c = to + (place + p) * net.channels + c + v * LANES;
            if (n >= LANES) store(at_c, value);
            else store_first(at_c, value, n);
        }
    }
}

void decode_last(convattn::Network net, convattn::Network2 out, const float* f, int64_t first,
                 int64_t last, float* to) {
    for (int64_t l = first; l < last; l += 8) {
        int64_t c = 0;
        for (; c + LANES < net.channels; c += 2 * LANES) {
            places_last<8, 2>(net, out, f, l, last - l, c, to);
        }
        if (c < net.channels) places_last<8, 1>(net, out, f, l, last - l, c, to);
    }
}

// ---------------------------------------------------------------------------------- tables

// Calls run with the struct of these kinds of gates; the same pairs as in ops/apply_gates/op.py.
template <template <Kind, Kind> class Of, class Run>
void with_kinds(Gates gates, Run run) {
    const Kind a = gates.kind_a, b = gates.kind_b;
    if (a == CHANNEL && b == NONE) run(Of<CHANNEL, NONE>{});
    if (a == ROW && b == NONE) run(Of<ROW, NONE>{});
    if (a == COLUMN && b == NONE) run(Of<COLUMN, NONE>{});
    if (a == POSITION && b == NONE) run(Of<POSITION, NONE>{});
    if (a == ROW && b == COLUMN) run(Of<ROW, COLUMN>{});
    if (a == COLUMN && b == ROW) run(Of<COLUMN, ROW>{});
    if (a == CHANNEL && b == POSITION) run(Of<CHANNEL, POSITION>{});
}

template <class Run>
void with_sum(Gates gates, Added added, Run run) {
    if (added.sum == NOTHING) with_kinds<Forward<NOTHING>::Of>(gates, run);
    if (added.sum == PER_CHANNEL) with_kinds<Forward<PER_CHANNEL>::Of>(gates, run);
    if (added.sum == PER_STRIP) with_kinds<Forward<PER_STRIP>::Of>(gates, run);
}

template <class T>
void gate(Gates gates, Added added, const T* x, const T* end, T* y, int64_t first, int64_t last,
          Shape shape) {
    with_sum(gates, added,
             [&](auto of) { of.planes(gates, added, x, end, y, first, last, shape); });
}

template <class T>
void gate_last(Gates gates, Added added, const T* x, const T* end, T* y, T* limit, int64_t first,
               int64_t last, Shape shape) {
    with_sum(gates, added,
             [&](auto of) { of.rows_last(gates, added, x, end, y, limit, first, last, shape); });
}

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

template <class T>
constexpr convattn::Table<T> table() {
    return {strip_means<T>, means<T>,  strip_means_last<T>, means_last<T>,
            gate<T>,        gate_last<T>, reduce<T>,        reduce_last<T>};
}

#define TEXT(name) #name
#define NAME(isa) TEXT(isa)
#define TABLE(isa) kernels_##isa
#define TABLE_OF(isa) TABLE(isa)

}  // namespace
}  // namespace CONVATTN_ISA

namespace convattn {
const Kernels TABLE_OF(CONVATTN_ISA) = {
    {CONVATTN_ISA::encode, CONVATTN_ISA::decode, CONVATTN_ISA::decode_last},
    CONVATTN_ISA::table<float>(),
    CONVATTN_ISA::table<uint16_t>(),
    NAME(CONVATTN_ISA)};
}  // namespace convattn
