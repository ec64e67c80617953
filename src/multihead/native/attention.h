// Attention of a decode step over cached keys and values, and rotary positions.
#pragma once

#include "product.h"

namespace {

// Scores of n keys for one query q (width,), and zeros up to whole vectors: p (n,). `at` gives where a key begins.
// PAIRS: both are bfloat16 and are multiplied two at a time.
template <bool PAIRS, class At>
INLINE void key_scores(const void* q, const void* k, At at, int64_t n, int64_t width, float scale, int type, float* p) {
    for (int64_t r = 0; r < n; r += 16) {
        F parts[16] = {};  // 16 keys, with 16 partial sums each
        const int64_t here = min_int(16, n - r);
        for (int64_t j = 0; j < here; j++) {
            const int64_t first = at(r + j);
            F s{};
            if (PAIRS)
                for (int64_t i = 0; i < width; i += 32)
                    s = dot2(s, load<I>((const uint16_t*)k + first + i), load<I>((const uint16_t*)q + i));
            else
                for (int64_t i = 0; i < width; i += 16) s += load<F>((const float*)q + i) * load_typed(k, first + i, type);
            parts[j] = s;
        }
        store(p + r, reduce_sums(parts) * scale);  // one reduction for 16 keys
    }
}

// Softmax of scores p (n,) in place without the division, which the caller applies to fewer numbers; returns the sum, with the
// part of one more score, `sink`, which is minus infinity for none.
INLINE float softmax_weights(int64_t n, float* p, float sink) {
    for (int64_t i = n; i % 16; i++) p[i] = -INFINITY;  // what fills up the last vector gets the weight zero
    F most = load<F>(p), total{};
    for (int64_t r = 16; r < n; r += 16) most = maximum(most, load<F>(p + r));
    const float highest = reduce_max(most), peak = sink > highest ? sink : highest;
    for (int64_t r = 0; r < n; r += 16) {
        const F e = exponential(load<F>(p + r) - peak);
        store(p + r, e);
        total += e;
    }
    return reduce_sum(total) + std::exp(sink - peak);
}

// 16 * N channels from `column` on of the outputs of G query heads that share a key head: weights p (G, n) times values.
// Each value is read once for all G heads. `by`: 1 over each head's sum of weights.
template <int G, int N, class At>
INLINE void add_values(const DecodeAttention& d, At at, int64_t n, int64_t column, const float* p, int64_t score_stride, const float* by,
                      int64_t to) {
    F acc[G][N] = {};  // (G, 16 * N channels)
    for (int64_t r = 0; r < n; r++) {
        const int64_t first = at(r) + column;  // of key r
        F v[N];
        for (int j = 0; j < N; j++) v[j] = load_typed(d.v, first + 16 * j, d.type);
        for (int g = 0; g < G; g++) {
            const F weight = broadcast(p[g * score_stride + r]);
            for (int j = 0; j < N; j++) acc[g][j] += weight * v[j];
        }
    }
    for (int g = 0; g < G; g++)
        for (int j = 0; j < N; j++) store_typed(d.out, to + g * d.value_width + column + 16 * j, d.type, acc[g][j] * by[g]);
}

template <int G, class At>
INLINE void group_values(const DecodeAttention& d, At at, int64_t n, const float* p, int64_t score_stride, const float* by, int64_t to) {
    int64_t i = 0;
    for (; i + 64 <= d.value_width; i += 64) add_values<G, 4>(d, at, n, i, p, score_stride, by, to);
    for (; i + 32 <= d.value_width; i += 32) add_values<G, 2>(d, at, n, i, p, score_stride, by, to);
    for (; i < d.value_width; i += 16) add_values<G, 1>(d, at, n, i, p, score_stride, by, to);
}

// A task is one key head of one sequence, with the `group` query heads that share it.
void decode_attention(const DecodeAttention& d, const Team& team) {
    const int64_t group = d.heads / d.key_heads;
    int64_t longest = 0, tokens = 0;
    for (int64_t t = 0; t < d.sequences; t++) {
        longest = max_int(longest, d.lengths[t]);
        tokens += d.lengths[t];
    }
    // waking threads would take longer; `pairs`: dot2 reads 32 channels at once
    const bool small = tokens * d.heads * d.width < 65536, pairs = d.type == 1 && d.width % 32 == 0;
    const int64_t score_stride = (longest + 15) / 16 * 16;  // whole vectors
    parallel_for(small ? Team{team.run, 1, nullptr} : team, d.sequences * d.key_heads, 1, [&](int64_t task) {
        static thread_local Scratch scratch;
        const int64_t sequence = task / d.key_heads, head = task % d.key_heads, n = d.lengths[sequence], begin = d.begins[sequence];
        float* q = (float*)scratch.get(size_t(d.width + group * (score_stride + 1) + 64) * 4);
        // q (width,), p (group, score_stride), by (group,)
        float *p = q + d.width, *by = p + group * score_stride;
        const int64_t* index = d.index ? d.index + begin : nullptr;
        // Cache rows are consecutive, or listed where a sequence's blocks are not.
        auto row = [&](int64_t r) { return index ? index[r] : begin + r; };
        auto key = [&](int64_t r) { return row(r) * d.row_stride + head * d.width; };
        auto value = [&](int64_t r) { return row(r) * d.value_stride + head * d.value_width; };
        for (int64_t g = 0; g < group; g++) {
            const int64_t from = sequence * d.q_stride + (head * group + g) * d.width;
            if (pairs) {
                key_scores<true>((const uint16_t*)d.q + from, d.k, key, n, d.width, d.scale, d.type, p + g * score_stride);
            } else {
                for (int64_t i = 0; i < d.width; i += 16) store(q + i, load_typed(d.q, from + i, d.type));
                key_scores<false>(q, d.k, key, n, d.width, d.scale, d.type, p + g * score_stride);
            }
            if (d.softcap)
                for (int64_t i = 0; i < n; i += 16)
                    store(p + g * score_stride + i, squeeze(load<F>(p + g * score_stride + i), d.softcap));
            if (d.bias) {
                const float* bias = d.bias + (head * group + g) * d.biases + (d.by_place ? 0 : d.biases - n);
                for (int64_t i = 0; i < n; i++) p[g * score_stride + i] += bias[i];
            }
            // a sequence without keys gets zeros, not NaN
            by[g] = n ? 1.0f / softmax_weights(n, p + g * score_stride, d.sinks ? d.sinks[head * group + g] : -INFINITY) : 0.0f;
        }
        // Up to four heads at once, as many as accumulators fit the registers.
        for (int64_t g = 0; g < group;) {
            // out is (sequences, heads, value width)
            const int64_t to = (sequence * d.heads + head * group + g) * d.value_width;
            const float* weights = p + g * score_stride;
            switch (group - g) {
                case 1: group_values<1>(d, value, n, weights, score_stride, by + g, to); g += 1; break;
                case 2: group_values<2>(d, value, n, weights, score_stride, by + g, to); g += 2; break;
                case 3: group_values<3>(d, value, n, weights, score_stride, by + g, to); g += 3; break;
                default: group_values<4>(d, value, n, weights, score_stride, by + g, to); g += 4;
            }
        }
    });
}

// Rotate channels i and i + rotated / 2 of each head of x (tokens, heads, width) by the token's angles; cosines and sines
// (tokens, rotated / 2). Channels from `rotated` on are copied.
void rotate(const Rotation& r, const Team& team) {
    const int64_t half = r.rotated / 2;
    parallel_for(team, r.tokens, max_int(1, 32768 / (r.heads * r.width)), [&](int64_t t) {
        const float *c = r.cosines + t * half, *s = r.sines + t * half;
        for (int64_t h = 0; h < r.heads; h++) {
            const int64_t at = t * r.stride + h * r.head_stride, to = (t * r.heads + h) * r.width;
            int64_t i = 0;
            for (; i + 16 <= half; i += 16) {
                const F a = load_typed(r.x, at + i, r.type), b = load_typed(r.x, at + half + i, r.type);
                const F cos = load<F>(c + i), sin = load<F>(s + i);
                store_typed(r.y, to + i, r.type, a * cos - b * sin);
                store_typed(r.y, to + half + i, r.type, b * cos + a * sin);
            }
            for (; i < half; i++) {  // channels after the last whole vector
                const float a = load_one(r.x, at + i, r.type), b = load_one(r.x, at + half + i, r.type);
                store_one(r.y, to + i, r.type, a * c[i] - b * s[i]);
                store_one(r.y, to + half + i, r.type, b * c[i] + a * s[i]);
            }
            for (i = r.rotated; i < r.width; i++) store_one(r.y, to + i, r.type, load_one(r.x, at + i, r.type));
        }
    });
}

}  // namespace
