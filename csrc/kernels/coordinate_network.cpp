// The small network of coordinate attention.
#include "functions.h"

namespace CONVATTN_ISA {
namespace {

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

}  // namespace


const convattn::CoordinateNetwork coordinate_network = {encode, decode, decode_last};

}  // namespace CONVATTN_ISA
