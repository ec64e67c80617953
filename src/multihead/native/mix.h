// Prefill attention: a few hundred queries of a sequence over blocks of its keys, one head at a time, with the softmax of
// FlashAttention (arXiv 2205.14135): sums of a block are added to those of the blocks before it, at the highest score so far.
// A block's keys and values are packed once for all queries of a task, and stay in the second level of the cache. Operands are
// bfloat16, sums are float32.
#pragma once

#include "attention.h"

namespace {

constexpr int QUERIES = 192;  // of a task: so many amortize the packing of a head's keys and values
constexpr int KEYS = 512;     // of a block
#if defined(MULTIHEAD_TILES)
constexpr int AT_ONCE = 32;      // queries: two tiles of rows
constexpr int64_t UNIT = 32;     // keys: two tiles of scores, and one step of a tile of weights
constexpr int64_t CHANNEL_STEP = 32;  // of a tile's step
#else
constexpr int AT_ONCE = ROWS;
constexpr int64_t UNIT = 16 * WIDE, CHANNEL_STEP = 2;
#endif

// Keys and values of one sequence, head and block, packed in pairs as the products read them. `width` is filled up with zeros
// to whole steps.
struct Head {
    const char* keys;    // (width / 2, padded, 2), or with tiles (padded / 16, width / 2, 16, 2)
    const char* values;  // (padded / 2, value width, 2)
    int64_t first, count, padded, width, value_width;  // first: position of the block's first key
    int64_t stride;  // from a query's scores to the next one's: a cache line more than `padded`, so that they share no set
};

struct QueryState {  // a query, after some blocks
    float peak, total;  // highest score; sum of exp(score - peak)
};

#if defined(MULTIHEAD_TILES)

// Products of up to 32 queries with a block.
struct BlockProducts {
    const char* q;   // (16 or 32, width), whatever is past the last query
    float* outputs;  // (32, value width), of weights times values
    const Head& h;
    int64_t count;  // queries

