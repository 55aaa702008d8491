/* Threads: PyTorch's own pool, borrowed through the symbols of the OpenMP runtime it has loaded, so
 * that there is one pool. Without such a runtime everything runs in the calling thread. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

typedef struct {
    _Atomic int64_t arrived;
    _Atomic int64_t round;
} Barrier;

/* Wait for all of `size` threads. A wait spins, because a step lasts microseconds. If that is in
 * vain, it yields, because there may be fewer cores than threads. */
void seqnorm_wait(Barrier *barrier, int64_t size);

/* Call work(data, number, size) in up to `threads` threads; size is how many there are. */
typedef void (*Work)(void *data, int64_t number, int64_t size);
void seqnorm_parallel(Work work, void *data, int64_t threads);
