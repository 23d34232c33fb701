// Global context in training: a step forward and its gradients. float32.
#include "context.h"
#include "training.h"

namespace convattn {

// As global_context -> y, softmax (N, HW), context (N, C), hidden values before the norm (N, m)
void global_context_step(Stack stack, uint64_t, uint64_t) {
    const GlobalContext given(stack);
    check_map(given.x);
    const Map map(given.x);
    const int64_t c = map.shape.channels;
    Tensor weights = floats({map.n, map.positions}), context = floats({map.n, c});
    Tensor hidden = floats({map.n, given.w1.numel() / c});
    const KeptContext kept = {data_of(weights), data_of(context), data_of(hidden)};
    stack[0] = with_context(given, &kept).release();
    stack[1] = weights.release();
    stack[2] = context.release();
    stack[3] = hidden.release();
}

// dy, x, softmax, context, hidden values, mask, w1, gamma, beta, eps, w2 -> the gradients of x,
// mask, w1, b1, gamma, beta, w2, b2
void global_context_gradients(Stack stack, uint64_t, uint64_t) {
    const Tensor dy = take(stack[0]), x = take(stack[1]), weights = take(stack[2]);
    const Tensor context = take(stack[3]), hidden = take(stack[4]), mask = take(stack[5]);
    const Tensor w1 = take(stack[6]), gamma = take_optional(stack[7]);
    const Tensor beta = take_optional(stack[8]);
    const double eps = number(stack[9]);
    const Tensor w2 = take(stack[10]);
    check_map(x);
    const Map map(x);
    check_gradient(dy, x, map);
    const int64_t n = map.n, c = map.shape.channels, m = w1.numel() / c, hw = map.positions;
    check_kept(weights, n * hw);
    check_kept(context, n * c);
    check_kept(hidden, n * m);
    const Floats key = with_margin(Parameter(mask, c).values, c);
    const Floats first = with_margin(Parameter(w1, m * c).values, m * c);
    const Floats second = with_margin(Parameter(w2, m * c).values, m * c);
    const HiddenNorm norm(gamma, beta, eps, m);

    // of each image, to be summed: what leads to the parameters
    Floats dt(n * c), f(n * m + BEHIND), inner(n * m), dgamma(n * m), dbeta(n * m), dkey(n * c);
    Room room;
    const int64_t dadded = room.take(c), dcontext = room.take(c), a = room.take(hw);
    const int64_t ds = room.take(hw), dmask = room.take(c);
    const Pass network_back = {1, 0, [&](float* at, int64_t i, int64_t, int64_t) {
        float *d = dt.data() + i * c, *own = f.data() + i * m, *later = dbeta.data() + i * m;
        for (int64_t k = 0; k < c; ++k) d[k] = at[dadded + k] * (float)hw;
        layers().product({d, 0, 1, second.data(), m, 1, c, m, later, m, false});
        const float* values = data_of(hidden) + i * m;
        norm.forward(values, own);
        norm.backward(values, own, later, inner.data() + i * m, dgamma.data() + i * m, later);
        layers().product({inner.data() + i * m, 0, 1, first.data(), c, 1, m, c, at + dcontext, c,
                           false});
    }};
    const Pass attend_back = {1, 0, [&](float* at, int64_t i, int64_t, int64_t) {
        std::memcpy(at + a, data_of(weights) + i * hw, hw * sizeof(float));
        double total = 0;
        for (int64_t k = 0; k < hw; ++k) total += (double)at[a + k] * at[ds + k];
        for (int64_t k = 0; k < hw; ++k) at[ds + k] = at[a + k] * (float)(at[ds + k] - total);
    }};
    const Pass keep = {1, 0, [&](float* at, int64_t i, int64_t, int64_t) {
        std::memcpy(dkey.data() + i * c, at + dmask, c * sizeof(float));
    }};
    Tensor dx = empty_like(x);
    const Passes of_x(map, data_of(x), data_of(dx)), of_dy(map, data_of(dy), data_of(dx));
    const auto terms = [&](const float* at) {
        return Outer{{at + dcontext, key.data()}, {at + a, at + ds}};
    };
    const MapTerms& kernel = *kernels().map_terms;
    const float* end = data_of(dy) + n * map.image;
    const Pass output = of_dy.output(
        [&](float* at, const float* from, float* to, int64_t start, int64_t stop) {
            kernel.outer(terms(at), from, end, to, start, stop, map.shape);
        },
        [&](float* at, const float* from, float* to, float* limit, int64_t start, int64_t stop) {
            kernel.outer_last(terms(at), from, end, to, limit, start, stop, map.shape);
        });
    run_passes(map, room,
               {of_dy.means(dadded), network_back,
                of_x.over_channels([dcontext](float* at) { return at + dcontext; }, ds),
                attend_back, of_x.weighted_sums(ds, dmask), keep, output});

    stack[0] = dx.release();
    stack[1] = column_sums(dkey.data(), n, like(mask)).release();
    stack[2] = gradient_of_weight(inner.data(), with_margin(data_of(context), n * c), n, like(w1))
                   .release();
    stack[3] = column_sums(inner.data(), n, floats({m})).release();
    stack[4] = column_sums(dgamma.data(), n, floats({m})).release();
    stack[5] = column_sums(dbeta.data(), n, floats({m})).release();
    stack[6] = gradient_of_weight(dt.data(), f, n, like(w2)).release();
    stack[7] = column_sums(dt.data(), n, floats({c})).release();
}

}  // namespace convattn
