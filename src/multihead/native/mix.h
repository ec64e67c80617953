// Prefill attention: a few hundred queries of a sequence over blocks of its keys, one head at a time, with the softmax of
// FlashAttention (arXiv 2205.14135): sums of a block are added to those of the blocks before it, at the highest score so far.
// A block's keys and values are packed once for all queries of a task, and stay in the second level of the cache. Operands are
// bfloat16, sums are float32.
#pragma once

#include "attention.h"

namespace {

constexpr int QUERIES = 192;  // of a task: so many amortize the packing of a head's keys and values
constexpr int KEYS = 512;     // of a block

struct Head {  // keys and values of one sequence, head and block, packed in pairs as dot2 reads them
    const char *keys, *values;  // (width / 2, padded, 2) and (padded / 2, value width, 2)
    int64_t first, count, padded, width, value_width;  // first: position of the block's first key
    int64_t stride;  // from a query's scores to the next one's: a cache line more than `padded`, so that they share no set
};

struct QueryState {  // a query, after some blocks
    float peak, total;  // highest score; sum of exp(score - peak)
};

// Scores of M queries and 16 * N keys from `first` on: (M, stride), not yet scaled.
template <int M, int N>
INLINE void score_tile(const char* q, int64_t stride, const Head& h, int64_t first, float* scores) {
    F s[M][N];
    // a step is one pair of channels of all keys
    sums_of<Bfloat16Dot, M, N, N>(q, stride, h.keys + first * 4, h.padded * 4, h.width / 2, 0, s);
    for (int m = 0; m < M; m++)
        for (int j = 0; j < N; j++) store(scores + m * h.stride + first + 16 * j, s[m][j]);
}

// 16 * N channels from `first` on of M queries: weights p (M, stride) times values, from key `from` to `to` of the block.
// put(m, channel, sums) takes 16 channels of a query.
template <int M, int N, class Put>
INLINE void value_tile(const uint16_t* p, const Head& h, int64_t from, int64_t to, int64_t first, Put put) {
    F s[M][N];
    // a step is one pair of keys, with all channels of their values
    sums_of<Bfloat16Dot, M, N, N>((const char*)(p + from), h.stride * 2, h.values + (from * h.value_width + first * 2) * 2,
                                  h.value_width * 4, (to - from) / 2, 0, s);
    for (int m = 0; m < M; m++)
        for (int j = 0; j < N; j++) put(m, first + 16 * j, s[m][j]);
}

template <int M, class Put> INLINE void value_tiles(const uint16_t* p, const Head& h, int64_t from, int64_t to, Put put) {
    int64_t d = 0;
    for (; d + 16 * WIDE <= h.value_width; d += 16 * WIDE) value_tile<M, WIDE>(p, h, from, to, d, put);
    if (WIDE > 2 && d + 32 <= h.value_width) {
        value_tile<M, 2>(p, h, from, to, d, put);
        d += 32;
    }
    for (; d < h.value_width; d += 16) value_tile<M, 1>(p, h, from, to, d, put);
}

// Softmax of one row of scores from key `from` to `to` of a block, of which the query sees those from `low` to `high`: write
// exp(score - peak) to p, add it to the query's state, and return the factor of what was summed before.
INLINE float softmax_row(const PrefillAttention& a, float* s, int64_t from, int64_t to, int64_t low, int64_t high, uint16_t* p, QueryState& q) {
    float scale = a.scale;
    if (a.softcap) {
        for (int64_t i = from; i < to; i += 16) store(s + i, squeeze(load<F>(s + i) * scale, a.softcap));
        scale = 1.0f;
    }
    for (int64_t i = from; i < low; i++) s[i] = -INFINITY;
    for (int64_t i = high; i < to; i++) s[i] = -INFINITY;
    F peak = load<F>(s + from);
    for (int64_t i = from + 16; i < to; i += 16) peak = maximum(peak, load<F>(s + i));
    const float here = reduce_max(peak) * scale;  // the scale is positive, so the highest score stays the highest
    const float most = q.peak > here ? q.peak : here;
    F total{};
    for (int64_t i = from; i < to; i += 16) {
        const F e = exponential(load<F>(s + i) * scale - most);  // at most 1, so nothing overflows
        total += e;
        store(p + i, to_bf16(e));
    }
    const float factor = q.total ? std::exp(q.peak - most) : 0.0f;  // nothing was summed before the first block
    q = QueryState{most, q.total * factor + reduce_sum(total)};
    return factor;
}

// Attention of M queries from position `place` on over a block: s (M, stride) scores, p (M, stride) weights, states (M,), sums (M,
// value width). `out`: (M, heads, value width) where the block has all keys of these queries, which need no sums then; else null.
template <int M>
INLINE void attend_rows(const PrefillAttention& a, const Head& h, int64_t keys, const uint16_t* q, int64_t place, float* s, uint16_t* p,
                        QueryState* states, float* sums, uint16_t* out) {
    int64_t lows[M], highs[M];  // keys of the block that each query sees
    for (int m = 0; m < M; m++) {
        const int64_t own = place + m, low = a.window ? max_int(0, own - a.window + 1) : 0;
        // A window reaches both ways, unless the mask is causal.
        int64_t high = a.causal ? min_int(keys, own + 1) : keys;
        if (a.window) high = min_int(high, own + a.window);
        lows[m] = max_int(0, low - h.first);
        highs[m] = min_int(h.count, high - h.first);
    }
    constexpr int64_t UNIT = 16 * WIDE;
    // The first query sees the first keys, and the last one the last.
    const int64_t from = lows[0] / UNIT * UNIT, to = (highs[M - 1] + UNIT - 1) / UNIT * UNIT;
    if (highs[M - 1] <= lows[0]) {
        for (int m = 0; out && m < M; m++) std::memset(out + m * a.heads * a.value_width, 0, a.value_width * 2);
        return;
    }
    for (int64_t k = from; k < to; k += UNIT) score_tile<M, WIDE>((const char*)q, a.q_stride * 2, h, k, s);
    float by[M];
    for (int m = 0; m < M; m++) {
        by[m] = 1.0f;
        if (highs[m] > lows[m]) by[m] = softmax_row(a, s + m * h.stride, from, to, lows[m], highs[m], p + m * h.stride, states[m]);
        else std::memset(p + m * h.stride + from, 0, (to - from) * 2);
    }
    if (out) {
        for (int m = 0; m < M; m++) by[m] = states[m].total ? 1.0f / states[m].total : 0.0f;
        value_tiles<M>(p, h, from, to, [&](int m, int64_t d, F sum) { store(out + m * a.heads * a.value_width + d, to_bf16(sum * by[m])); });
        return;
    }
    value_tiles<M>(p, h, from, to, [&](int m, int64_t d, F sum) {
        float* at = sums + m * h.value_width + d;
        store(at, load<F>(at) * by[m] + sum);
    });
}

// Pack a block's keys (keys, width) to (width / 2, padded, 2), and values (keys, value width) to (padded / 2, value
// width, 2); padding is zero.
INLINE void pack_head(const PrefillAttention& a, int64_t sequence, int64_t head, Head& h, char* buffer) {
    const uint16_t* k = (const uint16_t*)a.k + (a.begins[sequence] + h.first) * a.row_stride + head * a.width;
    const uint16_t* v = (const uint16_t*)a.v + (a.begins[sequence] + h.first) * a.value_stride + head * a.value_width;
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

// Queries `first` to `last` of a sequence, for one head.
void attend_queries(const PrefillAttention& a, int64_t sequence, int64_t first, int64_t last, int64_t head, int64_t key_head) {
    static thread_local Scratch scratch;
    constexpr int64_t UNIT = 16 * WIDE;
    const int64_t keys = a.lengths[sequence], shift = keys - a.q_lengths[sequence];  // the first query's position: after cached keys
    // keys that any of these queries sees
    int64_t begin = a.window ? max_int(0, shift + first - a.window + 1) : 0, end = a.causal ? min_int(keys, shift + last) : keys;
    if (a.window) end = min_int(end, shift + last - 1 + a.window);
    begin = begin / KEYS * KEYS;  // blocks begin at the same keys for all queries, so that a query's result is that of any batch
    const int64_t packed = KEYS * (a.width + a.value_width) * 2, count = last - first;
    char* buffer = scratch.get(size_t(packed + ROWS * (KEYS + 16) * 6 + count * (a.value_width * 4 + int64_t(sizeof(QueryState))) + 64));
    float* s = (float*)(buffer + (packed + 63) / 64 * 64);  // (ROWS, stride)
    uint16_t* p = (uint16_t*)(s + ROWS * (KEYS + 16));      // (ROWS, stride)
    float* sums = (float*)(p + ROWS * (KEYS + 16));         // (queries, value width)
    QueryState* states = (QueryState*)(sums + count * a.value_width);
    const bool whole = end - begin <= KEYS;  // one block has all keys
    if (!whole) std::memset(sums, 0, size_t(count * a.value_width) * 4);
    uint16_t* out = (uint16_t*)a.out + ((a.q_begins[sequence] + first) * a.heads + head) * a.value_width;
    const int64_t out_stride = a.heads * a.value_width;
    if (whole && end <= begin)
        for (int64_t i = 0; i < count; i++) std::memset(out + i * out_stride, 0, a.value_width * 2);
    for (int64_t i = 0; i < count; i++) states[i] = QueryState{-INFINITY, 0.0f};
    const uint16_t* queries = (const uint16_t*)a.q + (a.q_begins[sequence] + first) * a.q_stride + head * a.width;
    for (; begin < end; begin += KEYS) {
        Head h{};
        h.first = begin;
        h.count = min_int(KEYS, end - begin);
        h.padded = (h.count + UNIT - 1) / UNIT * UNIT;  // whole steps of score_tile
        h.stride = h.padded + 16;
        h.width = a.width;
        h.value_width = a.value_width;
        pack_head(a, sequence, key_head, h, buffer);
        for (int64_t i = 0; i < count;) {
            const uint16_t* q = queries + i * a.q_stride;  // (queries, width), rows q_stride apart
            const int64_t place = shift + first + i;
            float* to = sums + i * a.value_width;
            uint16_t* direct = whole ? out + i * out_stride : nullptr;
            if (count - i >= ROWS) {
                attend_rows<ROWS>(a, h, keys, q, place, s, p, states + i, to, direct);
                i += ROWS;
            } else {
                attend_rows<1>(a, h, keys, q, place, s, p, states + i, to, direct);
                i += 1;
            }
        }
    }
    for (int64_t i = 0; !whole && i < count; i++) {
        const float by = states[i].total ? 1.0f / states[i].total : 0.0f;  // a query that sees no key gets zeros, not NaN
        for (int64_t d = 0; d < a.value_width; d += 16)
            store(out + i * out_stride + d, to_bf16(load<F>(sums + i * a.value_width + d) * by));
    }
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
        const int64_t sequence = list[2 * (task / a.heads)], first = list[2 * (task / a.heads) + 1], head = task % a.heads;
        attend_queries(a, sequence, first, min_int(a.q_lengths[sequence], first + QUERIES), head, head / group);
    });
}

}  // namespace
