// Sums of a few rows and some outputs, of weights as checkpoints hold them: a row of inputs for each output, or a row of
// outputs for each input. Few rows read such a weight at the memory's rate too.
#pragma once

namespace {

constexpr int64_t AHEAD = 8192;  // bytes past the rows that are read next, which are fetched meanwhile

// Vectors of one type: how many bytes an input has, and a step.
struct Singles {
    static constexpr int SIZE = 4;
    INLINE static F step(F acc, I weight, I x) { return acc + bits_f(weight) * bits_f(x); }
};
struct Doubles {
    static constexpr int SIZE = 2;
    INLINE static F step(F acc, I weight, I x) { return dot2(acc, weight, x); }
};

// The parts of one output's sums for M rows; the weight is read in the order in which it lies, as memory is read fastest.
template <class Of, int M> INLINE void parts_of(const char* x, int64_t stride, const char* w, int64_t bytes, F parts[][16], int64_t j) {
    constexpr int AT_ONCE = M == 1 ? 4 : M <= 3 ? 2 : 1;  // so many sums of a row do not wait for each other
    F acc[M][AT_ONCE] = {};
    int64_t at = 0;
    for (; at + 64 * AT_ONCE <= bytes; at += 64 * AT_ONCE)
        for (int i = 0; i < AT_ONCE; i++) {
            const I weight = load<I>(w + at + 64 * i);
            for (int m = 0; m < M; m++) acc[m][i] = Of::step(acc[m][i], weight, load<I>(x + m * stride + at + 64 * i));
        }
    for (; at < bytes; at += 64) {
        const int64_t some = least(64, bytes - at);
        I weight{};
        std::memcpy(&weight, w + at, some);
        for (int m = 0; m < M; m++) {
            I one{};
            std::memcpy(&one, x + m * stride + at, some);
            acc[m][0] = Of::step(acc[m][0], weight, one);
        }
    }
    for (int m = 0; m < M; m++) {
        parts[m][j] = acc[m][0];
        for (int i = 1; i < AT_ONCE; i++) parts[m][j] += acc[m][i];
    }
}

// The parts of four outputs' sums for several rows; what comes next is fetched in the order in which it lies.
template <class Of, int M>
INLINE void four_parts_of(const char* x, int64_t stride, const char* const* w, const char* next, int64_t bytes, F parts[][16], int64_t j) {
    F acc[M][4] = {};
    int64_t at = 0;
    for (; at + 64 <= bytes; at += 64) {
        I weight[4];
        for (int i = 0; i < 4; i++) __builtin_prefetch(next + 4 * at + 64 * i, 0, 2);
        for (int i = 0; i < 4; i++) weight[i] = load<I>(w[i] + at);
        for (int m = 0; m < M; m++) {
            const I one = load<I>(x + m * stride + at);
            for (int i = 0; i < 4; i++) acc[m][i] = Of::step(acc[m][i], weight[i], one);
        }
    }
    if (at < bytes) {
        I weight[4] = {};
        for (int i = 0; i < 4; i++) std::memcpy(&weight[i], w[i] + at, bytes - at);
        for (int m = 0; m < M; m++) {
            I one{};
            std::memcpy(&one, x + m * stride + at, bytes - at);
            for (int i = 0; i < 4; i++) acc[m][i] = Of::step(acc[m][i], weight[i], one);
        }
    }
    for (int m = 0; m < M; m++)
        for (int i = 0; i < 4; i++) parts[m][j + i] = acc[m][i];
}

// Where an output's inputs begin, of several matrices one under the other, whose outputs lie so many bytes apart.
INLINE const char* begin_of(const Weight& w, int64_t output, int64_t row_stride) {
    int part = 0;
    for (; part < 2 && output >= w.counts[part]; part++) output -= w.counts[part];
    return (const char*)w.parts[part] + output * row_stride;
}

// The first of the sixteen outputs at `quarter` of a panel; of what gates multiply in the second half of gated ones.
INLINE int64_t first_of(const Weight& w, int64_t panel, int quarter) {
    return w.gated ? panel * 32 + quarter % 2 * 16 : panel * PANEL + quarter * 16;
}

// Sums of M rows and the sixteen outputs at `quarter` of a panel, zero where there are fewer.
template <class Of, int M>
void row_sums(const Weight& w, const char* x, int64_t stride, int64_t panel, int quarter, F out[][4]) {
    const int64_t first = first_of(w, panel, quarter), left = least(16, w.outputs - first);
    const int64_t begin = first + (w.gated && quarter >= 2 ? w.outputs : 0), bytes = w.inputs * Of::SIZE, row_stride = w.row_stride * Of::SIZE;
    F parts[M][16];
    int64_t done = 0;
    if (M > 1)
        for (; done + 4 <= left; done += 4) {
            const char* rows[4];
            for (int i = 0; i < 4; i++) rows[i] = begin_of(w, begin + done + i, row_stride);
            four_parts_of<Of, M>(x, stride, rows, rows[3] + row_stride + AHEAD, bytes, parts, done);
        }
    for (; done < left; done++) parts_of<Of, M>(x, stride, begin_of(w, begin + done, row_stride), bytes, parts, done);
    for (; done < 16; done++)
        for (int m = 0; m < M; m++) parts[m][done] = F{};
    for (int m = 0; m < M; m++) out[m][quarter] = sums(parts[m]);
}

// Likewise of a whole panel, of matrices (inputs, outputs): their rows are added up, each times its input.
template <class Of, int M> void column_sums(const Weight& w, const char* x, int64_t stride, int64_t panel, F out[][4]) {
    constexpr int TYPE = Of::SIZE == 2;
    const char* at[4];
    int64_t left[4];
    bool whole = true;
    for (int j = 0; j < 4; j++) {
        const int64_t first = first_of(w, panel, j);
        left[j] = most(0, least(16, w.outputs - first));
        at[j] = begin_of(w, left[j] ? first + (w.gated && j >= 2 ? w.outputs : 0) : 0, Of::SIZE);
        whole &= left[j] == 16;
    }
    F acc[M][4] = {};
    for (int64_t k = 0; k < w.inputs; k++) {
        F weight[4];
        const int64_t row = k * w.row_stride;
        for (int j = 0; j < 4; j++) {
            __builtin_prefetch(at[j] + (row + 16 * w.row_stride) * Of::SIZE, 0, 2);
            weight[j] = whole ? take(at[j], row, TYPE) : take_some(at[j], row, left[j], TYPE);
        }
        for (int m = 0; m < M; m++) {
            const F one = fill(take_one(x + m * stride, k, TYPE));
            for (int j = 0; j < 4; j++) acc[m][j] += weight[j] * one;
        }
    }
    for (int m = 0; m < M; m++)
        for (int j = 0; j < 4; j++) out[m][j] = acc[m][j];
}

}  // namespace
