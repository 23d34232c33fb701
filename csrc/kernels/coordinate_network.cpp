// The small network of coordinate attention.
#include "functions.h"
#include "products.h"

namespace CONVATTN_ISA {
namespace {

void encode(convattn::Encoding in, int64_t first, int64_t last, const float* z, float* to) {
    multiply({in.w + first, in.channels, 1}, 0, in.hidden, last - first, z + first * in.step,
             in.step, in.places, [&](int64_t i, int64_t l, vf value) {
                 store(to + i * in.step + l, value);
             });
}

void activated(convattn::Encoding in, const float* from, int64_t count, float* f) {
    const int64_t size = in.hidden * in.step;
    for (int64_t i = 0; i < in.hidden; ++i) {
        for (int64_t l = i * in.step; l < i * in.step + in.places; l += LANES) {
            vf value = load(from + l);
            for (int64_t k = 1; k < count; ++k) value += load(from + k * size + l);
            value = in.slope[i] * value + in.offset[i];
            store(f + l, in.relu ? rectify(value) : hard_swish(value));
        }
    }
}

void decode(convattn::Decoding out, const float* f, int64_t first,
            int64_t last, float* to) {
    const float* limit = to + last * out.length;
    multiply({out.weight, out.hidden, 1}, first, last, out.hidden, f + out.from, out.step,
             out.length, [&](int64_t c, int64_t l, vf value) {
                 if (out.bias != nullptr) value += out.bias[c];
                 const int64_t n = least(LANES, out.length - l);
                 float* at = to + c * out.length + l;
                 value = out.scale * sigmoid(value);
                 // what lies behind a row is written already, but for rows of one vector
                 if (n == LANES) store(at, value);
                 else if (out.length < LANES) store_within(at, value, n, limit);
                 else store_first(at, value, n);
             });
}

v4 load_four(const float* from) {
    v4 value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

void transpose(const float* from, int64_t rows, int64_t columns, int64_t step, float* to,
               int64_t to_step) {
    if (rows < 4 || columns < 4) {
        for (int64_t i = 0; i < rows; ++i) {
            for (int64_t k = 0; k < columns; ++k) to[k * to_step + i] = from[i * step + k];
        }
        return;
    }
    for (int64_t next = 0; next < rows; next += 4) {
        const int64_t i = least(next, rows - 4);  // the last four overlap those before
        for (int64_t following = 0; following < columns; following += 4) {
            const int64_t k = least(following, columns - 4);
            v4 row[4], pair[4];
            for (int r = 0; r < 4; ++r) row[r] = load_four(from + (i + r) * step + k);
            for (int r = 0; r < 2; ++r) {
                pair[r] = __builtin_shufflevector(row[r], row[r + 2], 0, 4, 1, 5);
                pair[r + 2] = __builtin_shufflevector(row[r], row[r + 2], 2, 6, 3, 7);
            }
            for (int r = 0; r < 2; ++r) {
                const v4 one = __builtin_shufflevector(pair[2 * r], pair[2 * r + 1], 0, 4, 1, 5);
                const v4 two = __builtin_shufflevector(pair[2 * r], pair[2 * r + 1], 2, 6, 3, 7);
                std::memcpy(to + (k + 2 * r) * to_step + i, &one, sizeof one);
                std::memcpy(to + (k + 2 * r + 1) * to_step + i, &two, sizeof two);
            }
        }
    }
}

// P places and V vectors of channels.
template <int P, int V>
void places_last(convattn::Decoding out, const float* f, int64_t place,
                 int64_t places, int64_t c, float* to) {
    vf acc[P][V] = {};
    const float* from = f + out.from + place;
    int64_t at[P];
    for (int p = 0; p < P; ++p) at[p] = least(p, places - 1);
    for (int64_t k = 0; k < out.hidden; ++k) {
        vf weight[V];
        for (int v = 0; v < V; ++v) weight[v] = load(out.weight + k * out.channels + c + v * LANES);
        for (int p = 0; p < P; ++p) {
            const float value = from[k * out.step + at[p]];
            for (int v = 0; v < V; ++v) acc[p][v] += value * weight[v];
        }
    }
    for (int64_t p = 0; p < least(P, places); ++p) {
        for (int v = 0; v < V; ++v) {
            vf value = acc[p][v];
            if (out.bias != nullptr) value += load(out.bias + c + v * LANES);
            value = out.scale * sigmoid(value);
            const int64_t n = out.channels - c - v * LANES;
            float* at_c = to + (place + p) * out.channels + c + v * LANES;
            if (n >= LANES) store(at_c, value);
            else store_first(at_c, value, n);
        }
    }
}

void decode_last(convattn::Decoding out, const float* f, int64_t first,
                 int64_t last, float* to) {
    in_even_steps<MANY_REGISTERS ? 8 : 6>(last - first, [&](auto together) {
        constexpr int P = decltype(together)::value;
        for (int64_t l = first; l < last; l += P) {
            int64_t c = 0;
            for (; c + LANES < out.channels; c += 2 * LANES) {
                places_last<P, 2>(out, f, l, last - l, c, to);
            }
            if (c < out.channels) places_last<P, 1>(out, f, l, last - l, c, to);
        }
    });
}

// Calls with(place, lane) for each vector of values (places, lanes).
template <class With>
void each(convattn::Hidden hidden, const With& with) {
    for (int64_t k = 0; k < hidden.lanes; k += LANES) {
        for (int64_t l = 0; l < hidden.places; ++l) with(l * hidden.lanes + k, k);
    }
}

// With the mean taken away first: equal values give exactly the offset.
vf normed(convattn::Hidden hidden, vf h, int64_t k) {
    return load(hidden.slope + k) * (h - load(hidden.mean + k)) + load(hidden.offset + k);
}

void activate(convattn::Hidden hidden, const float* h, float* f) {
    each(hidden, [&](int64_t at, int64_t k) {
        const vf t = normed(hidden, load(h + at), k);
        store(f + at, hidden.relu ? rectify(t) : hard_swish(t));
    });
    for (int64_t l = 0; l < hidden.places; ++l) f[l * hidden.lanes + hidden.count] = 1.0f;
}

// Sums over places, in double, of a vector of lanes each.
template <class Value>
void add_up(convattn::Hidden hidden, double* sums, const Value& value) {
    for (int64_t k = 0; k < hidden.lanes; k += LANES) {
        for (int64_t from = 0; from < hidden.places; from += CHAIN) {
            const int64_t to = least(hidden.places, from + CHAIN);
            vf part = {};
            for (int64_t l = from; l < to; ++l) part += value(l * hidden.lanes + k, k);
            for (int64_t i = 0; i < LANES; ++i) sums[k + i] += part[i];
        }
    }
}

void moments(convattn::Hidden hidden, const float* h, const float* centre, double* sums) {
    if (centre == nullptr) {
        return add_up(hidden, sums, [&](int64_t at, int64_t) { return load(h + at); });
    }
    add_up(hidden, sums, [&](int64_t at, int64_t k) {
        const vf from = load(h + at) - load(centre + k);
        return from * from;
    });
}

void through_activation(convattn::Hidden hidden, const float* h, float* d, double* sums) {
    each(hidden, [&](int64_t at, int64_t k) {
        const vf t = normed(hidden, load(h + at), k);
        vf by = select(t > splat(0.0f), splat(1.0f), vf{});
        if (!hidden.relu) {
            by = t / 3.0f + 0.5f;
            by = select(t < splat(-3.0f), vf{}, by);
            by = select(t > splat(3.0f), splat(1.0f), by);
        }
        store(d + at, keep(load(d + at) * by, first(hidden.count - k)));
    });
    add_up(hidden, sums, [&](int64_t at, int64_t) { return load(d + at); });
    add_up(hidden, sums + hidden.lanes, [&](int64_t at, int64_t k) {
        return load(d + at) * (load(h + at) - load(hidden.mean + k));
    });
}

void through_norm(convattn::Hidden hidden, const float* h, const float* constant,
                  const float* linear, float* d) {
    each(hidden, [&](int64_t at, int64_t k) {
        const vf from = load(h + at) - load(hidden.mean + k);
        store(d + at,
              load(hidden.slope + k) * (load(d + at) - load(constant + k) - load(linear + k) * from));
    });
}

}  // namespace

const convattn::CoordinateNetwork coordinate_network = {
    encode,   activated, decode,             transpose, decode_last,
    activate, moments,   through_activation, through_norm};

}  // namespace CONVATTN_ISA
