// Decode steps of mixers with a short convolution: Mamba 2, and a gated convolution alone.
#pragma once

#include "product.h"

namespace {

constexpr int64_t CHANNELS = 512;  // of a task, a multiple of 16

INLINE F load_some(const void* p, int64_t i, int64_t count, int type) {
    return count >= 16 ? load_typed(p, i, type) : load_partial(p, i, count, type);
}
INLINE void store_some(void* p, int64_t i, int64_t count, int type, F v) {
    if (count >= 16) store_typed(p, i, type, v);
    else store_partial(p, i, count, type, v);
}

// The convolution's result for up to 16 channels from `i` on; `now` takes the place of the newest of the last inputs.
INLINE F convolve(const Convolution& c, int64_t sequence, int64_t i, int64_t count, F now) {
    const int64_t past = c.kernel - 1, first = (c.slots ? c.slots[sequence] : sequence) * past * c.channels + i;
    F sum = now * load_some(c.taps, past * c.channels + i, count, 0);
    if (c.bias) sum += load_some(c.bias, i, count, 0);
    for (int64_t k = 0; k < past; k++) {
        const F old = load_some(c.inputs, first + k * c.channels, count, c.type);
        sum += old * load_some(c.taps, k * c.channels + i, count, 0);
        if (k) store_some(c.inputs, first + (k - 1) * c.channels, count, c.type, old);
    }
    if (past) store_some(c.inputs, first + (past - 1) * c.channels, count, c.type, now);
    return sum;
}

// Run work(sequence, first channel, number of channels), 16 channels at a time.
template <class Work> void each_channel(const Team& team, int64_t sequences, int64_t channels, Work work) {
    const int64_t parts = (channels + CHANNELS - 1) / CHANNELS;
    parallel_for(team, sequences * parts, 1, [&](int64_t task) {
        const int64_t sequence = task / parts, begin = task % parts * CHANNELS, end = min_int(channels, begin + CHANNELS);
        for (int64_t i = begin; i < end; i += 16) work(sequence, i, min_int(16, end - i));
    });
}

void convolution_step(const ConvolutionStep& g, const Team& team) {
    const Convolution& c = g.convolution;
    each_channel(team, c.sequences, c.channels, [&](int64_t sequence, int64_t i, int64_t count) {
        const int64_t row = sequence * g.stride + i;
        F now = load_some(g.x, row, count, c.type) * load_some(g.x, row + 2 * c.channels, count, c.type);
        if (c.type) now = from_bf16(to_bf16(now));  // as it is remembered
        const F y = load_some(g.x, row + c.channels, count, c.type) * convolve(c, sequence, i, count, now);
        store_some(g.out, sequence * c.channels + i, count, c.type, y);
    });
}

INLINE float softplus(float x) { return x > 20 ? x : std::log1p(std::exp(x)); }

// One head: its state decays by the time step, takes the input, and is read.
INLINE void step_head(const MambaStep& m, int64_t sequence, int64_t head, const float* mixed, float* y) {
    const Convolution& c = m.convolution;
    const int64_t inner = m.heads * m.width, group = head / (m.heads / m.groups), count = m.count;
    float time = softplus(load_one(m.x, sequence * m.stride + inner + c.channels + head, c.type) + m.step[head]);
    time = time < m.low ? m.low : time > m.high ? m.high : time;
    const float keep = std::exp(time * m.rates[head]);
    const float *write = mixed + inner + group * count, *read = write + m.groups * count;
    const int64_t slot = c.slots ? c.slots[sequence] : sequence;
    float* state = m.states + (slot * m.heads + head) * m.width * count;
    for (int64_t p = 0; p < m.width; p++, state += count) {
        const float x = mixed[head * m.width + p], in = x * time;
        F sum{};
        for (int64_t n = 0; n < count; n += 16) {
            const F s = load<F>(state + n) * keep + in * load<F>(write + n);
            store(state + n, s);
            sum += s * load<F>(read + n);
        }
        y[head * m.width + p] = reduce_sum(sum) + m.skip[head] * x;
    }
}

// The outputs of one group of channels, gated, and normed where there is a norm.
INLINE void gate_group(const MambaStep& m, int64_t sequence, int64_t begin, int64_t end, float* y) {
    const Convolution& c = m.convolution;
    const int64_t inner = m.heads * m.width;
    auto silu = [&](int64_t i, int64_t count) {
        return activate(load_some(m.x, sequence * m.stride + i, count, c.type), SILU);
    };
    F squares{};
    for (int64_t i = begin; i < end; i += 16) {
        const int64_t count = min_int(16, end - i);
        F v = load_some(y, i, count, 0);
        if (!m.after) v *= silu(i, count);
        store_some(y, i, count, 0, v);
        squares += v * v;
    }
    const float scale = m.norm ? 1.0f / std::sqrt(reduce_sum(squares) / float(end - begin) + m.eps) : 1.0f;
    for (int64_t i = begin; i < end; i += 16) {
        const int64_t count = min_int(16, end - i);
        F v = load_some(y, i, count, 0);
        if (m.norm) v *= scale * load_some(m.norm, i, count, 0);
        if (m.after) v *= silu(i, count);
        store_some(m.out, sequence * inner + i, count, c.type, v);
    }
}

void mamba_step(const MambaStep& m, const Team& team) {
    const Convolution& c = m.convolution;
    const int64_t inner = m.heads * m.width;
    float *mixed = m.workspace, *y = mixed + c.sequences * c.channels;  // (sequences, channels), (sequences, inner)
    each_channel(team, c.sequences, c.channels, [&](int64_t sequence, int64_t i, int64_t count) {
        const F now = load_some(m.x, sequence * m.stride + inner + i, count, c.type);
        store_some(mixed, sequence * c.channels + i, count, 0, activate(convolve(c, sequence, i, count, now), m.act));
    });
    parallel_for(team, c.sequences * m.heads, max_int(1, 8192 / (m.width * m.count)), [&](int64_t task) {
        const int64_t sequence = task / m.heads;
        step_head(m, sequence, task % m.heads, mixed + sequence * c.channels, y + sequence * inner);
    });
    const int64_t each = inner / m.norm_groups;
    parallel_for(team, c.sequences * m.norm_groups, max_int(1, 4096 / each), [&](int64_t task) {
        const int64_t sequence = task / m.norm_groups, begin = task % m.norm_groups * each;
        gate_group(m, sequence, begin, begin + each, y + sequence * inner);
    });
}

}  // namespace
