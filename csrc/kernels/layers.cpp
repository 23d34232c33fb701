// The small layers between pooling and gating.
#include "functions.h"
#include "products.h"

namespace CONVATTN_ISA {
namespace {

using convattn::Act;
using convattn::Convolution;
using convattn::GroupNorm;

vf activate(vf value, Act act, float scale) {
    switch (act) {
        case Act::RELU: return rectify(value);
        case Act::RELU6: {
            value = rectify(value);
            return select(value > splat(6.0f), splat(6.0f), value);
        }
        case Act::SIGMOID: return scale * sigmoid(value);
        default: return value;
    }
}

void apply(float* values, int64_t n, float slope, float offset, Act act, float scale) {
    for (int64_t i = 0; i < n; i += LANES) {
        store(values + i, activate(slope * load(values + i) + offset, act, scale));
    }
}

void dense(const float* w, const float* bias, int64_t rows, int64_t length, const float* z,
           float* out) {
    for (int64_t i = 0; i < rows; i += 4) {
        const float* row[4];
        for (int k = 0; k < 4; ++k) row[k] = w + least(i + k, rows - 1) * length;
        v4 total = {};
        for (int64_t from = 0; from < length; from += CHAIN * LANES) {
            const int64_t to = least(length, from + CHAIN * LANES);
            vf acc[4] = {};
            int64_t l = from;
            for (; l + LANES <= to; l += LANES) {
                const vf value = load(z + l);
                for (int k = 0; k < 4; ++k) acc[k] += load(row[k] + l) * value;
            }
            if (l < to) {
                const vf value = load_first(z + l, to - l);
                for (int k = 0; k < 4; ++k) {
                    acc[k] += load_within(row[k] + l, to - l, w + rows * length) * value;
                }
            }
            total += sums(acc[0], acc[1], acc[2], acc[3]);
        }
        for (int64_t k = 0; k < least(4, rows - i); ++k) {
            out[i + k] = total[k] + (bias == nullptr ? 0.0f : bias[i + k]);
        }
    }
}

// R rows and V vectors of the output; rows beyond `rows` are repeated and not written.
template <int R, int V>
void tile(const Convolution& conv, const float* in, int64_t rows, float* out) {
    vf acc[R][V] = {};
    const float* weight = conv.weight;
    for (int64_t plane = 0; plane < conv.planes; ++plane, in += conv.plane) {
        for (int64_t i = 0; i < conv.high; ++i) {
            const float* at[R];
            for (int r = 0; r < R; ++r) at[r] = in + (least(r, rows - 1) + i) * conv.step;
            for (int64_t j = 0; j < conv.wide; ++j) {
                const vf w = splat(*weight++);
                for (int r = 0; r < R; ++r) {
                    for (int v = 0; v < V; ++v) acc[r][v] += w * load(at[r] + j + v * LANES);
                }
            }
        }
    }
    for (int64_t r = 0; r < least(R, rows); ++r) {
        for (int v = 0; v < V; ++v) store(out + r * conv.out_step + v * LANES, acc[r][v]);
    }
}

void convolve(Convolution conv, const float* in, int64_t first, int64_t last, float* out) {
    for (int64_t h = first; h < last;) {
        const int64_t left = last - h;
        for (int64_t w = 0; w < conv.width;) {
            const int64_t vectors = (conv.width - w + LANES - 1) / LANES;
            const auto put = [&](auto run, int64_t done) {
                run(conv, in + h * conv.step + w, left, out + h * conv.out_step + w);
                w += done * LANES;
            };
            if (left == 1) {
                if (vectors >= 4) put(tile<1, 4>, 4);
                else if (vectors >= 2) put(tile<1, 2>, 2);
                else put(tile<1, 1>, 1);
            } else if (conv.width <= LANES) {
                put(tile<8, 1>, 1);
            } else {
                if (MANY_REGISTERS && vectors >= 4) put(tile<4, 4>, 4);
                else if (vectors >= 2) put(tile<4, 2>, 2);
                else put(tile<4, 1>, 1);
            }
        }
        h += conv.width <= LANES ? 8 : 4;
    }
}

void group_norm(GroupNorm norm, float* values, int64_t first, int64_t last) {
    const int64_t together = norm.channels / norm.groups;
    const double count = (double)(together * norm.length);
    for (int64_t g = first; g < last; ++g) {
        float* group = values + g * together * norm.step;
        const auto over = [&](const auto& term) {
            double total = 0;
            for (int64_t c = 0; c < together; ++c) {
                vf acc = {};
                for (int64_t l = 0; l < norm.length; l += LANES) {
                    const vf v = term(load(group + c * norm.step + l));
                    acc += keep(v, CONVATTN_ISA::first(least(LANES, norm.length - l)));
                    if (l / LANES % CHAIN == CHAIN - 1) total += sum(acc), acc = vf{};
                }
                total += sum(acc);
            }
            return total / count;
        };
        const auto mean = (float)over([](vf v) { return v; });
        const double variance = over([&](vf v) { return (v - mean) * (v - mean); });
        const auto by = (float)(1 / __builtin_sqrt(variance + norm.eps));
        for (int64_t c = 0; c < together; ++c) {
            const int64_t channel = g * together + c;
            const float slope = norm.weight == nullptr ? by : by * norm.weight[channel];
            const float offset = norm.bias == nullptr ? 0 : norm.bias[channel];
            for (int64_t l = 0; l < norm.length; l += LANES) {
                float* at = group + c * norm.step + l;
                vf v = (load(at) - mean) * slope + offset;
                if (norm.silu) v = v * sigmoid(v);
                store(at, norm.scale * sigmoid(v));
            }
        }
    }
}

// Weights of a softmax over `size` logits, in their place.
void softmax(float* values, int64_t size) {
    vf most = splat(-__builtin_inff());
    const auto at = [&](int64_t i) {
        const vi mask = first(least(LANES, size - i));
        return select(mask, load(values + i), splat(-__builtin_inff()));
    };
    for (int64_t i = 0; i < size; i += LANES) {
        const vf v = at(i);
        most = select((v > most) | (v != v), v, most);
    }
    float top = most[0];
    for (int l = 1; l < LANES; ++l) top = most[l] > top || most[l] != most[l] ? most[l] : top;
    double total = 0;
    vf acc = {};
    for (int64_t i = 0; i < size; i += LANES) {
        const vf v = at(i) - top;
        const vf kept = keep(exponential(v), ~(v < splat(-87.0f)));
        store(values + i, kept);
        acc += kept;
        if (i / LANES % CHAIN == CHAIN - 1) total += sum(acc), acc = vf{};
    }
    const auto by = (float)(1 / (total + sum(acc)));
    for (int64_t i = 0; i < size; i += LANES) store(values + i, load(values + i) * by);
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

const convattn::Layers layers = {dense,   apply,      convolve, group_norm,
                                 softmax, product_of, sigmoids, through_sigmoid};

}  // namespace CONVATTN_ISA
