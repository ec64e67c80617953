// Sixteen numbers at a time, in plain C++: the compiler makes one AVX-512 register of them, two of AVX2, four of NEON.
// Only products of bytes, products of bfloat16 pairs and conversions of float16 need intrinsics.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define INLINE inline __attribute__((always_inline))

typedef float F __attribute__((vector_size(64)));
typedef int32_t I __attribute__((vector_size(64)));
typedef uint32_t U __attribute__((vector_size(64)));

namespace {

typedef uint16_t Half16 __attribute__((vector_size(32)));
typedef int8_t Bytes16 __attribute__((vector_size(16)));

template <class T> INLINE T load(const void* p) { T v; std::memcpy(&v, p, sizeof v); return v; }
template <class T> INLINE void store(void* p, T v) { std::memcpy(p, &v, sizeof v); }
INLINE F broadcast(float x) { return F{} + x; }
INLINE I broadcast(int32_t x) { return I{} + x; }
INLINE F floats(I x) { return __builtin_convertvector(x, F); }
INLINE F bits_f(I x) { return (F)x; }  // the same bits
INLINE I bits_i(F x) { return (I)x; }
INLINE F choose(I mask, F a, F b) { return bits_f((mask & bits_i(a)) | (~mask & bits_i(b))); }
// These return the second operand where either is NaN.
#if defined(__AVX512F__)
INLINE F maximum(F a, F b) { return (F)_mm512_max_ps((__m512)a, (__m512)b); }  // compilers make four instructions of `choose`
INLINE F minimum(F a, F b) { return (F)_mm512_min_ps((__m512)a, (__m512)b); }
#else
INLINE F maximum(F a, F b) { return choose(a > b, a, b); }
INLINE F minimum(F a, F b) { return choose(a < b, a, b); }
#endif
INLINE F absolute(F a) { return bits_f(bits_i(a) & 0x7fffffff); }
INLINE F square_root(F x) { F r; for (int i = 0; i < 16; i++) r[i] = std::sqrt(x[i]); return r; }

INLINE float reduce_sum(F x) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)x);
#else
    float parts[16];
    store(parts, x);
    for (int half = 8; half; half /= 2)  // the order of additions of _mm512_reduce_add_ps
        for (int i = 0; i < half; i++) parts[i] += parts[i + half];
    return parts[0];
#endif
}
// The sum of each of sixteen vectors.
INLINE F reduce_sums(const F* x) {
#if defined(__AVX512F__)
    // vectors are added while they are interleaved: fewer steps than sixteen sums one by one
    __m512 pairs[8], fours[4];
    for (int i = 0; i < 8; i++) {
        const __m512 a = (__m512)x[2 * i], b = (__m512)x[2 * i + 1];
        pairs[i] = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    }
    for (int i = 0; i < 4; i++) {
        const __m512d a = _mm512_castps_pd(pairs[2 * i]), b = _mm512_castps_pd(pairs[2 * i + 1]);
        fours[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    const __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(fours[0], fours[1], 0x88), _mm512_shuffle_f32x4(fours[0], fours[1], 0xdd));
    const __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(fours[2], fours[3], 0x88), _mm512_shuffle_f32x4(fours[2], fours[3], 0xdd));
    return (F)_mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
#else
    F r;
    for (int i = 0; i < 16; i++) r[i] = reduce_sum(x[i]);
    return r;
#endif
}
INLINE float reduce_max(F x) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)x);
#endif
    float parts[16], s = 0;
    store(parts, x);
    s = parts[0];
    for (int i = 1; i < 16; i++) s = parts[i] > s ? parts[i] : s;
    return s;
}

// ---- bfloat16: the upper half of a float, rounded to nearest even; NaN stays NaN

