// Functions of vectors.
#pragma once

#include "common.h"

namespace CONVATTN_ISA {
namespace {

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
    const vi zero = x < splat(-88.7228f);  // where exp(-x) is infinite, as in PyTorch
    x = select(x > splat(87.0f), splat(87.0f), x);
    x = select(x < splat(-87.0f), splat(-87.0f), x);
    return keep(1.0f / (1.0f + exponential(-x)), ~zero);
}

vf hard_swish(vf x) {
    vf t = x + 3.0f;
    t = select(t < splat(0.0f), splat(0.0f), t);
    t = select(t > splat(6.0f), splat(6.0f), t);
    return x * t / 6.0f;
}
vf rectify(vf x) { return select(x < splat(0.0f), splat(0.0f), x); }

}  // namespace
}  // namespace CONVATTN_ISA
