// What the kernels compute, one table of them for each kind of processor.
#pragma once

#include <cstdint>

namespace convattn {

// Over which axes a gate of a map (N, C, H, W) extends besides N.
enum Kind { NONE, CHANNEL, ROW, COLUMN, POSITION };  // -, (N,C,1,1), (N,C,H,1), (N,C,1,W), (N,1,H,W)

// A gate as the kernels read it: float32. For maps of contiguous format its layout is its tensor's;
// for channels_last it is of one image with the channels last, and 16 values may be read behind it.
struct Gate {
    const float* data;
    const float* end;  // behind the last value that may be read
};

struct Gates {
    Kind kind_a, kind_b;
    Gate a, b;
};

// What is added to y = x * a * b, a gate's layout each: values by row and by column, or by channel.
enum Sum { NOTHING, PER_CHANNEL, PER_STRIP };
struct Added {
    Sum sum;
    Gate channel, row, column;
};

struct GateSum {
    Gate row, column, position;
    float scale;
};

struct Shape {
    int64_t channels, height, width;
};

// Where means and gradients go, of channel c and place i: to[c * channel + i * place].
struct Strip {
    float* to;
    int64_t channel, place;
};

// The tables hold functions of one thread, which the files of kernels/ fill. A range of planes is of
// one tensor (N * C planes of H * W values); `end` of a tensor is where its memory ends. T is float,
// or uint16_t for bfloat16.
template <class T>
struct Means {
    // Means of each plane over its columns and over its rows; Strip.channel steps from plane to plane.
    void (*strip_means)(const T* x, const T* end, int64_t planes, Shape shape, Strip rows,
                        Strip columns);
    void (*means)(const T* x, const T* end, int64_t planes, int64_t size, float* to);
    // The same of channels [first, last) of one image whose channels are last.
    void (*strip_means_last)(const T* x, const T* end, Shape shape, int64_t first, int64_t last,
                             Strip rows, Strip columns);
    void (*means_last)(const T* x, const T* end, Shape shape, int64_t first, int64_t last,
                       float* to);
};

template <class T>
struct Gating {
    // y = x * a * b + (what is added) on planes [first, last) of the tensor; a `large` one is
    // written past the caches.
    void (*gate)(Gates gates, Added added, const T* x, const T* end, T* y, int64_t first,
                 int64_t last, Shape shape, bool large);
    // On rows [first, last) of one image; `limit` ends what this thread may write.
    void (*gate_last)(Gates gates, Added added, const T* x, const T* end, T* y, T* limit,
                      int64_t first, int64_t last, Shape shape, bool large);
    // y = x * scale * (a gate by row + one by column + one by position), likewise; `more` may be
    // missing, or is such a sum that is added.
    void (*mean_gate)(GateSum gates, const GateSum* more, const T* x, const T* end, T* y,
                      int64_t first, int64_t last, Shape shape);
    void (*mean_gate_last)(GateSum gates, const GateSum* more, const T* x, const T* end, T* y,
                           T* limit, int64_t first, int64_t last, Shape shape);
};

template <class T>
struct Statistics {
    // Of each plane: the largest value, the sum of (x - mean)^2, and the sum of x * weight, with a
    // weight for each position.
    void (*maxima)(const T* x, const T* end, int64_t planes, int64_t size, float* to);
    void (*squares)(const T* x, const T* end, int64_t planes, int64_t size, const float* mean,
                    float* to);
    void (*weighted)(const T* x, const T* end, int64_t planes, int64_t size, const float* weight,
                     float* to);
    // Sums and largest values over the channels of one image, at positions [first, last), of
    // x * weight with a weight for each channel; without weights of x, without `most` sums alone.
    void (*over_channels)(const T* x, const T* end, Shape shape, const float* weight,
                          int64_t first, int64_t last, float* total, float* most);
    // The largest value of each row and of each column.
    void (*strip_maxima)(const T* x, const T* end, int64_t planes, Shape shape, Strip rows,
                         Strip columns);
    // The same of channels or positions [first, last) of one image whose channels are last; 16
    // values may be read behind the weights.
    void (*maxima_last)(const T* x, const T* end, Shape shape, int64_t first, int64_t last,
                        float* to);
    void (*squares_last)(const T* x, const T* end, Shape shape, int64_t first, int64_t last,
                         const float* mean, float* to);
    void (*weighted_last)(const T* x, const T* end, Shape shape, int64_t first, int64_t last,
                          const float* weight, float* to);
    void (*over_channels_last)(const T* x, const T* end, Shape shape, const float* weight,
                               int64_t first, int64_t last, float* total, float* most);
    void (*strip_maxima_last)(const T* x, const T* end, Shape shape, int64_t first, int64_t last,
                              Strip rows, Strip columns);
};

template <class T>
struct Gradients {
    // The gradients da and db of y = x * a * b, in the layout of a and b, from planes [first, last)
    // of a tensor of `size` values; those of positions are added to.
    void (*reduce)(Gates gates, const T* dy, const T* x, int64_t size, int64_t first, int64_t last,
                   Shape shape, float* da, float* db);
    // From channels [first, last) of one image whose channels are last; the pointers are those of
    // the image and `size` is what may be read from there.
    void (*reduce_last)(Gates gates, const T* dy, const T* x, int64_t size, int64_t first,
                        int64_t last, Shape shape, Strip da, Strip db);
};

// The small network of coordinate attention: z (channels, places) to hidden values
// f = act(slope * (w z) + offset), (hidden, places), and these to gates. `step` is what lies between
// two rows of z and of f.
struct Encoding {
    int64_t channels, hidden, places, step;
    const float *w, *slope, *offset;
    bool relu;  // instead of h-swish
};

// scale * sigmoid(weight f + bias) for `length` places of f, those of one axis.
struct Decoding {
    int64_t channels, hidden;
    const float *weight, *bias;  // bias may be missing
    float scale;
    int64_t from, length, step;
};

// The hidden values of its training, (places, lanes): `count` channels, padded to vectors with room
// for one more, which is 1 behind the activation, so that a bias has its gradient as a weight has.
// Arrays of lanes.
struct Hidden {
    int64_t places, lanes, count;
    const float *slope, *offset, *mean;
    bool relu;
};

struct CoordinateNetwork {
    // The part of w z, (hidden, places), that channels [first, last) have.
    void (*encode)(Encoding in, int64_t first, int64_t last, const float* z, float* to);
    // f of `count` such parts, one behind the other.
    void (*activated)(Encoding in, const float* parts, int64_t count, float* f);
    // Gates (channels, length) of channels [first, last) at to + first * length.
    void (*decode)(Decoding out, const float* f, int64_t first, int64_t last, float* to);
    // (rows, columns) with rows `step` apart to (columns, rows) with columns `to_step` apart.
    void (*transpose)(const float* from, int64_t rows, int64_t columns, int64_t step, float* to,
                      int64_t to_step);
    // Gates (length, channels) of places [first, last); here weight is (hidden, channels).
    void (*decode_last)(Decoding out, const float* f, int64_t first, int64_t last, float* to);
    // For training.
    void (*activate)(Hidden hidden, const float* h, float* f);
    // Adds to sums, of each lane, the values or their squared distances from a centre.
    void (*moments)(Hidden hidden, const float* h, const float* centre, double* sums);
    // d becomes the gradient before the activation; adds to sums those of d and of d (h - mean).
    void (*through_activation)(Hidden hidden, const float* h, float* d, double* sums);
    // d = slope * (d - constant - linear (h - mean)).
    void (*through_norm)(Hidden hidden, const float* h, const float* constant, const float* linear,
                         float* d);
};

enum class Act { NONE, RELU, RELU6, SIGMOID };

// A convolution with one output plane: weight (planes, high, wide). Input planes are `plane` values
// apart and padded with zeros; rows are `step` apart, of the output `out_step`, at least its width in
// whole vectors of 16. 16 values may be read behind the input.
struct Convolution {
    const float* weight;
    int64_t planes, high, wide, plane, step, width, out_step;
};

// On values (channels, length), rows `step` apart, 16 readable behind them: scale * sigmoid of the
// normed values, or of their silu.
struct GroupNorm {
    int64_t channels, groups, length, step;
    const float *weight, *bias;  // both may be missing
    double eps;
    bool silu;
    float scale;
};

// out(i, v) = sum over k of a[i * row + k * step] * b[k * b_step + v], or added to it where the width
// is in whole vectors. 16 values may be read behind b.
struct Product {
    const float* a;
    int64_t row, step;
    const float* b;
    int64_t b_step, rows, length, width;
    float* out;
    int64_t out_step;
    bool add;
};

struct Layers {
    // out = w z + bias, w (rows, length); the bias may be missing.
    void (*dense)(const float* w, const float* bias, int64_t rows, int64_t length, const float* z,
                  float* out);
    // act(slope * value + offset) in place; `scale` is of the sigmoid. Values behind, up to whole
    // vectors, are spoilt.
    void (*apply)(float* values, int64_t n, float slope, float offset, Act act, float scale);
    // Rows [first, last) of the output.
    void (*convolve)(Convolution conv, const float* in, int64_t first, int64_t last, float* out);
    // Groups [first, last).
    void (*group_norm)(GroupNorm norm, float* values, int64_t first, int64_t last);
    void (*softmax)(float* values, int64_t size);
    void (*product)(Product product);
    // scale * sigmoid of each.
    void (*sigmoids)(float* values, int64_t n, float scale);
    // The gradient of such gates becomes that of what they are of.
    void (*through_sigmoid)(float* d, const float* gate, int64_t n, float scale);
};

// Where largest values go, and where they lie along the axis that is left out; as Strip.
struct Largest {
    float* most;
    int32_t* where;
    int64_t channel, place;
};

// The largest values, the first where there are several; arguments as in Statistics.
struct Extremes {
    void (*strips)(const float* x, const float* end, int64_t planes, Shape shape, Largest rows,
                   Largest columns);
    void (*over_channels)(const float* x, const float* end, Shape shape, const float* weight,
                          int64_t first, int64_t last, float* most, int32_t* where);
    void (*planes)(const float* x, const float* end, int64_t planes, int64_t size, float* most,
                   int32_t* where);
    void (*strips_last)(const float* x, const float* end, Shape shape, int64_t first, int64_t last,
                        Largest rows, Largest columns);
    void (*over_channels_last)(const float* x, const float* end, Shape shape, const float* weight,
                               int64_t first, int64_t last, float* most, int32_t* where);
    void (*planes_last)(const float* x, const float* end, Shape shape, int64_t first, int64_t last,
                        float* most, int32_t* where);
};

// dx = dy + the sum of channel[k][c] * position[k][i] for k = 0, 1, of one image. 16 values may be
// read behind each.
struct Outer {
    const float *channel[2], *position[2];
};

// dx = dy * gate + plus + slope * (x - mean), of an image, with a value for each channel. 16 values
// may be read behind each.
struct Deviations {
    const float *gate, *plus, *slope, *mean;
};

// dx = channel * (dy * position + shift) + plus, of an image: `channel` and `plus` have a value for
// each channel, `position` and `shift` for each position. 16 values may be read behind each.
struct Shifted {
    const float *channel, *position, *shift, *plus;
};

// What training has of its own, float32: sums of differences from means, and gradients of maps to
// which more leads than gates. The pointers are those of an image.
struct MapTerms {
    // Of each plane: the sums of x - mean and of its square.
    void (*moments)(const float* x, const float* end, int64_t planes, int64_t size,
                    const float* mean, float* sums, float* squares);
    void (*moments_last)(const float* x, const float* end, Shape shape, int64_t first, int64_t last,
                         const float* mean, float* sums, float* squares);
    // Of planes [first, last); `end` of dy's memory.
    void (*outer)(Outer terms, const float* dy, const float* end, float* dx, int64_t first,
                  int64_t last, Shape shape);
    // Of rows [first, last); `limit` ends what this thread may write.
    void (*outer_last)(Outer terms, const float* dy, const float* end, float* dx,
                       const float* limit, int64_t first, int64_t last, Shape shape);
    // Likewise.
    void (*shifted)(Shifted terms, const float* dy, const float* end, float* dx, int64_t first,
                    int64_t last, Shape shape);
    void (*shifted_last)(Shifted terms, const float* dy, const float* end, float* dx,
                         const float* limit, int64_t first, int64_t last, Shape shape);
    // Likewise; `size` is what may be read from dy and from x.
    void (*deviations)(Deviations terms, const float* dy, const float* x, int64_t size, float* dx,
                       int64_t first, int64_t last, Shape shape);
    void (*deviations_last)(Deviations terms, const float* dy, const float* x, int64_t size,
                            float* dx, const float* limit, int64_t first, int64_t last,
                            Shape shape);
};

template <class T>
struct Table {
    const Means<T>* means;
    const Gating<T>* gating;
    const Statistics<T>* statistics;
    const Gradients<T>* gradients;
};

struct Kernels {
    const CoordinateNetwork* coordinate_network;
    const Layers* layers;
    const Extremes* extremes;
    const MapTerms* map_terms;
    Table<float> full;
    Table<uint16_t> half;
    const char* name;
};

extern const Kernels kernels_baseline;
#ifdef CONVATTN_X86
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif

}  // namespace convattn
