// Convolutions on maps of pooled values: some planes in, one plane of gates out.
#pragma once

#include "whole.h"

namespace convattn {

// planes x (height, width) with margins of zeros, and the gates of their convolution.
class Spatial {
   public:
    // `across`: the planes lie (width, height), and so do the gates, unless they are turned back.
    Spatial(Room& room, const Tensor& weight, Folded norm, int64_t height, int64_t width,
            bool across, bool turned, float scale)
        : layers_(*kernels().layers), norm_(std::move(norm)), height_(across ? width : height),
          width_(across ? height : width), turned_(turned), scale_(scale) {
        if (weight.dim != 4 || weight.sizes[2] != weight.sizes[3] || weight.sizes[2] % 2 == 0) {
            refuse("expected a convolution with an odd square kernel");
        }
        k_ = weight.sizes[2], planes_ = weight.sizes[1];
        const Parameter given(weight, planes_ * k_ * k_);
        weight_.assign(given.values, given.values + planes_ * k_ * k_);
        for (int64_t p = 0; across && p < planes_; ++p) {
            for (int64_t i = 0; i < k_; ++i) {
                for (int64_t j = 0; j < k_; ++j) {
                    weight_[(p * k_ + i) * k_ + j] = given.values[(p * k_ + j) * k_ + i];
                }
            }
        }
        step_ = padded(width_ + k_ - 1);
        plane_ = step_ * (height_ + k_ - 1);
        wide_ = padded(width_);
        in_ = room.take(planes_ * plane_ + 16);
        out_ = room.take(height_ * wide_);
        gates = room.take(height_ * width_);
    }

    // Where the first value of a plane lies, and the steps to the next in either direction.
    int64_t place(int64_t plane) const { return in_ + plane * plane_ + k_ / 2 * (step_ + 1); }
    int64_t step() const { return step_; }

    // Fills a plane from values that lie without margins.
    void fill(float* room, int64_t plane, const float* values, float by) const {
        for (int64_t h = 0; h < height_; ++h) {
            float* to = room + place(plane) + h * step_;
            for (int64_t w = 0; w < width_; ++w) to[w] = values[h * width_ + w] * by;
        }
    }
    Pass pass() const {
        return {height_, width_ * planes_ * k_ * k_ / 8,
                [this](float* room, int64_t, int64_t first, int64_t last) {
                    layers_.convolve({weight_.data(), planes_, k_, k_, plane_, step_, width_, wide_},
                                     room + in_, first, last, room + out_);
                    for (int64_t h = first; h < last; ++h) {
                        float* row = room + out_ + h * wide_;
                        layers_.apply(row, width_, norm_.slope[0], norm_.offset[0], Act::SIGMOID,
                                      scale_);
                        if (!turned_) {
                            std::memcpy(room + gates + h * width_, row, width_ * sizeof(float));
                            continue;
                        }
                        float* to = room + gates + h;
                        for (int64_t w = 0; w < width_; ++w) to[w * height_] = row[w];
                    }
                }};
    }

    int64_t gates = 0;

   private:
    const Layers& layers_;
    Folded norm_;
    int64_t height_, width_, k_ = 0, planes_ = 0, step_ = 0, plane_ = 0, wide_ = 0, in_ = 0, out_ = 0;
    bool turned_;
    float scale_;
    std::vector<float> weight_;
};

}  // namespace convattn
