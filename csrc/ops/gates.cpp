// A map times gates, and the gradient of such a map.
#include "gates.h"
#include "operators.h"
#include "pieces.h"

namespace convattn {

Tensor gated(const Tensor& x, const Tensor& a, const Tensor& b, const Tensor& mean,
             const Tensor& row, const Tensor& column) {
    const Map map(x);
    const auto [kind_a, kind_b] = kinds_of(a, b, map);
    const Values va(a, map, kind_a), vb(b, map, kind_b), vm(mean, map, kind_of(mean, map));
    const Values vr(row, map, kind_of(row, map)), vc(column, map, kind_of(column, map));
    // a map of one row or column has strips that look like something else, but lie the same
    if ((mean && vm.image != map.shape.channels) || bool(row) != bool(column) ||
        (row && vr.image != map.shape.channels * map.shape.height) ||
        (column && vc.image != map.shape.channels * map.shape.width)) {
        refuse("what is added does not fit the map");
    }
    const Sum sum = row ? PER_STRIP : mean ? PER_CHANNEL : NOTHING;
    Tensor y = empty_like(x);
    typed(x, [&](auto* data) {
        auto* to = static_cast<decltype(data)>(y.data);
        const auto* end = data + map.n * map.image;
        const int64_t height = map.shape.height, line = map.shape.width * map.shape.channels;
        if (!map.last) {
            const Gates gates = {va.kind, vb.kind, va.all(), vb.all()};
            const Added added = {sum, vm.all(), vr.all(), vc.all()};
            parallel(map.n * map.shape.channels, map.positions, [&](int64_t first, int64_t last) {
                table(data).gating->gate(gates, added, data, end, to, first, last, map.shape,
                                          map.large);
            });
            return;
        }
        parallel(map.n * height, line, [&](int64_t first, int64_t last) {
            auto* limit = to + last * line;
            while (first < last) {
                const int64_t n = first / height, from = first % height;
                const int64_t until = std::min(height, from + last - first);
                const Gates gates = {va.kind, vb.kind, va.of_image(n), vb.of_image(n)};
                const Added added = {sum, vm.of_image(n), vr.of_image(n), vc.of_image(n)};
                table(data).gating->gate_last(gates, added, data + n * map.image, end, to + n * map.image,
                                      limit, from, until, map.shape, map.large);
                first += until - from;
            }
        });
    });
    return y;
}

void apply_gates(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]), a = take(stack[1]), b = take_optional(stack[2]);
    const Tensor none(nullptr);
    stack[0] = gated(x, a, b, none, none, none).release();
}

void map_gradient(Stack stack, uint64_t, uint64_t) {
    const Tensor dy = take(stack[0]), a = take(stack[1]), b = take_optional(stack[2]);
    const Tensor mean = take_optional(stack[3]), row = take_optional(stack[4]);
    const Tensor column = take_optional(stack[5]);
    stack[0] = gated(dy, a, b, mean, row, column).release();
}

}  // namespace convattn
