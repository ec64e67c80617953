// Kernels of training: dropout, and Adam on some rows of a table.
#pragma once

#include "product.h"

namespace {

// A hash of 32 bits: every bit of the result depends on every bit of x.
INLINE U mix_bits(U x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

// Number i is zero where 32 bits, a hash of the seed and i, are below the threshold. The backward pass needs no mask: with
// the same seed it sets the same numbers to zero, whatever the level and the number of threads.
void dropout(const DropoutCall& d, const Team& team) {
    constexpr int64_t EACH = 1 << 15;  // numbers of a task, a multiple of 16
    U order;
    for (uint32_t i = 0; i < 16; i++) order[i] = i;
    const uint32_t low = uint32_t(d.seed), high = uint32_t(d.seed >> 32);
    parallel_for(d.count <= EACH ? Team{team.run, 1, nullptr} : team, (d.count + EACH - 1) / EACH, 1, [&](int64_t part) {
        const int64_t end = min_int(d.count, (part + 1) * EACH);
        for (int64_t i = part * EACH; i < end; i += 16) {
            // both halves of the index and of the seed are mixed in
            const U bits = mix_bits(mix_bits((order + uint32_t(i)) ^ low) + (high + uint32_t(i >> 32)));
            const I kept = bits >= d.threshold;
            const int64_t left = end - i;
            const F x = left >= 16 ? load_typed(d.x, i, d.type) : load_partial(d.x, i, left, d.type);
            const F y = choose(kept, x * d.scale, F{});
            if (left >= 16) store_typed(d.y, i, d.type, y);
            else store_partial(d.y, i, left, d.type, y);
        }
    });
}

INLINE F roots(F x) {
#if defined(__AVX512F__)
    return (F)_mm512_sqrt_ps((__m512)x);
#else
    return square_root(x);
#endif
}

// rows (count,) of table, first and second (all rows, width); gradient (count, width).
void adam_rows(const AdamRows& a, const Team& team) {
    parallel_for(team, a.count, max_int(1, 8192 / a.width), [&](int64_t number) {
        const int64_t begin = a.rows[number] * a.width, whole = a.width / 16 * 16;
        float *p = a.table + begin, *first = a.first + begin, *second = a.second + begin;
        const float* g = a.gradient + number * a.width;
        for (int64_t i = 0; i < whole; i += 16) {
            const F x = load<F>(g + i), m0 = load<F>(first + i);
            // beta1 * m0 + (1 - beta1) * x
            const F m = m0 + (x - m0) * (1 - a.beta1), v = load<F>(second + i) * a.beta2 + x * x * (1 - a.beta2);
            store(first + i, m);
            store(second + i, v);
            store(p + i, load<F>(p + i) - a.rate * m / (roots(v) * a.root + a.eps));
        }
        for (int64_t i = whole; i < a.width; i++) {
            first[i] += (g[i] - first[i]) * (1 - a.beta1);
            second[i] = second[i] * a.beta2 + g[i] * g[i] * (1 - a.beta2);
            p[i] -= a.rate * first[i] / (std::sqrt(second[i]) * a.root + a.eps);
        }
    });
}

}  // namespace
