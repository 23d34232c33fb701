// Maps times gates.
#include "gates.h"

namespace CONVATTN_ISA {
namespace {

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

template <class T>
void mean_gate(convattn::GateSum gates, const T* x, const T* end, T* y, int64_t first, int64_t last,
               Shape shape) {
    const int64_t height = shape.height, width = shape.width, size = height * width;
    const T* limit = y + last * size;
    for (int64_t p = first; p < last; ++p) {
        for (int64_t h = 0; h < height; ++h) {
            const float row = gates.row.data[p * height + h];
            const float* columns = gates.column.data + p * width;
            const float* positions = gates.position.data + h * width;
            const int64_t at = p * size + h * width;
            if (width < LANES) {
                const vf gate = row + load_any(columns, width, gates.column.end) +
                                load_any(positions, width, gates.position.end);
                store_within(y + at, load_any(x + at, width, end) * (gate * gates.scale), width,
                             limit);
                continue;
            }
            for (int64_t from = 0; from < width; from += LANES) {
                const int64_t w = least(from, width - LANES);  // the last vector begins earlier
                const vf gate = row + load(columns + w) + load(positions + w);
                store(y + at + w, load(x + at + w) * (gate * gates.scale));
            }
        }
    }
}

template <class T>
void mean_gate_last(convattn::GateSum gates, const T* x, const T* end, T* y, T* limit,
                    int64_t first, int64_t last, Shape shape) {
    const int64_t channels = shape.channels;
    for (int64_t i = first * shape.width; i < last * shape.width; ++i) {
        const float* rows = gates.row.data + i / shape.width * channels;
        const float* columns = gates.column.data + i % shape.width * channels;
        const float position = gates.position.data[i];
        const int64_t at = i * channels;
        const auto value = [&](vf v, int64_t c) {
            return v * ((load(rows + c) + load(columns + c) + position) * gates.scale);
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

}  // namespace


template <class T>
constexpr convattn::Gating<T> table() {
    return {gate<T>, gate_last<T>, mean_gate<T>, mean_gate_last<T>};
}
const convattn::Gating<float> gating_full = table<float>();
const convattn::Gating<uint16_t> gating_half = table<uint16_t>();

}  // namespace CONVATTN_ISA