    // Scores of keys `from` to `to`: (count, stride), not yet scaled.
    INLINE void scores(int64_t from, int64_t to, float* s) const {
        const int64_t tile = h.width * 32;  // bytes of 16 keys
        for (int64_t k = from; k < to; k += 32) {
            const char* keys = h.keys + k / 16 * tile;
            if (count <= 16) tile_sums<false, 1, 2>(q, h.width * 2, keys, 64, tile, 1024, h.width / 32, (char*)(s + k), h.stride * 4);
            else tile_sums<false, 2, 2>(q, h.width * 2, keys, 64, tile, 1024, h.width / 32, (char*)(s + k), h.stride * 4);
        }
    }
    template <int N> INLINE void some_values(const uint16_t* p, int64_t from, int64_t to, int64_t channel) const {
        const char *x = (const char*)(p + from), *values = h.values + (from * h.value_width + channel * 2) * 2;
        const int64_t row = h.value_width * 4, steps = (to - from) / 32;
        char* out = (char*)(outputs + channel);
        if (count <= 16) tile_sums<false, 1, N>(x, h.stride * 2, values, row, 64, 16 * row, steps, out, row);
        else tile_sums<false, 2, N>(x, h.stride * 2, values, row, 64, 16 * row, steps, out, row);
    }
    // Weights p (count, stride) times values, from key `from` to `to`. put(m, channel, sums) takes 16 channels of a query.
    template <class Put> INLINE void values(const uint16_t* p, int64_t from, int64_t to, Put put) const {
        int64_t d = 0;
        for (; d + 32 <= h.value_width; d += 32) some_values<2>(p, from, to, d);
        if (d < h.value_width) some_values<1>(p, from, to, d);
        for (int64_t m = 0; m < count; m++)
            for (d = 0; d < h.value_width; d += 16) put(m, d, load<F>(outputs + m * h.value_width + d));
    }
};

#else

// Products of M queries with a block; q (M, width), rows `q_stride` bytes apart.
template <int M> struct BlockProducts {
    static constexpr int64_t count = M;
    const char* q;
    int64_t q_stride;
    const Head& h;

    // Scores of keys `from` to `to`: (M, stride), not yet scaled.
    INLINE void scores(int64_t from, int64_t to, float* s) const {
        for (int64_t k = from; k < to; k += UNIT) {
            F sums[M][WIDE];
            // a step is one pair of channels of all keys
            sums_of<Bfloat16Dot, M, WIDE, WIDE>(q, q_stride, h.keys + k * 4, h.padded * 4, h.width / 2, 0, sums);
            for (int m = 0; m < M; m++)
                for (int j = 0; j < WIDE; j++) store(s + m * h.stride + k + 16 * j, sums[m][j]);
        }
    }
    // 16 * N channels from `first` on.
    template <int N, class Put> INLINE void some_values(const uint16_t* p, int64_t from, int64_t to, int64_t first, Put put) const {
        F s[M][N];
        // a step is one pair of keys, with all channels of their values
        sums_of<Bfloat16Dot, M, N, N>((const char*)(p + from), h.stride * 2, h.values + (from * h.value_width + first * 2) * 2,
                                      h.value_width * 4, (to - from) / 2, 0, s);
        for (int m = 0; m < M; m++)
            for (int j = 0; j < N; j++) put(m, first + 16 * j, s[m][j]);
    }
    // Weights p (M, stride) times values, from key `from` to `to`. put(m, channel, sums) takes 16 channels of a query.
    template <class Put> INLINE void values(const uint16_t* p, int64_t from, int64_t to, Put put) const {
        int64_t d = 0;
        for (; d + 16 * WIDE <= h.value_width; d += 16 * WIDE) some_values<WIDE>(p, from, to, d, put);
        if (WIDE > 2 && d + 32 <= h.value_width) {
            some_values<2>(p, from, to, d, put);
            d += 32;
        }
        for (; d < h.value_width; d += 16) some_values<1>(p, from, to, d, put);
    }
};

#endif

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

// Attention of a few queries from position `place` on over a block: s (count, stride) scores, p (count, stride) weights, states
// (count,), sums (count, value width). `out`: (count, heads, value width) where the block has all keys of these queries, which
// need no sums then; else null.
template <class Products>
INLINE void attend_rows(const PrefillAttention& a, const Products& products, int64_t keys, int64_t place, float* s, uint16_t* p,
                        QueryState* states, float* sums, uint16_t* out) {
    const Head& h = products.h;
    const int64_t count = products.count;
    int64_t lows[AT_ONCE], highs[AT_ONCE];  // keys of the block that each query sees
    for (int64_t m = 0; m < count; m++) {
        const int64_t own = place + m, low = a.window ? max_int(0, own - a.window + 1) : 0;
        // A window reaches both ways, unless the mask is causal.
        int64_t high = a.causal ? min_int(keys, own + 1) : keys;
        if (a.window) high = min_int(high, own + a.window);
        lows[m] = max_int(0, low - h.first);
        highs[m] = min_int(h.count, high - h.first);
    }
    // The first query sees the first keys, and the last one the last.
    const int64_t from = lows[0] / UNIT * UNIT, to = (highs[count - 1] + UNIT - 1) / UNIT * UNIT;
    if (highs[count - 1] <= lows[0]) {
        for (int64_t m = 0; out && m < count; m++) std::memset(out + m * a.heads * a.value_width, 0, a.value_width * 2);
        return;
    }
    products.scores(from, to, s);
    float by[AT_ONCE];
    for (int64_t m = 0; m < count; m++) {
        by[m] = 1.0f;
        if (highs[m] > lows[m]) by[m] = softmax_row(a, s + m * h.stride, from, to, lows[m], highs[m], p + m * h.stride, states[m]);
        else std::memset(p + m * h.stride + from, 0, (to - from) * 2);
    }
    if (out) {
        for (int64_t m = 0; m < count; m++) by[m] = states[m].total ? 1.0f / states[m].total : 0.0f;
        products.values(p, from, to, [&](int64_t m, int64_t d, F sum) { store(out + m * a.heads * a.value_width + d, to_bf16(sum * by[m])); });
        return;
    }
    products.values(p, from, to, [&](int64_t m, int64_t d, F sum) {
        float* at = sums + m * h.value_width + d;
        store(at, load<F>(at) * by[m] + sum);
    });
}

#if defined(MULTIHEAD_TILES)

// Transpose 16 x 16 numbers in place.
INLINE void transpose(I* rows) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i += 2) {  // pairs of rows, then fours, then quarters of vectors
        a[i] = _mm512_unpacklo_epi32((__m512i)rows[i], (__m512i)rows[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32((__m512i)rows[i], (__m512i)rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm512_unpacklo_epi64(a[i + j], a[i + 2 + j]);
            b[i + 2 * j + 1] = _mm512_unpackhi_epi64(a[i + j], a[i + 2 + j]);
        }
    for (int j = 0; j < 4; j++) {
        const __m512i even = _mm512_shuffle_i32x4(b[j], b[4 + j], 0x88), odd = _mm512_shuffle_i32x4(b[j], b[4 + j], 0xdd);
        const __m512i next_even = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0x88), next_odd = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0xdd);
        rows[j] = (I)_mm512_shuffle_i32x4(even, next_even, 0x88);
        rows[4 + j] = (I)_mm512_shuffle_i32x4(odd, next_odd, 0x88);
        rows[8 + j] = (I)_mm512_shuffle_i32x4(even, next_even, 0xdd);
        rows[12 + j] = (I)_mm512_shuffle_i32x4(odd, next_odd, 0xdd);
    }
}

