// Largest values, and where each is first; float32.
#include "functions.h"
#include "channels_last.h"

namespace CONVATTN_ISA {
namespace {

using convattn::Largest;

constexpr float LEAST = -__builtin_inff();
constexpr int64_t BLOCK = 512;  // positions whose largest values are in the first cache

vi places(int64_t value) { return vi{} + (int32_t)value; }

vi in_order() {  // 0, 1, 2, ...
    constexpr int32_t numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    vi lane;
    std::memcpy(&lane, numbers, sizeof lane);
    return lane;
}

// In each lane the largest so far; NaN is larger than all.
struct Best {
    vf most = splat(LEAST);
    vi where = {};
    void see(vf v, vi at) {
        const vi mask = (v > most) | ((v != v) & (most == most));
        most = select(mask, v, most);
        where = (at & mask) | (where & ~mask);
    }
    // Of the first `count` lanes.
    void across(int64_t count, float* to, int32_t* place) const {
        float value = most[0];
        int32_t at = where[0];
        for (int64_t l = 1; l < count; ++l) {
            const float v = most[l];
            const bool same = v == value || (v != v && value != value);
            if (v > value || (v != v && value == value) || (same && where[l] < at)) {
                value = v, at = where[l];
            }
        }
        *to = value, *place = at;
    }
};

Best best_at(const float* most, const int32_t* where) {
    Best best;
    best.most = load(most);
    std::memcpy(&best.where, where, sizeof best.where);
    return best;
}
void put_best(const Best& best, float* most, int32_t* where) {
    store(most, best.most);
    std::memcpy(where, &best.where, sizeof best.where);
}
void put_lanes(const Best& best, int64_t count, Largest to, int64_t channel, int64_t place) {
    for (int64_t l = 0; l < count; ++l) {
        const int64_t at = (channel + l) * to.channel + place * to.place;
        to.most[at] = best.most[l], to.where[at] = best.where[l];
    }
}

// Largest values at hand, of `size` places; the memory is kept by the thread.
struct Row {
    explicit Row(int64_t size)
        : most(scratch(2 * size)), where(reinterpret_cast<int32_t*>(most + size)) {
        for (int64_t i = 0; i < size; i += LANES) put_best(Best(), most + i, where + i);
    }
    void see(int64_t at, vf v, vi place) {
        Best best = best_at(most + at, where + at);
        best.see(v, place);
        put_best(best, most + at, where + at);
    }
    float* most;
    int32_t* where;
};

void strips(const float* x, const float* end, int64_t planes, Shape shape, Largest rows,
            Largest columns) {
    const int64_t height = shape.height, width = shape.width;
    for (int64_t p = 0; p < planes; ++p, x += height * width) {
        Row all(whole_vectors(width));
        for (int64_t h = 0; h < height; ++h) {
            const float* row = x + h * width;
            Best best;
            for (int64_t from = 0; from < width; from += LANES) {
                // the last vector begins earlier, and sees some values again
                const int64_t w = width < LANES ? 0 : least(from, width - LANES);
                const vf v = load_any(row + w, least(LANES, width), end);
                best.see(v, places(w) + in_order());
                all.see(w, v, places(h));
                if (width < LANES) break;
            }
            const int64_t at = p * rows.channel + h * rows.place;
            best.across(least(LANES, width), rows.most + at, rows.where + at);
        }
        for (int64_t w = 0; w < width; ++w) {
            const int64_t at = p * columns.channel + w * columns.place;
            columns.most[at] = all.most[w], columns.where[at] = all.where[w];
        }
    }
}

void over_channels(const float* x, const float* end, Shape shape, const float* weight,
                   int64_t first, int64_t last, float* most, int32_t* where) {
    const int64_t plane = shape.height * shape.width;
    for (int64_t from = first; from < last; from += BLOCK) {
        const int64_t count = least(BLOCK, last - from);
        Row all(BLOCK);
        for (int64_t c = 0; c < shape.channels; ++c) {
            const float* row = x + c * plane + from;
            const vf w = splat(weight == nullptr ? 1.0f : weight[c]);
            for (int64_t i = 0; i < count; i += LANES) {
                all.see(i, load_any(row + i, least(LANES, count - i), end) * w, places(c));
            }
        }
        std::memcpy(most + from, all.most, count * sizeof(float));
        std::memcpy(where + from, all.where, count * sizeof(int32_t));
    }
}

void planes(const float* x, const float* end, int64_t count, int64_t size, float* most,
            int32_t* where) {
    for (int64_t p = 0; p < count; ++p, x += size) {
        Best best;
        for (int64_t from = 0; from < size; from += LANES) {
            const int64_t i = size < LANES ? 0 : least(from, size - LANES);
            best.see(load_any(x + i, least(LANES, size), end), places(i) + in_order());
        }
        best.across(least(LANES, size), most + p, where + p);
    }
}

// ---------------------------------------------------------------------------- channels last

void strips_last(const float* x, const float* end, Shape shape, int64_t first, int64_t last,
                 Largest rows, Largest columns) {
    const int64_t channels = shape.channels, width = shape.width;
    for (int64_t c = first; c < last; c += LANES) {
        const int64_t count = least(LANES, last - c);
        Row all(width * LANES);
        for (int64_t h = 0; h < shape.height; ++h) {
            Best best;
            for (int64_t w = 0; w < width; ++w) {
                const vf v = load_any(x + (h * width + w) * channels + c, count, end);
                best.see(v, places(w));
                all.see(w * LANES, v, places(h));
            }
            put_lanes(best, count, rows, c, h);
        }
        for (int64_t w = 0; w < width; ++w) {
            put_lanes(best_at(all.most + w * LANES, all.where + w * LANES), count, columns, c, w);
        }
    }
}

void over_channels_last(const float* x, const float* end, Shape shape, const float* weight,
                        int64_t first, int64_t last, float* most, int32_t* where) {
    const int64_t channels = shape.channels, few = least(LANES, channels);
    for (int64_t i = first; i < last; ++i) {
        Best best;
        for (int64_t from = 0; from < channels; from += LANES) {
            const int64_t c = channels < LANES ? 0 : least(from, channels - LANES);
            vf v = load_any(x + i * channels + c, few, end);
            if (weight != nullptr) v *= load(weight + c);
            best.see(v, places(c) + in_order());
        }
        best.across(few, most + i, where + i);
    }
}

void planes_last(const float* x, const float* end, Shape shape, int64_t first, int64_t last,
                 float* most, int32_t* where) {
    slices(first, last, [&](auto vectors, int64_t c, int64_t count) {
        constexpr int V = decltype(vectors)::value;
        Best best[V];
        each_last(vectors, x + c, end, shape, count, 0, shape.height * shape.width,
                  [&](vf value, int v, int64_t i, int) { best[v].see(value, places(i)); });
        for (int v = 0; v < V; ++v) {
            put_lanes(best[v], lanes_of(vectors, v, count), {most, where, 1, 0}, c + v * LANES, 0);
        }
    });
}

}  // namespace

const convattn::Extremes extremes = {strips,      over_channels,      planes,
                                     strips_last, over_channels_last, planes_last};

}  // namespace CONVATTN_ISA
