// Layers from word vectors to states, without going back to Python between them.
#pragma once

#include "best.h"
#include "mix.h"

namespace {

// Some heads of a row: normed and turned where that is asked for, then written.
INLINE void placed(const Step& s, const void* x, int64_t at, int64_t heads, const float* norm, int64_t text, void* y,
                   int64_t to, int type, float* room) {
    const int64_t half = s.rotated / 2;
    for (int64_t h = 0; h < heads; h++, at += s.width, to += s.width) {
        const Reading read{x, at, type};
        if (norm) normed(1, s.norm_eps, norm, nullptr, s.width, room, read);
        else for (int64_t i = 0; i < s.width; i += 16) store(room + i, read(i));
        if (s.cosines) {
            const float *c = s.cosines + text * half, *n = s.sines + text * half;
            for (int64_t i = 0; i < half; i++) {
                const float a = room[i], b = room[half + i];
                room[i] = a * c[i] - b * n[i];
                room[half + i] = b * c[i] + a * n[i];
            }
        }
        for (int64_t i = 0; i < s.width; i += 16) give(y, to + i, type, load<F>(room + i));
    }
}

INLINE void exchange(char*& a, char*& b) { char* c = a; a = b; b = c; }

// `room` holds of every token the widest of the joined products, the widest of what heads give, and states.
void pass(const Pass& p, const Team& team) {
    const int64_t size = p.type ? 2 : 4, tokens = p.tokens;
    int64_t widest = 0, given = 0;
    for (int64_t l = 0; l < p.layers; l++) {
        widest = most(widest, most(p.steps[l].qkv->outputs, p.steps[l].into->outputs));
        given = most(given, p.steps[l].out->inputs);
    }
    char *wide = (char*)p.room, *mixed = wide + tokens * widest * size, *other = mixed + tokens * given * size;
    char* x = (char*)p.x;
    auto multiply = [&](const Weight* w, const char* from, const char* add, char* to, const Weight* next) {
        const int64_t in = w->inputs, out = w->outputs;
        product_then(*w, Place{from, add, to, tokens, in, out, out, p.type, p.type}, team, next);
    };
    // q (tokens, heads, width) at `wide`, a row every `stride` numbers
    auto attend = [&](const Step& s, int64_t stride, const void* k, const void* v, int64_t apart, int64_t key_heads,
                      const int64_t* begins, const int64_t* lengths, const int64_t* index, bool own) {
        const float scale = own ? s.scale : s.cross_scale;
        if (p.q_begins)
            mix(Mix{wide, k, v, mixed, p.q_begins, p.q_lengths, begins, lengths, p.texts, s.heads, key_heads, s.width,
                    s.width, stride, apart, apart, own ? s.window : 0, scale, own && p.causal}, team);
        else
            decode(Decode{wide, k, v, mixed, begins, lengths, index, p.texts, s.heads, key_heads, s.width, s.width,
                          stride, apart, apart, own ? s.bias : nullptr, s.biases, scale, p.type, int32_t(s.by_place)}, team);
    };
    for (int64_t l = 0; l < p.layers; l++) {
        const Step& s = p.steps[l];
        const int64_t whole = s.qkv->outputs, own = s.heads * s.width, keys = s.key_heads * s.width;
        multiply(s.qkv, x, nullptr, wide, s.out);
        const bool turned = s.cosines || s.q_norm || s.k_norm;
        char *k = s.k ? (char*)s.k : wide + own * size, *v = s.v ? (char*)s.v : wide + (own + keys) * size;
        if (turned || s.k) spread(team, tokens, 8, [&](int64_t t) {
            static thread_local Scratch kept;
            float* room = (float*)kept.of(size_t(s.width + 16) * 4);
            const int64_t at = t * whole, row = (s.writes ? s.writes[t] : t) * keys;
            if (turned) placed(s, wide, at, s.heads, s.q_norm, t, wide, at, p.type, room);
            if (turned) placed(s, wide, at + own, s.key_heads, s.k_norm, t, s.k ? k : wide, s.k ? row : at + own, p.type, room);
            else std::memcpy(k + row * size, wide + (at + own) * size, keys * size);
            if (s.k) std::memcpy(v + row * size, wide + (at + own + keys) * size, keys * size);
        });
        attend(s, whole, k, v, s.k ? keys : whole, s.key_heads, s.begins, s.lengths, s.index, true);
        multiply(s.out, mixed, x, other, s.query ? s.query : s.into);
        exchange(x, other);
        if (s.query) {
            multiply(s.query, x, nullptr, wide, s.cross);
            attend(s, own, s.source_k, s.source_v, s.source_stride, s.heads, s.source_begins, s.source_lengths, nullptr,
                   false);
            multiply(s.cross, mixed, x, other, s.into);
            exchange(x, other);
        }
        multiply(s.into, x, nullptr, wide, s.down);
        multiply(s.down, wide, x, other, l + 1 < p.layers ? p.steps[l + 1].qkv : nullptr);
        exchange(x, other);
    }
    if (x != (char*)p.x) std::memcpy(p.x, x, tokens * p.states * size);
}

// Word vectors of the next tokens, scaled and with their places' where there are such.
INLINE void embedded(const Walk& w, const int64_t* tokens, const Team& team) {
    const int64_t width = w.stack.states;
    const int type = w.stack.type;
    spread(team, w.stack.texts, 16, [&](int64_t t) {
        for (int64_t i = 0; i < width; i += 16) {
            F v = take(w.words, tokens[t] * width + i, type);
            if (w.scale != 1.0f) v *= w.scale;
            if (w.learned) {
                if (type) v = from_bf16(to_bf16(v));
                v += take(w.learned, w.places[t] * width + i, type);
            }
            give(w.stack.x, t * width + i, type, v);
        }
    });
}

// Rows of keys and values that are to be somewhere else, too.
INLINE void copied(const Walk& w) {
    const int64_t size = w.stack.type ? 2 : 4;
    for (int64_t l = 0; l < w.stack.layers; l++) {
        const Step& s = w.stack.steps[l];
        const int64_t row = s.key_heads * s.width * size;
        for (int64_t i = 0; i < w.windows; i++) {
            if (w.keys[i].writes != s.writes) continue;
            for (const int64_t *c = w.keys[i].copies, *end = c + 3 * w.keys[i].copied; c < end; c += 3)
                for (int v = 0; v < 2; v++) {
                    char* all = (char*)(v ? s.v : s.k);
                    std::memcpy(all + c[1] * row, all + c[0] * row, c[2] * row);
                }
        }
    }
}

INLINE void norm_states(const Walk& w, int kind, float eps, const float* weight, const float* bias, const Team& team) {
    const Pass& p = w.stack;
    if (kind) norm_rows(Normed{p.x, p.x, p.texts, p.states, p.states, p.states, kind, p.type, eps, weight, bias}, team);
}

// How many steps were made: fewer than were asked for after a step that found an end, or no token of the vocabulary.
int64_t walk(const Walk& w, const Team& team) {
    const Pass& p = w.stack;
    const int64_t texts = p.texts;
    static thread_local Scratch kept;
    float* values = (float*)kept.of(size_t(texts) * 4);
    copied(w);
    for (int64_t step = 0; step < w.steps; step++) {
        for (int64_t i = 0; i < w.turned; i++) {
            const Angles& a = w.angles[i];
            for (int64_t t = 0; t < texts; t++) {
                std::memcpy(a.here_cosines + t * a.half, a.cosines + w.places[t] * a.half, a.half * 4);
                std::memcpy(a.here_sines + t * a.half, a.sines + w.places[t] * a.half, a.half * 4);
            }
        }
        embedded(w, w.tokens + step * texts, team);
        norm_states(w, w.first, w.first_eps, w.first_weight, w.first_bias, team);
        pass(p, team);
        norm_states(w, w.norm, w.norm_eps, w.norm_weight, w.norm_bias, team);
        const int64_t scored = w.scorer->outputs;
        product_then(*w.scorer, Place{p.x, nullptr, w.scores, texts, p.states, 0, scored, p.type, w.score_type}, team,
                     step + 1 < w.steps ? p.steps[0].qkv : nullptr);
        for (int64_t t = 0; t < texts; t++) {
            w.places[t]++;
            for (int64_t i = 0; i < w.windows; i++) {
                const Keys& k = w.keys[i];
                k.writes[t]++;
                if (k.window && k.lengths[t] == k.window) k.begins[t]++;
                else k.lengths[t]++;
            }
        }
        int64_t* found = w.tokens + (step + 1) * texts;
        best(Best{w.scores, nullptr, values, found, texts, scored, scored, 1, 0, w.score_type, 0}, team);
        bool over = false;
        for (int64_t t = 0; t < texts; t++) {
            if (values[t] == -INFINITY) found[t] = -1;
            if (values[t] != values[t]) found[t] = -2;
            over |= found[t] < 0 || found[t] >= w.vocabulary;
            for (int64_t i = 0; i < w.end_count; i++) over |= found[t] == w.ends[i];
        }
        if (over) return step + 1;
    }
    return w.steps;
}

}  // namespace
