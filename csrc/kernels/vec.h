// As many floats at a time as a register holds: the compiler keeps wider vectors in memory.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace CONVATTN_ISA {

#if defined(__AVX512F__)
constexpr int64_t LANES = 16;
#elif defined(__AVX2__)
constexpr int64_t LANES = 8;
#else
constexpr int64_t LANES = 4;
#endif
#if defined(__AVX512F__) || !defined(CONVATTN_X86)
constexpr bool MANY_REGISTERS = true;  // 32
#else
constexpr bool MANY_REGISTERS = false;  // 16
#endif

using vf = float __attribute__((vector_size(4 * LANES)));
using vi = int32_t __attribute__((vector_size(4 * LANES)));
using vu = uint32_t __attribute__((vector_size(4 * LANES)));
using vh = uint16_t __attribute__((vector_size(2 * LANES)));
using v8 = float __attribute__((vector_size(32)));
using v4 = float __attribute__((vector_size(16)));
using h8 = uint16_t __attribute__((vector_size(16)));
using bf16 = uint16_t;  // the upper half of a float

inline vf splat(float value) { return vf{} + value; }

inline vf widen(vh bits) {
    return (vf)(__builtin_convertvector(bits, vu) << 16);
}

inline vh narrow(vf value) {  // to nearest, ties to even; NaN stays NaN
    const vu bits = (vu)value;
    const vu rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const vi number = value == value;  // -1 in the lanes that are no NaN
    return __builtin_convertvector((vu)(((vi)rounded & number) | (0x7fc0 & ~number)), vh);
}

inline vf load(const float* from) {
    vf value;
    std::memcpy(&value, from, sizeof value);
    return value;
}
inline vf load(const bf16* from) {
    vh bits;
    std::memcpy(&bits, from, sizeof bits);
    return widen(bits);
}
inline void store(float* to, vf value) { std::memcpy(to, &value, sizeof value); }
inline void store(bf16* to, vf value) {
    const vh bits = narrow(value);
    std::memcpy(to, &bits, sizeof bits);
}

// As store, but past the caches, to an address of a whole vector; then finish_streams().
#if defined(__AVX2__)
inline void stream_8(float* to, v8 value) { _mm256_stream_ps(to, (__m256)value); }
inline void stream_8(bf16* to, h8 bits) { _mm_stream_si128((__m128i*)to, (__m128i)bits); }
#if defined(__AVX512F__)
template <class T, class V>
inline void stream_all(T* to, V values) {
    stream_8(to, __builtin_shufflevector(values, values, 0, 1, 2, 3, 4, 5, 6, 7));
    stream_8(to + 8, __builtin_shufflevector(values, values, 8, 9, 10, 11, 12, 13, 14, 15));
}
#else
template <class T, class V>
inline void stream_all(T* to, V values) { stream_8(to, values); }
#endif
inline void stream(float* to, vf value) { stream_all(to, value); }
inline void stream(bf16* to, vf value) { stream_all(to, narrow(value)); }
inline void finish_streams() { _mm_sfence(); }
#else
template <class T>
inline void stream(T* to, vf value) { store(to, value); }
inline void finish_streams() {}
#endif

// -1 in the first n lanes.
inline vi first(int64_t n) {
    constexpr int32_t numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    vi lane;
    std::memcpy(&lane, numbers, sizeof lane);
    return lane < (vi{} + (int32_t)n);
}
inline vi last(int64_t n) { return ~first(LANES - n); }
inline vf keep(vf value, vi mask) { return (vf)((vi)value & mask); }

template <class T>
inline vf load_first(const T* from, int64_t n) {  // reads n values, the others are 0
    T copy[LANES] = {};
    std::memcpy(copy, from, n * sizeof(T));
    return load(copy);
}
template <class T>
inline void store_first(T* to, vf value, int64_t n) {
    T copy[LANES];
    store(copy, value);
    std::memcpy(to, copy, n * sizeof(T));
}
// As load_first; reads beyond the n values where memory up to `end` allows it, which is faster.
template <class T>
inline vf load_within(const T* from, int64_t n, const T* end) {
    return from + LANES <= end ? keep(load(from), first(n)) : load_first(from, n);
}
// Writes n values; may spoil those behind them, which the caller writes later, up to `end`.
template <class T>
inline void store_within(T* to, vf value, int64_t n, const T* end) {
    if (to + LANES <= end) {
        store(to, value);
    } else {
        store_first(to, value, n);
    }
}

// Its values in fours, combined: both(v0 v1 v2 v3, v4 v5 v6 v7), ...
template <class Both>
inline v4 in_fours(vf v, const Both& both) {
#if defined(__AVX512F__)
    const v8 half = both(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7),
                         __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
#else
    const vf half = v;
#endif
#if defined(__AVX2__)
    return both(__builtin_shufflevector(half, half, 0, 1, 2, 3),
                __builtin_shufflevector(half, half, 4, 5, 6, 7));
#else
    return half;
#endif
}

inline v4 quarters(vf v) {  // sums of lanes 4 apart
    return in_fours(v, [](auto a, auto b) { return a + b; });
}

inline float sum(vf v) {
    const v4 q = quarters(v);
    return (q[0] + q[2]) + (q[1] + q[3]);
}

// The four sums of four vectors.
inline v4 sums(vf a, vf b, vf c, vf d) {
#if defined(__AVX512F__)
    const vf ab = __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28,
                                          13, 29) +
                  __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30,
                                          15, 31);
    const vf cd = __builtin_shufflevector(c, d, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28,
                                          13, 29) +
                  __builtin_shufflevector(c, d, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30,
                                          15, 31);
    const vf all = __builtin_shufflevector(ab, cd, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13,
                                           28, 29) +
                   __builtin_shufflevector(ab, cd, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14,
                                           15, 30, 31);
    return quarters(all);
#else
    const v4 qa = quarters(a), qb = quarters(b), qc = quarters(c), qd = quarters(d);
    const v4 ab = __builtin_shufflevector(qa, qb, 0, 4, 1, 5) +
                  __builtin_shufflevector(qa, qb, 2, 6, 3, 7);
    const v4 cd = __builtin_shufflevector(qc, qd, 0, 4, 1, 5) +
                  __builtin_shufflevector(qc, qd, 2, 6, 3, 7);
    return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
#endif
}

}  // namespace CONVATTN_ISA
