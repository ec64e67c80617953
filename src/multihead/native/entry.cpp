// The C functions that Python calls. The instruction set level is chosen once, by the features of the processor.
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

inline void spin_pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// Prefetches the memory of a weight that one thread will read first, some cache lines at a time.
struct Prefetcher {
    static constexpr int64_t MAX_BYTES = 128 << 10;  // bytes of one array: less than a core's cache
    const Weight* weight = nullptr;
    const char* at[3] = {};
    int64_t left[3] = {};

    void start(const Weight* w, int part, int parts) {
        weight = w;
        const int64_t panels = (w->width + 63) / 64, first = panels * part / parts;
        const int64_t mine = panels * (part + 1) / parts - first;
        for (auto& bytes : left) bytes = 0;
        if (w->kind >= 4) return start_unpacked(w, first, mine);
        const int64_t inputs = (w->inputs + 31) / 32 * 32, scales = w->kind >= 2 ? inputs / 32 * 128 : 256;
        const int64_t codes = w->kind == 0 ? inputs * 128 : w->kind == 3 ? inputs * 32 : inputs * 64;
        const void* arrays[3] = {w->codes, w->scales, w->minima};
        const int64_t size[3] = {codes, scales, scales};
        for (int i = 0; i < 3; i++)
            if (arrays[i]) set_range(i, (const char*)arrays[i] + first * size[i], mine * size[i]);
    }
    // Gated weights: the rows of gates and the rows of up values. Else: rows up to the end of the first panel's matrix.
    void start_unpacked(const Weight* w, int64_t first, int64_t mine) {
        if (w->kind > 5) return;  // (inputs, outputs): a panel is not contiguous
        const int64_t bytes = w->row_stride * (w->kind == 4 ? 4 : 2), wide = w->gated ? 32 : 64;
        for (int i = 0; i < (w->gated ? 2 : 1); i++) {
            int64_t output = first * wide + i * w->outputs, whole = mine * wide;
            int part = 0;
            for (; part < 2 && output >= w->counts[part]; part++) output -= w->counts[part];
            const int64_t there = w->counts[part] - output;
            set_range(i, (const char*)w->parts[part] + output * bytes, (whole < there ? whole : there) * bytes);
        }
    }
    void set_range(int i, const char* begin, int64_t bytes) {
        at[i] = begin;
        left[i] = bytes < MAX_BYTES ? bytes : MAX_BYTES;
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

// Threads that are held for a whole forward pass and wait for each other by spinning, without system calls.
struct Pool {
    alignas(64) std::atomic<uint64_t> turn{0};
    std::atomic<bool> stopped{false};
    std::atomic<const Weight*> next_weight{nullptr};
    int threads = 1, parts = 1;
    void (*work)(void*, int) = nullptr;
    void* arg = nullptr;
    alignas(64) std::atomic<int> busy{0};

    template <class Done> void wait(Prefetcher& prefetcher, int part, Done done) {
        for (int64_t spins = 0; !done(); spins++) {
            const Weight* next = next_weight.load(std::memory_order_acquire);
            if (next && next != prefetcher.weight) prefetcher.start(next, part, threads);
            if (next && prefetcher.step()) continue;
            if (spins > 100) std::this_thread::yield();  // another process may need this core
            else spin_pause();
        }
    }
    void run_worker(int part) {
        Prefetcher prefetcher;
        for (uint64_t seen = 0;; seen++) {
            wait(prefetcher, part, [&] {
                return turn.load(std::memory_order_acquire) != seen || stopped.load(std::memory_order_acquire);
            });
            if (turn.load(std::memory_order_acquire) == seen) return;
            if (part < parts) work(arg, part);
            busy.fetch_sub(1, std::memory_order_release);
        }
    }
    void run_parts(void (*task)(void*, int), void* task_arg, int count) {
        work = task, arg = task_arg, parts = count;
        busy.store(threads - 1, std::memory_order_relaxed);
        turn.fetch_add(1, std::memory_order_release);
        task(task_arg, 0);
        Prefetcher prefetcher;
        wait(prefetcher, 0, [&] { return busy.load(std::memory_order_acquire) == 0; });
    }
};

thread_local Pool* pool = nullptr;  // of the forward pass whose serial part this thread runs

void pool_parallel(void (*work)(void*, int), void* arg, int parts) { pool->run_parts(work, arg, parts); }
void prefetch_next(const Weight* weight) { pool->next_weight.store(weight, std::memory_order_release); }

Team fork_join_team(int threads) { return Team{run, threads < PARTS ? threads : PARTS, nullptr}; }

struct PooledCall {
    void (*work)(void*, const Team&);
    void* arg;
    Pool pool;
    int requested;
};

// Run work on one thread; the other threads of the pool wait for its parallel parts until it returns.
template <class Work> void run_in_pool(int threads, Work work) {
    if (threads <= 1) return work(fork_join_team(1));
    PooledCall call{[](void* arg, const Team& team) { (*(Work*)arg)(team); }, &work, {}, threads < PARTS ? threads : PARTS};
    run([](void* arg, int part) {
        PooledCall& t = *(PooledCall*)arg;
        if (part) return t.pool.run_worker(part);
        t.pool.threads = parallel ? thread_count() : t.requested;  // the system may give fewer than were requested
        pool = &t.pool;
        t.work(t.arg, Team{pool_parallel, t.pool.threads, prefetch_next});
        pool = nullptr;
        t.pool.stopped.store(true, std::memory_order_release);
    }, &call, call.requested);
}

#if defined(__x86_64__)
struct Processor {
    bool avx2 = false, avx512 = false, vnni = false, bf16 = false, amx = false;
    Processor() {
        unsigned a, b, c, d;
        if (!__get_cpuid(1, &a, &b, &c, &d)) return;
        const bool fma = c & (1u << 12), f16c = c & (1u << 29), osxsave = c & (1u << 27);
        if (!osxsave) return;
        unsigned low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
        avx2 = (low & 6) == 6 && fma && f16c && (b & (1u << 5));
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

const Level* find_level(const char* name) {
#if defined(__x86_64__)
    static const Processor processor;
    const struct { const Level* level; bool supported; } known[] = {
        {&level_amx, processor.amx}, {&level_amx_emulated, false}, {&level_avx512_bf16, processor.bf16},
        {&level_avx512_vnni, processor.vnni}, {&level_avx512, processor.avx512}, {&level_avx2, processor.avx2}, {&level_plain, true}};
    for (const auto& one : known) {
        const bool emulated = one.level == &level_amx_emulated && processor.bf16;
        if (name ? !std::strcmp(name, one.level->name) && (one.supported || emulated) : one.supported) return one.level;
    }
    return nullptr;
#else
    return !name || !std::strcmp(name, "plain") ? &level_plain : nullptr;
#endif
}

}  // namespace

// Select a level by name, null for the best one, and return its name; null where the processor does not support it.
EXPORT const char* mh_level(const char* name) {
    const Level* one = find_level(name);
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
    level->product(*w, ProductCall{x, add, y, rows, x_stride, add_stride, y_stride, x_type, y_type}, fork_join_team(threads));
}

// y = x @ weight.T + bias, all of one type; the weight as it was stored, of kinds 4 to 7; the bias (outputs,) is added to every row.
EXPORT void mh_linear(const void* x, int64_t rows, int64_t x_stride, const void* weight, int kind, int64_t row_stride,
                      int64_t inputs, int64_t outputs, const void* bias, void* y, int threads) {
    Weight w{};
    w.kind = kind, w.inputs = inputs, w.outputs = w.width = w.counts[0] = outputs, w.parts[0] = weight, w.row_stride = row_stride;
    level->product(w, ProductCall{x, bias, y, rows, x_stride, 0, outputs, kind % 2, kind % 2}, fork_join_team(threads));
}

EXPORT void mh_norm(const NormCall* n, int threads) { level->norm(*n, fork_join_team(threads)); }

EXPORT void mh_rotate(const Rotation* t, int threads) { level->rotate(*t, fork_join_team(threads)); }

EXPORT void mh_decode_attention(const DecodeAttention* d, int threads) { level->decode_attention(*d, fork_join_team(threads)); }

EXPORT void mh_prefill_attention(const PrefillAttention* m, int threads) { level->prefill_attention(*m, fork_join_team(threads)); }

EXPORT void mh_run_stack(const StackCall* p, int threads) {
    run_in_pool(threads, [&](const Team& team) { level->run_stack(*p, team); });
}

EXPORT int64_t mh_decode_loop(const DecodeLoop* w, int threads) {
    int64_t steps = 0;
    run_in_pool(threads, [&](const Team& team) { steps = level->decode_loop(*w, team); });
    return steps;
}

EXPORT void mh_top_k(const TopK* b, int threads) { level->top_k(*b, fork_join_team(threads)); }

EXPORT void mh_dropout(const DropoutCall* d, int threads) { level->dropout(*d, fork_join_team(threads)); }

EXPORT void mh_delta_step(const DeltaStep* d, int threads) { level->delta_step(*d, fork_join_team(threads)); }

EXPORT void mh_adam_rows(const AdamRows* a, int threads) { level->adam_rows(*a, fork_join_team(threads)); }

EXPORT void mh_convolution_step(const ConvolutionStep* g, int threads) { level->convolution_step(*g, fork_join_team(threads)); }

EXPORT void mh_mamba_step(const MambaStep* m, int threads) { level->mamba_step(*m, fork_join_team(threads)); }

// 1, or 0 for a type that is not known here.
EXPORT int mh_dequantize(const DequantizeCall* d, int threads) { return level->dequantize(*d, fork_join_team(threads)); }
