// Attention of a decode step over cached keys and values, and rotary positions.
#pragma once

#include "product.h"

namespace {

constexpr int64_t SPLIT = 256;  // keys of a task; their values stay in the second level of the cache

// Prefetch numbers of a cache. Prefetchers of the hardware end at each page, and few rows of a cache are on one.
template <int LEVEL> INLINE void prefetch(const void* p, int64_t first, int64_t width, int type) {
    const char* at = (const char*)p + first * (type ? 2 : 4);
    for (int64_t i = 0; i < width * (type ? 2 : 4); i += 64) __builtin_prefetch(at + i, 0, LEVEL);
}

// Scores of sixteen keys for one query, whose channels begin at `keys`: (16,). PAIRS: both are bfloat16 and are multiplied two
// at a time; else the query is float32.
template <bool PAIRS> INLINE F sixteen_scores(const DecodeAttention& d, const void* query, const int64_t* keys) {
    F parts[16] = {};  // 16 keys, with 16 partial sums each, in registers
    if (PAIRS)
        for (int64_t i = 0; i < d.width; i += 32) {
            const I q = load<I>((const uint16_t*)query + i);
            for (int j = 0; j < 16; j++) parts[j] = dot2(parts[j], q, load<I>((const uint16_t*)d.k + keys[j] + i));
        }
    else
        for (int64_t i = 0; i < d.width; i += 16) {
            const F q = load<F>((const float*)query + i);
            for (int j = 0; j < 16; j++) parts[j] += q * load_typed(d.k, keys[j] + i, d.type);
        }
    return reduce_sums(parts) * d.scale;  // one reduction for 16 keys
}

struct Softmax { float peak, total; };  // the highest score; the sum of exp(score - peak)

// exp(score - highest score) of n scores, in place: a softmax without its division, which the caller applies to fewer numbers.
// `sink`: one more score, which has no weight here but counts; minus infinity for none.
INLINE Softmax softmax_weights(int64_t n, float* p, float sink) {
    for (int64_t i = n; i % 16; i++) p[i] = -INFINITY;  // what fills up the last vector gets the weight zero
    F most = load<F>(p), total{};
    for (int64_t r = 16; r < n; r += 16) most = maximum(most, load<F>(p + r));
    const float highest = reduce_max(most), peak = sink > highest ? sink : highest;
    for (int64_t r = 0; r < n; r += 16) {
        const F e = exponential(load<F>(p + r) - peak);
        store(p + r, e);
        total += e;
    }
    return Softmax{peak, reduce_sum(total) + std::exp(sink - peak)};
}

// 16 * N channels from `column` on of the outputs of G query heads that share a key head: weights p (G, n) times values.
// Each value is read once for all G heads. put(g, column, sums) takes 16 channels of a head.
template <int G, int N, class At, class Put>
INLINE void add_values(const DecodeAttention& d, At at, int64_t n, int64_t column, const float* p, int64_t score_stride, Put put) {
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
        for (int j = 0; j < N; j++) put(g, column + 16 * j, acc[g][j]);
}

// All channels of G heads: weights p (G, n) times values.
template <int G, class At, class Put>
INLINE void group_values(const DecodeAttention& d, At at, int64_t n, const float* p, int64_t score_stride, Put put) {
    int64_t i = 0;
    for (; i + 64 <= d.value_width; i += 64) add_values<G, 4>(d, at, n, i, p, score_stride, put);
    for (; i + 32 <= d.value_width; i += 32) add_values<G, 2>(d, at, n, i, p, score_stride, put);
    for (; i < d.value_width; i += 16) add_values<G, 1>(d, at, n, i, p, score_stride, put);
}

// What a task computes: keys `first` to `first + n` of a sequence's `length`, for key heads `head` to `end`.
struct KeyRange {
    int64_t sequence, first, n, length, head, end;
};

// What a range of keys gives each query head where a sequence has several ranges: value sums before the division.
struct Partial {
    Softmax* softmax;  // (heads,)
    float* sums;       // (heads, value width)
};

// Scores of a range for its query heads: p (query heads, score stride). All heads of a key are read together, in the order of
// the memory, and its values are prefetched.
template <bool PAIRS, class Row>
INLINE void range_scores(const DecodeAttention& d, const KeyRange& k, Row row, const char* q, float* p, int64_t score_stride) {
    const int64_t group = d.heads / d.key_heads, heads = k.end - k.head, q_bytes = d.width * (PAIRS ? 2 : 4);
    for (int64_t r = 0; r < k.n; r += 16) {
        int64_t keys[16];
        for (int j = 0; j < 16; j++) {
            // past the end the last key again, whose score is dropped
            const int64_t here = row(min_int(r + j, k.n - 1)), next = row(min_int(r + 16 + j, k.n - 1));
            keys[j] = here * d.row_stride + k.head * d.width;
            prefetch<3>(d.k, next * d.row_stride + k.head * d.width, heads * d.width, d.type);
            prefetch<2>(d.v, here * d.value_stride + k.head * d.value_width, heads * d.value_width, d.type);
        }
        for (int64_t head = 0; head < heads; head++) {
            for (int64_t g = head * group; g < (head + 1) * group; g++)
                store(p + g * score_stride + r, sixteen_scores<PAIRS>(d, q + g * q_bytes, keys));
            for (int j = 0; j < 16; j++) keys[j] += d.width;
        }
    }
}

// Turn scores of one query head over a range into weights.
INLINE Softmax range_softmax(const DecodeAttention& d, const KeyRange& k, int64_t head, float* scores, float sink) {
    if (!k.n) return Softmax{-INFINITY, 0.0f};
    if (d.softcap)
        for (int64_t i = 0; i < k.n; i += 16) store(scores + i, squeeze(load<F>(scores + i), d.softcap));
    if (d.bias) {
        const float* bias = d.bias + head * d.biases + (d.by_place ? 0 : d.biases - k.length) + k.first;
        for (int64_t i = 0; i < k.n; i++) scores[i] += bias[i];
    }
    return softmax_weights(k.n, scores, sink);
}

// `partial`: null where the range is all keys of the sequence.
void attend_range(const DecodeAttention& d, const KeyRange& k, const Partial* partial) {
    static thread_local Scratch scratch;
    const int64_t group = d.heads / d.key_heads, heads = (k.end - k.head) * group, from = k.head * group;  // query heads
    const int64_t score_stride = (k.n + 15) / 16 * 16, begin = d.begins[k.sequence] + k.first;  // whole vectors
    float* p = (float*)scratch.get(size_t(heads * (score_stride + d.width)) * 4 + 64);  // (query heads, score stride)
    float* wide = p + heads * score_stride;                                           // (query heads, width)
    const int64_t* index = d.index ? d.index + begin : nullptr;
    // Cache rows are consecutive, or listed where a sequence's blocks are not.
    auto row = [&](int64_t r) { return index ? index[r] : begin + r; };
    const int64_t q = k.sequence * d.q_stride + from * d.width;
    if (d.type == 1 && d.width % 32 == 0) {  // dot2 reads 32 channels at once
        range_scores<true>(d, k, row, (const char*)d.q + q * 2, p, score_stride);
    } else {
        for (int64_t i = 0; i < heads * d.width; i += 16) store(wide + i, load_typed(d.q, q + i, d.type));
        range_scores<false>(d, k, row, (const char*)wide, p, score_stride);
    }
    const int64_t out = (k.sequence * d.heads + from) * d.value_width;  // (sequences, heads, value width)
    for (int64_t g = 0; g < heads;) {
        const int64_t key_head = k.head + g / group, left = (g / group + 1) * group - g;
        auto value = [&](int64_t r) { return row(r) * d.value_stride + key_head * d.value_width; };
        // Up to four heads at once, as many as accumulators fit the registers.
        const int64_t some = min_int(4, left);
        float by[4], *weights = p + g * score_stride;
        for (int64_t i = 0; i < some; i++) {
            const float sink = d.sinks && !partial ? d.sinks[from + g + i] : -INFINITY;
            const Softmax s = range_softmax(d, k, from + g + i, weights + i * score_stride, sink);
            if (partial) partial->softmax[from + g + i] = s;
            by[i] = k.n ? 1.0f / s.total : 0.0f;  // a sequence without keys gets zeros, not NaN
        }
        auto put = [&](int i, int64_t column, F sum) {
            if (partial) store(partial->sums + (from + g + i) * d.value_width + column, sum);
            else store_typed(d.out, out + (g + i) * d.value_width + column, d.type, sum * by[i]);
        };
        switch (some) {
            case 1: group_values<1>(d, value, k.n, weights, score_stride, put); break;
            case 2: group_values<2>(d, value, k.n, weights, score_stride, put); break;
            case 3: group_values<3>(d, value, k.n, weights, score_stride, put); break;
            default: group_values<4>(d, value, k.n, weights, score_stride, put);
        }
        g += some;
    }
}

// Add up what `count` ranges of keys give a query head; the sums of exp(score - peak) become the ranges' factors.
INLINE void merge_ranges(const DecodeAttention& d, int64_t sequence, int64_t head, int64_t count, const Partial* partials) {
    const float sink = d.sinks ? d.sinks[head] : -INFINITY;
    float peak = sink;
    for (int64_t c = 0; c < count; c++) peak = partials[c].softmax[head].peak > peak ? partials[c].softmax[head].peak : peak;
    float total = std::exp(sink - peak);
    for (int64_t c = 0; c < count; c++) {
        Softmax& s = partials[c].softmax[head];
        const float factor = std::exp(s.peak - peak);
        total += s.total * factor;
        s.total = factor;
    }
    for (int64_t i = 0; i < d.value_width; i += 16) {
        F sum{};
        for (int64_t c = 0; c < count; c++)
            sum += load<F>(partials[c].sums + head * d.value_width + i) * partials[c].softmax[head].total;
        store_typed(d.out, (sequence * d.heads + head) * d.value_width + i, d.type, sum * (1.0f / total));
    }
}

// A task is a range of keys of one sequence. A sequence is divided by its own length alone, so that its result does not depend
// on what else is computed, nor on the number of threads.
void decode_attention(const DecodeAttention& d, const Team& team) {
    static thread_local Scratch scratch, sums;
    int64_t tokens = 0, ranges = 0;
    auto count_of = [&](int64_t t) { return max_int(1, (d.lengths[t] + SPLIT - 1) / SPLIT); };
    for (int64_t t = 0; t < d.sequences; t++) {
        tokens += d.lengths[t];
        ranges += count_of(t);
    }
    int64_t* firsts = (int64_t*)scratch.get(size_t(d.sequences + 1 + ranges) * 8);  // number of each sequence's first range
    int64_t* sequences = firsts + d.sequences + 1;                                 // sequence of each range
    firsts[0] = 0;
    for (int64_t t = 0; t < d.sequences; t++) {
        firsts[t + 1] = firsts[t] + count_of(t);
        for (int64_t range = firsts[t]; range < firsts[t + 1]; range++) sequences[range] = t;
    }
    const bool whole = ranges == d.sequences;
    const int64_t each = d.heads * (d.value_width + 2);  // numbers of a range
    float* numbers = whole ? nullptr : (float*)sums.get(size_t(each * ranges) * 4);
    auto partial = [&](int64_t range) {
        float* at = numbers + each * range;
        return Partial{(Softmax*)(at + d.heads * d.value_width), at};
    };
    // waking threads would take longer
    const Team alone{team.run, 1, nullptr}, used = tokens * d.heads * d.width < 65536 ? alone : team;
    const int64_t parts = ranges < used.parts ? d.key_heads : 1, heads = d.key_heads / parts;  // of a range; key heads of a part
    parallel_for(used, ranges * parts, 1, [&](int64_t task) {
        const int64_t range = task / parts, head = task % parts * heads, t = sequences[range], first = (range - firsts[t]) * SPLIT;
        const KeyRange k{t, first, min_int(SPLIT, d.lengths[t] - first), d.lengths[t], head, head + heads};
        const Partial part = whole ? Partial{} : partial(range);
        attend_range(d, k, firsts[t + 1] - firsts[t] > 1 ? &part : nullptr);
    });
    if (whole) return;
    parallel_for(alone, d.sequences * d.heads, 1, [&](int64_t task) {
        const int64_t t = task / d.heads, count = firsts[t + 1] - firsts[t];
        if (count == 1) return;
        static thread_local Scratch own;
        Partial* partials = (Partial*)own.get(size_t(count) * sizeof(Partial));
        for (int64_t c = 0; c < count; c++) partials[c] = partial(firsts[t] + c);
        merge_ranges(d, t, task % d.heads, count, partials);
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
