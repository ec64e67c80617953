// Prefill attention: all queries of a sequence over its keys, one head at a time. Keys and values of a head are packed
// once; then a few queries at a time are multiplied with all keys, and their weights with all values. Operands are
// bfloat16, sums are float32.
#pragma once

#include "attention.h"

namespace {

constexpr int QUERIES = 192;  // of a task: so many amortize the packing of a head's keys and values

struct Head {  // keys and values of one sequence and head, packed in pairs as dot2 reads them
    const char *keys, *values;  // (width / 2, padded, 2) and (padded / 2, value width, 2)
    int64_t count, padded, width, value_width;
};

// Scores of M queries and 16 * N keys from `first` on: (M, padded), not yet scaled.
template <int M, int N>
INLINE void score_tile(const char* q, int64_t stride, const Head& h, int64_t first, float* scores) {
    F s[M][N];
    // a step is one pair of channels of all keys
    sums_of<Bfloat16Dot, M, N, N>(q, stride, h.keys + first * 4, h.padded * 4, h.width / 2, 0, s);
    for (int m = 0; m < M; m++)
        for (int j = 0; j < N; j++) store(scores + m * h.padded + first + 16 * j, s[m][j]);
}

// 16 * N channels from `first` on of M outputs: weights p (M, padded) times values, times `by` (1 over the weights' sum).
template <int M, int N>
INLINE void value_tile(const uint16_t* p, const Head& h, int64_t first, const float* by, uint16_t* out, int64_t stride) {
    F s[M][N];
    // a step is one pair of keys, with all channels of their values
    sums_of<Bfloat16Dot, M, N, N>((const char*)p, h.padded * 2, h.values + first * 4, h.value_width * 4, h.padded / 2, 0, s);
    for (int m = 0; m < M; m++)
        for (int j = 0; j < N; j++) store(out + m * stride + first + 16 * j, to_bf16(s[m][j] * by[m]));
}

// Softmax of one row of scores without the division: writes exp(s - max) to p and returns the sum. Keys outside of
// [low, high) are masked: their weight is zero.
INLINE float softmax_row(float* s, int64_t padded, int64_t low, int64_t high, float scale, float softcap, uint16_t* p) {
    if (softcap) {
        for (int64_t i = 0; i < padded; i += 16) store(s + i, squeeze(load<F>(s + i) * scale, softcap));
        scale = 1.0f;
    }
    for (int64_t i = 0; i < low; i++) s[i] = -INFINITY;
    for (int64_t i = high; i < padded; i++) s[i] = -INFINITY;
    F peak = load<F>(s);
    for (int64_t i = 16; i < padded; i += 16) peak = maximum(peak, load<F>(s + i));
    const float most = reduce_max(peak) * scale;  // the scale is positive, so the highest score stays the highest
    F total{};
    for (int64_t i = 0; i < padded; i += 16) {
        const F e = exponential(load<F>(s + i) * scale - most);  // at most 1, so nothing overflows
        total += e;
        store(p + i, to_bf16(e));
    }
    return reduce_sum(total);
}

// Attention of M queries from position `place` on: s (M, padded) scores, p (M, padded) weights, out (M, value width).
template <int M>
INLINE void attend_rows(const PrefillAttention& a, const Head& h, const uint16_t* q, int64_t place, float* s, uint16_t* p, uint16_t* out) {
    float by[M];  // 1 over the sum of weights of each query
    for (int64_t k = 0; k < h.padded; k += 16 * WIDE) score_tile<M, WIDE>((const char*)q, a.q_stride * 2, h, k, s);
    for (int m = 0; m < M; m++) {
        const int64_t own = place + m, low = a.window ? max_int(0, own - a.window + 1) : 0;
        // A window reaches both ways, unless the mask is causal.
        int64_t high = a.causal ? min_int(h.count, own + 1) : h.count;
        if (a.window) high = min_int(high, own + a.window);
        by[m] = high > low ? 1.0f / softmax_row(s + m * h.padded, h.padded, low, high, a.scale, a.softcap, p + m * h.padded) : 0.0f;
        // A query that sees no key gets zeros, not NaN.
        if (high <= low) std::memset(p + m * h.padded, 0, h.padded * 2);
    }
    const int64_t stride = a.heads * a.value_width;  // out is (tokens, heads, value width)
    int64_t d = 0;
    for (; d + 16 * WIDE <= h.value_width; d += 16 * WIDE) value_tile<M, WIDE>(p, h, d, by, out, stride);
    if (WIDE > 2 && d + 32 <= h.value_width) {
        value_tile<M, 2>(p, h, d, by, out, stride);
        d += 32;
    }
    for (; d < h.value_width; d += 16) value_tile<M, 1>(p, h, d, by, out, stride);
}

// Pack a head's keys (keys, width) to (width / 2, padded, 2), and values (keys, value width) to (padded / 2, value
// width, 2); padding is zero.
INLINE void pack_head(const PrefillAttention& a, int64_t sequence, int64_t head, Head& h, char* buffer) {
    const uint16_t* k = (const uint16_t*)a.k + a.begins[sequence] * a.row_stride + head * a.width;
    const uint16_t* v = (const uint16_t*)a.v + a.begins[sequence] * a.value_stride + head * a.value_width;
    int32_t* keys = (int32_t*)buffer;  // (width / 2, padded): a pair of channels is one number
    uint16_t* values = (uint16_t*)(buffer + h.padded * a.width * 2);  // (padded / 2, value width, 2)
    const int64_t half = a.width / 2;
    for (int64_t i = 0; i < h.padded; i += 16) {  // blocks of 16 keys, so that the lines that are written stay in the cache
        const int64_t here = max_int(0, min_int(16, h.count - i));
        for (int64_t s = 0; s < half; s++) {
            for (int64_t j = 0; j < here; j++) keys[s * h.padded + i + j] = load<int32_t>(k + (i + j) * a.row_stride + 2 * s);
            for (int64_t j = here; j < 16; j++) keys[s * h.padded + i + j] = 0;
        }
    }
    for (int64_t i = 0; i < h.padded; i += 2) {
        uint16_t* to = values + i * a.value_width;
        const uint16_t *one = v + i * a.value_stride, *two = one + a.value_stride;
        for (int64_t d = 0; d < a.value_width; d++) {
            // zeros after the last key: a weight of zero times NaN would be NaN
            to[2 * d] = i < h.count ? one[d] : 0;
            to[2 * d + 1] = i + 1 < h.count ? two[d] : 0;
        }
    }
    h.keys = (const char*)keys;
    h.values = (const char*)values;
}

void prefill_attention(const PrefillAttention& a, const Team& team) {
    static thread_local Scratch scratch;
    int64_t tasks = 0;
    // Tasks: QUERIES queries of one sequence, for each head; list (tasks, 2) has the sequence and its first query.
    for (int64_t t = 0; t < a.sequences; t++) tasks += (a.q_lengths[t] + QUERIES - 1) / QUERIES;
    int64_t* list = (int64_t*)scratch.get(size_t(tasks * 2 + 2) * 8);
    tasks = 0;
    for (int64_t t = 0; t < a.sequences; t++)
        for (int64_t first = 0; first < a.q_lengths[t]; first += QUERIES, tasks++) {
            list[2 * tasks] = t;
            list[2 * tasks + 1] = first;
        }
    const int64_t group = a.heads / a.key_heads;  // query heads that share a key head
    parallel_for(team, tasks * a.heads, 1, [&](int64_t task) {
        static thread_local Scratch scratch;
        const int64_t sequence = list[2 * (task / a.heads)], first = list[2 * (task / a.heads) + 1], head = task % a.heads;
        const int64_t unit = 16 * WIDE;
        Head h{};
        h.count = a.lengths[sequence];
        h.padded = (h.count + unit - 1) / unit * unit;  // whole steps of score_tile
        h.width = a.width;
        h.value_width = a.value_width;
        const int64_t bytes = h.padded * (a.width + a.value_width) * 2;  // keys and values
        char* buffer = scratch.get(size_t(bytes + ROWS * h.padded * 6 + 256));
        float* s = (float*)(buffer + (bytes + 63) / 64 * 64);  // (ROWS, padded)
        uint16_t* p = (uint16_t*)(s + ROWS * h.padded);  // (ROWS, padded)
        pack_head(a, sequence, head / group, h, buffer);
        // shift: position of the first query, after the cached keys
        const int64_t last = min_int(a.q_lengths[sequence], first + QUERIES), shift = h.count - a.q_lengths[sequence];
        for (int64_t i = first; i < last;) {
            // (queries, width), rows q_stride apart
            const uint16_t* q = (const uint16_t*)a.q + (a.q_begins[sequence] + i) * a.q_stride + head * a.width;
            uint16_t* out = (uint16_t*)a.out + ((a.q_begins[sequence] + i) * a.heads + head) * a.value_width;
            if (last - i >= ROWS) {
                attend_rows<ROWS>(a, h, q, shift + i, s, p, out);
                i += ROWS;
            } else {
                attend_rows<1>(a, h, q, shift + i, s, p, out);
                i += 1;
            }
        }
    });
}

}  // namespace
