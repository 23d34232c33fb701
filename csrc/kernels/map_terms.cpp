// Differences from means, and gradients of maps to which more leads than gates.
#include "common.h"

namespace CONVATTN_ISA {
namespace {

using convattn::Deviations;
using convattn::Outer;
using convattn::Shifted;

// Of each lane the sums of `count` vectors at(i) and of their squares, in short chains.
template <class At>
void add_up(int64_t count, const At& at, double* sums, double* squares) {
    for (int64_t from = 0; from < count; from += 4 * CHAIN) {
        const int64_t to = least(count, from + 4 * CHAIN);
        vf one[4] = {}, two[4] = {};
        const auto add = [&](int k, vf v) {
            one[k] += v;
            two[k] += v * v;
        };
        int64_t i = from;
        for (; i + 4 <= to; i += 4) {
            for (int k = 0; k < 4; ++k) add(k, at(i + k));
        }
        for (; i < to; ++i) add(0, at(i));
        const vf sum_one = (one[0] + one[1]) + (one[2] + one[3]);
        const vf sum_two = (two[0] + two[1]) + (two[2] + two[3]);
        for (int64_t l = 0; l < LANES; ++l) sums[l] += sum_one[l], squares[l] += sum_two[l];
    }
}

void moments(const float* x, const float* end, int64_t planes, int64_t size, const float* mean,
             float* sums, float* squares) {
    for (int64_t p = 0; p < planes; ++p, x += size) {
        const vf m = splat(mean[p]);
        double one[LANES] = {}, two[LANES] = {};
        add_up(size / LANES, [&](int64_t i) { return load(x + i * LANES) - m; }, one, two);
        const int64_t done = size / LANES * LANES, left = size - done;
        if (left > 0) {
            add_up(1, [&](int64_t) {
                return keep(load_any(x + done, left, end) - m, first(left));
            }, one, two);
        }
        double all_one = 0, all_two = 0;
        for (int64_t l = 0; l < LANES; ++l) all_one += one[l], all_two += two[l];
        sums[p] = (float)all_one;
        squares[p] = (float)all_two;
    }
}

void moments_last(const float* x, const float* end, Shape shape, int64_t first, int64_t last,
                  const float* mean, float* sums, float* squares) {
    for (int64_t c = first; c < last; c += LANES) {
        const int64_t count = least(LANES, last - c);
        const vf m = load_first(mean + c, count);
        double one[LANES] = {}, two[LANES] = {};
        add_up(shape.height * shape.width, [&](int64_t i) {
            return load_any(x + i * shape.channels + c, count, end) - m;
        }, one, two);
        for (int64_t l = 0; l < count; ++l) {
            sums[c + l] = (float)one[l];
            squares[c + l] = (float)two[l];
        }
    }
}

// Writes `size` values, at(place, read) each vector of them; read(from, end) gives a vector.
template <class At>
void write(float* to, int64_t size, const float* limit, const At& at) {
    if (size < LANES) {
        const auto some = [size](const float* from, const float* end) {
            return load_any(from, size, end);
        };
        return store_within(to, at(0, some), size, limit);
    }
    const auto whole = [](const float* from, const float*) { return load(from); };
    for (int64_t from = 0; from < size; from += LANES) {
        const int64_t i = least(from, size - LANES);  // the last vector begins earlier
        store(to + i, at(i, whole));
    }
}

void outer(Outer terms, const float* dy, const float* end, float* dx, int64_t first, int64_t last,
           Shape shape) {
    const int64_t size = shape.height * shape.width;
    for (int64_t c = first; c < last; ++c) {
        const vf a = splat(terms.channel[0][c]), b = splat(terms.channel[1][c]);
        write(dx + c * size, size, dx + last * size, [&](int64_t i, const auto& read) {
            return read(dy + c * size + i, end) + a * load(terms.position[0] + i) +
                   b * load(terms.position[1] + i);
        });
    }
}

void outer_last(Outer terms, const float* dy, const float* end, float* dx, const float* limit,
                int64_t first, int64_t last, Shape shape) {
    const int64_t channels = shape.channels;
    for (int64_t i = first * shape.width; i < last * shape.width; ++i) {
        const vf a = splat(terms.position[0][i]), b = splat(terms.position[1][i]);
        write(dx + i * channels, channels, limit, [&](int64_t c, const auto& read) {
            return read(dy + i * channels + c, end) + a * load(terms.channel[0] + c) +
                   b * load(terms.channel[1] + c);
        });
    }
}

void shifted(Shifted terms, const float* dy, const float* end, float* dx, int64_t first,
             int64_t last, Shape shape) {
    const int64_t size = shape.height * shape.width;
    for (int64_t c = first; c < last; ++c) {
        const vf channel = splat(terms.channel[c]), plus = splat(terms.plus[c]);
        write(dx + c * size, size, dx + last * size, [&](int64_t i, const auto& read) {
            return channel * (read(dy + c * size + i, end) * load(terms.position + i) +
                              load(terms.shift + i)) +
                   plus;
        });
    }
}

void shifted_last(Shifted terms, const float* dy, const float* end, float* dx, const float* limit,
                  int64_t first, int64_t last, Shape shape) {
    const int64_t channels = shape.channels;
    for (int64_t i = first * shape.width; i < last * shape.width; ++i) {
        const vf position = splat(terms.position[i]), shift = splat(terms.shift[i]);
        write(dx + i * channels, channels, limit, [&](int64_t c, const auto& read) {
            return load(terms.channel + c) *
                       (read(dy + i * channels + c, end) * position + shift) +
                   load(terms.plus + c);
        });
    }
}

void deviations(Deviations terms, const float* dy, const float* x, int64_t size, float* dx,
                int64_t first, int64_t last, Shape shape) {
    const int64_t plane = shape.height * shape.width;
    for (int64_t c = first; c < last; ++c) {
        const vf gate = splat(terms.gate[c]), plus = splat(terms.plus[c]);
        const vf slope = splat(terms.slope[c]), mean = splat(terms.mean[c]);
        write(dx + c * plane, plane, dx + last * plane, [&](int64_t i, const auto& read) {
            const int64_t at = c * plane + i;
            return read(dy + at, dy + size) * gate + plus +
                   slope * (read(x + at, x + size) - mean);
        });
    }
}

void deviations_last(Deviations terms, const float* dy, const float* x, int64_t size, float* dx,
                     const float* limit, int64_t first, int64_t last, Shape shape) {
    const int64_t channels = shape.channels;
    for (int64_t i = first * shape.width; i < last * shape.width; ++i) {
        write(dx + i * channels, channels, limit, [&](int64_t c, const auto& read) {
            const int64_t at = i * channels + c;
            return read(dy + at, dy + size) * load(terms.gate + c) + load(terms.plus + c) +
                   load(terms.slope + c) * (read(x + at, x + size) - load(terms.mean + c));
        });
    }
}

}  // namespace

const convattn::MapTerms map_terms = {moments, moments_last, outer,      outer_last,
                                      shifted, shifted_last, deviations, deviations_last};

}  // namespace CONVATTN_ISA