INLINE F from_bf16(Half16 x) { return bits_f(__builtin_convertvector(x, I) << 16); }
INLINE Half16 to_bf16(F x) {
#if defined(__AVX512BF16__)
    __m256bh r = _mm512_cvtneps_pbh((__m512)x);
    return (Half16)r;
#else
    I bits = bits_i(x);
    // half of the last bit that stays, and a little more where that bit is 1: ties go to even
    I rounded = bits + 0x7fff + ((bits >> 16) & 1);
    I quiet = bits | 0x400000;  // a NaN with bits in its lower half alone would become infinity
    I none = x != x;
    I kept = (none & quiet) | (~none & rounded);
    U upper = (U)kept >> 16;
    return __builtin_convertvector(upper, Half16);
#endif
}
INLINE float from_bf16(uint16_t x) { uint32_t b = uint32_t(x) << 16; float f; std::memcpy(&f, &b, 4); return f; }
INLINE uint16_t to_bf16(float x) {
    uint32_t b;
    std::memcpy(&b, &x, 4);
    if (x != x) return uint16_t((b | 0x400000) >> 16);
    return uint16_t((b + 0x7fff + ((b >> 16) & 1)) >> 16);
}

// ---- float16, the type of the scales of groups

INLINE float from_half(uint16_t h) {
    uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3ff, bits;
    if (exponent == 0) {
        float f = std::ldexp(float(fraction), -24);  // subnormal
        return h & 0x8000 ? -f : f;
    }
    // 112 = 127 - 15, the difference of the biases; exponent 31 is infinity or NaN
    bits = sign | ((exponent == 31 ? 255u : exponent + 112) << 23) | (fraction << 13);
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}
INLINE F from_halves(const uint16_t* p) {
#if defined(__AVX512F__)
    return (F)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif defined(__F16C__)
    F r;
    __m256 a = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
    __m256 b = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8)));
    std::memcpy(&r, &a, 32);
    std::memcpy((char*)&r + 32, &b, 32);
    return r;
#else
    F r;
    for (int i = 0; i < 16; i++) r[i] = from_half(p[i]);
    return r;
#endif
}

// ---- loads and stores of either type as float32: `type` 0 float32, 1 bfloat16; `i` counts numbers

INLINE F load_typed(const void* p, int64_t i, int type) {
    return type ? from_bf16(load<Half16>((const uint16_t*)p + i)) : load<F>((const float*)p + i);
}
INLINE void store_typed(void* p, int64_t i, int type, F v) {
    if (type) store((uint16_t*)p + i, to_bf16(v));
    else store((float*)p + i, v);
}
INLINE float load_one(const void* p, int64_t i, int type) {
    return type ? from_bf16(((const uint16_t*)p)[i]) : ((const float*)p)[i];
}
INLINE void store_one(void* p, int64_t i, int type, float v) {
    if (type) ((uint16_t*)p)[i] = to_bf16(v);
    else ((float*)p)[i] = v;
}
INLINE F load_partial(const void* p, int64_t i, int64_t count, int type) {
    F v{};
    for (int64_t j = 0; j < count; j++) v[j] = load_one(p, i + j, type);
    return v;
}
INLINE void store_partial(void* p, int64_t i, int64_t count, int type, F v) {
    for (int64_t j = 0; j < count; j++) store_one(p, i + j, type, v[j]);
}

// ---- four products of an unsigned and a signed byte, added to each 32-bit sum

INLINE I dot4(I acc, I unsigned_bytes, I signed_bytes) {
#if defined(__AVX512VNNI__)
    return (I)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)unsigned_bytes, (__m512i)signed_bytes);
#elif defined(__AVX512BW__)
    // products of bytes as 16-bit numbers: vpmaddubsw would saturate their sums
    __m512i w = (__m512i)unsigned_bytes, x = (__m512i)signed_bytes;
    __m512i even = _mm512_madd_epi16(_mm512_and_si512(w, _mm512_set1_epi16(0xff)), _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8));
    __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(w, 8), _mm512_srai_epi16(x, 8));
    return acc + (I)even + (I)odd;
