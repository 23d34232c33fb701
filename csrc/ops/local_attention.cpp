// Efficient local attention in evaluation: gates for rows and columns from convolved strips.
#include "operators.h"
#include "whole.h"

namespace convattn {
namespace {

// The means along one axis, their convolution and norm, and the gates.
class AxisGates {
   public:
    AxisGates(Room& room, const Map& map, const Tensor& conv, const Tensor& gamma, const Tensor& beta,
           int64_t groups, double eps, bool silu, float scale, int64_t length)
        : layers_(*kernels().layers), map_(map), length_(length) {
        const int64_t channels = map.shape.channels;
        if (conv.dim != 3 || conv.sizes[0] != channels || channels % conv.sizes[1] ||
            conv.sizes[2] % 2 == 0 || groups < 1 || channels % groups) {
            refuse("expected a grouped convolution with an odd kernel, and a norm that fits");
        }
        per_ = conv.sizes[1], k_ = conv.sizes[2];
        weight_.reset(new Parameter(conv, channels * per_ * k_));
        gamma_.reset(new Parameter(gamma, channels));
        beta_.reset(new Parameter(beta, channels));
        step = length + k_ - 1;
        wide_ = padded(length);
        in_ = room.take(channels * step + 16);
        out_ = room.take(channels * wide_);
        gates = room.take(channels * length);
        norm_ = {channels, groups, length, wide_, gamma_->values, beta_->values, eps, silu, scale};
    }
    int64_t place() const { return in_ + k_ / 2; }
    Pass pass() const {  // a group of the norm together with its convolutions
        const int64_t together = norm_.channels / norm_.groups;
        return {norm_.groups, together * length_ * per_ * k_,
                [=, this](float* room, int64_t, int64_t first, int64_t last) {
                    for (int64_t c = first * together; c < last * together; ++c) {
                        layers_.convolve({weight_->values + c * per_ * k_, per_, 1, k_, step, step,
                                          length_, wide_},
                                         room + in_ + c / per_ * per_ * step, 0, 1,
                                         room + out_ + c * wide_);
                    }
                    layers_.group_norm(norm_, room + out_, first, last);
                    for (int64_t c = first * together; c < last * together; ++c) {
                        const float* row = room + out_ + c * wide_;
                        if (!map_.last) {
                            std::memcpy(room + gates + c * length_, row, length_ * sizeof(float));
                            continue;
                        }
                        float* to = room + gates + c;
                        for (int64_t l = 0; l < length_; ++l) to[l * norm_.channels] = row[l];
                    }
                }};
    }
    int64_t gates = 0, step = 0;

   private:
    const Layers& layers_;
    const Map& map_;
    int64_t length_, per_ = 0, k_ = 0, wide_ = 0, in_ = 0, out_ = 0;
    std::unique_ptr<Parameter> weight_, gamma_, beta_;
    GroupNorm norm_{};
};

}  // namespace

// x; conv, gamma, beta of the rows and of the columns; groups, eps, silu, scale
void local_attention(Stack stack, uint64_t, uint64_t) {
    const Tensor x = take(stack[0]), conv_h = take(stack[1]), gamma_h = take_optional(stack[2]);
    const Tensor beta_h = take_optional(stack[3]), conv_w = take(stack[4]);
    const Tensor gamma_w = take_optional(stack[5]), beta_w = take_optional(stack[6]);
    const auto groups = (int64_t)stack[7];
    const double eps = number(stack[8]);
    const bool silu = truth(stack[9]);
    const auto scale = (float)number(stack[10]);
    const Map map(x);
    Tensor y = empty_like(x);
    Room room;
    const AxisGates rows(room, map, conv_h, gamma_h, beta_h, groups, eps, silu, scale,
                      map.shape.height);
    const AxisGates columns(room, map, conv_w, gamma_w, beta_w, groups, eps, silu, scale,
                         map.shape.width);
    typed(x, [&](auto* data) {
        const Passes passes(map, data, static_cast<decltype(data)>(y.data));
        run_passes(map, room,
                   {passes.strips({rows.place(), columns.place(), rows.step, 1, columns.step, 1}),
                    rows.pass(), columns.pass(),
                    passes.gated(ROW, rows.gates, COLUMN, columns.gates)});
    });
    stack[0] = y.release();
}

}  // namespace convattn
