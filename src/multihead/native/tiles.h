// Matrix units of 16 x 16 sums (Intel AMX). Without them `tiled` is always false.
#pragma once

#if defined(MULTIHEAD_TILES)

#if defined(MULTIHEAD_EMULATED_TILES)
#include "emulated.h"
#endif

namespace {

// The tile configuration: palette, then the bytes of a row and the number of rows of each tile. It is a constant: the
// intrinsic declares only its first bytes as read, so compilers may skip the writes to the rest of a variable.
alignas(64) const struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} SHAPES = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
static_assert(sizeof SHAPES == 64, "what ldtilecfg reads");

// Restores the thread's tile configuration afterwards, since other libraries assume that theirs is still loaded.
struct TileConfig {
    alignas(64) char before[64];
    TileConfig() {
        std::memset(before, 0, sizeof before);
        _tile_storeconfig(before);
        _tile_loadconfig(&SHAPES);
    }
    ~TileConfig() {
        if (before[0]) _tile_loadconfig(before);
        else _tile_release();
    }
};

// with up to 8 rows half of a tile is empty, and the memory limits the product anyway
INLINE bool tiled(const Weight& w, int64_t rows) { return w.kind <= 1 && rows > 8; }

// Add 16 * M rows times 16 * N weights to zero: tiles of sums at `out`, (16 * M, out_stride bytes). A step is 64 bytes of inputs:
// rows x are `stride` bytes apart. The weights of a step are tiles of 16 rows, `row_stride` bytes apart, each with four bytes
// of the inputs of 16 outputs; those of the next step lie `step_stride`, and those of the next 16 outputs `tile_stride` bytes further.
template <bool BYTES, int M, int N>
INLINE void tile_sums(const char* x, int64_t stride, const char* weights, int64_t row_stride, int64_t tile_stride, int64_t step_stride,
                      int64_t steps, char* out, int64_t out_stride) {
    static_assert(M == 1 ? N <= 4 : M == 2 && N <= 2, "as many as there are tiles");
    // Tiles 0 to 3 are sums (16, 16); the others are rows (16, 64 bytes) or weights (16, 64 bytes).
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    for (int64_t s = 0; s < steps; s++, x += 64, weights += step_stride) {
#define MULTIPLY(sums, rows, columns) \
    if (BYTES) _tile_dpbsud(sums, rows, columns);  /* signed rows times unsigned codes */ \
    else _tile_dpbf16ps(sums, rows, columns)
        _tile_loadd(4, x, stride);
        _tile_loadd(6, weights, row_stride);
        MULTIPLY(0, 4, 6);
        if (N > 1) {
            _tile_loadd(7, weights + tile_stride, row_stride);
            MULTIPLY(1, 4, 7);
        }
        if (M == 2) {
            _tile_loadd(5, x + 16 * stride, stride);
            MULTIPLY(2, 5, 6);
            if (N > 1) { MULTIPLY(3, 5, 7); }
        }
        if (M == 1 && N > 2) {
            _tile_loadd(5, weights + 2 * tile_stride, row_stride);
            MULTIPLY(2, 4, 5);
            _tile_loadd(6, weights + 3 * tile_stride, row_stride);
            MULTIPLY(3, 4, 6);
        }
#undef MULTIPLY
    }
    _tile_stored(0, out, out_stride);
    if (N > 1) _tile_stored(1, out + 64, out_stride);
    if (M == 2) _tile_stored(2, out + 16 * out_stride, out_stride);
    if (M == 2 && N > 1) _tile_stored(3, out + 16 * out_stride + 64, out_stride);
    if (M == 1 && N > 2) _tile_stored(2, out + 128, out_stride);
    if (M == 1 && N > 2) _tile_stored(3, out + 192, out_stride);
}

// Sums of up to 32 rows and a panel: out (32, 64). A row of a weight's tile is one step of the panel, 256 bytes.
template <bool BYTES> INLINE void tile_panel(const char* x, int64_t stride, const char* panel, int64_t steps, int64_t rows, char* out) {
    if (rows <= 16) return tile_sums<BYTES, 1, 4>(x, stride, panel, 256, 64, 16 * 256, steps, out, 256);
    for (int half = 0; half < 2; half++)
        tile_sums<BYTES, 2, 2>(x, stride, panel + 128 * half, 256, 64, 16 * 256, steps, out + 128 * half, 256);
}

// Rows past the last one are there up to a whole block of 32, whatever they hold; their sums are dropped.
void tile_rows(const Weight& w, const Rows& r, const ProductCall& p, int64_t row, int64_t rows, int64_t panel) {
    const TileConfig config;
    alignas(64) char sums[32 * 256];  // (32, 64), int32 or float32
    const int64_t bytes = padded(w) * (w.kind == 0 ? 2 : 1);  // of one output's inputs
    const char* at = (const char*)w.codes + panel * bytes * PANEL;
    const int64_t size = p.y_type ? 2 : 4, width = w.gated ? PANEL / 2 : PANEL;  // bytes of an output; outputs of a panel
    for (int64_t first = 0; first < rows; first += 32) {
        const char* x = r.codes + (row + first) * r.stride;
        const int64_t here = min_int(32, rows - first);
        for (int64_t m = 0; m < here; m++) {  // what the sums will be written to
            const char* y = (const char*)p.y + ((row + first + m) * p.y_stride + panel * width) * size;
            for (int64_t line = 0; line < width * size; line += 64) __builtin_prefetch(y + line, 1, 2);
        }
        if (w.kind == 1) tile_panel<true>(x, r.stride, at, bytes / 64, here, sums);
        else tile_panel<false>(x, r.stride, at, bytes / 64, here, sums);
        for (int64_t m = 0; m < here; m++) {
            if (w.kind == 1) {
                I v[4];
                std::memcpy(v, sums + m * 256, 256);
                epilogue_int8(w, r, p, row + first + m, panel, v);
            } else {
                F v[4];
                std::memcpy(v, sums + m * 256, 256);
                epilogue(w, p, row + first + m, panel, v);
            }
        }
    }
}

}  // namespace

#else

namespace {
INLINE bool tiled(const Weight&, int64_t) { return false; }
INLINE void tile_rows(const Weight&, const Rows&, const ProductCall&, int64_t, int64_t, int64_t) {}
}  // namespace

#endif
