// Whole stacks of layers, and greedy decode steps, without returning to Python between them.
#pragma once

#include "best.h"
#include "delta.h"
#include "experts.h"
#include "mix.h"

namespace {

// Heads (heads, width) of one token, normalized and rotated where the layer does, written to y. `buffer`: (heads * width).
INLINE void rotate_heads(const LayerCall& s, const void* x, int64_t at, int64_t heads, const float* norm, const float* bias, int64_t sequence,
                   void* y, int64_t to, int type, float* buffer) {
    const int64_t half = s.rotated / 2, all = heads * s.width;  // channel i is rotated with channel half + i
    auto round = [&](int64_t from, int64_t count) {  // between a norm and a rotation, as the layers store what lies there
        if (type)
            for (int64_t i = from; i < from + count; i += 16) store(buffer + i, from_bf16(to_bf16(load<F>(buffer + i))));
    };
    auto normed = [&](const void* from, int64_t begin, int kind) {
        if (s.norm_span == 2) {  // one norm over all heads (OLMo 2)
            normalize(s.norm_kind, s.norm_eps, norm, bias, all, buffer, RowReader{from, begin, kind});
            return;
        }
        for (int64_t h = 0; h < all; h += s.width)
            normalize(s.norm_kind, s.norm_eps, norm + (s.norm_span ? h : 0), bias, s.width, buffer + h, RowReader{from, begin + h, kind});
    };
    if (norm && !s.norm_last) {  // the norm of heads comes before the rotation (Qwen 3)
        normed(x, at, type);
        if (s.cosines) round(0, all);
    } else {
        const RowReader read{x, at, type};
        for (int64_t i = 0; i < all; i += 16) store(buffer + i, read(i));
    }
    if (s.cosines) {
        const float *c = s.cosines + sequence * half, *n = s.sines + sequence * half;
        for (float* head = buffer; head < buffer + all; head += s.width)
            for (int64_t i = 0; i < half; i++) {
                const float a = head[i], b = head[half + i];
                head[i] = a * c[i] - b * n[i];
                head[half + i] = b * c[i] + a * n[i];
            }
    }
    if (norm && s.norm_last) {  // or after it (Hunyuan)
        round(0, all);
        normed(buffer, 0, 0);
    }
    for (int64_t i = 0; i < all; i += 16) store_typed(y, to + i, type, load<F>(buffer + i));
}

// Bound `count` numbers of x from `at` on (OLMo, MPT); NaN stays NaN.
INLINE void clip_row(void* x, int64_t at, int64_t count, float bound, int type) {
    const F high = broadcast(bound), low = broadcast(-bound);
    for (int64_t i = at; i < at + count; i += 16) store_typed(x, i, type, minimum(high, maximum(low, load_typed(x, i, type))));
}

// Bring heads of (query, gate) in one row of x to all queries, then all gates; `buffer`: room for the row's heads.
INLINE void part_gates(const LayerCall& s, char* x, char* buffer, int64_t size) {
    const int64_t head = s.width * size, all = s.heads * head;
    std::memcpy(buffer, x, 2 * all);
    for (int64_t h = 0; h < s.heads; h++) {
        std::memcpy(x + h * head, buffer + 2 * h * head, head);
        std::memcpy(x + all + h * head, buffer + (2 * h + 1) * head, head);
    }
}

// Multiply the outputs of heads, out (tokens, width), by a sigmoid of their gates, (tokens, width), `stride` numbers apart.
INLINE void gate_heads(const char* gates, int64_t stride, char* out, int64_t tokens, int64_t width, int type, const Team& team) {
    parallel_for(team, tokens, 8, [&](int64_t t) {
        const char* row = gates + t * stride * (type ? 2 : 4);
        for (int64_t i = 0; i < width; i += 16) {
            const F gate = rounded(sigmoid(load_typed(row, i, type)), type);
            store_typed(out, t * width + i, type, load_typed(out, t * width + i, type) * gate);
        }
    });
}

INLINE void exchange(char*& a, char*& b) { char* c = a; a = b; b = c; }

// `workspace` has for each token: the widest fused product (qkv or feed-forward), the heads' outputs, and hidden states.
void run_stack(const StackCall& p, const Team& team) {
    const int64_t size = p.type ? 2 : 4, tokens = p.tokens;
    int64_t widest = 0, given = 0;
    for (int64_t l = 0; l < p.layers; l++) {
        widest = max_int(widest, max_int(p.steps[l].qkv->outputs, p.steps[l].into ? p.steps[l].into->outputs : 0));
        given = max_int(given, p.steps[l].out->inputs);
    }
    // (tokens, widest), (tokens, given), (tokens, states)
    char *wide = (char*)p.workspace, *mixed = wide + tokens * widest * size, *other = mixed + tokens * given * size;
    char* x = (char*)p.x;
    auto multiply = [&](const Weight* w, const char* from, const char* add, char* to, const Weight* next) {
        const int64_t in = w->inputs, out = w->outputs;
        product_with_prefetch(*w, ProductCall{from, add, to, tokens, in, out, out, p.type, p.type}, team, next);
    };
    // q (tokens, heads, width) at `wide`, a row every `stride` numbers
    auto attend = [&](const LayerCall& s, int64_t stride, const void* k, const void* v, int64_t kv_stride, int64_t key_heads,
                      const int64_t* begins, const int64_t* lengths, const int64_t* index, bool own) {
        const float scale = own ? s.scale : s.cross_scale, softcap = own ? s.softcap : s.cross_softcap;
        if (p.q_begins)
            prefill_attention(PrefillAttention{wide, k, v, mixed, p.q_begins, p.q_lengths, begins, lengths, p.sequences, s.heads, key_heads, s.width,
                    s.width, stride, kv_stride, kv_stride, own ? s.window : 0, scale, softcap, own && p.causal}, team);
        else
            decode_attention(DecodeAttention{wide, k, v, mixed, begins, lengths, index, p.sequences, s.heads, key_heads, s.width, s.width,
                          stride, kv_stride, kv_stride, own ? s.bias : nullptr, s.biases, scale, softcap, own ? s.sinks : nullptr, p.type,
                          int32_t(s.by_place)}, team);
    };
    for (int64_t l = 0; l < p.layers; l++) {
        const LayerCall& s = p.steps[l];
        const int64_t whole = s.qkv->outputs, keys = s.key_heads * s.width;
        const int64_t own = s.heads * s.width * (s.gated ? 2 : 1);  // with the gates of queries
        // Queries, keys and values side by side: wide (tokens, whole), whole = own + 2 * keys.
        multiply(s.qkv, x, nullptr, wide, s.delta ? s.rates : s.out);
        if (s.delta) {
            multiply(s.rates, x, nullptr, other, s.out);  // (tokens, 2 * heads), which is narrower than the states
            DeltaStep d = *s.delta;
            d.mixed = wide, d.gate = wide + d.channels * size, d.rates = other, d.out = mixed, d.sequences = tokens;
            d.mixed_stride = d.gate_stride = whole, d.rates_stride = s.rates->outputs;
            delta_step(d, team);
        } else {
            const bool turned = s.cosines || s.q_norm || s.k_norm;
            char *k = s.k ? (char*)s.k : wide + own * size, *v = s.v ? (char*)s.v : wide + (own + keys) * size;
            // Rotate in place, and move new keys and values to their rows of the KV cache.
            if (turned || s.k || s.clip || s.gated) parallel_for(team, tokens, 8, [&](int64_t t) {
                static thread_local Scratch scratch;
                float* buffer = (float*)scratch.get(size_t(own + 16) * 4);
                const int64_t at = t * whole, row = (s.writes ? s.writes[t] : t) * keys;
                if (s.clip) clip_row(wide, at, whole, s.clip, p.type);
                if (s.gated) part_gates(s, wide + at * size, (char*)buffer, size);
                if (turned) rotate_heads(s, wide, at, s.heads, s.q_norm, s.q_norm_bias, t, wide, at, p.type, buffer);
                if (turned) rotate_heads(s, wide, at + own, s.key_heads, s.k_norm, s.k_norm_bias, t, s.k ? k : wide, s.k ? row : at + own, p.type, buffer);
                else if (s.k) std::memcpy(k + row * size, wide + (at + own) * size, keys * size);
                if (s.k) std::memcpy(v + row * size, wide + (at + own + keys) * size, keys * size);
            });
            attend(s, whole, k, v, s.k ? keys : whole, s.key_heads, s.begins, s.lengths, s.index, true);
            if (s.gated) gate_heads(wide + own / 2 * size, whole, mixed, tokens, own / 2, p.type, team);
        }
        const Weight* into = s.experts ? s.experts->router : s.into;  // of the feed-forward's first product
        multiply(s.out, mixed, x, other, s.query ? s.query : into);  // adds the residual x
        const Weight* after = l + 1 < p.layers ? p.steps[l + 1].qkv : nullptr;
        if (s.parallel) {  // the feed-forward reads the same x, and adds to what attention gave
            if (s.experts) {
                experts_step(*s.experts, x, other, x, tokens, p.states, p.type, after, team);
            } else {
                multiply(s.into, x, nullptr, wide, s.down);
                multiply(s.down, wide, other, x, after);
            }
            continue;
        }
        exchange(x, other);  // the result is the next input; the old one becomes free
        if (s.query) {  // cross-attention to an encoded source
            multiply(s.query, x, nullptr, wide, s.cross);
            // each query sees the whole source: no mask and no window
            attend(s, own, s.source_k, s.source_v, s.source_stride, s.heads, s.source_begins, s.source_lengths, nullptr,
                   false);
            multiply(s.cross, mixed, x, other, into);
            exchange(x, other);
        }
        if (s.experts) {
            experts_step(*s.experts, x, x, other, tokens, p.states, p.type, after, team);
        } else {
            multiply(s.into, x, nullptr, wide, s.down);  // feed-forward, with its activation or gate
            multiply(s.down, wide, x, other, after);
        }
        exchange(x, other);
    }
    if (x != (char*)p.x) std::memcpy(p.x, x, tokens * p.states * size);  // after an odd number of exchanges
}

// Embeddings of tokens (sequences,), scaled, plus those of their positions where the model has such: x (sequences, states).
INLINE void embed_tokens(const DecodeLoop& w, const int64_t* tokens, const Team& team) {
    const int64_t width = w.stack.states;
    const int type = w.stack.type;
    parallel_for(team, w.stack.sequences, 16, [&](int64_t t) {
        for (int64_t i = 0; i < width; i += 16) {
            F v = load_typed(w.token_table, tokens[t] * width + i, type);
            if (w.scale != 1.0f) v *= w.scale;
            if (w.position_table) {
                if (type) v = from_bf16(to_bf16(v));  // as torch rounds before it adds
                v += load_typed(w.position_table, w.positions[t] * width + i, type);
            }
            store_typed(w.stack.x, t * width + i, type, v);
        }
    });
}

// Copy cache rows of blocks that sequences share, before one of them writes into them.
INLINE void copy_rows(const DecodeLoop& w) {
    const int64_t size = w.stack.type ? 2 : 4;
    for (int64_t l = 0; l < w.stack.layers; l++) {
        const LayerCall& s = w.stack.steps[l];
        const int64_t row = s.key_heads * s.width * size;  // bytes of a row
        for (int64_t i = 0; i < w.windows; i++) {
            if (w.keys[i].writes != s.writes) continue;  // the window of this layer, by the address of its rows
            for (const int64_t *c = w.keys[i].copies, *end = c + 3 * w.keys[i].copied; c < end; c += 3)
                for (int v = 0; v < 2; v++) {  // keys, then values
                    char* all = (char*)(v ? s.v : s.k);
                    std::memcpy(all + c[1] * row, all + c[0] * row, c[2] * row);
                }
        }
    }
}

INLINE void norm_states(const DecodeLoop& w, int kind, float eps, const float* weight, const float* bias, const Team& team) {
    const StackCall& p = w.stack;
    if (kind) norm_rows(NormRows{p.x, p.x, p.sequences, p.states, p.states, p.states, kind, p.type, eps, weight, bias, nullptr, 0}, team);
}

// Squeeze logits (sequences, scored) into (-softcap, softcap), rounded after each operation as torch does.
INLINE void squeeze_logits(const DecodeLoop& w, const Team& team) {
    const int64_t scored = w.scorer->outputs, type = w.score_type, chunk = 4096, chunks = (scored + chunk - 1) / chunk;
    auto rounded = [&](F v) { return type ? from_bf16(to_bf16(v)) : v; };
    parallel_for(team, w.stack.sequences * chunks, 4, [&](int64_t task) {
        const int64_t row = task / chunks * scored, begin = task % chunks * chunk, end = min_int(scored, begin + chunk);
        for (int64_t i = begin; i < end; i += 16) {
            const int64_t here = min_int(16, end - i);
            F v = here == 16 ? load_typed(w.scores, row + i, type) : load_partial(w.scores, row + i, here, type);
            v = rounded(hyperbolic_tangent(rounded(v / w.softcap))) * w.softcap;
            if (here == 16) store_typed(w.scores, row + i, type, v);
            else store_partial(w.scores, row + i, here, type, v);
        }
    });
}

// Make decode steps and return how many. A step that chooses a stop token or no token of the vocabulary is the last.
// Chosen tokens: -1 where no logit is more than minus infinity, -2 where one is NaN or infinite.
int64_t decode_loop(const DecodeLoop& w, const Team& team) {
    const StackCall& p = w.stack;
    const int64_t sequences = p.sequences;
    static thread_local Scratch scratch;
    float* values = (float*)scratch.get(size_t(sequences) * 4);  // (sequences,): the highest logit of each
    copy_rows(w);
    for (int64_t step = 0; step < w.steps; step++) {
        // The angles of the sequences' positions, for each kind of rotary positions: (sequences, half).
        for (int64_t i = 0; i < w.rotary_count; i++) {
            const RotaryAngles& a = w.angles[i];
            for (int64_t t = 0; t < sequences; t++) {
                std::memcpy(a.here_cosines + t * a.half, a.cosines + w.positions[t] * a.half, a.half * 4);
                std::memcpy(a.here_sines + t * a.half, a.sines + w.positions[t] * a.half, a.half * 4);
            }
        }
        embed_tokens(w, w.tokens + step * sequences, team);
        norm_states(w, w.first, w.first_eps, w.first_weight, w.first_bias, team);
        run_stack(p, team);
        norm_states(w, w.norm, w.norm_eps, w.norm_weight, w.norm_bias, team);
        // Logits (sequences, scored); meanwhile idle threads prefetch the first layer of the next step.
        const int64_t scored = w.scorer->outputs;
        product_with_prefetch(*w.scorer, ProductCall{p.x, nullptr, w.scores, sequences, p.states, 0, scored, p.type, w.score_type}, team,
                     step + 1 < w.steps ? p.steps[0].qkv : nullptr);
        if (w.softcap) squeeze_logits(w, team);
        for (int64_t t = 0; t < sequences; t++) {
            w.positions[t]++;  // and the cache row of the next key; a full window moves on by one key
            for (int64_t i = 0; i < w.windows; i++) {
                const CacheWindow& k = w.keys[i];
                k.writes[t]++;
                if (k.window && k.lengths[t] == k.window) k.begins[t]++;
                else k.lengths[t]++;
            }
        }
        int64_t* found = w.tokens + (step + 1) * sequences;  // (sequences,): read by the next step
        top_k(TopK{w.scores, nullptr, values, found, sequences, scored, scored, 1, 0, w.score_type, 0}, team);
        bool over = false;
        for (int64_t t = 0; t < sequences; t++) {
            if (values[t] == -INFINITY) found[t] = -1;
            if (values[t] != values[t]) found[t] = -2;  // top_k gives NaN for logits that are not finite
            over |= found[t] < 0 || found[t] >= w.vocabulary;
            for (int64_t i = 0; i < w.end_count; i++) over |= found[t] == w.ends[i];
        }
        if (over) return step + 1;
    }
    return w.steps;
}

}  // namespace
