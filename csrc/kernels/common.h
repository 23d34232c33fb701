// What the kernels of one kind of processor share. CONVATTN_ISA is its name.
//
// Nothing of the standard library is instantiated in these files: the linker keeps one copy of a
// template's functions, and it could be the one for another processor.
#pragma once

#include <cstdlib>

#include "../kernels.h"
#include "vec.h"

namespace CONVATTN_ISA {

using convattn::Added;
using convattn::Gate;
using convattn::Gates;
using convattn::Kind;
using convattn::Shape;
using convattn::Strip;
using convattn::CHANNEL;
using convattn::COLUMN;
using convattn::NONE;
using convattn::NOTHING;
using convattn::PER_CHANNEL;
using convattn::PER_STRIP;
using convattn::POSITION;
using convattn::ROW;

// The tables of the files beside this one.
extern const convattn::Means<float> means_full;
extern const convattn::Means<uint16_t> means_half;
extern const convattn::Gating<float> gating_full;
extern const convattn::Gating<uint16_t> gating_half;
extern const convattn::Gradients<float> gradients_full;
extern const convattn::Gradients<uint16_t> gradients_half;
extern const convattn::Statistics<float> statistics_full;
extern const convattn::Statistics<uint16_t> statistics_half;
extern const convattn::CoordinateNetwork coordinate_network;
extern const convattn::Layers layers;
extern const convattn::Extremes extremes;
extern const convattn::MapTerms map_terms;

namespace {

// Float sums are taken over at most this many values in a lane; longer ones are sums of such sums.
constexpr int64_t CHAIN = 64;

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

void zero(float* values, int64_t n) { std::memset(values, 0, n * sizeof(float)); }

struct Scratch {
    float* values = nullptr;
    int64_t size = 0;
    ~Scratch() { std::free(values); }
};

float* scratch(int64_t size) {  // of this thread
    thread_local Scratch kept;
    if (kept.size < size) {
        std::free(kept.values);
        kept.values = static_cast<float*>(std::malloc(size * sizeof(float)));
        if (kept.values == nullptr) std::abort();
        kept.size = size;
    }
    return kept.values;
}

template <int N>
struct Number {
    static constexpr int value = N;
};

// Calls run(Number<R>) with the smallest R that needs no more steps for `count` than R = Most does:
// 8 in steps of at most 6 are 4 and 4.
template <int Most, class Run>
void in_even_steps(int64_t count, const Run& run) {
    if constexpr (Most > 1) {
        const int64_t steps = (count + Most - 1) / Most;
        if (count <= (Most - 1) * steps) return in_even_steps<Most - 1>(count, run);
    }
    run(Number<Most>());
}

int64_t whole_vectors(int64_t size) { return (size + LANES - 1) / LANES * LANES; }

template <class T>
vf load_any(const T* from, int64_t n, const T* end) {  // n values; anything in the other lanes
    return from + LANES <= end ? load(from) : load_first(from, n);
}

}  // namespace
}  // namespace CONVATTN_ISA
