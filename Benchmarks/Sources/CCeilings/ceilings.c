#define _GNU_SOURCE
#include "ceilings.h"

#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void omp_set_num_threads(int count);

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

enum { MOST_THREADS = 64 };

typedef struct {
    pthread_barrier_t *start;
    dnnl_data_type_t type;
    dnnl_dim_t M, N, K;
    void *x, *w, *y;
    const char *bytes;
    size_t size;
    double seconds, amount, spent;
    int failed;
} job;

static void run_product(job *j) {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_desc_t plan;
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t x, w, y;
    dnnl_matmul_desc_t matmul;
    dnnl_memory_t memory[3];
    const dnnl_dims_t x_shape = {j->M, j->K}, w_shape = {j->K, j->N}, y_shape = {j->M, j->N};
    dnnl_memory_desc_init_by_tag(&x, 2, x_shape, j->type, dnnl_ab);
    dnnl_memory_desc_init_by_tag(&w, 2, w_shape, j->type, dnnl_ba);
    dnnl_memory_desc_init_by_tag(&y, 2, y_shape, dnnl_f32, dnnl_ab);
    dnnl_matmul_desc_init(&matmul, &x, &w, NULL, &y);
    j->failed = dnnl_engine_create(&engine, dnnl_cpu, 0) || dnnl_stream_create(&stream, engine, 0) ||
                dnnl_primitive_desc_create(&plan, &matmul, NULL, engine, NULL) ||
                dnnl_primitive_create(&primitive, plan) || dnnl_memory_create(&memory[0], &x, engine, j->x) ||
                dnnl_memory_create(&memory[1], &w, engine, j->w) || dnnl_memory_create(&memory[2], &y, engine, j->y);
    const dnnl_exec_arg_t arguments[3] = {
        {DNNL_ARG_SRC, memory[0]}, {DNNL_ARG_WEIGHTS, memory[1]}, {DNNL_ARG_DST, memory[2]}};
    if (!j->failed) dnnl_primitive_execute(primitive, stream, 3, arguments);
    pthread_barrier_wait(j->start);
    const double start = now();
    while (!j->failed && now() - start < j->seconds) {
        dnnl_primitive_execute(primitive, stream, 3, arguments);
        j->amount += 2.0 * (double)j->M * (double)j->N * (double)j->K;
    }
    j->spent = now() - start;
}

static void *product_thread(void *argument) {
    omp_set_num_threads(1);
    run_product(argument);
    return NULL;
}

static void *read_thread(void *argument) {
    job *j = argument;
    uint64_t sums[8] = {0};
    pthread_barrier_wait(j->start);
    const double start = now();
    while (now() - start < j->seconds) {
        const uint64_t *words = (const uint64_t *)j->bytes;
        for (size_t i = 0; i < j->size / 8; i += 8)
            for (int lane = 0; lane < 8; lane++) sums[lane] += words[i + lane];
        j->amount += (double)j->size;
    }
    j->spent = now() - start;
    volatile uint64_t kept = sums[0] ^ sums[1] ^ sums[2] ^ sums[3] ^ sums[4] ^ sums[5] ^ sums[6] ^ sums[7];
    (void)kept;
    return NULL;
}

static double run_threads(job *jobs, size_t threads, void *(*body)(void *)) {
    pthread_t ids[MOST_THREADS];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (size_t t = 0; t < threads; t++) {
        jobs[t].start = &start;
        pthread_create(&ids[t], NULL, body, &jobs[t]);
    }
    double rate = 0;
    for (size_t t = 0; t < threads; t++) {
        pthread_join(ids[t], NULL);
        rate = jobs[t].failed || rate < 0 ? -1 : rate + jobs[t].amount / jobs[t].spent * 1e-9;
    }
    pthread_barrier_destroy(&start);
    return rate;
}

double ceiling_product(int bf16, size_t threads, size_t M, size_t N, size_t K, double seconds) {
    if (threads == 0 || threads > MOST_THREADS) return -1;
    const size_t element = bf16 ? 2 : 4;
    job jobs[MOST_THREADS];
    memset(jobs, 0, sizeof jobs);
    void *w = calloc(N * K, element);
    for (size_t t = 0; t < threads; t++) {
        jobs[t] = (job){.type = bf16 ? dnnl_bf16 : dnnl_f32, .M = (dnnl_dim_t)M, .N = (dnnl_dim_t)N,
                        .K = (dnnl_dim_t)K, .x = calloc(M * K, element), .w = w, .y = calloc(M * N, 4),
                        .seconds = seconds};
    }
    const double rate = run_threads(jobs, threads, product_thread);
    for (size_t t = 0; t < threads; t++) {
        free(jobs[t].x);
        free(jobs[t].y);
    }
    free(w);
    return rate;
}

double ceiling_read(size_t threads, double seconds) {
    if (threads == 0 || threads > MOST_THREADS) return -1;
    const size_t size = (size_t)256 << 20;
    job jobs[MOST_THREADS];
    memset(jobs, 0, sizeof jobs);
    for (size_t t = 0; t < threads; t++) {
        char *bytes = malloc(size);
        memset(bytes, 1, size);
        jobs[t] = (job){.bytes = bytes, .size = size, .seconds = seconds};
    }
    const double rate = run_threads(jobs, threads, read_thread);
    for (size_t t = 0; t < threads; t++) free((void *)jobs[t].bytes);
    return rate;
}
