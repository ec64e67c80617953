// Dequantization of the block types of GGUF (github.com/ggml-org/ggml, ggml-quants), for reading files quickly.
// Every product of a code and its scale is exact in float32, so the result does not depend on the compiler.
#pragma once

#include <cstring>

#include "grids.h"
#include "native.h"

namespace {

inline float expand_half(uint16_t h) {
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

inline uint16_t short_at(const uint8_t* p) {
    uint16_t x;
    std::memcpy(&x, p, 2);
    return x;
}

inline uint32_t word_at(const uint8_t* p) {
    uint32_t x;
    std::memcpy(&x, p, 4);
    return x;
}

inline float half_at(const uint8_t* p) { return expand_half(short_at(p)); }
inline int nibble(const uint8_t* p, int i) { return p[i / 2] >> (i % 2 * 4) & 15; }

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

void q1_0(const uint8_t* p, float* y) {
    const float d = half_at(p);
    for (int i = 0; i < 128; i++) y[i] = float(p[2 + i / 8] >> (i % 8) & 1) * (2 * d) + -d;
}

// Codes 0, 1 and 2 around the middle one.
inline float ternary(int code, float d) { return float(code) * d + -d; }

// `digits` ternary digits of each of `count` bytes, whose first digits are a fraction in base 3.
inline float* ternary_digits(const uint8_t* p, int count, int digits, float d, float* y) {
    int power = 1;
    for (int digit = 0; digit < digits; digit++, power *= 3)
        for (int i = 0; i < count; i++) *y++ = ternary(uint8_t(p[i] * power) * 3 >> 8, d);
    return y;
}

void tq1_0(const uint8_t* p, float* y) {
    const float d = half_at(p + 52);
    y = ternary_digits(p, 32, 5, d, y);
    y = ternary_digits(p + 32, 16, 5, d, y);
    ternary_digits(p + 48, 4, 4, d, y);
}

void tq2_0(const uint8_t* p, float* y) {
    const float d = half_at(p + 64);
    for (int i = 0; i < 256; i++) y[i] = ternary(p[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3, d);
}

const uint8_t TWO_BITS[4] = {8, 25, 43, 0}, THREE_BITS[8] = {4, 12, 20, 28, 36, 44, 52, 62};

// A row of a grid: `count` codes of `bits` bits. Bit i of `signs` negates the ith.
inline void grid_row(uint32_t row, const uint8_t* values, int bits, int count, uint32_t signs, float scale, float* y) {
    for (int i = 0; i < count; i++) {
        const int x = values[row >> i * bits & ((1 << bits) - 1)];
        y[i] = float(signs >> i & 1 ? -x : x) * scale;
    }
}

// Seven signs and the eighth that makes their number even.
inline uint32_t seven_signs(uint32_t s) { return (s & 127) | uint32_t(__builtin_parity(s & 127)) << 7; }

void iq2_xxs(const uint8_t* p, float* y) {
    const float d = half_at(p);
    for (int group = 0; group < 8; group++) {  // of 32
        const uint8_t* q = p + 2 + group * 8;
        const uint32_t more = word_at(q + 4);
        const float scale = d * (float(more >> 28) + 0.5f) * 0.25f;
        for (int i = 0; i < 4; i++)
            grid_row(IQ2_XXS_GRID[q[i]], TWO_BITS, 2, 8, seven_signs(more >> 7 * i), scale, y + group * 32 + i * 8);
    }
}

void iq2_xs(const uint8_t* p, float* y) {
    const float d = half_at(p);
    for (int i = 0; i < 32; i++) {  // of 8
        const uint16_t q = short_at(p + 2 + 2 * i);
        const float scale = d * (float(nibble(p + 66, i / 2)) + 0.5f) * 0.25f;
        grid_row(IQ2_XS_GRID[q & 511], TWO_BITS, 2, 8, seven_signs(q >> 9), scale, y + i * 8);
    }
}

void iq2_s(const uint8_t* p, float* y) {
    const float d = half_at(p);
    for (int i = 0; i < 32; i++) {  // of 8
        const int index = p[2 + i] | (p[66 + i / 4] >> (i % 4 * 2) & 3) << 8;
        const float scale = d * (float(nibble(p + 74, i / 2)) + 0.5f) * 0.25f;
        grid_row(IQ2_S_GRID[index], TWO_BITS, 2, 8, p[34 + i], scale, y + i * 8);
    }
}

void iq3_xxs(const uint8_t* p, float* y) {
    const float d = half_at(p);
    for (int i = 0; i < 64; i++) {  // of 4
        const uint32_t more = word_at(p + 66 + i / 8 * 4);
        const float scale = d * (float(more >> 28) + 0.5f) * 0.5f;
        const uint32_t signs = seven_signs(more >> 7 * (i / 2 % 4)) >> (i % 2 * 4);
        grid_row(IQ3_XXS_GRID[p[2 + i]], THREE_BITS, 4, 4, signs, scale, y + i * 4);
    }
}

void iq3_s(const uint8_t* p, float* y) {
    const uint8_t odd[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    const float d = half_at(p);
    for (int i = 0; i < 64; i++) {  // of 4
        const int index = p[2 + i] | (p[66 + i / 8] >> i % 8 & 1) << 8;
        const float scale = d * float(2 * nibble(p + 106, i / 8) + 1);
        grid_row(IQ3_S_GRID[index], odd, 4, 4, p[74 + i / 2] >> (i % 2 * 4), scale, y + i * 4);
    }
}

// A row of the grid of IQ1, of eight codes 1, 0 and -1, and a shift of an eighth of the scale.
inline void shifted_row(int index, int shift, float scale, float* y) {
    const uint32_t row = IQ1_S_GRID[index];
    for (int i = 0; i < 8; i++) y[i] = float((int(row >> 2 * i & 3) - 1) * 8 + shift) * (scale / 8);
}

void iq1_s(const uint8_t* p, float* y) {
    const float d = half_at(p);
    for (int i = 0; i < 32; i++) {  // of 8
        const int more = short_at(p + 34 + i / 4 * 2);
        const int index = p[2 + i] | (more >> (i % 4 * 3) & 7) << 8;
        shifted_row(index, more >> 15 ? -1 : 1, d * float((more >> 12 & 7) * 2 + 1), y + i * 8);
    }
}

void iq1_m(const uint8_t* p, float* y) {
    const uint8_t* stored = p + 48;
    int whole = 0;  // the block's scale, in four parts
    for (int i = 0; i < 4; i++) whole |= short_at(stored + 2 * i) >> 12 << 4 * i;
    const float d = expand_half(uint16_t(whole));
    for (int i = 0; i < 32; i++) {  // of 8
        const int more = nibble(p + 32, i), group = i / 2;
        const int scale = (short_at(stored + group / 4 * 2) >> (group % 4 * 3) & 7) * 2 + 1;
        shifted_row(p[i] | (more & 7) << 8, more & 8 ? -1 : 1, d * float(scale), y + i * 8);
    }
}

const int8_t STEPS[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t E2M1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};  // doubled

// Weights that 4 bits name, those of the low halves first.
inline void named(const uint8_t* packed, int bytes, const int8_t* values, float scale, float* y) {
    for (int i = 0; i < bytes; i++) {
        y[i] = float(values[packed[i] & 15]) * scale;
        y[i + bytes] = float(values[packed[i] >> 4]) * scale;
    }
}

void iq4_nl(const uint8_t* p, float* y) { named(p + 2, 16, STEPS, half_at(p), y); }

void iq4_xs(const uint8_t* p, float* y) {
    const float d = half_at(p);
    const int high = short_at(p + 2);
    for (int group = 0; group < 8; group++) {  // of 32
        const int scale = (nibble(p + 4, group) | (high >> 2 * group & 3) << 4) - 32;
        named(p + 8 + group * 16, 16, STEPS, d * float(scale), y + group * 32);
    }
}

void mxfp4(const uint8_t* p, float* y) {
    const uint32_t bits = p[0] < 2 ? 0x200000u << p[0] : uint32_t(p[0] - 1) << 23;  // half of a power of two
    float scale;
    std::memcpy(&scale, &bits, 4);
    named(p + 1, 16, E2M1, scale, y);
}

void nvfp4(const uint8_t* p, float* y) {
    for (int group = 0; group < 4; group++) {  // of 16
        // Three bits of mantissa, four of exponent, a sign that counts for nothing: half of the number.
        const int stored = p[group], exponent = stored >> 3 & 15, mantissa = (stored & 7) | (exponent ? 8 : 0);
        const float unit = float(1 << (exponent ? exponent : 1)) * 4.8828125e-4f;  // 2^(exponent - 11)
        named(p + 4 + group * 8, 8, E2M1, stored == 127 ? 0.0f : float(mantissa) * unit, y + group * 16);
    }
}

struct Type {
    int number, size, length;  // as files have it (`ggml_type`); bytes and weights of a block
    void (*decode)(const uint8_t*, float*);
};

const Type TYPES[] = {
    {2, 18, 32, q4_0}, {3, 20, 32, q4_1}, {6, 22, 32, q5_0}, {7, 24, 32, q5_1}, {8, 34, 32, q8_0},
    {10, 84, 256, q2_k}, {11, 110, 256, q3_k}, {12, 144, 256, q4_k}, {13, 176, 256, q5_k}, {14, 210, 256, q6_k},
    {16, 66, 256, iq2_xxs}, {17, 74, 256, iq2_xs}, {18, 98, 256, iq3_xxs}, {19, 50, 256, iq1_s}, {20, 18, 32, iq4_nl},
    {21, 110, 256, iq3_s}, {22, 82, 256, iq2_s}, {23, 136, 256, iq4_xs}, {29, 56, 256, iq1_m}, {34, 54, 256, tq1_0},
    {35, 66, 256, tq2_0}, {39, 17, 32, mxfp4}, {40, 36, 64, nvfp4}, {41, 18, 128, q1_0},
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
