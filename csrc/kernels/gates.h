// How a kernel reads the gates of a map.
#pragma once

#include "common.h"

namespace CONVATTN_ISA {
namespace {

// A gate on one row of a plane: one value, or a vector at each w.
struct OnRow {
    vf value;
    const float* vector;
};

template <Kind K>
OnRow on_row(Gate gate, int64_t plane, int64_t h, Shape shape) {
    if constexpr (K == CHANNEL) return {splat(gate.data[plane]), nullptr};
    if constexpr (K == ROW) return {splat(gate.data[plane * shape.height + h]), nullptr};
    if constexpr (K == COLUMN) return {vf{}, gate.data + plane * shape.width};
    if constexpr (K == POSITION) {
        const int64_t image = plane / shape.channels;
        return {vf{}, gate.data + (image * shape.height + h) * shape.width};
    }
    return {vf{}, nullptr};
}

template <Kind K>
vf value_at(const OnRow& gate, int64_t w) {
    if constexpr (K == COLUMN || K == POSITION) return load(gate.vector + w);
    return gate.value;
}
template <Kind K>
vf value_at_end(const OnRow& gate, int64_t w, int64_t n, const float* end) {
    if constexpr (K == COLUMN || K == POSITION) return load_any(gate.vector + w, n, end);
    return gate.value;
}

constexpr bool by_position(Kind kind) { return kind != ROW && kind != COLUMN; }

// Whole planes can be taken as one row each.
template <Kind A, Kind B>
Shape in_rows(Shape shape) {
    if (by_position(A) && by_position(B)) return {shape.channels, 1, shape.height * shape.width};
    return shape;
}

template <Kind B>
vf times(vf x, vf a, vf b) {
    const vf y = x * a;
    if constexpr (B == NONE) return y;
    return y * b;
}

// Calls run with the struct of these kinds of gates; the same pairs as in ops/apply_gates/op.py.
template <template <Kind, Kind> class Of, class Run>
void with_kinds(Gates gates, Run run) {
    const Kind a = gates.kind_a, b = gates.kind_b;
    if (a == CHANNEL && b == NONE) run(Of<CHANNEL, NONE>{});
    if (a == ROW && b == NONE) run(Of<ROW, NONE>{});
    if (a == COLUMN && b == NONE) run(Of<COLUMN, NONE>{});
    if (a == POSITION && b == NONE) run(Of<POSITION, NONE>{});
    if (a == ROW && b == COLUMN) run(Of<ROW, COLUMN>{});
    if (a == COLUMN && b == ROW) run(Of<COLUMN, ROW>{});
    if (a == CHANNEL && b == POSITION) run(Of<CHANNEL, POSITION>{});
}

}  // namespace
}  // namespace CONVATTN_ISA