#elif defined(__AVX2__)
    I out;
    for (int half = 0; half < 2; half++) {
        __m256i w = load<__m256i>((const char*)&unsigned_bytes + 32 * half), x = load<__m256i>((const char*)&signed_bytes + 32 * half);
        __m256i even = _mm256_madd_epi16(_mm256_and_si256(w, _mm256_set1_epi16(0xff)), _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
        __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(w, 8), _mm256_srai_epi16(x, 8));
        store((char*)&out + 32 * half, _mm256_add_epi32(even, odd));
    }
    return acc + out;
#else
    U w = (U)unsigned_bytes;
    I x = signed_bytes;
    for (int k = 0; k < 4; k++) {
        U part = (w >> (8 * k)) & 0xff;
        acc += (I)part * ((x << (24 - 8 * k)) >> 24);
    }
    return acc;
#endif
}

// ---- two products of bfloat16 numbers, added to each float

INLINE F dot2(F acc, I a, I b) {
#if defined(__AVX512BF16__)
    return (F)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
#else
    acc += bits_f(a << 16) * bits_f(b << 16);  // the first number of each pair, as float32
    // the second one: the bits below it are cleared
    return acc + bits_f(a & int32_t(0xffff0000)) * bits_f(b & int32_t(0xffff0000));
#endif
}

// ---- functions

// e^x by Cephes' reduction and a polynomial of the sixth degree: relative error 2e-7. The result
// is at least e^-87.3 and at most e^88; NaN stays NaN.
INLINE F exponential(F x) {
    x = minimum(broadcast(88.0f), maximum(broadcast(-87.3f), x));
    const F magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
    F n = (x * 1.44269504f + magic) - magic;  // x / log 2, rounded
    // x - n * log 2, in two parts, of which the first product is exact
    F r = x - n * 0.693359375f + n * 2.12194440e-4f;
    F p = broadcast(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
#if defined(__AVX512F__)
    return (F)_mm512_scalef_ps((__m512)p, (__m512)n);  // p * 2^n
#else
    I scale = (__builtin_convertvector(n, I) + 127) << 23;  // 2^n, by its exponent bits
    return p * bits_f(scale);
#endif
}
INLINE F sigmoid(F x) { return 1.0f / (1.0f + exponential(-x)); }
INLINE F hyperbolic_tangent(F x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }
// x squeezed into (-cap, cap).
INLINE F squeeze(F x, float cap) { return cap * hyperbolic_tangent(x / cap); }
// 1 / x of a finite number that is not zero, within two units of the last place.
INLINE F reciprocal(F x) {
#if defined(__AVX512F__)
    const F guess = (F)_mm512_rcp14_ps((__m512)x);
    return guess + guess * (1.0f - x * guess);  // a division takes four times as long
#else
    return 1.0f / x;
#endif
}
// The error function by Abramowitz and Stegun's 7.1.26: absolute error 1.5e-7.
INLINE F error_function(F x) {
    F a = minimum(broadcast(16.0f), absolute(x));  // from where it is 1; NaN stays NaN
    F t = reciprocal(1.0f + 0.3275911f * a);
    F p = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    F y = 1.0f - p * exponential(-a * a);
    // y is of the absolute value; the sign of x comes back
    return bits_f(bits_i(y) | (bits_i(x) & int32_t(0x80000000)));
}

enum Activation { NONE, RELU, GELU, GELU_TANH, SILU, QUICK_GELU, TANH, SIGMOID, RELU_SQUARED };

INLINE F activate(F x, int kind) {
    switch (kind) {
        case RELU: return maximum(F{}, x);
        case GELU: return 0.5f * x * (1.0f + error_function(x * 0.70710678f));
        // 0.5 * (1 + tanh(y)) = sigmoid(2 y)
        case GELU_TANH: return x * sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
        case SILU: return x * sigmoid(x);
        case QUICK_GELU: return x * sigmoid(1.702f * x);
        case TANH: return hyperbolic_tangent(x);
        case SIGMOID: return sigmoid(x);
        case RELU_SQUARED: x = maximum(F{}, x); return x * x;
        default: return x;
    }
}

}  // namespace
