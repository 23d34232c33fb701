// Pooling and gating, for the operators that are made of them.
#pragma once

#include <utility>

#include "tensor.h"

namespace convattn {

// (N, C) of a map's type.
Tensor means_of(const Tensor& x);
// (N, C, H) and (N, C, W).
std::pair<Tensor, Tensor> strip_means_of(const Tensor& x);

// x * a * b + (a value for each channel, or one for each row and one for each column); what is
// missing is an empty handle.
Tensor gated(const Tensor& x, const Tensor& a, const Tensor& b, const Tensor& mean,
             const Tensor& row, const Tensor& column);

// The gradients of a and b in y = x * a * b.
std::pair<Tensor, Tensor> gradients_of_gates(const Tensor& dy, const Tensor& x, const Tensor& a,
                                             const Tensor& b);

// Runs on channels [first, last) of image n, or on its rows, in any order: an image to a thread, or
// all threads on one image where there are few.
template <class Run>
void parts(const Map& map, bool rows, const Run& run) {
    uint32_t threads = 1;
    check(torch_get_num_threads(&threads));
    const int64_t whole = rows ? map.shape.height : map.shape.channels, unit = rows ? 1 : 16;
    const int64_t units = map.n >= threads ? 1 : (whole + unit - 1) / unit;
    const int64_t step = units == 1 ? whole : unit;
    parallel(map.n * units, map.image / units, [&](int64_t from, int64_t to) {
        while (from < to) {
            const int64_t n = from / units, part = from % units;
            const int64_t until = std::min(units, part + to - from);
            run(n, part * step, std::min(whole, until * step));
            from += until - part;
        }
    });
}

// Writes a map y from a map x: calls write(n, from, to, limit, first, last) for channels of image n,
// or for its rows in channels_last; `limit` ends what that call may write.
template <class Write>
void written(const Map& map, const float* x, float* y, const Write& write) {
    const int64_t unit = map.last ? map.shape.width * map.shape.channels : map.positions;
    parts(map, map.last, [&](int64_t n, int64_t first, int64_t last) {
        float* to = y + n * map.image;
        write(n, x + n * map.image, to, to + last * unit, first, last);
    });
}

}  // namespace convattn
