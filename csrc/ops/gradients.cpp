// The gradients of gates.
#include "gates.h"
#include "operators.h"
#include "pieces.h"

namespace convattn {
namespace {

// The gradient of a gate, of its shape and type.
class Gradient {
   public:
    Gradient(const Tensor& gate, Kind kind, const Map& map)
        : tensor_(kind == NONE ? empty({0}, aoti_torch_dtype_float32())
                               : empty({gate.sizes, gate.sizes + 4}, gate.dtype)),
          wide_(tensor_, kind == POSITION), kind_(kind), map_(map) {}

    float* values() const { return wide_.values; }
    Strip of_image(int64_t n) const {
        const int64_t length = kind_ == ROW      ? map_.shape.height
                               : kind_ == COLUMN ? map_.shape.width
                                                 : 1;
        return {wide_.values + n * (tensor_.numel() / map_.n), kind_ == POSITION ? 0 : length, 1};
    }
    Tensor finish() {
        wide_.finish();
        return std::move(tensor_);
    }

   private:
    Tensor tensor_;
    Wide wide_;
    Kind kind_;
    const Map& map_;
};

}  // namespace

std::pair<Tensor, Tensor> gradients_of_gates(const Tensor& dy, const Tensor& x, const Tensor& a,
                                             const Tensor& b) {
    const Map map(x);
    check_gradient(dy, x, map);
    const auto [kind_a, kind_b] = kinds_of(a, b, map);
    const Values va(a, map, kind_a), vb(b, map, kind_b);
    Gradient da(a, va.kind, map), db(b, vb.kind, map);
    typed(x, [&](auto* data) {
        const auto* from = static_cast<decltype(data)>(dy.data);
        const int64_t channels = map.shape.channels, size = map.n * map.image;
        const bool positions = va.kind == POSITION || vb.kind == POSITION;
        if (!map.last) {
            const Gates gates = {va.kind, vb.kind, va.all(), vb.all()};
            const int64_t together = positions ? channels : 1;  // planes that one thread takes
            parallel(map.n * channels / together, together * map.positions,
                     [&](int64_t first, int64_t last) {
                         table(data).gradients->reduce(gates, from, data, size,
                                                       first * together, last * together,
                                                       map.shape, da.values(), db.values());
                     });
            return;
        }
        const int64_t parts = positions ? 1 : (channels + 15) / 16;
        parallel(map.n * parts, map.image / parts, [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last;) {
                const int64_t n = i / parts, at = n * map.image;
                const int64_t part = i % parts, count = std::min(parts - part, last - i);
                const Gates gates = {va.kind, vb.kind, va.of_image(n), vb.of_image(n)};
                table(data).gradients->reduce_last(
                    gates, from + at, data + at, size - at, part * 16,
                    positions ? channels : std::min(channels, (part + count) * 16), map.shape,
                    da.of_image(n), db.of_image(n));
                i += count;
            }
        });
    });
    return {da.finish(), db.finish()};
}

void gate_gradients(Stack stack, uint64_t, uint64_t) {
    const Tensor dy = take(stack[0]), x = take(stack[1]), a = take(stack[2]);
    const Tensor b = take_optional(stack[3]);
    auto [da, db] = gradients_of_gates(dy, x, a, b);
    stack[0] = da.release();
    stack[1] = db.release();
}

}  // namespace convattn
