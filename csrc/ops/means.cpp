// Pooling.
#include "operators.h"
#include "pieces.h"

namespace convattn {

std::pair<Tensor, Tensor> strip_means_of(const Tensor& x) {
    const Map map(x);
    const auto [channels, height, width] = map.shape;
    Tensor rows = empty({map.n, channels, height}, x.dtype);
    Tensor columns = empty({map.n, channels, width}, x.dtype);
    const Wide r(rows), k(columns);
    typed(x, [&, channels = channels, height = height, width = width](auto* data) {
        const auto* end = data + map.n * map.image;
        if (!map.last) {
            parallel(map.n * channels, map.positions, [&](int64_t first, int64_t last) {
                table(data).means->strip_means(data + first * map.positions, end, last - first,
                                        map.shape, {r.values + first * height, height, 1},
                                        {k.values + first * width, width, 1});
            });
            return;
        }
        const int64_t parts = (channels + 15) / 16;
        parallel(map.n * parts, 16 * map.positions, [&](int64_t first, int64_t last) {
            while (first < last) {
                const int64_t n = first / parts, from = first % parts;
                const int64_t to = std::min(parts, from + last - first);
                table(data).means->strip_means_last(
                    data + n * map.image, end, map.shape, from * 16, std::min(channels, to * 16),
                    {r.values + n * channels * height, height, 1},
                    {k.values + n * channels * width, width, 1});
                first += to - from;
            }
        });
    });
    r.finish();
    k.finish();
    return {std::move(rows), std::move(columns)};
}

void strip_means(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]);
    auto [rows, columns] = strip_means_of(x);
    stack[0] = rows.release();
    stack[1] = columns.release();
}

Tensor means_of(const Tensor& x) {
    const Map map(x);
    const int64_t channels = map.shape.channels;
    Tensor mean = empty({map.n, channels}, x.dtype);
    const Wide m(mean);
    typed(x, [&](auto* data) {
        const auto* end = data + map.n * map.image;
        if (!map.last) {
            parallel(map.n * channels, map.positions, [&](int64_t first, int64_t last) {
                table(data).means->means(data + first * map.positions, end, last - first, map.positions,
                                  m.values + first);
            });
            return;
        }
        const int64_t parts = (channels + 15) / 16;
        parallel(map.n * parts, 16 * map.positions, [&](int64_t first, int64_t last) {
            while (first < last) {
                const int64_t n = first / parts, from = first % parts;
                const int64_t to = std::min(parts, from + last - first);
                table(data).means->means_last(data + n * map.image, end, map.shape, from * 16,
                                       std::min(channels, to * 16), m.values + n * channels);
                first += to - from;
            }
        });
    });
    m.finish();
    return mean;
}

void global_mean(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]);
    stack[0] = means_of(x).release();
}

}  // namespace convattn
