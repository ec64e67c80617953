// What Python calls: plain C functions. The level is chosen once, from what the processor has.
#include <atomic>
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
ThreadNumber thread_number = nullptr, thread_count = nullptr;
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

inline void rest() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// The memory of a weight that one thread will read first, fetched some lines at a time.
struct Ahead {
    static constexpr int64_t MOST = 128 << 10;  // bytes, which leave a core's cache room
    const Weight* weight = nullptr;
    const char* at[3] = {};
    int64_t left[3] = {};

    void aim(const Weight* w, int part, int parts) {
        weight = w;
        const int64_t panels = (w->width + 63) / 64, first = panels * part / parts;
        const int64_t mine = panels * (part + 1) / parts - first;
        for (auto& bytes : left) bytes = 0;
        if (w->kind >= 4) return aim_unpacked(w, first, mine);
        const int64_t inputs = (w->inputs + 31) / 32 * 32, scales = w->kind >= 2 ? inputs / 32 * 128 : 256;
        const int64_t codes = w->kind == 0 ? inputs * 128 : w->kind == 3 ? inputs * 32 : inputs * 64;
        const void* parts_of[3] = {w->codes, w->scales, w->minima};
        const int64_t size[3] = {codes, scales, scales};
        for (int i = 0; i < 3; i++)
            if (parts_of[i]) put(i, (const char*)parts_of[i] + first * size[i], mine * size[i]);
    }
    // Of gates and what they multiply, the panels' halves; else what of the matrix is in which the first panel lies.
    void aim_unpacked(const Weight* w, int64_t first, int64_t mine) {
        if (w->kind > 5) return;  // whose panels lie in many pieces
        const int64_t bytes = w->row_stride * (w->kind == 4 ? 4 : 2), wide = w->gated ? 32 : 64;
        for (int i = 0; i < (w->gated ? 2 : 1); i++) {
            int64_t output = first * wide + i * w->outputs, whole = mine * wide;
            int part = 0;
            for (; part < 2 && output >= w->counts[part]; part++) output -= w->counts[part];
            const int64_t there = w->counts[part] - output;
            put(i, (const char*)w->parts[part] + output * bytes, (whole < there ? whole : there) * bytes);
        }
    }
    void put(int i, const char* begin, int64_t bytes) {
        at[i] = begin;
        left[i] = bytes < MOST ? bytes : MOST;
    }
    bool step() {
        bool any = false;
        for (int i = 0; i < 3; i++)
            for (int line = 0; line < 4 && left[i] > 0; line++, at[i] += 64, left[i] -= 64) {
                __builtin_prefetch(at[i], 0, 2);
                any = true;
            }
        return any;
    }
};

// Threads that stay together for a whole pass, and wait for each other without the system.
struct Pool {
    alignas(64) std::atomic<uint64_t> turn{0};
    std::atomic<bool> over{false};
    std::atomic<const Weight*> soon{nullptr};
    int threads = 1, parts = 1;
    void (*work)(void*, int) = nullptr;
    void* arg = nullptr;
    alignas(64) std::atomic<int> busy{0};

    template <class Done> void wait(Ahead& ahead, int part, Done done) {
        for (int64_t spins = 0; !done(); spins++) {
            const Weight* next = soon.load(std::memory_order_acquire);
            if (next && next != ahead.weight) ahead.aim(next, part, threads);
            if (next && ahead.step()) continue;
            if (spins > 100) std::this_thread::yield();  // somebody else has this thread's processor
            else rest();
        }
    }
    void serve(int part) {
        Ahead ahead;
        for (uint64_t seen = 0;; seen++) {
            wait(ahead, part, [&] {
                return turn.load(std::memory_order_acquire) != seen || over.load(std::memory_order_acquire);
            });
            if (turn.load(std::memory_order_acquire) == seen) return;
            if (part < parts) work(arg, part);
            busy.fetch_sub(1, std::memory_order_release);
        }
    }
    void lead(void (*what)(void*, int), void* with, int count) {
        work = what, arg = with, parts = count;
        busy.store(threads - 1, std::memory_order_relaxed);
        turn.fetch_add(1, std::memory_order_release);
        what(with, 0);
        Ahead ahead;
        wait(ahead, 0, [&] { return busy.load(std::memory_order_acquire) == 0; });
    }
};

