// Whole blocks in evaluation: an image goes through passes, one after another, while it is in cache.
#pragma once

#include <functional>

#include "tensor.h"

namespace convattn {

// A parameter's values in float32 and in order.
class Parameter {
   public:
    Parameter(const Tensor& t, int64_t count) {
        if (!t) return;
        int64_t step = 1;
        for (int64_t i = t.dim; i-- > 0;) {
            if (t.sizes[i] != 1 && t.strides[i] != step) refuse("expected contiguous parameters");
            step *= t.sizes[i];
        }
        if (step != count) refuse("a parameter is not of the block's shape");
        typed(t, [&](const auto* from) { set(from, count); });
    }
    const float* values = nullptr;  // none if there is no parameter

   private:
    void set(const float* from, int64_t) { values = from; }
    void set(const uint16_t* from, int64_t count) {
        own_.resize(count);
        for (int64_t i = 0; i < count; ++i) own_[i] = widen(from[i]);
        values = own_.data();
    }
    std::vector<float> own_;
};

inline double number(StableIValue value) {
    double result;
    std::memcpy(&result, &value, sizeof result);
    return result;
}
inline bool truth(StableIValue value) { return value & 1; }

// Batch norm in evaluation: slope * value + offset for each channel.
struct Folded {
    Folded(const Tensor& mean, const Tensor& variance, const Tensor& gamma, const Tensor& beta,
           double eps, int64_t count)
        : slope(count, 1.0f), offset(count, 0.0f) {
        const Parameter m(mean, count), v(variance, count), g(gamma, count), b(beta, count);
        if (m.values == nullptr || v.values == nullptr) return;
        for (int64_t i = 0; i < count; ++i) {
            const double by = (g.values ? g.values[i] : 1) / std::sqrt(v.values[i] + eps);
            slope[i] = (float)by;
            offset[i] = (float)((b.values ? b.values[i] : 0) - m.values[i] * by);
        }
    }
    std::vector<float> slope, offset;
};

// Where things lie in the memory that one image needs between its passes. It starts as zeros.
class Room {
   public:
    int64_t take(int64_t count) {
        const int64_t at = size_;
        size_ += padded(count) + BEHIND;
        return at;
    }
    int64_t size() const { return size_; }

   private:
    int64_t size_ = 0;
};

// Threads share the units of a pass, each of about `values` values; one unit is for one thread.
struct Pass {
    int64_t units, values;
    std::function<void(float* room, int64_t n, int64_t first, int64_t last)> run;
};

// One after the other, each thread with its own units.
inline Pass together(Pass a, Pass b) {
    return {a.units, a.values + b.values,
            [a = std::move(a.run), b = std::move(b.run)](float* room, int64_t n, int64_t first,
                                                         int64_t last) {
                a(room, n, first, last);
                b(room, n, first, last);
            }};
}

inline void run_passes(const Map& map, const Room& room, const std::vector<Pass>& passes) {
    uint32_t threads = 1;
    check(torch_get_num_threads(&threads));
    if (map.n >= threads) {  // an image to a thread, which finds it in its cache again
        parallel(map.n, map.image, [&](int64_t first, int64_t last) {
            std::vector<float> memory(room.size());
            for (int64_t n = first; n < last; ++n) {
                for (const Pass& pass : passes) pass.run(memory.data(), n, 0, pass.units);
            }
        });
        return;
    }
    std::vector<float> memory(room.size());
    for (int64_t n = 0; n < map.n; ++n) {  // all threads on one image
        for (const Pass& pass : passes) {
            if (pass.units == 1) {
                pass.run(memory.data(), n, 0, 1);
                continue;
            }
            parallel(pass.units, pass.values, [&](int64_t first, int64_t last) {
                pass.run(memory.data(), n, first, last);
            });
        }
    }
}

// Where values by row and by column go in the room: (C, H) and (C, W), and the steps between them.
struct Strips {
    int64_t rows, columns, row_channel, row_place, column_channel, column_place;
    Strip of_rows(float* room, int64_t first) const {
        return {room + rows + first * row_channel, row_channel, row_place};
    }
    Strip of_columns(float* room, int64_t first) const {
        return {room + columns + first * column_channel, column_channel, column_place};
    }
};

// The passes over the map itself. `z`, `gate` and the like are places in the room.
template <class T>
class Passes {
   public:
    Passes(const Map& map, const T* x, T* y)
        : map_(map), x_(x), end_(x + map.n * map.image), y_(y), k_(table(x)) {}

