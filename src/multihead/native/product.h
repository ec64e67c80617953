// Matrix products with a weight in panels of 64 outputs, four bytes of inputs deep, in the order in which they are read.
//
// With few rows the memory bandwidth limits a product; with many rows a block of rows stays in the cache, and arithmetic
// limits it. Rows are quantized to int8 (scale: largest magnitude at 127) right after the norm before the product. Bias,
// activation and residual (the epilogue) are applied to the sums while these are in registers.
#pragma once

#include <atomic>
#include <cstdlib>

#include "native.h"
#include "vectors.h"

namespace {

// Not std::min and std::max: the linker may take the one copy of a shared inline function from any instruction set level.
INLINE int64_t min_int(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t max_int(int64_t a, int64_t b) { return a > b ? a : b; }

constexpr int PANEL = 64, GROUP = 32;  // outputs of a panel; inputs of a group
constexpr int FEW = 8;                 // rows up to which memory bandwidth limits a product
#if defined(__AVX512F__)
constexpr int ROWS = 6, WIDE = 4;  // sums in registers: rows times vectors
#else
constexpr int ROWS = 2, WIDE = 1;
#endif

INLINE int64_t padded(const Weight& w) {
    int64_t unit = w.kind == 1 ? 64 : 32;
    return (w.inputs + unit - 1) / unit * unit;
}
// Bytes of one input of a row as the product reads it.
INLINE int64_t size_of(const Weight& w) { return w.kind >= 4 ? (w.kind % 2 ? 2 : 4) : w.kind == 0 ? 2 : 1; }
INLINE int64_t panels(const Weight& w) { return (w.width + PANEL - 1) / PANEL; }

// A buffer of one thread that is reused from one product to the next.
struct Scratch {
    char* data = nullptr;
    size_t size = 0;
    char* get(size_t bytes) {
        if (bytes > size) {
            std::free(data);
            // half as much again, so that growing inputs rarely allocate; aligned_alloc needs a multiple of 64
            size = (bytes + bytes / 2 + 4095) / 4096 * 4096;
            data = (char*)std::aligned_alloc(64, size);
            if (!data) std::abort();
        }
        return data;
    }
    ~Scratch() { std::free(data); }
};

// ---- rows, as the products read them

struct Rows {
    const char* codes;  // int8 or bfloat16
    int64_t stride;     // bytes
    const float* scales;   // of a row, or of each of its groups
    const int32_t* sums;   // sums of codes: of a row, or of each of its groups
    const float* zeros;    // of a row: the number that code 0 stands for (int8 with a scale a row)
};

template <class Read> INLINE void normalize(int kind, float eps, const float* weight, const float* bias, int64_t n, float* out, Read read) {
    const int64_t whole = n / 16 * 16;
    if (!kind) {
        for (int64_t i = 0; i < whole; i += 16) store(out + i, read(i));
        for (int64_t i = whole; i < n; i++) out[i] = read.one(i);
        return;
    }
    F total{}, squares{};
    for (int64_t i = 0; i < whole; i += 16) {
        F v = read(i);
        store(out + i, v);  // kept in float32, so that x is read and widened once
        total += v;
    }
    float s = reduce_sum(total);
    for (int64_t i = whole; i < n; i++) s += out[i] = read.one(i);
    const float mean = kind == 2 ? s / float(n) : 0.0f;  // a root mean square subtracts no mean
    for (int64_t i = 0; i < whole; i += 16) {
        F d = load<F>(out + i) - mean;  // a second pass: the difference of two large sums would lose digits
        squares += d * d;
    }
    s = reduce_sum(squares);
    for (int64_t i = whole; i < n; i++) s += (out[i] - mean) * (out[i] - mean);
    const float by = 1.0f / std::sqrt(s / float(n) + eps);
    for (int64_t i = 0; i < whole; i += 16) {
        F v = (load<F>(out + i) - mean) * by;
        if (weight) v *= load<F>(weight + i);
        if (bias) v += load<F>(bias + i);
        store(out + i, v);
    }
    for (int64_t i = whole; i < n; i++) {
        float v = (out[i] - mean) * by;
        if (weight) v *= weight[i];
        if (bias) v += bias[i];
        out[i] = v;
    }
}

struct RowReader {
    const void* p;
    int64_t begin;
    int type;
    INLINE F operator()(int64_t i) const { return load_typed(p, begin + i, type); }
    INLINE float one(int64_t i) const { return load_one(p, begin + i, type); }
};

// Read a row as float32, (padded,), through the norm if the weight has one. Padding is zero, or for kind 1 the first number.
INLINE void read_row(const Weight& w, const ProductCall& p, int64_t row, float* buffer) {
    RowReader read{p.x, row * p.x_stride, p.x_type};
    const int64_t n = w.inputs, all = padded(w);
    if (w.norm) {
        normalize(w.norm, w.norm_eps, w.norm_weight, w.norm_bias, n, buffer, read);
    } else {
        for (int64_t i = 0; i < n / 16 * 16; i += 16) store(buffer + i, read(i));
        for (int64_t i = n / 16 * 16; i < n; i++) buffer[i] = read.one(i);
    }
    const float rest = w.kind == 1 ? buffer[0] : 0.0f;  // changes neither the range of a row nor, times zero, its sums
    for (int64_t i = n; i < all; i++) buffer[i] = rest;
}

// Tested by bits: with fast-math flags a compiler may assume that no number is NaN or infinite.
INLINE I nonfinite_bits(F x) { return (bits_i(x) & 0x7f800000) == 0x7f800000; }
INLINE bool all_zero(I bits) {
    int32_t parts[16], any = 0;
    store(parts, bits);
    for (int i = 0; i < 16; i++) any |= parts[i];
    return !any;
}

// Write the codes of n numbers (a multiple of 16), round((x - bottom) * by) - below, and return the sum of the codes.
INLINE int32_t write_codes(const float* x, int64_t n, float bottom, float by, int32_t below, int8_t* codes) {
    const F magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number, in the low bits
    I t{};
    for (int64_t i = 0; i < n; i += 16) {
        const I q = bits_i((load<F>(x + i) - bottom) * by + magic) - bits_i(magic) - below;
        t += q;
        store(codes + i, __builtin_convertvector(q, Bytes16));
    }
    int32_t parts[16], total = 0;
    store(parts, t);
    for (int i = 0; i < 16; i++) total += parts[i];
    return total;
}

// Quantize n numbers to codes of -127 to 127 around zero, with their scale and the sum of codes. A row with NaN or
// infinity gets the scale NaN, so that the result shows it.
INLINE void quantize_symmetric(const float* x, int64_t n, int8_t* codes, float& scale, int32_t& total) {
    F most{};
    I nonfinite{};
    for (int64_t i = 0; i < n; i += 16) {
        const F v = load<F>(x + i);
        most = maximum(most, absolute(v));
        nonfinite |= nonfinite_bits(v);
    }
    const bool finite = all_zero(nonfinite);
    const float peak = reduce_max(most);
    scale = finite ? peak / 127.0f : NAN;
    // a row of zeros gets codes 0, without a division by zero
    total = write_codes(x, n, 0.0f, finite && peak > 0 ? 127.0f / peak : 0.0f, 0, codes);
}

// Quantize a row over its own range: code -128 is its lowest number, 127 its highest. `zero`: the number of code 0.
INLINE void quantize_asymmetric(const float* x, int64_t n, int8_t* codes, float& scale, int32_t& total, float& zero) {
    F low = load<F>(x), high = low;  // 16 numbers of the row each
    I nonfinite{};
    for (int64_t i = 0; i < n; i += 16) {
        const F v = load<F>(x + i);
        low = minimum(low, v);
        high = maximum(high, v);
        nonfinite |= nonfinite_bits(v);
    }
    const bool finite = all_zero(nonfinite);
    const float bottom = finite ? -reduce_max(-low) : 0.0f, step = finite ? (reduce_max(high) - bottom) / 255.0f : 0.0f;
    scale = finite ? step : NAN;
    zero = bottom + 128.0f * step;  // codes are signed: 128 less than the number of steps from the bottom
    total = write_codes(x, n, bottom, step > 0 ? 1.0f / step : 0.0f, 128, codes);
}

struct Layout {
    int64_t stride, groups;
    size_t codes, scales, total;  // bytes
    Layout(const Weight& w, int64_t rows) {
        stride = padded(w) * size_of(w);  // bytes of a row
        groups = w.kind == 2 || w.kind == 3 ? padded(w) / GROUP : 1;
        codes = size_t((stride * rows + 63) / 64 * 64);  // whole cache lines
        scales = size_t((rows * groups * 4 + 63) / 64 * 64);
        total = codes + 3 * scales;  // after the codes: scales, sums and zeros
    }
};

INLINE void write_row(const Weight& w, const Layout& l, char* buffer, int64_t row, const float* x) {
    const int64_t all = padded(w);
    if (size_of(w) > 1) {
        for (int64_t i = 0; i < all; i += 16) store_typed(buffer + row * l.stride, i, size_of(w) == 2, load<F>(x + i));
        return;
    }
    int8_t* out = (int8_t*)(buffer + row * l.stride);  // (inputs filled up,)
    float* scales = (float*)(buffer + l.codes) + row * l.groups;  // (groups,)
    int32_t* sums = (int32_t*)(buffer + l.codes + l.scales) + row * l.groups;  // (groups,)
    if (w.kind == 1) {
        quantize_asymmetric(x, all, out, *scales, *sums, ((float*)(buffer + l.codes + 2 * l.scales))[row]);
        return;
    }
    const int64_t each = all / l.groups;  // inputs of a group
    for (int64_t g = 0; g < l.groups; g++) quantize_symmetric(x + g * each, each, out + g * each, scales[g], sums[g]);
}

// ---- the epilogue of 64 sums: bias, activation or gate, residual, output type

template <int TYPE, int COUNT> INLINE void store_panel(const Weight& w, const ProductCall& p, int64_t row, int64_t panel, const F* v) {
    const int64_t column = panel * 16 * COUNT, at = row * p.y_stride + column, add = row * p.add_stride + column;
    if (column + 16 * COUNT <= w.outputs) {  // only the last panel may be partial
        if (p.add)
            for (int j = 0; j < COUNT; j++) store_typed(p.y, at + 16 * j, TYPE, v[j] + load_typed(p.add, add + 16 * j, TYPE));
        else
            for (int j = 0; j < COUNT; j++) store_typed(p.y, at + 16 * j, TYPE, v[j]);
        return;
    }
    for (int j = 0; j < COUNT; j++) {
        const int64_t left = min_int(16, w.outputs - column - 16 * j);
        if (left <= 0) return;
        F one = v[j];
        if (p.add) one += load_partial(p.add, add + 16 * j, left, TYPE);
        store_partial(p.y, at + 16 * j, left, TYPE, one);
    }
}

INLINE void epilogue(const Weight& w, const ProductCall& p, int64_t row, int64_t panel, F* v) {
    if (w.bias)
        for (int j = 0; j < 4; j++) v[j] += load<F>(w.bias + panel * PANEL + 16 * j);
    if (w.gated) {
        v[0] = activate(v[0], w.act) * v[2];  // vectors 0 and 1 are gates, 2 and 3 their up values
        v[1] = activate(v[1], w.act) * v[3];
        if (p.y_type) store_panel<1, 2>(w, p, row, panel, v);
        else store_panel<0, 2>(w, p, row, panel, v);
        return;
    }
    switch (w.act) {
        case NONE: break;
        // a constant kind spares the switch in each vector
        case GELU: for (int j = 0; j < 4; j++) v[j] = activate(v[j], GELU); break;
        default: for (int j = 0; j < 4; j++) v[j] = activate(v[j], w.act);
    }
    if (p.y_type) store_panel<1, 4>(w, p, row, panel, v);
    else store_panel<0, 4>(w, p, row, panel, v);
}

// ---- sums of a few rows and one panel

struct Int8Dot {  // int8
    typedef I Sum;
    INLINE static I step(I acc, I weight, I x) { return dot4(acc, weight, x); }
};
struct Bfloat16Dot {  // bfloat16
    typedef F Sum;
    INLINE static F step(F acc, I weight, I x) { return dot2(acc, weight, x); }
};

// Sums of M rows and N vectors of outputs, into columns from `first` on. Weights of successive steps are `step_bytes` apart.
template <class Op, int M, int N, int WIDTH>
INLINE void sums_of(const char* x, int64_t stride, const char* at, int64_t step_bytes, int64_t steps, int first,
                    typename Op::Sum out[][WIDTH]) {
    typename Op::Sum acc[M][N] = {};  // (M, 16 * N outputs), in registers for all steps
    for (int64_t s = 0; s < steps; s++, at += step_bytes) {
        I weight[N];  // 16 outputs each, four bytes of inputs deep
        for (int j = 0; j < N; j++) weight[j] = load<I>(at + 64 * j);
        for (int m = 0; m < M; m++) {
            // four bytes of inputs of a row, for all outputs
            const I one = broadcast(load<int32_t>(x + m * stride + 4 * s));
            for (int j = 0; j < N; j++) acc[m][j] = Op::step(acc[m][j], weight[j], one);
        }
    }
    for (int m = 0; m < M; m++)
        for (int j = 0; j < N; j++) out[m][first + j] = acc[m][j];
}

template <class Op, int M, int N>
INLINE void block(const char* x, int64_t stride, const char* panel, int64_t steps, typename Op::Sum out[][4]) {
    for (int first = 0; first < 4; first += N)
        // one step of a panel is 64 outputs of four bytes: 256 bytes
        sums_of<Op, M, N, 4>(x, stride, panel + first * 64, 256, steps, first, out);
}

// Sums of M rows of a weight in groups. Each group has its scale, so its integer sums are converted before the next group.
template <int BITS, int M, int N>
INLINE void grouped(const Weight& w, const Rows& r, int64_t row, int64_t panel, int64_t groups, F out[][4]) {
    constexpr int64_t BYTES = GROUP * PANEL * BITS / 8;  // codes of one group of a panel
    const char* codes = (const char*)w.codes + panel * groups * BYTES;  // (groups, BYTES)
    const uint16_t* scales = (const uint16_t*)w.scales + panel * groups * PANEL;  // (groups, 64)
    const uint16_t* minima = w.minima ? (const uint16_t*)w.minima + panel * groups * PANEL : nullptr;
    const char* x = r.codes + row * r.stride;
    for (int first = 0; first < 4; first += N) {
        F total[M][N] = {};
        for (int64_t g = 0; g < groups; g++) {
            I acc[M][N] = {};
            const char* at = codes + g * BYTES + first * 64;
            const char* xs = x + g * GROUP;
            if (BITS == 8) {
                for (int s = 0; s < 8; s++)  // four inputs a step, 32 in a group
                    for (int j = 0; j < N; j++) {
                        const I weight = load<I>(at + s * 256 + 64 * j);
                        for (int m = 0; m < M; m++)
                            acc[m][j] = dot4(acc[m][j], weight, broadcast(load<int32_t>(xs + m * r.stride + 4 * s)));
                    }
            } else {
                // eight inputs a step: 4 s to 4 s + 3 in the low halves, and those 16 further in the high
                for (int s = 0; s < 4; s++)
                    for (int j = 0; j < N; j++) {
                        const I both = load<I>(at + s * 256 + 64 * j);
                        const I low = both & 0x0f0f0f0f, high = (both >> 4) & 0x0f0f0f0f;
                        for (int m = 0; m < M; m++) {
                            const char* xm = xs + m * r.stride + 4 * s;
                            acc[m][j] = dot4(acc[m][j], low, broadcast(load<int32_t>(xm)));
                            acc[m][j] = dot4(acc[m][j], high, broadcast(load<int32_t>(xm + 16)));
                        }
                    }
            }
            for (int j = 0; j < N; j++) {
                const F scale = from_halves(scales + g * PANEL + 16 * (first + j));
                for (int m = 0; m < M; m++) {
                    const int64_t at_row = (row + m) * groups + g;
                    const float by = r.scales[at_row];
                    if (minima) {
                        const F low = from_halves(minima + g * PANEL + 16 * (first + j));
                        // weight = scale * code + minimum, so the minimum counts once for each input
                        total[m][j] += floats(acc[m][j]) * (scale * by) + low * (by * float(r.sums[at_row]));
                    } else {
                        // codes are unsigned, so their zero has added itself times the sum of the inputs
                        total[m][j] += floats(acc[m][j] - (int32_t)((uint32_t)w.zero * (uint32_t)r.sums[at_row])) * (scale * by);
                    }
                }
            }
        }
        for (int m = 0; m < M; m++)
            for (int j = 0; j < N; j++) out[m][first + j] = total[m][j];
    }
}

INLINE void epilogue_int8(const Weight& w, const Rows& r, const ProductCall& p, int64_t row, int64_t panel, const I* sums) {
    F v[4];
    // totals: sums of each output's codes, which the zero of the row multiplies
    const float *scales = (const float*)w.scales + panel * PANEL, *totals = (const float*)w.minima + panel * PANEL;
    const F scale = broadcast(r.scales[row]), zero = broadcast(r.zeros[row]);
    const I shift = broadcast((int32_t)(128u * (uint32_t)r.sums[row]));  // unsigned: the sum of a row with NaN is arbitrary and may overflow
    for (int j = 0; j < 4; j++)
        v[j] = (floats(sums[j] - shift) * scale + load<F>(totals + 16 * j) * zero) * load<F>(scales + 16 * j);
    epilogue(w, p, row, panel, v);
}

}  // namespace

#include "unpacked.h"

namespace {

template <int M>
void multiply_panel(const Weight& w, const Rows& r, const ProductCall& p, int64_t row, int64_t panel) {
    // vectors of outputs at once: all four for one row, else as many as the registers hold
    constexpr int N = M == 1 ? 4 : WIDE, G = M == 1 ? 4 : (M <= 2 ? WIDE : (WIDE > 2 ? 2 : WIDE));
    const int64_t all = padded(w);
    const char* x = r.codes + row * r.stride;
    if (w.kind == 1) {
        I sums[M][4];  // (M, 64 outputs)
        block<Int8Dot, M, N>(x, r.stride, (const char*)w.codes + panel * all * PANEL, all / 4, sums);
        for (int m = 0; m < M; m++) epilogue_int8(w, r, p, row + m, panel, sums[m]);
        return;
    }
    F sums[M][4];  // (M, 64 outputs)
    if (w.kind == 6) {
        column_sums<Float32Weight, M>(w, x, r.stride, panel, sums);
    } else if (w.kind == 7) {
        column_sums<Bfloat16Weight, M>(w, x, r.stride, panel, sums);
    } else if (w.kind >= 4) {
        for (int quarter = 0; quarter < 4; quarter++) {
            if (w.kind == 4) row_sums<Float32Weight, M>(w, x, r.stride, panel, quarter, sums);
            else row_sums<Bfloat16Weight, M>(w, x, r.stride, panel, quarter, sums);
        }
    } else if (w.kind == 0) block<Bfloat16Dot, M, N>(x, r.stride, (const char*)w.codes + panel * all * PANEL * 2, all / 2, sums);
    else if (w.kind == 2) grouped<8, M, G>(w, r, row, panel, all / GROUP, sums);
    else grouped<4, M, G>(w, r, row, panel, all / GROUP, sums);
    for (int m = 0; m < M; m++) epilogue(w, p, row + m, panel, sums[m]);
}

void multiply_rows(const Weight& w, const Rows& r, const ProductCall& p, int64_t row, int64_t count, int64_t panel) {
    // the weight is loaded once for ROWS rows
    for (; count >= ROWS; row += ROWS, count -= ROWS) multiply_panel<ROWS>(w, r, p, row, panel);
    switch (count) {
        case 1: multiply_panel<1>(w, r, p, row, panel); break;
#if defined(__AVX512F__)
        case 2: multiply_panel<2>(w, r, p, row, panel); break;
        case 3: multiply_panel<3>(w, r, p, row, panel); break;
        case 4: multiply_panel<4>(w, r, p, row, panel); break;
        case 5: multiply_panel<5>(w, r, p, row, panel); break;
#endif
        default: break;
    }
}

}  // namespace

#include "tiles.h"

namespace {

// ---- the whole product

// Run work(i) for 0 to count - 1 on the team's threads. Each thread first does its own share in order, which it may have
// prefetched, and then takes `grain` tasks at a time from the shares of others (work stealing).
template <class Work> void parallel_for(const Team& team, int64_t count, int64_t grain, Work work) {
    const int parts = int(min_int(team.parts, (count + grain - 1) / grain));
    if (parts <= 1) {
        for (int64_t i = 0; i < count; i++) work(i);
        return;
    }
    // a cache line each, so that threads do not wait for the lines of others
    struct alignas(64) Share { std::atomic<int64_t> next; int64_t end; };
    struct Shared { int64_t grain; int parts; Work* work; Share shares[PARTS]; } shared;
    shared.grain = grain; shared.parts = parts; shared.work = &work;
    for (int i = 0; i < parts; i++) {
        shared.shares[i].next.store(count * i / parts, std::memory_order_relaxed);
        shared.shares[i].end = count * (i + 1) / parts;
    }
    team.run([](void* arg, int part) {
        Shared& s = *(Shared*)arg;
        for (int i = 0; i < s.parts; i++) {
            Share& share = s.shares[(part + i) % s.parts];
            for (;;) {
                // relaxed: no task reads what another task writes, and run() waits for all
                const int64_t begin = share.next.fetch_add(s.grain, std::memory_order_relaxed);
                if (begin >= share.end) break;
                for (int64_t j = begin; j < min_int(begin + s.grain, share.end); j++) (*s.work)(j);
            }
        }
    }, &shared, parts);
}

// A norm of rows; unlike NormCall's, weight and bias are float32.
struct NormRows {
    const void* x;
    void* y;
    int64_t rows, width, x_stride, y_stride;
    int kind, type;
    float eps;
    const float *weight, *bias;
    const void* add;  // added to the result, of its type; null for none
    int64_t add_stride;
    float scale = 0;  // of the result before the sum; 0 for none
};

void norm_rows(const NormRows& n, const Team& team) {
    // as torch rounds between its operations
    auto rounded = [&](F v) { return n.type ? from_bf16(to_bf16(v)) : v; };
    auto rounded_one = [&](float v) { return n.type ? from_bf16(to_bf16(v)) : v; };
    parallel_for(team, n.rows, max_int(1, 16384 / n.width), [&](int64_t row) {
        static thread_local Scratch scratch;
        float* x = (float*)scratch.get(size_t(n.width + 16) * 4);
        normalize(n.kind, n.eps, n.weight, n.bias, n.width, x, RowReader{n.x, row * n.x_stride, n.type});
        int64_t i = 0;
        for (; i + 16 <= n.width; i += 16) {
            F v = load<F>(x + i);
            if (n.scale) v = rounded(v) * n.scale;
            if (n.add) v = rounded(v) + load_typed(n.add, row * n.add_stride + i, n.type);
            store_typed(n.y, row * n.y_stride + i, n.type, v);
        }
        for (; i < n.width; i++) {
            float v = x[i];
            if (n.scale) v = rounded_one(v) * n.scale;
            if (n.add) v = rounded_one(v) + load_one(n.add, row * n.add_stride + i, n.type);
            store_one(n.y, row * n.y_stride + i, n.type, v);
        }
    });
}

void norm(const NormCall& n, const Team& team) {
    static thread_local Scratch scratch;
    float* wide = (float*)scratch.get(size_t(2 * n.width) * 4);  // (2, width): weight and bias
    for (int64_t i = 0; n.weight && i < n.width; i++) wide[i] = load_one(n.weight, i, n.type) + n.centre;
    for (int64_t i = 0; n.bias && i < n.width; i++) wide[n.width + i] = load_one(n.bias, i, n.type);
    norm_rows(NormRows{n.x, n.y, n.rows, n.width, n.stride, n.width, n.kind, n.type, n.eps, n.weight ? wide : nullptr,
                     n.bias ? wide + n.width : nullptr, nullptr, 0}, team);
}

// Rows of a block, of `stride` bytes each: they stay in the cache while all panels are read, and leave space for a panel there.
INLINE int64_t block_rows(const Weight& w, int64_t rows, int64_t stride, int64_t parts) {
    if (!tiled(w, rows)) return max_int(1, min_int(2, (1 << 19) / (96 * stride))) * 96;
    // Matrix units finish with a panel before the next one is there, unless many rows share it; processors that have them have
    // 2 MiB of that cache. Every thread has a few tasks.
    const int64_t each = rows * panels(w) / (4 * parts);
    return max_int(96, min_int((1 << 20) / stride, each) / 32 * 32);
}

// `next`: the weight of the product after this one, which waiting threads prefetch; null for none.
void product_with_prefetch(const Weight& w, const ProductCall& call, const Team& team, const Weight* next) {
    ProductCall p = call;
    const bool later = w.inner || w.scale;
    if (later) p.add = nullptr;  // the norm and the scale of the product come first
    const int64_t all = padded(w), count = panels(w);
    const Layout l(w, (p.rows + 31) / 32 * 32);  // tiles read whole blocks of 32 rows
    Rows r;
    static thread_local Scratch scratch;
    const bool bf16_rows = w.kind == 0 && p.x_type == 1 && w.inputs == all && !tiled(w, p.rows);
    // rows that need no norm and no codes are read where they are
    const bool ready = !w.norm && (bf16_rows || (w.kind >= 4 && p.x_type == w.kind % 2));
    if (ready) {
        r = Rows{(const char*)p.x, p.x_stride * size_of(w), nullptr, nullptr, nullptr};
    } else {
        char* buffer = scratch.get(l.total);
        r = Rows{buffer, l.stride, (const float*)(buffer + l.codes), (const int32_t*)(buffer + l.codes + l.scales),
                 (const float*)(buffer + l.codes + 2 * l.scales)};
        parallel_for(team, p.rows, max_int(1, 8192 / all), [&](int64_t row) {
            static thread_local Scratch scratch;
            float* x = (float*)scratch.get(size_t(all + 16) * 4);
            read_row(w, p, row, x);
            write_row(w, l, buffer, row, x);
        });
    }
    const int64_t near = block_rows(w, p.rows, l.stride, team.parts), chunks = (p.rows + near - 1) / near;
    // few rows: neighbouring panels in one task, in the order of the memory
    const int64_t grain = p.rows > 32 ? 1 : max_int(1, count / (int64_t(team.parts) * 4));
    const bool small = p.rows * all * count < 4096;  // waking threads would take longer
    const Team alone{team.run, 1, nullptr};
    if (next && team.soon && p.rows <= FEW) team.soon(next);
    parallel_for(small ? alone : team, chunks * count, grain, [&](int64_t task) {
        // all panels of one block of rows, before the next block
        const int64_t row = task / count * near, rows = min_int(near, p.rows - row), panel = task % count;
        if (tiled(w, p.rows)) tile_rows(w, r, p, row, rows, panel);
        else multiply_rows(w, r, p, row, rows, panel);
    });
    if (w.after || w.scale)
        norm_rows(NormRows{p.y, p.y, p.rows, w.outputs, p.y_stride, p.y_stride, w.after, p.y_type, w.after_eps,
                         w.after_weight, w.after_bias, later ? call.add : nullptr, call.add_stride, w.scale}, team);
}

void product(const Weight& w, const ProductCall& p, const Team& team) { product_with_prefetch(w, p, team, nullptr); }

}  // namespace