// Pack keys k, `stride` apart, to (padded / 16, width / 2, 16, 2).
INLINE void pack_keys(const PrefillAttention& a, const uint16_t* k, const Head& h, char* out) {
    for (int64_t i = 0; i < h.padded; i += 16)
        for (int64_t c = 0; c < h.width; c += 32, out += 1024) {
            I rows[16];  // of a key, 16 pairs of channels
            for (int64_t j = 0; j < 16; j++) {
                rows[j] = I{};
                const uint16_t* key = k + (i + j) * a.row_stride + c;
                if (i + j < h.count && c + 32 <= a.width) rows[j] = load<I>(key);
                else if (i + j < h.count) std::memcpy(&rows[j], key, (a.width - c) * 2);
            }
            transpose(rows);  // of a pair of channels, 16 keys
            for (int j = 0; j < 16; j++) store(out + 64 * j, rows[j]);
        }
}

#else

// Pack keys k, `stride` apart, to (width / 2, padded, 2).
INLINE void pack_keys(const PrefillAttention& a, const uint16_t* k, const Head& h, char* out) {
    int32_t* keys = (int32_t*)out;  // a pair of channels is one number
    for (int64_t i = 0; i < h.padded; i += 16) {  // blocks of 16 keys, so that the lines that are written stay in the cache
        const int64_t here = max_int(0, min_int(16, h.count - i));
        for (int64_t s = 0; s < h.width / 2; s++) {
            for (int64_t j = 0; j < here; j++) keys[s * h.padded + i + j] = load<int32_t>(k + (i + j) * a.row_stride + 2 * s);
            for (int64_t j = here; j < 16; j++) keys[s * h.padded + i + j] = 0;
        }
    }
}

#endif

// Pack a block's keys (keys, width) and values (keys, value width) as `Head` has them; padding is zero.
INLINE void pack_head(const PrefillAttention& a, int64_t sequence, int64_t head, Head& h, char* buffer) {
    const uint16_t* k = (const uint16_t*)a.k + (a.begins[sequence] + h.first) * a.row_stride + head * a.width;
    const uint16_t* v = (const uint16_t*)a.v + (a.begins[sequence] + h.first) * a.value_stride + head * a.value_width;
    uint16_t* values = (uint16_t*)(buffer + h.padded * h.width * 2);  // (padded / 2, value width, 2)
    pack_keys(a, k, h, buffer);
    for (int64_t i = 0; i < h.padded; i += 2) {
        const uint16_t *one = v + i * a.value_stride, *two = one + a.value_stride;
        for (int64_t d = 0; d < a.value_width; d += 16) {
            // zeros after the last key: a weight of zero times NaN would be NaN
            const I low = i < h.count ? __builtin_convertvector(load<Half16>(one + d), I) : I{};
            const I high = i + 1 < h.count ? __builtin_convertvector(load<Half16>(two + d), I) : I{};
            store(values + i * a.value_width + 2 * d, low | high << 16);
        }
    }
    h.keys = buffer;
    h.values = (const char*)values;
}

