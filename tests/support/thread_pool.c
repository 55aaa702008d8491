/* Threads of plain pthreads in place of PyTorch's, for the thread sanitizer: it knows how pthreads
 * wait for one another, and nothing of an OpenMP runtime that was compiled without it.
 *
 * Linked with -Wl,--wrap=dlsym, so that the kernels find these and PyTorch its own. */
#include <pthread.h>
#include <string.h>

enum { MOST = 64 };

typedef struct {
    void (*work)(void *);
    void *data;
    int number, size;
} Part;

static __thread int number = 0, size = 1;

static int get_number(void) {
    return number;
}

static int get_size(void) {
    return size;
}

static void *run(void *of_thread) {
    Part *part = of_thread;
    number = part->number, size = part->size;
    part->work(part->data);
    number = 0, size = 1;
    return 0;
}

static void parallel(void (*work)(void *), void *data, unsigned threads, unsigned flags) {
    (void)flags;
    pthread_t others[MOST];
    Part parts[MOST];
    int count = threads < MOST ? (int)threads : MOST;
    for (int k = 0; k < count; k++) parts[k] = (Part){work, data, k, count};
    for (int k = 1; k < count; k++)
        if (pthread_create(others + k, 0, run, parts + k)) __builtin_trap();
    run(parts);
    for (int k = 1; k < count; k++) pthread_join(others[k], 0);
}

void *__real_dlsym(void *handle, const char *name);

void *__wrap_dlsym(void *handle, const char *name) {
    if (!strcmp(name, "GOMP_parallel")) return (void *)parallel;
    if (!strcmp(name, "omp_get_thread_num")) return (void *)get_number;
    if (!strcmp(name, "omp_get_num_threads")) return (void *)get_size;
    return __real_dlsym(handle, name);
}

#ifdef NEVER_WAIT
void __wrap_seqnorm_wait(void *barrier, long size) {
    (void)barrier, (void)size;
}
#endif
