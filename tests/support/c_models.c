/* Runs one model in several ways; written models include it once each. MODEL and UPPER are its
 * name, WHOLE is 1 for two directions, APART for weights in a file. */
#ifndef DRIVE
#define DRIVE
#include <stdio.h>
#include <stdlib.h>
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define OF(end) JOIN(MODEL, end)
#define SIZE(end) JOIN(UPPER, end)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)
#endif

#if APART && !defined(CONTENT_OF)
#define CONTENT_OF
static void *content_of(const char *path, size_t size) {
    void *content = malloc(size);
    FILE *file = fopen(path, "rb");
    if (!file || !content || fread(content, 1, size, file) != size) exit(2);
    fclose(file);
    return content;
}
#endif

static void OF(_drive)(void) {
    int64_t steps;
    if (fread(&steps, sizeof steps, 1, stdin) != 1) exit(3);
    const size_t in = SIZE(_INPUT_SIZE), out = SIZE(_OUTPUT_SIZE), T = (size_t)steps;
    float *x = (float *)malloc(T * in * sizeof *x), *back = (float *)malloc(T * in * sizeof *x);
    float *y = (float *)malloc(T * out * sizeof *y), *z = (float *)malloc(T * out * sizeof *y);
    float *other = (float *)malloc(T * out * sizeof *y);
    if (!x || !back || !y || !z || !other || fread(x, sizeof *x, T * in, stdin) != T * in) exit(4);
    for (size_t t = 0; t < T; t++) memcpy(back + t * in, x + (T - 1 - t) * in, in * sizeof *x);
    static MODEL mine; /* memory of the caller */
#if APART
    void *weights = content_of(TEXT(MODEL) ".bin", SIZE(_WEIGHTS_BYTES));
    MODEL *model = OF(_create)(weights);
    if (OF(_init)(&mine, weights)) exit(5);
#else
    MODEL *model = OF(_create)();
    if (OF(_init)(&mine)) exit(5);
#endif
    if (!model) exit(6);
    int equal = 1;
#if WHOLE
    float *work = (float *)malloc(SIZE(_WORK_SIZE)(T) * sizeof *work + 1);
    equal &= !OF(_run)(&mine, (long)steps, back, other, work);
    equal &= !OF(_run)(&mine, (long)steps, x, z, work);
    equal &= !OF(_run)(model, (long)steps, x, y, work);
    free(work);
#else
    MODEL *second = (MODEL *)malloc(sizeof *second);
    if (!second) exit(7);
    *second = *model; /* a copy is another instance */
    for (size_t t = 0; t < T; t++) { /* two instances in turn */
        equal &= !OF(_step)(model, x + t * in, y + t * out);
        equal &= !OF(_step)(second, back + t * in, other + t * out);
    }
    equal &= !OF(_run)(&mine, (long)steps, back, z);
    equal &= memcmp(z, other, T * out * sizeof *y) == 0;
    OF(_reset)(&mine);
    equal &= !OF(_run)(&mine, (long)steps / 2, x, z);
    equal &= !OF(_run)(&mine, (long)(steps - steps / 2), x + T / 2 * in, z + T / 2 * out);
    free(second);
#endif
    equal &= memcmp(y, z, T * out * sizeof *y) == 0;
    equal &= memcmp(&mine.state, &model->state, sizeof mine.state) == 0;
    const int64_t head[4] = {steps, (int64_t)out, SIZE(_STATE_SIZE), equal};
    fwrite(head, sizeof head, 1, stdout);
    fwrite(y, sizeof *y, T * out, stdout);
    fwrite(&model->state, sizeof(float), SIZE(_STATE_SIZE), stdout);
    OF(_free)(model);
    free(x), free(back), free(y), free(z), free(other);
#if APART
    free(weights);
#endif
}