// Queries `first` to `last` of a sequence, for one head.
void attend_queries(const PrefillAttention& a, int64_t sequence, int64_t first, int64_t last, int64_t head, int64_t key_head) {
    static thread_local Scratch scratch;
    const int64_t keys = a.lengths[sequence], shift = keys - a.q_lengths[sequence];  // the first query's position: after cached keys
    // keys that any of these queries sees
    int64_t begin = a.window ? max_int(0, shift + first - a.window + 1) : 0, end = a.causal ? min_int(keys, shift + last) : keys;
    if (a.window) end = min_int(end, shift + last - 1 + a.window);
    begin = begin / KEYS * KEYS;  // blocks begin at the same keys for all queries, so that a query's result is that of any batch
    const int64_t width = (a.width + CHANNEL_STEP - 1) / CHANNEL_STEP * CHANNEL_STEP, count = last - first;
    const int64_t packed = KEYS * (width + a.value_width) * 2, each = AT_ONCE * (KEYS + 16);
    const int64_t numbers = each + AT_ONCE * a.value_width + count * a.value_width;  // float32
    char* buffer = scratch.get(size_t(packed + numbers * 4 + (each + AT_ONCE * width) * 2 + count * int64_t(sizeof(QueryState)) + 64));
    float* s = (float*)(buffer + (packed + 63) / 64 * 64);  // (AT_ONCE, stride)
    float* outputs = s + each;                              // (AT_ONCE, value width)
    float* sums = outputs + AT_ONCE * a.value_width;        // (queries, value width)
    uint16_t* p = (uint16_t*)(sums + count * a.value_width);  // (AT_ONCE, stride)
    uint16_t* own = p + each;                                 // (AT_ONCE, width): queries, as tiles read them
    QueryState* states = (QueryState*)(own + AT_ONCE * width);
    const bool whole = end - begin <= KEYS;  // one block has all keys
    if (!whole) std::memset(sums, 0, size_t(count * a.value_width) * 4);
    uint16_t* out = (uint16_t*)a.out + ((a.q_begins[sequence] + first) * a.heads + head) * a.value_width;
    const int64_t out_stride = a.heads * a.value_width;
    if (whole && end <= begin)
        for (int64_t i = 0; i < count; i++) std::memset(out + i * out_stride, 0, a.value_width * 2);
    for (int64_t i = 0; i < count; i++) states[i] = QueryState{-INFINITY, 0.0f};
    const uint16_t* queries = (const uint16_t*)a.q + (a.q_begins[sequence] + first) * a.q_stride + head * a.width;
#if defined(MULTIHEAD_TILES)
    const TileConfig config;
#endif
    for (; begin < end; begin += KEYS) {
        Head h{};
        h.first = begin;
        h.count = min_int(KEYS, end - begin);
        h.padded = (h.count + UNIT - 1) / UNIT * UNIT;
        h.stride = h.padded + 16;
        h.width = width;
        h.value_width = a.value_width;
        pack_head(a, sequence, key_head, h, buffer);
        for (int64_t i = 0; i < count;) {
            const uint16_t* q = queries + i * a.q_stride;  // (queries, width), rows q_stride apart
            const int64_t place = shift + first + i;
            float* to = sums + i * a.value_width;
            uint16_t* direct = whole ? out + i * out_stride : nullptr;
#if defined(MULTIHEAD_TILES)
            const int64_t some = min_int(AT_ONCE, count - i);
            for (int64_t m = 0; m < some; m++) {
                std::memcpy(own + m * width, q + m * a.q_stride, a.width * 2);
                std::memset(own + m * width + a.width, 0, (width - a.width) * 2);
            }
            attend_rows(a, BlockProducts{(const char*)own, outputs, h, some}, keys, place, s, p, states + i, to, direct);
#else
            const int64_t some = count - i >= ROWS ? ROWS : 1;
            if (some > 1) attend_rows(a, BlockProducts<ROWS>{(const char*)q, a.q_stride * 2, h}, keys, place, s, p, states + i, to, direct);
            else attend_rows(a, BlockProducts<1>{(const char*)q, a.q_stride * 2, h}, keys, place, s, p, states + i, to, direct);
#endif
            i += some;
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
