/* The entry points for Python: the widest instruction set of this machine, PyTorch's threads. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <windows.h>
#define EXPORT __declspec(dllexport)
#else
#include <dlfcn.h>
#include <sched.h>
#define EXPORT
#endif

#include "arguments.h"
#include "symbols.h"

#define DECLARE(name)                                                                              \
    void seqnorm_sizes_##name(const Arguments *, int64_t, int64_t *);                              \
    void seqnorm_forward_##name(const Arguments *const *, int64_t, int64_t);                       \
    void seqnorm_backward_##name(const Arguments *const *, int64_t, int64_t);                      \
    int64_t seqnorm_prepared_##name(const Prepared *);
#define KERNELS(name)                                                                              \
    { #name, seqnorm_sizes_##name##_float, seqnorm_forward_##name##_float,                         \
      seqnorm_backward_##name##_float, seqnorm_prepared_##name##_float,                            \
      seqnorm_sizes_##name##_double, seqnorm_forward_##name##_double,                              \
      seqnorm_backward_##name##_double, seqnorm_prepared_##name##_double }

DECLARE(base_float)
DECLARE(base_double)
#ifdef __x86_64__
DECLARE(avx2_float)
DECLARE(avx2_double)
DECLARE(avx512_float)
DECLARE(avx512_double)
#endif

typedef void (*Sizes)(const Arguments *, int64_t, int64_t *);
typedef void (*Run)(const Arguments *const *, int64_t, int64_t);
typedef int64_t (*RunPrepared)(const Prepared *);
typedef struct {
    const char *name;
    Sizes sizes;
    Run forward, backward;
    RunPrepared prepared;
    Sizes sizes_double;
    Run forward_double, backward_double;
    RunPrepared prepared_double;
} Kernels;

static const Kernels variants[] = {
    KERNELS(base),
#ifdef __x86_64__
    KERNELS(avx2),
    KERNELS(avx512),
#endif
};
enum { VARIANTS = sizeof variants / sizeof *variants };

static int has(int64_t variant) {
#ifdef __x86_64__
    __builtin_cpu_init();
    if (variant == 1) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (variant == 2)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#endif
    return variant == 0;
}

/* Return the name of the instruction set with this number, NULL if this machine lacks it. */
EXPORT const char *seqnorm_variant(int64_t number) {
    return number >= 0 && number < VARIANTS && has(number) ? variants[number].name : 0;
}

/* Return whether this machine multiplies pairs of bfloat16. */
EXPORT int64_t seqnorm_has_pairs(void) {
#ifdef KNOWS_PAIRS
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16") != 0;
#else
    return 0;
#endif
}

/* Return the bytes of scratch and of kept values. */
EXPORT void seqnorm_sizes(int64_t variant, int64_t wide, const Arguments *a, int64_t backward,
                          int64_t *sizes) {
    const Kernels *k = variants + variant;
    (wide ? k->sizes_double : k->sizes)(a, backward, sizes);
}

/* Run up to TOGETHER calls by this number of threads. */
EXPORT void seqnorm_forward(int64_t variant, int64_t wide, const Arguments *const *calls,
                            int64_t count, int64_t threads) {
    const Kernels *k = variants + variant;
    (wide ? k->forward_double : k->forward)(calls, count, threads);
}

EXPORT void seqnorm_backward(int64_t variant, int64_t wide, const Arguments *const *calls,
                             int64_t count, int64_t threads) {
    const Kernels *k = variants + variant;
    (wide ? k->backward_double : k->backward)(calls, count, threads);
}

/* Let other threads run. */
static void give_way(void) {
#ifdef _WIN32
    SwitchToThread();
#else
    sched_yield();
#endif
}

/* Find a function of the process. Windows finds none, and so there every call has one thread. */
static void *function_of_process(const char *name) {
#ifdef _WIN32
    (void)name;
    return 0;
#else
    return dlsym(RTLD_DEFAULT, name);
#endif
}

/* Run a prepared call: 0, 1 if there is no memory, 2 if the environment asks for another backend
 * (Python takes longer to look there). */
EXPORT int64_t seqnorm_prepared(const void *packed) {
    const char *backend = getenv("SEQNORM_BACKEND");
    Prepared p;
    if (backend && *backend && strcmp(backend, "cpu")) return 2;
    memcpy(&p, packed, sizeof p); /* Python aligns bytes as it likes */
    const Kernels *k = variants + p.variant;
    return (p.wide ? k->prepared_double : k->prepared)(&p);
}

void seqnorm_wait(Barrier *barrier, int64_t size) {
    int64_t round = atomic_load_explicit(&barrier->round, memory_order_acquire);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) == size - 1) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->round, round + 1, memory_order_release);
        return;
    }
    int spins = 0;
    while (atomic_load_explicit(&barrier->round, memory_order_acquire) == round) {
        if (++spins > 4000) {
            give_way();
            continue;
        }
#ifdef __x86_64__
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
    }
}

typedef struct {
    Work work;
    void *data;
    int (*number)(void), (*size)(void);
} Task;

static void enter(void *task) {
    Task *t = task;
    t->work(t->data, t->number(), t->size());
}

void seqnorm_parallel(Work work, void *data, int64_t threads) {
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned);
    Task task = {work, data, 0, 0};
    if (threads > 1) {
        *(void **)&parallel = function_of_process("GOMP_parallel");
        *(void **)&task.number = function_of_process("omp_get_thread_num");
        *(void **)&task.size = function_of_process("omp_get_num_threads");
        if (parallel && task.number && task.size) {
            parallel(enter, &task, (unsigned)threads, 0);
            return;
        }
    }
    work(data, 0, 1);
}

/* Return whether there is a pool of threads to borrow. */
EXPORT int64_t seqnorm_has_threads(void) {
    return function_of_process("GOMP_parallel") != 0;
}
