// What Python calls: plain C functions. The level is chosen once, from what the processor has.
#include <cstring>
#include <thread>
#include <vector>

#include "native.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

extern const Level level_plain;
#if defined(__x86_64__)
extern const Level level_avx2, level_avx512, level_avx512_vnni, level_avx512_bf16, level_amx, level_amx_emulated;
#endif

namespace {

typedef void (*Parallel)(void (*)(void*), void*, unsigned, unsigned);
typedef int (*ThreadNumber)();

Parallel parallel = nullptr;       // of the OpenMP runtime that torch has, so that both share its threads
ThreadNumber thread_number = nullptr;
const Level* level = &level_plain;

struct Region {
    void (*work)(void*, int);
    void* arg;
};

void run(void (*work)(void*, int), void* arg, int parts) {
    Region region{work, arg};
    if (parallel) {
        parallel([](void* p) { ((Region*)p)->work(((Region*)p)->arg, thread_number()); }, &region, unsigned(parts), 0);
        return;
    }
    std::vector<std::thread> others;
    for (int part = 1; part < parts; part++) others.emplace_back(work, arg, part);
    work(arg, 0);
    for (auto& other : others) other.join();
}

#if defined(__x86_64__)
struct Processor {
    bool avx2 = false, avx512 = false, vnni = false, bf16 = false, amx = false;
    Processor() {
        unsigned a, b, c, d;
        if (!__get_cpuid(1, &a, &b, &c, &d)) return;
        const bool fma = c & (1u << 12), half = c & (1u << 29), saves = c & (1u << 27);
        if (!saves) return;
        unsigned low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
        avx2 = (low & 6) == 6 && fma && half && (b & (1u << 5));
        const unsigned needed = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);  // F, DQ, BW, VL
        avx512 = avx2 && (low & 0xe6) == 0xe6 && (b & needed) == needed;
        vnni = avx512 && (c & (1u << 11));
        const bool tiles = (d & (1u << 22)) && (d & (1u << 24)) && (d & (1u << 25)) && (low & 0x60000) == 0x60000;
        unsigned a1, b1, c1, d1;
        bf16 = vnni && __get_cpuid_count(7, 1, &a1, &b1, &c1, &d1) && (a1 & (1u << 5));
        amx = bf16 && tiles && permitted();
    }
    static bool permitted() {
#if defined(__linux__)
        const int request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM
        return syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
        return false;
#endif
    }
};
#endif

const Level* found(const char* name) {
#if defined(__x86_64__)
    static const Processor has;
    const struct { const Level* level; bool able; } known[] = {
        {&level_amx, has.amx}, {&level_amx_emulated, false}, {&level_avx512_bf16, has.bf16},
        {&level_avx512_vnni, has.vnni}, {&level_avx512, has.avx512}, {&level_avx2, has.avx2}, {&level_plain, true}};
    for (const auto& one : known) {
        const bool emulated = one.level == &level_amx_emulated && has.bf16;
        if (name ? !std::strcmp(name, one.level->name) && (one.able || emulated) : one.able) return one.level;
    }
    return nullptr;
#else
    return !name || !std::strcmp(name, "plain") ? &level_plain : nullptr;
#endif
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int mh_abi() { return ABI; }

// The level in use. `name`: which one to use from now on, null for the best; null is returned where it cannot be.
EXPORT const char* mh_level(const char* name) {
    const Level* one = found(name);
    if (!one) return nullptr;
    level = one;
    return one->name;
}

EXPORT void mh_threads(void* run_parallel, void* number) {
    parallel = (Parallel)run_parallel;
    thread_number = (ThreadNumber)number;
}

EXPORT void mh_product(const Weight* w, const void* x, int64_t rows, int64_t x_stride, int x_type, const void* add,
                       int64_t add_stride, void* y, int64_t y_stride, int y_type, int threads) {
    level->product(*w, Place{x, add, y, rows, x_stride, add_stride, y_stride, x_type, y_type}, Team{run, threads});
}

EXPORT void mh_norm(const Norm* n, int threads) { level->norm(*n, Team{run, threads}); }

EXPORT void mh_rotate(const Turn* t, int threads) { level->rotate(*t, Team{run, threads}); }

EXPORT void mh_decode(const Decode* d, int threads) { level->decode(*d, Team{run, threads}); }

EXPORT void mh_mix(const Mix* m, int threads) { level->mix(*m, Team{run, threads}); }

EXPORT void mh_pass(const Pass* p, int threads) { level->pass(*p, Team{run, threads}); }
