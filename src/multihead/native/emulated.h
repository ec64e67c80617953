// AMX instructions in plain C++, as their manual defines them, so that tests run the tiled kernels on any processor.
#pragma once

#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbsud
#undef _tile_dpbf16ps
#undef _tile_loadconfig
#undef _tile_storeconfig
#undef _tile_release
#define _tile_zero emulated_zero
#define _tile_loadd emulated_load
#define _tile_stored emulated_store
#define _tile_dpbsud emulated_bytes
#define _tile_dpbf16ps emulated_pairs
#define _tile_loadconfig emulated_shapes
#define _tile_storeconfig emulated_shape
#define _tile_release emulated_release

namespace {

thread_local char emulated[8][16][64];  // (tiles, rows, bytes)

inline void emulated_shapes(const void*) {}
// no configuration was loaded before
inline void emulated_shape(void* p) { std::memset(p, 0, 64); }
inline void emulated_release() {}
inline void emulated_zero(int t) { std::memset(emulated[t], 0, 1024); }
inline void emulated_load(int t, const void* p, int64_t stride) {
    for (int i = 0; i < 16; i++) std::memcpy(emulated[t][i], (const char*)p + i * stride, 64);
}
inline void emulated_store(int t, void* p, int64_t stride) {
    for (int i = 0; i < 16; i++) std::memcpy((char*)p + i * stride, emulated[t][i], 64);
}
inline void emulated_bytes(int c, int a, int b) {
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 16; n++) {
            int32_t s;
            std::memcpy(&s, &emulated[c][m][4 * n], 4);
            for (int k = 0; k < 64; k++)
                // row k / 4 of b has four bytes of each output
                s += int32_t((int8_t)emulated[a][m][k]) * int32_t((uint8_t)emulated[b][k / 4][4 * n + k % 4]);
            std::memcpy(&emulated[c][m][4 * n], &s, 4);
        }
}
inline void emulated_pairs(int c, int a, int b) {
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 16; n++) {
            float s;
            std::memcpy(&s, &emulated[c][m][4 * n], 4);
            for (int k = 0; k < 32; k++) {  // row k / 2 of b has a pair of each output
                uint16_t x, y;
                std::memcpy(&x, &emulated[a][m][2 * k], 2);
                std::memcpy(&y, &emulated[b][k / 2][4 * n + 2 * (k % 2)], 2);
                s += from_bf16(x) * from_bf16(y);
            }
            std::memcpy(&emulated[c][m][4 * n], &s, 4);
        }
}

}  // namespace
