/* Repeat recorded calls of the kernels on another processor.
 *
 * Standard input holds calls, each of them: the function, four arguments, blocks of memory, places
 * in blocks that hold the address of another block, and the blocks to print. All numbers are int64
 * in the byte order of the machine. Standard output gets the printed blocks, one after another. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORWARD, BACKWARD, PREPARED };

void seqnorm_forward(int64_t, int64_t, const void *, int64_t, int64_t);
void seqnorm_backward(int64_t, int64_t, const void *, int64_t, int64_t);
int64_t seqnorm_prepared(const void *);

static void take(void *to, size_t size) {
    if (size && fread(to, size, 1, stdin) != 1) {
        fprintf(stderr, "the input ends within a call\n");
        exit(2);
    }
}

static int64_t number(void) {
    int64_t found;
    take(&found, sizeof found);
    return found;
}

int main(void) {
    int64_t function;
    while (fread(&function, sizeof function, 1, stdin) == 1) {
        int64_t variant = number(), wide = number(), count = number(), threads = number();
        int64_t blocks = number();
        char **at = calloc((size_t)blocks, sizeof *at);
        int64_t *sizes = calloc((size_t)blocks, sizeof *sizes);
        for (int64_t k = 0; k < blocks; k++) {
            sizes[k] = number();
            at[k] = malloc((size_t)sizes[k] + 64);
            take(at[k], (size_t)sizes[k]);
        }
        for (int64_t left = number(); left > 0; left--) {
            int64_t block = number(), offset = number(), target = number();
            memcpy(at[block] + offset, &at[target], sizeof(char *));
        }
        if (function == FORWARD)
            seqnorm_forward(variant, wide, at[0], count, threads);
        else if (function == BACKWARD)
            seqnorm_backward(variant, wide, at[0], count, threads);
        else if (function != PREPARED || seqnorm_prepared(at[0])) {
            fprintf(stderr, "the call failed\n");
            return 3;
        }
        for (int64_t left = number(); left > 0; left--) {
            int64_t block = number();
            fwrite(at[block], (size_t)sizes[block], 1, stdout);
        }
        for (int64_t k = 0; k < blocks; k++) free(at[k]);
        free(at), free(sizes);
    }
    return fflush(stdout) != 0;
}
