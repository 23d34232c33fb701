// Maps times gates.
#include "gates.h"

namespace CONVATTN_ISA {
namespace {

using convattn::GateSum;

// How a large map is written that is in rows of so many values: run(how), and how(to, value) where it
// is called with a whole vector.
template <class T, class Run>
void with_put(bool large, const T* y, int64_t row, const Run& run) {
    const bool whole = row % LANES == 0 && reinterpret_cast<uintptr_t>(y) % (LANES * sizeof(T)) == 0;
    if (large && whole) {
        run([](T* to, vf value) { stream(to, value); });
        return finish_streams();
    }
    run([](T* to, vf value) { store(to, value); });
}

template <convattn::Sum S>
struct Forward {
    template <Kind A, Kind B>
    struct Of {
        template <class T>
        static void planes(Gates gates, Added added, const T* x, const T* end, T* y, int64_t first,
                           int64_t last, Shape shape, bool large) {
            if (S != PER_STRIP) shape = in_rows<A, B>(shape);
            with_put(large, y, shape.width, [&](auto put) {
                planes_by(gates, added, x, end, y, first, last, shape, put);
            });
        }
        template <class T, class Put>
        static void planes_by(Gates gates, Added added, const T* x, const T* end, T* y,
                              int64_t first, int64_t last, Shape shape, Put put) {
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
                        put(to + w, value(load(from + w), value_at<A>(ga, w), value_at<B>(gb, w),
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
                              int64_t first, int64_t last, Shape shape, bool large) {
            with_put(large, y, shape.channels, [&](auto put) {
                rows_last_by(gates, added, x, end, y, limit, first, last, shape, put);
            });
        }
        template <class T, class Put>
        static void rows_last_by(Gates gates, Added added, const T* x, const T* end, T* y, T* limit,
                                 int64_t first, int64_t last, Shape shape, Put put) {
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
                        put(to + c, value(load(from + c), c));
                    }
                    if (c == channels) continue;
                    if (channels >= LANES) {  // the last vector begins earlier
                        c = channels - LANES;
                        put(to + c, value(load(from + c), c));
                    } else {
                        store_within(to, value(load_any(from, channels, end), 0), channels, limit);
                    }
                }
            }
        }
    };
};

// The sum of the three at one vector, of a row of a plane or of channels.
vf sum_at(GateSum gates, vf row, vf column, vf position) {
    return (row + column + position) * gates.scale;
}

template <class T>
void mean_gate(GateSum gates, const GateSum* more, const T* x, const T* end, T* y, int64_t first,
               int64_t last, Shape shape) {
    const int64_t height = shape.height, width = shape.width, size = height * width;
    const T* limit = y + last * size;
    for (int64_t p = first; p < last; ++p) {
        for (int64_t h = 0; h < height; ++h) {
            const int64_t at = p * size + h * width;
            const auto sum = [&](const GateSum& of, int64_t w) {
                const vf row = splat(of.row.data[p * height + h]);
                const float* column = of.column.data + p * width + w;
                const float* position = of.position.data + h * width + w;
                if (width >= LANES) return sum_at(of, row, load(column), load(position));
                return sum_at(of, row, load_any(column, width, of.column.end),
                              load_any(position, width, of.position.end));
            };
            const auto value = [&](vf v, int64_t w) {
                v = v * sum(gates, w);
                return more == nullptr ? v : v + sum(*more, w);
            };
            if (width < LANES) {
                store_within(y + at, value(load_any(x + at, width, end), 0), width, limit);
                continue;
            }
            for (int64_t from = 0; from < width; from += LANES) {
                const int64_t w = least(from, width - LANES);  // the last vector begins earlier
                store(y + at + w, value(load(x + at + w), w));
            }
        }
    }
}

template <class T>
void mean_gate_last(GateSum gates, const GateSum* more, const T* x, const T* end, T* y, T* limit,
                    int64_t first, int64_t last, Shape shape) {
    const int64_t channels = shape.channels;
    for (int64_t i = first * shape.width; i < last * shape.width; ++i) {
        const int64_t at = i * channels;
        const auto sum = [&](const GateSum& of, int64_t c) {
            return sum_at(of, load(of.row.data + i / shape.width * channels + c),
                          load(of.column.data + i % shape.width * channels + c),
                          splat(of.position.data[i]));
        };
        const auto value = [&](vf v, int64_t c) {
            v = v * sum(gates, c);
            return more == nullptr ? v : v + sum(*more, c);
        };
        if (channels < LANES) {
            store_within(y + at, value(load_any(x + at, channels, end), 0), channels, limit);
            continue;
        }
        for (int64_t from = 0; from < channels; from += LANES) {
            const int64_t c = least(from, channels - LANES);
            store(y + at + c, value(load(x + at + c), c));
        }
    }
}

template <class Run>
void with_sum(Gates gates, Added added, Run run) {
    if (added.sum == NOTHING) with_kinds<Forward<NOTHING>::Of>(gates, run);
    if (added.sum == PER_CHANNEL) with_kinds<Forward<PER_CHANNEL>::Of>(gates, run);
    if (added.sum == PER_STRIP) with_kinds<Forward<PER_STRIP>::Of>(gates, run);
}

template <class T>
void gate(Gates gates, Added added, const T* x, const T* end, T* y, int64_t first, int64_t last,
          Shape shape, bool large) {
    with_sum(gates, added,
             [&](auto of) { of.planes(gates, added, x, end, y, first, last, shape, large); });
}

template <class T>
void gate_last(Gates gates, Added added, const T* x, const T* end, T* y, T* limit, int64_t first,
               int64_t last, Shape shape, bool large) {
    with_sum(gates, added, [&](auto of) {
        of.rows_last(gates, added, x, end, y, limit, first, last, shape, large);
    });
}

}  // namespace


template <class T>
constexpr convattn::Gating<T> table() {
    return {gate<T>, gate_last<T>, mean_gate<T>, mean_gate_last<T>};
}
const convattn::Gating<float> gating_full = table<float>();
const convattn::Gating<uint16_t> gating_half = table<uint16_t>();

}  // namespace CONVATTN_ISA
