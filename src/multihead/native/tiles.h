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

// 32 rows times 32 outputs in four tiles of sums; the rows are there, whatever they hold past the last one.
template <bool BYTES> INLINE void tile_block(const char* x, int64_t stride, const char* panel, int64_t steps, char* out) {
    // Tiles 0 to 3 are sums (16, 16), 4 and 5 are rows (16, 64 bytes), 6 and 7 are weights (16 steps, 16 outputs).
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    for (int64_t s = 0; s < steps; s++, x += 64, panel += 16 * 256) {
        _tile_loadd(6, panel, 256);  // a row of the tile is one step of the panel: four bytes of each output
        _tile_loadd(4, x, stride);  // 16 rows, 64 bytes of inputs
        _tile_loadd(7, panel + 64, 256);
        _tile_loadd(5, x + 16 * stride, stride);
        if (BYTES) {
            // signed rows times unsigned codes
            _tile_dpbsud(0, 4, 6); _tile_dpbsud(1, 4, 7); _tile_dpbsud(2, 5, 6); _tile_dpbsud(3, 5, 7);
        } else {
            _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7);
        }
    }
    // out: (32, 64) numbers of four bytes, of which this writes 32 columns
    _tile_stored(0, out, 256); _tile_stored(1, out + 64, 256);
    _tile_stored(2, out + 16 * 256, 256); _tile_stored(3, out + 16 * 256 + 64, 256);
}

void tile_rows(const Weight& w, const Rows& r, const ProductCall& p, int64_t row, int64_t rows, int64_t panel) {
    const TileConfig config;
    alignas(64) char sums[32 * 256];  // (32, 64), int32 or float32
    const int64_t bytes = padded(w) * (w.kind == 0 ? 2 : 1);  // of one output's inputs
    const char* at = (const char*)w.codes + panel * bytes * PANEL;
    for (int64_t first = 0; first < rows; first += 32) {
        const char* x = r.codes + (row + first) * r.stride;
        for (int half = 0; half < 2; half++) {  // 32 outputs each
            if (w.kind == 1) tile_block<true>(x, r.stride, at + 128 * half, bytes / 64, sums + 128 * half);
            else tile_block<false>(x, r.stride, at + 128 * half, bytes / 64, sums + 128 * half);
        }
        for (int64_t m = 0; m < min_int(32, rows - first); m++) {  // sums of rows past the last one are dropped
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
