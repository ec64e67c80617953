// Matrix products whose weight lies in panels: 64 outputs wide, four bytes of inputs deep, in the order they are read.
//
// Few rows read the panels at the memory's rate; many rows keep a block of rows near and multiply at the core's. Rows are
// coded to int8 (scale: largest magnitude at 127) right after the norm before the product, and what follows the product
// happens to its sums before they leave the cache.
#pragma once

#include <atomic>
#include <cstdlib>

#include "native.h"
#include "vectors.h"

namespace {

// Not the standard library's: functions that several levels share could be linked at the wrong level.
INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

constexpr int PANEL = 64, GROUP = 32;  // outputs of a panel; inputs of a group
constexpr int FEW = 8;                 // rows up to which memory is what takes time
#if defined(__AVX512F__)
constexpr int ROWS = 6, WIDE = 4;  // sums in registers: rows times vectors
#else
constexpr int ROWS = 2, WIDE = 1;
#endif

INLINE int64_t padded(const Weight& w) {
    int64_t unit = w.kind == 1 ? 64 : 32;
    return (w.inputs + unit - 1) / unit * unit;
}
// Bytes of an input, as rows hold it for a product.
INLINE int64_t size_of(const Weight& w) { return w.kind >= 4 ? (w.kind % 2 ? 2 : 4) : w.kind == 0 ? 2 : 1; }
INLINE int64_t panels(const Weight& w) { return (w.width + PANEL - 1) / PANEL; }

// Memory that a thread keeps from one product to the next.
struct Scratch {
    char* data = nullptr;
    size_t size = 0;
    char* of(size_t bytes) {
        if (bytes > size) {
            std::free(data);
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
    const int32_t* sums;   // likewise: of codes
    const float* zeros;    // of a row: the number that code 0 stands for (int8 with a scale a row)
};

template <class Read> INLINE void normed(int kind, float eps, const float* weight, const float* bias, int64_t n, float* out, Read read) {
    const int64_t whole = n / 16 * 16;
    F total{}, squares{};
    for (int64_t i = 0; i < whole; i += 16) {
        F v = read(i);
        store(out + i, v);
        total += v;
    }
    float s = sum(total);
    for (int64_t i = whole; i < n; i++) s += out[i] = read.one(i);
    const float mean = kind == 2 ? s / float(n) : 0.0f;
    for (int64_t i = 0; i < whole; i += 16) {
        F d = load<F>(out + i) - mean;
        squares += d * d;
    }
    s = sum(squares);
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

struct Reading {
    const void* p;
    int64_t begin;
    int type;
    INLINE F operator()(int64_t i) const { return take(p, begin + i, type); }
    INLINE float one(int64_t i) const { return take_one(p, begin + i, type); }
};

// A row in float32, normed where that is asked for, zero past its end. `room` holds `padded` floats.
INLINE void read_row(const Weight& w, const ProductCall& p, int64_t row, float* room) {
    Reading read{p.x, row * p.x_stride, p.x_type};
    const int64_t n = w.inputs, all = padded(w);
    if (w.norm) {
        normed(w.norm, w.norm_eps, w.norm_weight, w.norm_bias, n, room, read);
    } else {
        for (int64_t i = 0; i < n / 16 * 16; i += 16) store(room + i, read(i));
        for (int64_t i = n / 16 * 16; i < n; i++) room[i] = read.one(i);
    }
    const float rest = w.kind == 1 ? room[0] : 0.0f;  // changes neither the range of a row nor, times zero, its sums
    for (int64_t i = n; i < all; i++) room[i] = rest;
}

// By their bits, since compilers may take arithmetic for finite.
INLINE I odd_bits(F x) { return (bits_i(x) & 0x7f800000) == 0x7f800000; }
INLINE bool none(I odd) {
    int32_t parts[16], any = 0;
    store(parts, odd);
    for (int i = 0; i < 16; i++) any |= parts[i];
    return !any;
}

// Codes of n numbers (a multiple of 16): how many steps `1 / by` each lies above `bottom`, less `below`. Their sum.
INLINE int32_t write_codes(const float* x, int64_t n, float bottom, float by, int32_t below, int8_t* codes) {
    const F magic = fill(12582912.0f);
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

// Codes around zero, their scale and sum. A row with a number that is not finite gets a scale that is not either, so that
// it stays visible in the result.
INLINE void coded(const float* x, int64_t n, int8_t* codes, float& scale, int32_t& total) {
    F most{};
    I odd{};
    for (int64_t i = 0; i < n; i += 16) {
        const F v = load<F>(x + i);
        most = maximum(most, absolute(v));
        odd |= odd_bits(v);
    }
    const bool sound = none(odd);
    const float peak = largest(most);
    scale = sound ? peak / 127.0f : NAN;
    total = write_codes(x, n, 0.0f, sound && peak > 0 ? 127.0f / peak : 0.0f, 0, codes);
}

// Likewise over the whole range of a row, from -128 at its lowest number to 127 at its highest.
INLINE void coded_range(const float* x, int64_t n, int8_t* codes, float& scale, int32_t& total, float& zero) {
    F low = load<F>(x), high = low;
    I odd{};
    for (int64_t i = 0; i < n; i += 16) {
        const F v = load<F>(x + i);
        low = minimum(low, v);
        high = maximum(high, v);
        odd |= odd_bits(v);
    }
    const bool sound = none(odd);
    const float bottom = sound ? -largest(-low) : 0.0f, step = sound ? (largest(high) - bottom) / 255.0f : 0.0f;
    scale = sound ? step : NAN;
    zero = bottom + 128.0f * step;
    total = write_codes(x, n, bottom, step > 0 ? 1.0f / step : 0.0f, 128, codes);
}

struct Layout {
    int64_t stride, groups;
    size_t codes, scales, total;  // bytes
    Layout(const Weight& w, int64_t rows) {
        stride = padded(w) * size_of(w);
        groups = w.kind == 2 || w.kind == 3 ? padded(w) / GROUP : 1;
        codes = size_t((stride * rows + 63) / 64 * 64);
        scales = size_t((rows * groups * 4 + 63) / 64 * 64);
        total = codes + 3 * scales;
    }
};

INLINE void write_row(const Weight& w, const Layout& l, char* room, int64_t row, const float* x) {
    const int64_t all = padded(w);
    if (size_of(w) > 1) {
        for (int64_t i = 0; i < all; i += 16) give(room + row * l.stride, i, size_of(w) == 2, load<F>(x + i));
        return;
    }
    int8_t* out = (int8_t*)(room + row * l.stride);
    float* scales = (float*)(room + l.codes) + row * l.groups;
    int32_t* sums = (int32_t*)(room + l.codes + l.scales) + row * l.groups;
    if (w.kind == 1) {
        coded_range(x, all, out, *scales, *sums, ((float*)(room + l.codes + 2 * l.scales))[row]);
        return;
    }
    const int64_t each = all / l.groups;
    for (int64_t g = 0; g < l.groups; g++) coded(x + g * each, each, out + g * each, scales[g], sums[g]);
}

// ---- what becomes of 64 sums

template <int TYPE, int COUNT> INLINE void give_panel(const Weight& w, const ProductCall& p, int64_t row, int64_t panel, const F* v) {
    const int64_t column = panel * 16 * COUNT, at = row * p.y_stride + column, add = row * p.add_stride + column;
    if (column + 16 * COUNT <= w.outputs) {
        if (p.add)
            for (int j = 0; j < COUNT; j++) give(p.y, at + 16 * j, TYPE, v[j] + take(p.add, add + 16 * j, TYPE));
        else
            for (int j = 0; j < COUNT; j++) give(p.y, at + 16 * j, TYPE, v[j]);
        return;
    }
    for (int j = 0; j < COUNT; j++) {
        const int64_t left = least(16, w.outputs - column - 16 * j);
        if (left <= 0) return;
        F one = v[j];
        if (p.add) one += take_some(p.add, add + 16 * j, left, TYPE);
        give_some(p.y, at + 16 * j, left, TYPE, one);
    }
}

INLINE void finish(const Weight& w, const ProductCall& p, int64_t row, int64_t panel, F* v) {
    if (w.bias)
        for (int j = 0; j < 4; j++) v[j] += load<F>(w.bias + panel * PANEL + 16 * j);
    if (w.gated) {
        v[0] = activate(v[0], w.act) * v[2];
        v[1] = activate(v[1], w.act) * v[3];
        if (p.y_type) give_panel<1, 2>(w, p, row, panel, v);
        else give_panel<0, 2>(w, p, row, panel, v);
        return;
    }
    switch (w.act) {
        case NONE: break;
        case GELU: for (int j = 0; j < 4; j++) v[j] = activate(v[j], GELU); break;
        default: for (int j = 0; j < 4; j++) v[j] = activate(v[j], w.act);
    }
    if (p.y_type) give_panel<1, 4>(w, p, row, panel, v);
    else give_panel<0, 4>(w, p, row, panel, v);
}

// ---- sums of a few rows and one panel

struct BytesOf {  // int8
    typedef I Sum;
    INLINE static I step(I acc, I weight, I x) { return dot4(acc, weight, x); }
};
struct PairsOf {  // bfloat16
    typedef F Sum;
    INLINE static F step(F acc, I weight, I x) { return dot2(acc, weight, x); }
};

// Sums of M rows and N vectors of outputs, into columns from `first` on; a step's weights lie `apart` bytes from the next's.
template <class Op, int M, int N, int WIDTH>
INLINE void sums_of(const char* x, int64_t stride, const char* at, int64_t step_bytes, int64_t steps, int first,
                    typename Op::Sum out[][WIDTH]) {
    typename Op::Sum acc[M][N] = {};
    for (int64_t s = 0; s < steps; s++, at += step_bytes) {
        I weight[N];
        for (int j = 0; j < N; j++) weight[j] = load<I>(at + 64 * j);
        for (int m = 0; m < M; m++) {
            const I one = fill(load<int32_t>(x + m * stride + 4 * s));
            for (int j = 0; j < N; j++) acc[m][j] = Op::step(acc[m][j], weight[j], one);
        }
    }
    for (int m = 0; m < M; m++)
        for (int j = 0; j < N; j++) out[m][first + j] = acc[m][j];
}

template <class Op, int M, int N>
INLINE void block(const char* x, int64_t stride, const char* panel, int64_t steps, typename Op::Sum out[][4]) {
    for (int first = 0; first < 4; first += N)
        sums_of<Op, M, N, 4>(x, stride, panel + first * 64, 256, steps, first, out);
}

// Groups have scales, so their sums become floats one group after the other.
template <int BITS, int M, int N>
INLINE void grouped(const Weight& w, const Rows& r, int64_t row, int64_t panel, int64_t groups, F out[][4]) {
    constexpr int64_t BYTES = GROUP * PANEL * BITS / 8;
    const char* codes = (const char*)w.codes + panel * groups * BYTES;
    const uint16_t* scales = (const uint16_t*)w.scales + panel * groups * PANEL;
    const uint16_t* minima = w.minima ? (const uint16_t*)w.minima + panel * groups * PANEL : nullptr;
    const char* x = r.codes + row * r.stride;
    for (int first = 0; first < 4; first += N) {
        F total[M][N] = {};
        for (int64_t g = 0; g < groups; g++) {
            I acc[M][N] = {};
            const char* at = codes + g * BYTES + first * 64;
            const char* xs = x + g * GROUP;
            if (BITS == 8) {
                for (int s = 0; s < 8; s++)
                    for (int j = 0; j < N; j++) {
                        const I weight = load<I>(at + s * 256 + 64 * j);
                        for (int m = 0; m < M; m++)
                            acc[m][j] = dot4(acc[m][j], weight, fill(load<int32_t>(xs + m * r.stride + 4 * s)));
                    }
            } else {
                for (int s = 0; s < 4; s++)
                    for (int j = 0; j < N; j++) {
                        const I both = load<I>(at + s * 256 + 64 * j);
                        const I low = both & 0x0f0f0f0f, high = (both >> 4) & 0x0f0f0f0f;
                        for (int m = 0; m < M; m++) {
                            const char* xm = xs + m * r.stride + 4 * s;
                            acc[m][j] = dot4(acc[m][j], low, fill(load<int32_t>(xm)));
                            acc[m][j] = dot4(acc[m][j], high, fill(load<int32_t>(xm + 16)));
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
                        total[m][j] += floats(acc[m][j]) * (scale * by) + low * (by * float(r.sums[at_row]));
                    } else {
                        total[m][j] += floats(acc[m][j] - (int32_t)((uint32_t)w.zero * (uint32_t)r.sums[at_row])) * (scale * by);
                    }
                }
            }
        }
        for (int m = 0; m < M; m++)
            for (int j = 0; j < N; j++) out[m][first + j] = total[m][j];
    }
}

INLINE void finish_bytes(const Weight& w, const Rows& r, const ProductCall& p, int64_t row, int64_t panel, const I* sums) {
    F v[4];
    const float *scales = (const float*)w.scales + panel * PANEL, *totals = (const float*)w.minima + panel * PANEL;
    const F scale = fill(r.scales[row]), zero = fill(r.zeros[row]);
    const I shift = fill((int32_t)(128u * (uint32_t)r.sums[row]));  // of a row with NaN the sum is any number
    for (int j = 0; j < 4; j++)
        v[j] = (floats(sums[j] - shift) * scale + load<F>(totals + 16 * j) * zero) * load<F>(scales + 16 * j);
    finish(w, p, row, panel, v);
}

}  // namespace

#include "unpacked.h"

namespace {

template <int M>
void few(const Weight& w, const Rows& r, const ProductCall& p, int64_t row, int64_t panel) {
    constexpr int N = M == 1 ? 4 : WIDE, G = M == 1 ? 4 : (M <= 2 ? WIDE : (WIDE > 2 ? 2 : WIDE));
    const int64_t all = padded(w);
    const char* x = r.codes + row * r.stride;
    if (w.kind == 1) {
        I sums[M][4];
        block<BytesOf, M, N>(x, r.stride, (const char*)w.codes + panel * all * PANEL, all / 4, sums);
        for (int m = 0; m < M; m++) finish_bytes(w, r, p, row + m, panel, sums[m]);
        return;
    }
    F sums[M][4];
    if (w.kind == 6) {
        column_sums<Singles, M>(w, x, r.stride, panel, sums);
    } else if (w.kind == 7) {
        column_sums<Doubles, M>(w, x, r.stride, panel, sums);
    } else if (w.kind >= 4) {
        for (int quarter = 0; quarter < 4; quarter++) {
            if (w.kind == 4) row_sums<Singles, M>(w, x, r.stride, panel, quarter, sums);
            else row_sums<Doubles, M>(w, x, r.stride, panel, quarter, sums);
        }
    } else if (w.kind == 0) block<PairsOf, M, N>(x, r.stride, (const char*)w.codes + panel * all * PANEL * 2, all / 2, sums);
    else if (w.kind == 2) grouped<8, M, G>(w, r, row, panel, all / GROUP, sums);
    else grouped<4, M, G>(w, r, row, panel, all / GROUP, sums);
    for (int m = 0; m < M; m++) finish(w, p, row + m, panel, sums[m]);
}

void some(const Weight& w, const Rows& r, const ProductCall& p, int64_t row, int64_t count, int64_t panel) {
    for (; count >= ROWS; row += ROWS, count -= ROWS) few<ROWS>(w, r, p, row, panel);
    switch (count) {
        case 1: few<1>(w, r, p, row, panel); break;
#if defined(__AVX512F__)
        case 2: few<2>(w, r, p, row, panel); break;
        case 3: few<3>(w, r, p, row, panel); break;
        case 4: few<4>(w, r, p, row, panel); break;
        case 5: few<5>(w, r, p, row, panel); break;
#endif
        default: break;
    }
}

}  // namespace

#include "tiles.h"

namespace {

// ---- the whole product

// Each part does its own share in order, which is what it may have fetched, and then what others have left.
template <class Work> void spread(const Team& team, int64_t count, int64_t grain, Work work) {
    const int parts = int(least(team.parts, (count + grain - 1) / grain));
    if (parts <= 1) {
        for (int64_t i = 0; i < count; i++) work(i);
        return;
    }
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
                const int64_t begin = share.next.fetch_add(s.grain, std::memory_order_relaxed);
                if (begin >= share.end) break;
                for (int64_t j = begin; j < least(begin + s.grain, share.end); j++) (*s.work)(j);
            }
        }
    }, &shared, parts);
}

// Rows of a given width, normed: the weights are float32 here.
struct Normed {
    const void* x;
    void* y;
    int64_t rows, width, x_stride, y_stride;
    int kind, type;
    float eps;
    const float *weight, *bias;
};

void norm_rows(const Normed& n, const Team& team) {
    spread(team, n.rows, most(1, 16384 / n.width), [&](int64_t row) {
        static thread_local Scratch room;
        float* x = (float*)room.of(size_t(n.width + 16) * 4);
        normed(n.kind, n.eps, n.weight, n.bias, n.width, x, Reading{n.x, row * n.x_stride, n.type});
        int64_t i = 0;
        for (; i + 16 <= n.width; i += 16) give(n.y, row * n.y_stride + i, n.type, load<F>(x + i));
        for (; i < n.width; i++) give_one(n.y, row * n.y_stride + i, n.type, x[i]);
    });
}

void norm(const NormCall& n, const Team& team) {
    static thread_local Scratch room;
    float* wide = (float*)room.of(size_t(2 * n.width) * 4);
    for (int64_t i = 0; n.weight && i < n.width; i++) wide[i] = take_one(n.weight, i, n.type) + n.centre;
    for (int64_t i = 0; n.bias && i < n.width; i++) wide[n.width + i] = take_one(n.bias, i, n.type);
    norm_rows(Normed{n.x, n.y, n.rows, n.width, n.stride, n.width, n.kind, n.type, n.eps, n.weight ? wide : nullptr,
                     n.bias ? wide + n.width : nullptr}, team);
}

// `next` is multiplied with after this one.
void product_then(const Weight& w, const ProductCall& p, const Team& team, const Weight* next) {
    const int64_t all = padded(w), count = panels(w);
    const Layout l(w, (p.rows + 31) / 32 * 32);
    Rows r;
    static thread_local Scratch kept;
    const bool panelled = w.kind == 0 && p.x_type == 1 && w.inputs == all && !tiled(w, p.rows);
    const bool ready = !w.norm && (panelled || (w.kind >= 4 && p.x_type == w.kind % 2));
    if (ready) {
        r = Rows{(const char*)p.x, p.x_stride * size_of(w), nullptr, nullptr, nullptr};
    } else {
        char* room = kept.of(l.total);
        r = Rows{room, l.stride, (const float*)(room + l.codes), (const int32_t*)(room + l.codes + l.scales),
                 (const float*)(room + l.codes + 2 * l.scales)};
        spread(team, p.rows, most(1, 8192 / all), [&](int64_t row) {
            static thread_local Scratch own;
            float* x = (float*)own.of(size_t(all + 16) * 4);
            read_row(w, p, row, x);
            write_row(w, l, room, row, x);
        });
    }
    // Rows that meet one panel after the other while they are near, and so few that their codes leave it room.
    const int64_t near = most(1, least(2, (1 << 19) / (96 * l.stride))) * 96, chunks = (p.rows + near - 1) / near;
    const int64_t grain = p.rows > 32 ? 1 : most(1, count / (int64_t(team.parts) * 4));
    const bool small = p.rows * all * count < 4096;
    const Team alone{team.run, 1, nullptr};
    if (next && team.soon && p.rows <= FEW) team.soon(next);
    spread(small ? alone : team, chunks * count, grain, [&](int64_t task) {
        const int64_t row = task / count * near, rows = least(near, p.rows - row), panel = task % count;
        if (tiled(w, p.rows)) tile_rows(w, r, p, row, rows, panel);
        else some(w, r, p, row, rows, panel);
    });
    if (w.after)
        norm_rows(Normed{p.y, p.y, p.rows, w.outputs, p.y_stride, p.y_stride, w.after, p.y_type, w.after_eps,
                         w.after_weight, w.after_bias}, team);
}

void product(const Weight& w, const ProductCall& p, const Team& team) { product_then(w, p, team, nullptr); }

}  // namespace
