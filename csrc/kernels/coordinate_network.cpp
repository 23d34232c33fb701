// The small network of coordinate attention.
#include "functions.h"

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
    for (; MANY_REGISTERS && l + 3 * LANES < places; l += 4 * LANES) {
        tiles<4, 4>(w, first, last, length, z, step, l, places, put);
    }
    for (; l + LANES < places; l += 2 * LANES) {
        tiles<6, 2>(w, first, last, length, z, step, l, places, put);
    }
    if (l < places) tiles<8, 1>(w, first, last, length, z, step, l, places, put);
}

void encode(convattn::Network net, const float* z, float* f) {
    multiply({net.w, net.channels, 1}, 0, net.hidden, net.channels, z, net.step, net.places,
             [&](int64_t i, int64_t l, vf value) {
                 value = net.slope[i] * value + net.offset[i];
                 store(f + i * net.step + l, net.relu ? rectify(value) : hard_swish(value));
             });
}

void decode(convattn::Network net, convattn::Network2 out, const float* f, int64_t first,
            int64_t last, float* to) {
    const float* limit = to + last * out.length;
    multiply({out.weight, net.hidden, 1}, first, last, net.hidden, f + out.from, net.step,
             out.length, [&](int64_t c, int64_t l, vf value) {
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
    constexpr int P = MANY_REGISTERS ? 8 : 6;
    for (int64_t l = first; l < last; l += P) {
        int64_t c = 0;
        for (; c + LANES < net.channels; c += 2 * LANES) {
            places_last<P, 2>(net, out, f, l, last - l, c, to);
        }
        if (c < net.channels) places_last<P, 1>(net, out, f, l, last - l, c, to);
    }
}

void product_of(convattn::Product p) {
    const float* limit = p.out + (p.rows - 1) * p.out_step + p.width;
    multiply({p.a, p.row, p.step}, 0, p.rows, p.length, p.b, p.b_step, p.width,
             [&](int64_t i, int64_t l, vf value) {
                 float* at = p.out + i * p.out_step + l;
                 const int64_t n = least(LANES, p.width - l);
                 if (p.add) store(at, load(at) + value);
                 else if (n == LANES) store(at, value);
                 else if (p.out_step < LANES) store_within(at, value, n, limit);
                 else store_first(at, value, n);
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

void sigmoids(float* values, int64_t n, float scale) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) store(values + i, scale * sigmoid(load(values + i)));
    if (i < n) store_first(values + i, scale * sigmoid(load_first(values + i, n - i)), n - i);
}

void through_sigmoid(float* d, const float* gate, int64_t n, float scale) {
    const float by = 1.0f / scale;
    for (int64_t i = 0; i < n; ++i) d[i] *= gate[i] * (1.0f - by * gate[i]);
}

}  // namespace


const convattn::CoordinateNetwork coordinate_network = {
    encode,  decode,             decode_last,  product_of, activate,
    moments, through_activation, through_norm, sigmoids,   through_sigmoid};

}  // namespace CONVATTN_ISA
