// Products with weights as checkpoints store them, not in panels: (outputs, inputs) or (inputs, outputs). With few rows
// memory bandwidth limits such a product too, so packing would gain nothing.
#pragma once

namespace {

constexpr int64_t AHEAD = 8192;  // bytes between the rows that are read and those that are prefetched

// Weight types: bytes of an input, and one step of 64 bytes of inputs.
struct Float32Weight {
    static constexpr int SIZE = 4;
    INLINE static F step(F acc, I weight, I x) { return acc + bits_f(weight) * bits_f(x); }
};
struct Bfloat16Weight {
    static constexpr int SIZE = 2;
    INLINE static F step(F acc, I weight, I x) { return dot2(acc, weight, x); }
};

// Partial sums of one output for M rows, 16 each. The weight is read in its memory order, which is fastest.
template <class Type, int M> INLINE void partial_sums(const char* x, int64_t stride, const char* w, int64_t bytes, F parts[][16], int64_t j) {
    constexpr int AT_ONCE = M == 1 ? 4 : M <= 3 ? 2 : 1;  // independent sums of a row, which hide the latency of additions
    F acc[M][AT_ONCE] = {};
    int64_t at = 0;
    for (; at + 64 * AT_ONCE <= bytes; at += 64 * AT_ONCE)
        for (int i = 0; i < AT_ONCE; i++) {
            const I weight = load<I>(w + at + 64 * i);
            for (int m = 0; m < M; m++) acc[m][i] = Type::step(acc[m][i], weight, load<I>(x + m * stride + at + 64 * i));
        }
    for (; at < bytes; at += 64) {  // the rest of the inputs, filled up with zeros
        const int64_t some = min_int(64, bytes - at);
        I weight{};
        std::memcpy(&weight, w + at, some);
        for (int m = 0; m < M; m++) {
            I one{};
            std::memcpy(&one, x + m * stride + at, some);
            acc[m][0] = Type::step(acc[m][0], weight, one);
        }
    }
    for (int m = 0; m < M; m++) {
        parts[m][j] = acc[m][0];
        for (int i = 1; i < AT_ONCE; i++) parts[m][j] += acc[m][i];
    }
}

// Partial sums of four outputs for M rows. The rows at `next` are prefetched in their memory order.
template <class Type, int M>
INLINE void four_partial_sums(const char* x, int64_t stride, const char* const* w, const char* next, int64_t bytes, F parts[][16], int64_t j) {
    F acc[M][4] = {};  // (M, four outputs), 16 partial sums each
    int64_t at = 0;
    for (; at + 64 <= bytes; at += 64) {
        I weight[4];
        for (int i = 0; i < 4; i++) __builtin_prefetch(next + 4 * at + 64 * i, 0, 2);
        for (int i = 0; i < 4; i++) weight[i] = load<I>(w[i] + at);
        for (int m = 0; m < M; m++) {
            const I one = load<I>(x + m * stride + at);  // one load of inputs for four outputs
            for (int i = 0; i < 4; i++) acc[m][i] = Type::step(acc[m][i], weight[i], one);
        }
    }
    if (at < bytes) {  // the rest of the inputs, filled up with zeros
        I weight[4] = {};
        for (int i = 0; i < 4; i++) std::memcpy(&weight[i], w[i] + at, bytes - at);
        for (int m = 0; m < M; m++) {
            I one{};
            std::memcpy(&one, x + m * stride + at, bytes - at);
            for (int i = 0; i < 4; i++) acc[m][i] = Type::step(acc[m][i], weight[i], one);
        }
    }
    for (int m = 0; m < M; m++)
        for (int i = 0; i < 4; i++) parts[m][j + i] = acc[m][i];
}

// Address of an output's inputs in a weight of up to three stacked matrices; `row_stride` in bytes.
INLINE const char* row_address(const Weight& w, int64_t output, int64_t row_stride) {
    int part = 0;
    for (; part < 2 && output >= w.counts[part]; part++) output -= w.counts[part];
    return (const char*)w.parts[part] + output * row_stride;
}

// First of the sixteen outputs at `quarter` of a panel. In a gated panel quarters 0 and 1 are gates, 2 and 3 are up values.
INLINE int64_t first_output(const Weight& w, int64_t panel, int quarter) {
    return w.gated ? panel * 32 + quarter % 2 * 16 : panel * PANEL + quarter * 16;
}

// Sums of M rows and the sixteen outputs at `quarter` of a panel of a weight (outputs, inputs); zero past the last output.
template <class Type, int M>
void row_sums(const Weight& w, const char* x, int64_t stride, int64_t panel, int quarter, F out[][4]) {
    const int64_t first = first_output(w, panel, quarter), left = min_int(16, w.outputs - first);
    // gates and up values are stacked here, not in turns
    const int64_t begin = first + (w.gated && quarter >= 2 ? w.outputs : 0), bytes = w.inputs * Type::SIZE, row_stride = w.row_stride * Type::SIZE;
    F parts[M][16];  // 16 partial sums of each row and output
    int64_t done = 0;
    // one row is limited by the memory: a single output at a time reads in its order
    if (M > 1)
        for (; done + 4 <= left; done += 4) {
            const char* rows[4];
            for (int i = 0; i < 4; i++) rows[i] = row_address(w, begin + done + i, row_stride);
            four_partial_sums<Type, M>(x, stride, rows, rows[3] + row_stride + AHEAD, bytes, parts, done);
        }
    for (; done < left; done++) partial_sums<Type, M>(x, stride, row_address(w, begin + done, row_stride), bytes, parts, done);
    for (; done < 16; done++)
        for (int m = 0; m < M; m++) parts[m][done] = F{};
    for (int m = 0; m < M; m++) out[m][quarter] = reduce_sums(parts[m]);
}

// Sums of M rows and a whole panel of a weight (inputs, outputs): its rows are added, each multiplied by its input.
template <class Type, int M> void column_sums(const Weight& w, const char* x, int64_t stride, int64_t panel, F out[][4]) {
    constexpr int TYPE = Type::SIZE == 2;
    const char* at[4];  // first output of each quarter, in the first row of the weight
    int64_t left[4];
    bool whole = true;
    for (int j = 0; j < 4; j++) {
        const int64_t first = first_output(w, panel, j);
        left[j] = max_int(0, min_int(16, w.outputs - first));
        at[j] = row_address(w, left[j] ? first + (w.gated && j >= 2 ? w.outputs : 0) : 0, Type::SIZE);
        whole &= left[j] == 16;
    }
    F acc[M][4] = {};  // (M, 64 outputs)
    for (int64_t k = 0; k < w.inputs; k++) {
        F weight[4];
        const int64_t row = k * w.row_stride;  // input k of all outputs
        for (int j = 0; j < 4; j++) {
            __builtin_prefetch(at[j] + (row + 16 * w.row_stride) * Type::SIZE, 0, 2);
            weight[j] = whole ? load_typed(at[j], row, TYPE) : load_partial(at[j], row, left[j], TYPE);
        }
        for (int m = 0; m < M; m++) {
            const F one = broadcast(load_one(x + m * stride, k, TYPE));  // input k of a row, for all outputs
            for (int j = 0; j < 4; j++) acc[m][j] += weight[j] * one;
        }
    }
    for (int m = 0; m < M; m++)
        for (int j = 0; j < 4; j++) out[m][j] = acc[m][j];
}

}  // namespace
