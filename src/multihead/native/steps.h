// A decoder's layers over one token of each text, from word vectors to states, without going back to Python.
#pragma once

#include "attention.h"

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

void pass(const Pass& p, const Team& team) {
    const int64_t size = p.type ? 2 : 4, texts = p.texts;
    int64_t inner = 0, widest = 0;
    for (int64_t l = 0; l < p.layers; l++) {
        inner = most(inner, p.steps[l].into->outputs);
        widest = most(widest, p.steps[l].qkv->outputs);
    }
    static thread_local Scratch kept;
    char* room = kept.of(size_t(texts * (widest * 3 + inner + 2 * p.states) * size + 4096));
    char *qkv = room, *q = qkv + texts * widest * size, *mixed = q + texts * widest * size;
    char *wide = mixed + texts * widest * size, *other = wide + texts * inner * size;
    char* x = (char*)p.x;
    auto multiply = [&](const Weight* w, const char* from, const char* add, char* to) {
        const int64_t in = w->inputs, out = w->outputs;
        product(*w, Place{from, add, to, texts, in, out, out, p.type, p.type}, team);
    };
    for (int64_t l = 0; l < p.layers; l++) {
        const Step& s = p.steps[l];
        const int64_t whole = s.qkv->outputs, own = s.heads * s.width, keys = s.key_heads * s.width;
        multiply(s.qkv, x, nullptr, qkv);
        spread(team, texts, 8, [&](int64_t t) {
            static thread_local Scratch own_room;
            float* f = (float*)own_room.of(size_t(s.width + 16) * 4);
            const int64_t at = t * whole, row = s.writes[t] * keys;
            placed(s, qkv, at, s.heads, s.q_norm, t, q, t * own, p.type, f);
            placed(s, qkv, at + own, s.key_heads, s.k_norm, t, s.k, row, p.type, f);
            std::memcpy((char*)s.v + row * size, qkv + (at + own + keys) * size, keys * size);
        });
        decode(Decode{q, s.k, s.v, mixed, s.begins, s.lengths, s.index, texts, s.heads, s.key_heads, s.width, s.width,
                      own, keys, keys, s.scale, p.type}, team);
        multiply(s.out, mixed, x, other);
        exchange(x, other);
        if (s.query) {
            multiply(s.query, x, nullptr, q);
            decode(Decode{q, s.source_k, s.source_v, mixed, s.source_begins, s.source_lengths, nullptr, texts, s.heads,
                          s.heads, s.width, s.width, own, s.source_stride, s.source_stride, s.cross_scale, p.type}, team);
            multiply(s.cross, mixed, x, other);
            exchange(x, other);
        }
        multiply(s.into, x, nullptr, wide);
        multiply(s.down, wide, x, other);
        exchange(x, other);
    }
    if (x != (char*)p.x) std::memcpy(p.x, x, texts * p.states * size);
}

}  // namespace
