// Routed experts in a decode step: the router's choice, the products of the chosen experts, and their weighted sum.
#pragma once

#include <algorithm>

#include "delta.h"

namespace {

enum Score { SOFTMAX_OF_ALL, SIGMOID_OF_EACH, SOFTMAX_OF_CHOSEN };

struct Ranked {
    float value;
    int64_t number;
};
struct Above {  // NaN is above every number, as in torch
    bool operator()(const Ranked& a, const Ranked& b) const {
        return (a.value != a.value && b.value == b.value) || a.value > b.value;
    }
};
struct Choice {
    int64_t expert, slot;  // slot: row among those of all choices, by expert and token
    float weight;
};
struct Visit {  // the slots of one expert
    const Weight* weight;
    int64_t begin, count;
};

// Bring the k highest of n to the front, in descending order. The algorithms are those of torch's top-k, so that equal
// scores, which half precision often gives, choose the same experts.
INLINE void rank(Ranked* all, int64_t n, int64_t k) {
    if (k * 64 <= n) return std::partial_sort(all, all + k, all + n, Above{});
    std::nth_element(all, all + k - 1, all + n, Above{});
    std::sort(all, all + k - 1, Above{});
}

INLINE void softmax(float* x, int64_t n) {  // in place; room up to whole vectors
    for (int64_t i = n; i % 16; i++) x[i] = -INFINITY;
    F most = load<F>(x), total{};
    for (int64_t i = 16; i < n; i += 16) most = maximum(most, load<F>(x + i));
    const float peak = reduce_max(most);
    for (int64_t i = 0; i < n; i += 16) {
        const F e = exponential(load<F>(x + i) - peak);
        store(x + i, e);
        total += e;
    }
    const float by = reduce_sum(total);
    for (int64_t i = 0; i < n; i += 16) store(x + i, load<F>(x + i) / by);
}

// Mark experts outside of the `kept` best groups with the lowest rank.
INLINE void mask_groups(const ExpertsStep& e, float* ranks, Ranked* buffer) {
    const int64_t each = e.count / e.groups;
    Ranked *groups = buffer, *members = buffer + e.groups;
    for (int64_t g = 0; g < e.groups; g++) {
        for (int64_t i = 0; i < each; i++) members[i] = Ranked{ranks[g * each + i], i};
        rank(members, each, e.best);
        groups[g] = Ranked{0, g};
        for (int64_t i = 0; i < e.best; i++) groups[g].value += members[i].value;
    }
    rank(groups, e.groups, e.kept);
    for (int64_t g = e.kept; g < e.groups; g++)
        for (int64_t i = 0; i < each; i++) ranks[groups[g].number * each + i] = e.lowest;
}

// The chosen experts of one row and their weights, of scores (count,). `p`, `ranks`: room for as many, in whole vectors;
// `buffer`: room for the groups and the experts.
INLINE void choose_experts(const ExpertsStep& e, float* scores, int type, float* p, float* ranks, Ranked* buffer, Choice* out) {
    const int64_t count = e.count;
    if (e.softcap)
        for (int64_t i = 0; i < count; i += 16) store(scores + i, hyperbolic_tangent(load<F>(scores + i) / e.softcap) * e.softcap);
    for (int64_t i = 0; i < count; i += 16) store(p + i, e.score == SIGMOID_OF_EACH ? sigmoid(load<F>(scores + i)) : load<F>(scores + i));
    if (e.score == SOFTMAX_OF_ALL) softmax(p, count);
    for (int64_t i = 0; i < count; i++) ranks[i] = (e.raw ? scores : p)[i] + (e.correction ? e.correction[i] : 0.0f);
    if (e.groups > 1) mask_groups(e, ranks, buffer);
    for (int64_t i = 0; i < count; i++) buffer[i] = Ranked{ranks[i], i};
    rank(buffer, count, e.chosen);
    for (int64_t i = 0; i < e.chosen; i++) ranks[i] = p[buffer[i].number];  // the weights from now on
    if (e.score == SOFTMAX_OF_CHOSEN) {
        softmax(ranks, e.chosen);
        for (int64_t i = 0; i < e.chosen; i += 16) store(ranks + i, rounded(load<F>(ranks + i), type));
    }
    float total = 0.0f;
    for (int64_t i = 0; i < e.chosen; i++) total += e.power == 1.0f ? ranks[i] : std::pow(std::fabs(ranks[i]), e.power);
    if (e.power != 1.0f) total = std::pow(total, 1.0f / e.power);
    total = std::fmax(total + e.added, e.floor);
    for (int64_t i = 0; i < e.chosen; i++)
        out[i] = Choice{buffer[i].number, 0, (e.normalized ? ranks[i] / total : ranks[i]) * e.factor};
}

// Products of rows with the experts that visit them, one after the other in y. Row `sources[slot]` of x is the slot's; without
// sources it is the slot's own, or where x has one row that one.
void multiply_visits(const Visit* visits, int64_t count, const ProductCall& p, const int64_t* sources, const Team& team, const Weight* next) {
    const Weight& w = *visits[0].weight;  // all are alike
    const int64_t all = padded(w), each = panels(w);
    const Layout l(w, p.rows);
    const bool bf16_rows = w.kind == 0 && p.x_type == 1 && w.inputs == all;
    const bool ready = !sources && (bf16_rows || (w.kind >= 4 && p.x_type == w.kind % 2)), alone = p.rows == 1;
    static thread_local Scratch scratch;
    Rows r{(const char*)p.x, p.x_stride * size_of(w), nullptr, nullptr, nullptr};
    if (!ready) {
        char* buffer = scratch.get(l.total);
        r = Rows{buffer, l.stride, (const float*)(buffer + l.codes), (const int32_t*)(buffer + l.codes + l.scales),
                 (const float*)(buffer + l.codes + 2 * l.scales)};
        parallel_for(team, p.rows, max_int(1, 8192 / all), [&](int64_t slot) {
            static thread_local Scratch scratch;
            float* x = (float*)scratch.get(size_t(all + 16) * 4);
            read_row(w, p, sources ? sources[slot] : slot, x);
            write_row(w, l, buffer, slot, x);
        });
    }
    const bool small = count * all * each < 4096;  // waking threads would take longer
    if (team.soon && count <= FEW) team.soon(next);
    parallel_for(small ? Team{team.run, 1, nullptr} : team, count * each, max_int(1, count * each / (int64_t(team.parts) * 4)), [&](int64_t task) {
        const Visit& v = visits[task / each];
        const int64_t from = alone ? 0 : v.begin;
        Rows rows = r;
        rows.codes += from * r.stride;
        if (!ready) rows.scales += from * l.groups, rows.sums += from * l.groups, rows.zeros += from;
        ProductCall call = p;
        call.y = (char*)p.y + v.begin * p.y_stride * (p.y_type ? 2 : 4);
        multiply_rows(*v.weight, rows, call, 0, v.count, task % each);
    });
}

// The gate of GPT-OSS, of rows of gates and ups: (up + 1) * gate * sigmoid(alpha * gate), inputs bounded first.
INLINE void clamp_gates(const ExpertsStep& e, const void* x, void* y, int64_t rows, int64_t inner, int type, const Team& team) {
    const bool woven = e.clamp == 1;  // gates and ups take turns, else all gates come first
    parallel_for(team, rows, max_int(1, 8192 / inner), [&](int64_t row) {
        for (int64_t i = 0; i < inner; i += 16) {
            F gate{}, up{};
            const int64_t here = min_int(16, inner - i), at = row * 2 * inner;
            for (int64_t j = 0; j < here; j++) {
                gate[j] = load_one(x, at + (woven ? 2 * (i + j) : i + j), type);
                up[j] = load_one(x, at + (woven ? 2 * (i + j) + 1 : inner + i + j), type);
            }
            gate = minimum(gate, broadcast(e.limit));
            up = minimum(maximum(up, broadcast(-e.limit)), broadcast(e.limit));
            const F part = rounded(rounded(up + 1.0f, type) * gate, type);  // as torch rounds
            const F open = rounded(sigmoid(rounded(gate * e.alpha, type)), type);
            store_partial(y, row * inner + i, here, type, part * open);
        }
    });
}

// Sort the choices of all rows by expert: `visits` gets the experts that are chosen, `sources` the row of each slot. Returns
// how many visits there are.
INLINE int64_t place_choices(const ExpertsStep& e, int64_t tokens, Choice* choices, int64_t* begins, Visit* visits, int64_t* sources) {
    for (int64_t i = 0; i <= e.count; i++) begins[i] = 0;
    for (int64_t i = 0; i < tokens * e.chosen; i++) begins[choices[i].expert + 1]++;
    int64_t count = 0;
    for (int64_t i = 0; i < e.count; i++) {
        if (begins[i + 1]) visits[count++] = Visit{e.into + i, begins[i], begins[i + 1]};
        begins[i + 1] += begins[i];
    }
    for (int64_t i = 0; i < tokens * e.chosen; i++) {
        choices[i].slot = begins[choices[i].expert]++;
        sources[choices[i].slot] = i / e.chosen;
    }
    return count;
}

struct Mixed {  // what the sum of one layer reads, (tokens, states) each but for the results (slots, states)
    const void *results, *shared, *shares, *add;
    void* out;
    const Choice* choices;
    int64_t states;
    int result_type, type;
    bool plain;  // nothing but the residual sum follows
};

// 16 numbers of one row: the weighted results, the shared expert's, and the residual. As torch rounds: the layers round after
// each expert, packed experts are summed in float32 and added to all the rest.
INLINE F sum_experts(const ExpertsStep& e, const Mixed& m, int64_t row, int64_t i) {
    const int64_t at = row * m.states + i;
    F v{};
    for (int64_t c = row * e.chosen; c < (row + 1) * e.chosen; c++) {
        const F part = load_typed(m.results, m.choices[c].slot * m.states + i, m.result_type) * m.choices[c].weight;
        v = e.packed ? v + part : rounded(v + rounded(part, m.type), m.type);
    }
    if (m.shared) {
        F s = load_typed(m.shared, at, m.type);
        if (m.shares) {
            s = rounded(s * rounded(sigmoid(broadcast(load_one(m.shares, row, m.type))), m.type), m.type);
            if (e.joined) s = rounded(s + load_typed(m.add, at, m.type), m.type);
        }
        v += s;
    } else if (e.joined) {
        v += load_typed(m.add, at, m.type);
    }
    if (e.shared_factor != 1.0f) v = rounded(v, m.type) * e.shared_factor;
    return m.plain ? rounded(v, m.type) + load_typed(m.add, at, m.type) : v;
}

// add + experts(norm(x)), with the norm after it or before the sum: x, add and out (tokens, states). `next`: the weight of the
// product after this step.
void experts_step(const ExpertsStep& e, const void* x, const void* add, void* out, int64_t tokens, int64_t states, int type, const Weight* next,
             const Team& team) {
    const int64_t size = type ? 2 : 4, slots = tokens * e.chosen, whole = (e.count + 15) / 16 * 16, score_type = e.wide ? 0 : type;
    const int64_t opened = e.into->outputs, inner = e.down->inputs, hidden = e.shared_into ? e.shared_into->outputs : 0;
    const int open_type = e.packed && e.clamp ? 0 : type, result_type = e.packed ? 0 : type;
    static thread_local Scratch scratch;
    char* free_bytes = nullptr;
    int64_t used = 0;
    auto take = [&](int64_t bytes) {
        char* begin = free_bytes + used;
        used += (bytes + 63) / 64 * 64;
        return begin;
    };
    char *normed = nullptr, *gates = nullptr, *acted = nullptr, *results = nullptr, *open = nullptr, *shared = nullptr, *shares = nullptr, *scored = nullptr;
    float* numbers = nullptr;
    Ranked* ranked = nullptr;
    Choice* choices = nullptr;
    Visit* visits = nullptr;
    int64_t *begins = nullptr, *sources = nullptr;
    auto lay_out = [&] {
        normed = take(tokens * states * size), scored = take(tokens * e.count * 4), gates = take(slots * opened * 4);
        acted = take(slots * inner * 4), results = take(slots * states * 4), open = take(tokens * hidden * size);
        shared = take(tokens * states * size), shares = take(tokens * size), numbers = (float*)take(3 * (whole + 16) * 4);
        ranked = (Ranked*)take((e.count + e.groups) * int64_t(sizeof(Ranked)));
        choices = (Choice*)take(slots * int64_t(sizeof(Choice))), visits = (Visit*)take(e.count * int64_t(sizeof(Visit)));
        begins = (int64_t*)take((e.count + 1) * 8), sources = (int64_t*)take(slots * 8);
    };
    lay_out();  // once for the size
    free_bytes = scratch.get(size_t(used));
    used = 0;
    lay_out();
    if (e.norm) norm_rows(NormRows{x, normed, tokens, states, states, states, e.norm, type, e.norm_eps, e.norm_weight, e.norm_bias, nullptr, 0}, team);
    const void* read = e.norm ? normed : x;
    product_with_prefetch(*e.router, ProductCall{read, nullptr, scored, tokens, states, 0, e.count, type, int32_t(score_type)}, team, e.shared_into);
    if (e.shared_into) {
        product_with_prefetch(*e.shared_into, ProductCall{read, nullptr, open, tokens, states, 0, hidden, type, type}, team, e.shared_down);
        const bool early = e.joined && !e.share;  // the shared expert's product adds the residual
        product_with_prefetch(*e.shared_down, ProductCall{open, early ? add : nullptr, shared, tokens, hidden, states, states, type, type}, team, nullptr);
        if (e.share) product_with_prefetch(*e.share, ProductCall{read, nullptr, shares, tokens, states, 0, 1, type, type}, team, nullptr);
    }
    float *scores = numbers, *p = numbers + whole + 16, *ranks = p + whole + 16;
    for (int64_t t = 0; t < tokens; t++) {
        for (int64_t i = 0; i < e.count; i++) scores[i] = load_one(scored, t * e.count + i, int(score_type));
        for (int64_t i = e.count; i < whole; i++) scores[i] = 0.0f;
        choose_experts(e, scores, int(score_type), p, ranks, ranked, choices + t * e.chosen);
    }
    const int64_t count = place_choices(e, tokens, choices, begins, visits, sources);
    // One row is read by all experts; several are gathered.
    multiply_visits(visits, count, ProductCall{read, nullptr, gates, tokens == 1 ? 1 : slots, states, 0, opened, type, open_type},
                    tokens == 1 ? nullptr : sources, team, nullptr);
    if (e.clamp) clamp_gates(e, gates, acted, slots, inner, open_type, team);
    for (int64_t i = 0; i < count; i++) visits[i].weight = e.down + (visits[i].weight - e.into);
    multiply_visits(visits, count, ProductCall{e.clamp ? acted : gates, nullptr, results, slots, inner, 0, states, open_type, result_type}, nullptr, team, next);
    if (!e.packed)  // the layers add experts in their order, which is that of slots
        for (int64_t t = 0; t < tokens; t++)
            std::sort(choices + t * e.chosen, choices + (t + 1) * e.chosen, [](const Choice& a, const Choice& b) { return a.slot < b.slot; });
    const bool later = e.inner || e.scale;  // a norm or a scale comes before the residual sum
    const Mixed m{results, e.shared_into ? shared : nullptr, e.share ? shares : nullptr, add, later ? normed : out, choices, states, result_type, type,
                  !e.joined && !later};
    const int64_t chunk = 512, chunks = (states + chunk - 1) / chunk;
    parallel_for(team, tokens * chunks, 8, [&](int64_t task) {
        const int64_t row = task / chunks, begin = task % chunks * chunk, end = min_int(states, begin + chunk);
        for (int64_t i = begin; i < end; i += 16) store_typed(m.out, row * states + i, type, sum_experts(e, m, row, i));
    });
    if (later || e.after)
        norm_rows(NormRows{m.out, out, tokens, states, states, states, e.after, type, e.after_eps, e.after_weight, e.after_bias,
                         later ? add : nullptr, states, e.scale}, team);
}

}  // namespace