    Pass means(int64_t z) const {
        return channels([=](float* room, const T* x, int64_t first, int64_t last) {
            if (map_.last) return k_.means->means_last(x, end_, map_.shape, first, last, room + z);
            k_.means->means(x, end_, last - first, map_.positions, room + z + first);
        });
    }
    Pass means_and_maxima(int64_t z, int64_t most) const {
        return channels([=](float* room, const T* x, int64_t first, int64_t last) {
            if (map_.last) {
                k_.means->means_last(x, end_, map_.shape, first, last, room + z);
                return k_.statistics->maxima_last(x, end_, map_.shape, first, last, room + most);
            }
            k_.means->means(x, end_, last - first, map_.positions, room + z + first);
            k_.statistics->maxima(x, end_, last - first, map_.positions, room + most + first);
        });
    }
    // Means, and sums of squares of what differs from them.
    Pass means_and_squares(int64_t z, int64_t squares) const {
        return channels([=](float* room, const T* x, int64_t first, int64_t last) {
            float *mean = room + z, *to = room + squares;
            if (map_.last) {
                k_.means->means_last(x, end_, map_.shape, first, last, mean);
                return k_.statistics->squares_last(x, end_, map_.shape, first, last, mean, to);
            }
            k_.means->means(x, end_, last - first, map_.positions, mean + first);
            k_.statistics->squares(x, end_, last - first, map_.positions, mean + first, to + first);
        });
    }
    Pass weighted_sums(int64_t weight, int64_t to) const {
        return channels([=](float* room, const T* x, int64_t first, int64_t last) {
            const float* w = room + weight;
            if (map_.last) {
                return k_.statistics->weighted_last(x, end_, map_.shape, first, last, w, room + to);
            }
            k_.statistics->weighted(x, end_, last - first, map_.positions, w, room + to + first);
        });
    }
    // Means by row and by column, and with `most` maxima.
    Pass strips(Strips means, const Strips* most = nullptr) const {
        const bool maxima = most != nullptr;
        const Strips top = maxima ? *most : means;
        return channels([=](float* room, const T* x, int64_t first, int64_t last) {
            const Shape shape = map_.shape;
            if (map_.last) {
                k_.means->strip_means_last(x, end_, shape, first, last, means.of_rows(room, 0),
                                           means.of_columns(room, 0));
                if (!maxima) return;
                k_.statistics->strip_maxima_last(x, end_, shape, first, last, top.of_rows(room, 0),
                                                 top.of_columns(room, 0));
                return;
            }
            k_.means->strip_means(x, end_, last - first, shape, means.of_rows(room, first),
                                  means.of_columns(room, first));
            if (!maxima) return;
            k_.statistics->strip_maxima(x, end_, last - first, shape, top.of_rows(room, first),
                                        top.of_columns(room, first));
        });
    }
    // Sums over the channels of x * weight, (H, W), and the largest; see Statistics.
    Pass over_channels(const std::function<const float*(float*)>& weight, int64_t total,
                       int64_t most = -1) const {
        const int64_t units = map_.shape.height, width = map_.shape.width;
        return {units, map_.image / units,
                [=](float* room, int64_t n, int64_t first, int64_t last) {
                    auto run = map_.last ? k_.statistics->over_channels_last
                                                : k_.statistics->over_channels;
                    run(x_ + n * map_.image, end_, map_.shape, weight(room), first * width,
                        last * width, room + total, most < 0 ? nullptr : room + most);
                }};
    }

