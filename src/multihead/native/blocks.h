// Dequantization of the block types of GGUF (github.com/ggml-org/ggml, ggml-quants), for reading files quickly.
// Every product of a code and its scale is exact in float32, so the result does not depend on the compiler.
#pragma once

#include <cstring>

#include "native.h"

namespace {

inline float half_at(const uint8_t* p) {
    uint16_t h;
    std::memcpy(&h, p, 2);
    const uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    uint32_t bits;
    if (exponent == 31) bits = sign | 0x7f800000u | mantissa << 13;
    else if (exponent) bits = sign | (exponent + 112) << 23 | mantissa << 13;
    else {  // below the normal numbers: mantissa * 2^-24 is exact
        const float x = float(mantissa) * 5.9604644775390625e-8f;
        return sign ? -x : x;
    }
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

// 32 weights of 4 bits, low halves first, with a fifth bit each where `high` is not null.
inline void five_bits(const uint8_t* packed, const uint8_t* high, float scale, float least, float* y) {
    uint32_t bits = 0;
    if (high) std::memcpy(&bits, high, 4);
    for (int i = 0; i < 16; i++) {
        y[i] = float((packed[i] & 15) | (bits >> i & 1) << 4) * scale + least;
        y[i + 16] = float(packed[i] >> 4 | (bits >> (i + 16) & 1) << 4) * scale + least;
    }
}

void q4_0(const uint8_t* p, float* y) { five_bits(p + 2, nullptr, half_at(p), half_at(p) * -8, y); }
void q4_1(const uint8_t* p, float* y) { five_bits(p + 4, nullptr, half_at(p), half_at(p + 2), y); }
void q5_0(const uint8_t* p, float* y) { five_bits(p + 6, p + 2, half_at(p), half_at(p) * -16, y); }
void q5_1(const uint8_t* p, float* y) { five_bits(p + 8, p + 4, half_at(p), half_at(p + 2), y); }

void q8_0(const uint8_t* p, float* y) {
    const float scale = half_at(p);
    for (int i = 0; i < 32; i++) y[i] = float(int8_t(p[2 + i])) * scale;
}

// Eight scales and eight minima of 6 bits in 12 bytes: those of group i.
inline void six_bits(const uint8_t* s, int i, int& scale, int& least) {
    if (i < 4) scale = s[i] & 63, least = s[i + 4] & 63;
    else scale = (s[i + 4] & 15) | s[i - 4] >> 6 << 4, least = s[i + 4] >> 4 | s[i] >> 6 << 4;
}

// Q4_K, and Q5_K where `high` is not null: eight groups of 32; a pair of groups shares 32 bytes.
inline void k_groups(const uint8_t* p, const uint8_t* packed, const uint8_t* high, float* y) {
    const float d = half_at(p), m = half_at(p + 2);
    for (int group = 0; group < 8; group++) {
        int scale, least;
        six_bits(p + 4, group, scale, least);
        const float s = d * float(scale), l = -m * float(least);
        const uint8_t* q = packed + group / 2 * 32;
        for (int i = 0; i < 32; i++) {
            const int low = group % 2 ? q[i] >> 4 : q[i] & 15;
            y[group * 32 + i] = float(low | (high ? (high[i] >> group & 1) << 4 : 0)) * s + l;
        }
    }
}

void q4_k(const uint8_t* p, float* y) { k_groups(p, p + 16, nullptr, y); }
void q5_k(const uint8_t* p, float* y) { k_groups(p, p + 48, p + 16, y); }

void q6_k(const uint8_t* p, float* y) {
    const float d = half_at(p + 208);
    for (int row = 0; row < 8; row++) {  // of 32
        const uint8_t *low = p + row / 4 * 64 + row % 2 * 32, *high = p + 128 + row / 4 * 32;
        const int shift = row / 2 % 2 * 4, place = row % 4 * 2;
        for (int half = 0; half < 32; half += 16) {
            const float scale = d * float(int8_t(p[192 + row * 2 + half / 16]));
            for (int i = half; i < half + 16; i++)
                y[row * 32 + i] = float(((low[i] >> shift & 15) | (high[i] >> place & 3) << 4) - 32) * scale;
        }
    }
}

void q3_k(const uint8_t* p, float* y) {
    const uint8_t* stored = p + 96;
    const float d = half_at(p + 108);
    for (int part = 0; part < 16; part++) {  // of 16
        const int nibble = part < 8 ? stored[part] & 15 : stored[part - 8] >> 4;
        const float scale = d * float((nibble | (stored[8 + part % 4] >> (part / 4 * 2) & 3) << 4) - 32);
        const uint8_t *codes = p + 32 + part / 8 * 32 + part % 2 * 16, *mask = p + part % 2 * 16;
        const int shift = part / 2 % 4 * 2, bit = part / 2;
        for (int i = 0; i < 16; i++) y[part * 16 + i] = float((codes[i] >> shift & 3) + (mask[i] >> bit & 1) * 4 - 4) * scale;
    }
}

void q2_k(const uint8_t* p, float* y) {
    const float d = half_at(p + 80), m = half_at(p + 82);
    for (int part = 0; part < 16; part++) {  // of 16
        const float scale = d * float(p[part] & 15), least = -m * float(p[part] >> 4);
        const uint8_t* codes = p + 16 + part / 8 * 32 + part % 2 * 16;
        const int shift = part / 2 % 4 * 2;
        for (int i = 0; i < 16; i++) y[part * 16 + i] = float(codes[i] >> shift & 3) * scale + least;
    }
}

struct Type {
    int number, size, length;  // as files have it (`ggml_type`); bytes and weights of a block
    void (*decode)(const uint8_t*, float*);
};

const Type TYPES[] = {
    {2, 18, 32, q4_0}, {3, 20, 32, q4_1}, {6, 22, 32, q5_0}, {7, 24, 32, q5_1}, {8, 34, 32, q8_0},
    {10, 84, 256, q2_k}, {11, 110, 256, q3_k}, {12, 144, 256, q4_k}, {13, 176, 256, q5_k}, {14, 210, 256, q6_k},
};

inline uint16_t to_bfloat16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t(bits >> 16 | 64);
    return uint16_t((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);  // to the nearest, ties to even
}

struct Work {
    const Type* type;
    const DequantizeCall* call;
    int parts;
};

void decode_part(void* arg, int part) {
    const Work& work = *(Work*)arg;
    const Type& type = *work.type;
    const DequantizeCall& call = *work.call;
    const int64_t begin = call.count * part / work.parts, end = call.count * (part + 1) / work.parts;
    const uint8_t* blocks = (const uint8_t*)call.blocks;
    for (int64_t i = begin; i < end; i++) {
        if (call.type == 0) {
            type.decode(blocks + i * type.size, (float*)call.out + i * type.length);
            continue;
        }
        float y[256];
        type.decode(blocks + i * type.size, y);
        uint16_t* out = (uint16_t*)call.out + i * type.length;
        for (int j = 0; j < type.length; j++) out[j] = to_bfloat16(y[j]);
    }
}

// Returns 0 for a type that is not known here.
int dequantize(const DequantizeCall& call, const Team& team) {
    for (const Type& type : TYPES) {
        if (type.number != call.number) continue;
        const int64_t enough = call.count * type.length / 65536 + 1;  // a thread for so many weights
        Work work{&type, &call, int(team.parts < enough ? team.parts : enough)};
        team.run(decode_part, &work, work.parts);
        return 1;
    }
    return 0;
}

}  // namespace
