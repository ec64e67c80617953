// Top-k of many scores, or of their log-probabilities; NAN where a score is NaN or infinite.
#pragma once

#include "product.h"

namespace {

INLINE bool any_above(F x, F bound) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask((__m512)x, (__m512)bound, _CMP_GT_OQ) != 0;
#else
    const I above = x > bound;
    int32_t parts[16], any = 0;
    store(parts, above);
    for (int i = 0; i < 16; i++) any |= parts[i];
    return any != 0;
#endif
}

// The highest scores of one row so far, in descending order; among equal scores the first column is kept.
struct TopScores {
    float* values;
    int64_t *columns, count, held;

    void offer(float value, int64_t column) {
        if (held == count && !(value > values[count - 1])) return;  // not above the last one, or NaN
        int64_t i = held < count ? held++ : count - 1;
        for (; i > 0 && value > values[i - 1]; i--) {  // an insertion, since count is small
            values[i] = values[i - 1];
            columns[i] = columns[i - 1];
        }
        values[i] = value;
        columns[i] = column;
    }
    float bound() const { return held < count ? -INFINITY : values[count - 1]; }
};

void top_k(const TopK& b, const Team& team) {
    const bool small = b.rows * b.width < 65536;  // waking threads would take longer
    parallel_for(small ? Team{team.run, 1, nullptr} : team, b.rows, 1, [&](int64_t row) {
        const int64_t begin = row * b.stride, whole = b.width / 64 * 64;
        TopScores top{b.values + row * b.count, b.columns + row * b.count, b.count, 0};
        auto offer = [&](int64_t i) {
            const float value = load_one(b.scores, begin + i, b.type);
            if (!(value > top.bound())) return;  // first, so that few columns are compared with the bans
            for (int64_t k = 0; k < b.bans; k++)
                if (b.banned[k] == i) return;
            top.offer(value, i);
        };
        F most = broadcast(-INFINITY);  // 16 columns of the row
        I bits{};  // largest magnitude as bits: NaN has larger ones than infinity, so one comparison finds both
        auto seen = [&](int64_t i) {
            const F x = load_typed(b.scores, i, b.type);
            const I plain = bits_i(x) & 0x7fffffff;
            bits = plain > bits ? plain : bits;
            return x;
        };
        // 64 scores at a time: only a block with a score above the k-th highest so far is looked at one by one.
        for (int64_t i = 0; i < whole; i += 64) {
            F here = seen(begin + i);
            for (int j = 1; j < 4; j++) here = maximum(here, seen(begin + i + 16 * j));
            most = maximum(most, here);
            if (any_above(here, broadcast(top.bound())))
                for (int64_t j = i; j < i + 64; j++) offer(j);
        }
        float peak = reduce_max(most);
        bool finite = true;
        // infinity passes here: minus infinity is a ban, and the peak shows plus infinity
        for (int i = 0; i < 16; i++) finite &= bits[i] <= 0x7f800000;
        for (int64_t i = whole; i < b.width; i++) {  // columns after the last whole block
            const float value = load_one(b.scores, begin + i, b.type);
            finite &= value == value;
            peak = value > peak ? value : peak;
            offer(i);
        }
        if (!finite || peak == INFINITY) {
            for (int64_t i = 0; i < b.count; i++) top.values[i] = NAN, top.columns[i] = 0;
            return;
        }
        for (int64_t i = top.held; i < b.count; i++) {
            top.values[i] = -INFINITY;
            top.columns[i] = 0;
        }
        if (!b.log_probs) return;
        // Log-probabilities: minus log(reduce_sum(exp(scores))) over all columns, banned ones included.
        F total{};
        float rest = 0;
        // minus the peak, so that no exponential overflows
        for (int64_t i = 0; i < whole; i += 16) total += exponential(load_typed(b.scores, begin + i, b.type) - peak);
        for (int64_t i = whole; i < b.width; i++) rest += std::exp(load_one(b.scores, begin + i, b.type) - peak);
        const float all = peak + std::log(reduce_sum(total) + rest);
        for (int64_t i = 0; i < top.held; i++) top.values[i] -= all;
    });
}

}  // namespace