    // y = x * a * b + more, with gates of these kinds; `more` is one value for each channel.
    Pass gated(Kind a, int64_t at_a, Kind b = NONE, int64_t at_b = 0, int64_t more = -1) const {
        const auto gates = [=](float* room) {
            return Gates{a, b, of(room, a, at_a), of(room, b, at_b)};
        };
        const auto added = [=](float* room) {
            return more < 0 ? Added{} : Added{PER_CHANNEL, of(room, CHANNEL, more), {}, {}};
        };
        return output(
            [=](float* room, const T* x, T* y, int64_t first, int64_t last) {
                k_.gating->gate(gates(room), added(room), x, end_, y, first, last, map_.shape,
                                map_.large);
            },
            [=](float* room, const T* x, T* y, T* limit, int64_t first, int64_t last) {
                k_.gating->gate_last(gates(room), added(room), x, end_, y, limit, first, last,
                                     map_.shape, map_.large);
            });
    }
    Pass mean_gated(int64_t row, int64_t column, int64_t position, float scale) const {
        const auto gates = [=](float* room) {
            return GateSum{of(room, ROW, row), of(room, COLUMN, column),
                           of(room, POSITION, position), scale};
        };
        return output(
            [=](float* room, const T* x, T* y, int64_t first, int64_t last) {
                k_.gating->mean_gate(gates(room), nullptr, x, end_, y, first, last, map_.shape);
            },
            [=](float* room, const T* x, T* y, T* limit, int64_t first, int64_t last) {
                k_.gating->mean_gate_last(gates(room), nullptr, x, end_, y, limit, first, last,
                                          map_.shape);
            });
    }

    // Reads x by channels.
    template <class Run>
    Pass channels(Run run) const {
        if (map_.last) {
            const int64_t channels = map_.shape.channels;
            return {(channels + 15) / 16, 16 * map_.positions,
                    [=](float* room, int64_t n, int64_t first, int64_t last) {
                        // by parts, so that what is read twice is in the cache the second time
                        for (int64_t c = first * 16; c < std::min(channels, last * 16); c += 32) {
                            run(room, x_ + n * map_.image, c, std::min({channels, last * 16, c + 32}));
                        }
                    }};
        }
        const int64_t together = std::max<int64_t>(4, GRAIN / 2 / map_.positions / 4 * 4);
        return {map_.shape.channels, map_.positions,
                [=](float* room, int64_t n, int64_t first, int64_t last) {
                    for (int64_t c = first; c < last; c += together) {
                        run(room, x_ + n * map_.image + c * map_.positions, c,
                            std::min(last, c + together));
                    }
                }};
    }
    // Writes y, by planes or for channels_last by rows.
    template <class Planes, class Rows>
    Pass output(Planes planes, Rows rows) const {
        const int64_t height = map_.shape.height, line = map_.image / height;
        if (!map_.last) {
            return {map_.shape.channels, map_.positions,
                    [=](float* room, int64_t n, int64_t first, int64_t last) {
                        planes(room, x_ + n * map_.image, y_ + n * map_.image, first, last);
                    }};
        }
        return {height, line, [=](float* room, int64_t n, int64_t first, int64_t last) {
                    T* y = y_ + n * map_.image;
                    rows(room, x_ + n * map_.image, y, y + last * line, first, last);
                }};
    }

   private:
    Gate of(float* room, Kind kind, int64_t at) const {
        if (kind == NONE) return {nullptr, nullptr};
        const auto [c, h, w] = map_.shape;
        const int64_t size = kind == CHANNEL ? c : kind == ROW ? c * h : kind == COLUMN ? c * w : h * w;
        return {room + at, room + at + size + BEHIND};
    }

    const Map& map_;
    const T *x_, *end_;
    T* y_;
    const Table<T>& k_;
};

}  // namespace convattn
