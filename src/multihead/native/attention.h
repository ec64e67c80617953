// Attention of one new token a text over what is remembered, and the turning of queries and keys by their positions.
#pragma once

#include "product.h"

namespace {

// Scores of all rows for one query, then their softmax in place: the weights' sum is returned.
template <class At> INLINE float weighed(const float* q, const void* k, At at, int64_t n, int64_t width, int type, float* p) {
    float peak = -INFINITY;
    for (int64_t r = 0; r < n; r++) {
        F s{};
        const int64_t first = at(r);
        for (int64_t i = 0; i < width; i += 16) s += load<F>(q + i) * take(k, first + i, type);
        p[r] = sum(s);
        peak = p[r] > peak ? p[r] : peak;
    }
    F total{};
    int64_t r = 0;
    for (; r + 16 <= n; r += 16) {
        F e = exponential(load<F>(p + r) - peak);
        store(p + r, e);
        total += e;
    }
    F rest = fill(-INFINITY);
    for (int64_t i = r; i < n; i++) rest[i - r] = p[i];
    rest = exponential(rest - peak);
    float s = sum(total);
    for (int64_t i = r; i < n; i++) s += p[i] = rest[i - r];
    return s;
}

void decode(const Decode& d, const Team& team) {
    const int64_t group = d.heads / d.key_heads;
    int64_t longest = 0, tokens = 0;
    for (int64_t t = 0; t < d.texts; t++) {
        longest = most(longest, d.lengths[t]);
        tokens += d.lengths[t];
    }
    const bool small = tokens * d.heads * d.width < 65536;
    spread(small ? Team{team.run, 1, nullptr} : team, d.texts * d.key_heads, 1, [&](int64_t task) {
        static thread_local Scratch room;
        const int64_t text = task / d.key_heads, head = task % d.key_heads, n = d.lengths[text];
        float* q = (float*)room.of(size_t(d.width + longest + 32) * 4);
        float* p = q + d.width;
        for (int64_t g = 0; g < group; g++) {
            const int64_t h = head * group + g, to = (text * d.heads + h) * d.value_width;
            for (int64_t i = 0; i < d.width; i += 16)
                store(q + i, take(d.q, text * d.q_stride + h * d.width + i, d.type) * d.scale);
            const int64_t begin = d.begins[text], keys = head * d.width, values = head * d.value_width;
            const int64_t* index = d.index ? d.index + begin : nullptr;
            auto key = [&](int64_t r) { return (index ? index[r] : begin + r) * d.row_stride + keys; };
            const float by = n ? 1.0f / weighed(q, d.k, key, n, d.width, d.type, p) : 0.0f;
            for (int64_t i = 0; i < d.value_width; i += 64) {
                F acc[4] = {};
                const int count = int(least(4, (d.value_width - i) / 16));
                for (int64_t r = 0; r < n; r++) {
                    const int64_t at = (index ? index[r] : begin + r) * d.value_stride + values + i;
                    if (count == 4) {
                        for (int j = 0; j < 4; j++) acc[j] += p[r] * take(d.v, at + 16 * j, d.type);
                    } else {
                        for (int j = 0; j < count; j++) acc[j] += p[r] * take(d.v, at + 16 * j, d.type);
                    }
                }
                for (int j = 0; j < count; j++) give(d.out, to + i + 16 * j, d.type, acc[j] * by);
            }
        }
    });
}

// Pairs of channels i and i + rotated / 2 of each head, by the angles of the token; cosines (tokens, rotated / 2).
void rotate(const Turn& r, const Team& team) {
    const int64_t half = r.rotated / 2;
    spread(team, r.tokens, most(1, 32768 / (r.heads * r.width)), [&](int64_t t) {
        const float *c = r.cosines + t * half, *s = r.sines + t * half;
        for (int64_t h = 0; h < r.heads; h++) {
            const int64_t at = t * r.stride + h * r.head_stride, to = (t * r.heads + h) * r.width;
            int64_t i = 0;
            for (; i + 16 <= half; i += 16) {
                const F a = take(r.x, at + i, r.type), b = take(r.x, at + half + i, r.type);
                const F cos = load<F>(c + i), sin = load<F>(s + i);
                give(r.y, to + i, r.type, a * cos - b * sin);
                give(r.y, to + half + i, r.type, b * cos + a * sin);
            }
            for (; i < half; i++) {
                const float a = take_one(r.x, at + i, r.type), b = take_one(r.x, at + half + i, r.type);
                give_one(r.y, to + i, r.type, a * c[i] - b * s[i]);
                give_one(r.y, to + half + i, r.type, b * c[i] + a * s[i]);
            }
            for (i = r.rotated; i < r.width; i++) give_one(r.y, to + i, r.type, take_one(r.x, at + i, r.type));
        }
    });
}

}  // namespace
