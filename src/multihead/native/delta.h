// Decode steps of a gated DeltaNet: the short convolution, the gated delta rule and the gated norm of its heads.
#pragma once

#include "product.h"

namespace {

INLINE F rounded(F x, int type) { return type ? from_bf16(to_bf16(x)) : x; }

// Channels `first` on of the convolution's result for one sequence, activated, as float32: y (count,). The sequence's last
// inputs (kernel - 1, channels) move on by one.
INLINE void convolve(const DeltaStep& d, int64_t sequence, int64_t slot, int64_t first, int64_t count, float* y) {
    const int64_t past = d.kernel - 1, at = slot * past * d.channels + first;
    for (int64_t i = 0; i < count; i += 16) {
        const F now = load_typed(d.mixed, sequence * d.mixed_stride + first + i, d.type);
        F sum = now * load<F>(d.taps + past * d.channels + first + i);
        for (int64_t p = 0; p < past; p++) {
            const F before = load_typed(d.inputs, at + p * d.channels + i, d.type);
            sum += before * load<F>(d.taps + p * d.channels + first + i);
            if (p) store_typed(d.inputs, at + (p - 1) * d.channels + i, d.type, before);
        }
        if (past) store_typed(d.inputs, at + (past - 1) * d.channels + i, d.type, now);
        store(y + i, rounded(activate(rounded(sum, d.type), d.act), d.type));  // as torch rounds
    }
}

// Scale x (width,) to the length `length`.
INLINE void scale_to(float* x, int64_t width, float length) {
    F sum{};
    for (int64_t i = 0; i < width; i += 16) sum += load<F>(x + i) * load<F>(x + i);
    const F by = broadcast(length / std::sqrt(reduce_sum(sum) + 1e-6f));
    for (int64_t i = 0; i < width; i += 16) store(x + i, load<F>(x + i) * by);
}

// 16 * N columns of one head's state S (key width, value width): S = keep * S + k (beta * (v - keep * S^T k))^T, y = S^T q.
template <int N>
INLINE void update_columns(const DeltaStep& d, const float* q, const float* k, const float* v, float keep, float beta, float* state,
                           float* y) {
    F held[N] = {}, out[N] = {};
    for (int64_t i = 0; i < d.key_width; i++)
        for (int j = 0; j < N; j++) held[j] += load<F>(state + i * d.value_width + 16 * j) * k[i];
    for (int j = 0; j < N; j++) held[j] = beta * (load<F>(v + 16 * j) - keep * held[j]);
    for (int64_t i = 0; i < d.key_width; i++)
        for (int j = 0; j < N; j++) {
            float* at = state + i * d.value_width + 16 * j;
            const F s = load<F>(at) * keep + held[j] * k[i];
            store(at, s);
            out[j] += s * q[i];
        }
    for (int j = 0; j < N; j++) store(y + 16 * j, rounded(out[j], d.type));
}

// The norm of one head's output y (width,), times its activated gate, to `out`.
INLINE void gated_norm(const DeltaStep& d, const float* y, int64_t gate, int64_t to) {
    F sum{};
    for (int64_t i = 0; i < d.value_width; i += 16) sum += load<F>(y + i) * load<F>(y + i);
    const float by = 1.0f / std::sqrt(reduce_sum(sum) / float(d.value_width) + d.norm_eps);
    for (int64_t i = 0; i < d.value_width; i += 16) {
        const F normed = rounded(rounded(load<F>(y + i) * by, d.type) * load<F>(d.norm + i), d.type);
        store_typed(d.out, to + i, d.type, normed * activate(load_typed(d.gate, gate + i, d.type), d.gate_act));
    }
}

// A task is one key head of one sequence, with the heads of values that share it: they have channels of their own.
void delta_step(const DeltaStep& d, const Team& team) {
    const int64_t group = d.heads / d.key_heads, keys = d.key_heads * d.key_width, values = group * d.value_width;
    const bool small = d.sequences * d.heads * d.key_width * d.value_width < 65536;  // waking threads would take longer
    parallel_for(small ? Team{team.run, 1, nullptr} : team, d.sequences * d.key_heads, 1, [&](int64_t task) {
        static thread_local Scratch scratch;
        const int64_t sequence = task / d.key_heads, head = task % d.key_heads, slot = d.slots ? d.slots[sequence] : sequence;
        float *q = (float*)scratch.get(size_t(2 * d.key_width + values + d.value_width) * 4), *k = q + d.key_width;
        float *v = k + d.key_width, *y = v + values;  // (key width,) twice, (group, value width), (value width,)
        convolve(d, sequence, slot, head * d.key_width, d.key_width, q);
        convolve(d, sequence, slot, keys + head * d.key_width, d.key_width, k);
        convolve(d, sequence, slot, 2 * keys + head * values, values, v);
        scale_to(q, d.key_width, 1.0f / std::sqrt(float(d.key_width)));
        scale_to(k, d.key_width, 1.0f);
        for (int64_t g = 0; g < group; g++, v += d.value_width) {
            const int64_t own = head * group + g, at = sequence * d.rates_stride + own;
            const float write = load_one(d.rates, at, d.type), time = load_one(d.rates, at + d.heads, d.type) + d.step[own];
            const float beta = d.strength / (1.0f + std::exp(-write));
            // softplus, as torch computes it
            const float keep = std::exp(d.decay[own] * (time > 20.0f ? time : std::log1p(std::exp(time))));
            float* state = d.states + (slot * d.heads + own) * d.key_width * d.value_width;
            int64_t i = 0;
            for (; i + 64 <= d.value_width; i += 64) update_columns<4>(d, q, k, v + i, keep, beta, state + i, y + i);
            for (; i + 32 <= d.value_width; i += 32) update_columns<2>(d, q, k, v + i, keep, beta, state + i, y + i);
            for (; i < d.value_width; i += 16) update_columns<1>(d, q, k, v + i, keep, beta, state + i, y + i);
            gated_norm(d, y, sequence * d.gate_stride + own * d.value_width, (sequence * d.heads + own) * d.value_width);
        }
    });
}

}  // namespace