thread_local Pool* pool = nullptr;  // of the pass that this thread leads

void run_together(void (*work)(void*, int), void* arg, int parts) { pool->lead(work, arg, parts); }
void read_soon(const Weight* weight) { pool->soon.store(weight, std::memory_order_release); }

Team alone(int threads) { return Team{run, threads < PARTS ? threads : PARTS, nullptr}; }

struct Together {
    void (*work)(void*, const Team&);
    void* arg;
    Pool pool;
    int asked;
};

// Work that one thread leads, and for which the others stay together.
template <class Work> void together(int threads, Work work) {
    if (threads <= 1) return work(alone(1));
    Together all{[](void* arg, const Team& team) { (*(Work*)arg)(team); }, &work, {}, threads < PARTS ? threads : PARTS};
    run([](void* arg, int part) {
        Together& t = *(Together*)arg;
        if (part) return t.pool.serve(part);
        t.pool.threads = parallel ? thread_count() : t.asked;  // the system may give fewer than were asked for
        pool = &t.pool;
        t.work(t.arg, Team{run_together, t.pool.threads, read_soon});
        pool = nullptr;
        t.pool.over.store(true, std::memory_order_release);
    }, &all, all.asked);
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

// The level in use. `name`: which one to use from now on, null for the best; null is returned where it cannot be.
EXPORT const char* mh_level(const char* name) {
    const Level* one = found(name);
    if (!one) return nullptr;
    level = one;
    return one->name;
}

EXPORT void mh_threads(void* run_parallel, void* number, void* count) {
    parallel = (Parallel)run_parallel;
    thread_number = (ThreadNumber)number;
    thread_count = (ThreadNumber)count;
}

EXPORT void mh_product(const Weight* w, const void* x, int64_t rows, int64_t x_stride, int x_type, const void* add,
                       int64_t add_stride, void* y, int64_t y_stride, int y_type, int threads) {
    level->product(*w, ProductCall{x, add, y, rows, x_stride, add_stride, y_stride, x_type, y_type}, alone(threads));
}

// y = x @ weight.T + bias, all of one type; the weight as it was stored, of a kind from 4 on, the bias added to every row.
EXPORT void mh_linear(const void* x, int64_t rows, int64_t x_stride, const void* weight, int kind, int64_t row_stride,
                      int64_t inputs, int64_t outputs, const void* bias, void* y, int threads) {
    Weight w{};
    w.kind = kind, w.inputs = inputs, w.outputs = w.width = w.counts[0] = outputs, w.parts[0] = weight, w.row_stride = row_stride;
    level->product(w, ProductCall{x, bias, y, rows, x_stride, 0, outputs, kind % 2, kind % 2}, alone(threads));
}

EXPORT void mh_norm(const NormCall* n, int threads) { level->norm(*n, alone(threads)); }

EXPORT void mh_rotate(const Rotation* t, int threads) { level->rotate(*t, alone(threads)); }

EXPORT void mh_decode_attention(const DecodeAttention* d, int threads) { level->decode_attention(*d, alone(threads)); }

EXPORT void mh_prefill_attention(const PrefillAttention* m, int threads) { level->prefill_attention(*m, alone(threads)); }

EXPORT void mh_run_stack(const StackCall* p, int threads) {
    together(threads, [&](const Team& team) { level->run_stack(*p, team); });
}

EXPORT int64_t mh_decode_loop(const DecodeLoop* w, int threads) {
    int64_t steps = 0;
    together(threads, [&](const Team& team) { steps = level->decode_loop(*w, team); });
    return steps;
}

EXPORT void mh_top_k(const TopK* b, int threads) { level->top_k(*b, alone(threads)); }

EXPORT void mh_dropout(const DropoutCall* d, int threads) { level->dropout(*d, alone(threads)); }

EXPORT void mh_adam_rows(const AdamRows* a, int threads) { level->adam_rows(*a, alone(threads)); }
