#define _GNU_SOURCE
#include "ceilings.h"

#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void omp_set_num_threads(int count);

enum { MOST_THREADS = 64, ALIGNMENT = 64 };

/// The work of one thread.
typedef struct {
    pthread_barrier_t *start;
    dnnl_data_type_t type;
    ceiling_layout layout;
    dnnl_dim_t M, N, K;
    /// What to read; each thread has a part of its own.
    const uint64_t *words;  // (size / 8)
    size_t size;
    double seconds;
    /// Of how much was done (FLOP or bytes) in how long.
    double amount, spent;
    int failed;
} job;

/// A product ready to be executed, with memory of its own.
typedef struct {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_desc_t plan;
    dnnl_primitive_t primitive;
    dnnl_memory_t x, w, y;
    void *buffers[3];
} product;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/// Values of either sign between 0.5 and 2: zeros would cost less power than a model's weights.
static void fill(void *buffer, size_t size, dnnl_data_type_t type) {
    uint64_t state = 88172645463325252u;
    const uint64_t random = type == dnnl_bf16 ? 0x80ff80ff80ff80ffu : 0x80ffffff80ffffffu;
    const uint64_t exponent = type == dnnl_bf16 ? 0x3f003f003f003f00u : 0x3f0000003f000000u;
    for (size_t i = 0; i < size / 8; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((uint64_t *)buffer)[i] = (state & random) | exponent;
    }
}

static int make_memory(
    dnnl_memory_t *memory, void **buffer, dnnl_engine_t engine, const dnnl_memory_desc_t *shape,
    dnnl_data_type_t type) {
    const size_t size = (dnnl_memory_desc_get_size(shape) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    *buffer = aligned_alloc(ALIGNMENT, size);
    if (*buffer == NULL) return -1;
    fill(*buffer, size, type);
    return (int)dnnl_memory_create(memory, shape, engine, *buffer);
}

/// 0, or what oneDNN says is wrong; `free_product` is due in both cases.
static int make_product(product *p, const job *j) {
    dnnl_memory_desc_t x, w, y;
    dnnl_matmul_desc_t matmul;
    const dnnl_dims_t x_shape = {j->M, j->K}, w_shape = {j->K, j->N}, y_shape = {j->M, j->N};
    int status = (int)dnnl_memory_desc_init_by_tag(&x, 2, x_shape, j->type, dnnl_ab);
    if (!status) {
        const dnnl_format_tag_t tag = j->layout == CEILING_BLOCKED ? dnnl_format_tag_any : dnnl_ba;
        status = (int)dnnl_memory_desc_init_by_tag(&w, 2, w_shape, j->type, tag);
    }
    if (!status) status = (int)dnnl_memory_desc_init_by_tag(&y, 2, y_shape, dnnl_f32, dnnl_ab);
    if (!status) status = (int)dnnl_matmul_desc_init(&matmul, &x, &w, NULL, &y);
    if (!status) status = (int)dnnl_engine_create(&p->engine, dnnl_cpu, 0);
    if (!status) status = (int)dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags);
    if (!status) status = (int)dnnl_primitive_desc_create(&p->plan, &matmul, NULL, p->engine, NULL);
    if (!status) status = (int)dnnl_primitive_create(&p->primitive, p->plan);
    if (!status) status = make_memory(&p->x, &p->buffers[0], p->engine, &x, j->type);
    if (!status) {
        const dnnl_memory_desc_t *chosen = dnnl_primitive_desc_query_md(p->plan, dnnl_query_weights_md, 0);
        status = make_memory(&p->w, &p->buffers[1], p->engine, chosen, j->type);
    }
    if (!status) status = make_memory(&p->y, &p->buffers[2], p->engine, &y, dnnl_f32);
    return status;
}

static int execute(const product *p) {
    const dnnl_exec_arg_t arguments[3] = {
        {DNNL_ARG_SRC, p->x}, {DNNL_ARG_WEIGHTS, p->w}, {DNNL_ARG_DST, p->y}};
    return (int)dnnl_primitive_execute(p->primitive, p->stream, 3, arguments);
}

static void free_product(product *p) {
    if (p->x) dnnl_memory_destroy(p->x);
    if (p->w) dnnl_memory_destroy(p->w);
    if (p->y) dnnl_memory_destroy(p->y);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->plan) dnnl_primitive_desc_destroy(p->plan);
    if (p->stream) dnnl_stream_destroy(p->stream);
    if (p->engine) dnnl_engine_destroy(p->engine);
    for (size_t i = 0; i < 3; i++) free(p->buffers[i]);
}

static void *product_thread(void *argument) {
    job *j = argument;
    product p = {0};
    omp_set_num_threads(1);
    j->failed = make_product(&p, j) || execute(&p);
    pthread_barrier_wait(j->start);
    const double start = now();
    while (!j->failed && (j->spent = now() - start) < j->seconds) {
        j->failed = execute(&p);
        j->amount += 2.0 * (double)j->M * (double)j->N * (double)j->K;
    }
    free_product(&p);
    return NULL;
}

static void *read_thread(void *argument) {
    job *j = argument;
    uint64_t sums[8] = {0};
    pthread_barrier_wait(j->start);
    const double start = now();
    while ((j->spent = now() - start) < j->seconds) {
        for (size_t i = 0; i < j->size / 8; i += 8)
            for (int lane = 0; lane < 8; lane++) sums[lane] += j->words[i + lane];
        j->amount += (double)j->size;
    }
    volatile uint64_t kept = sums[0] ^ sums[1] ^ sums[2] ^ sums[3] ^ sums[4] ^ sums[5] ^ sums[6] ^ sums[7];
    (void)kept;
    return NULL;
}

/// Runs `body` on `threads` copies of `work` at the same time; the sum of their rates, in 1e9 a second.
static double run_threads(job work, size_t threads, void *(*body)(void *)) {
    if (threads == 0 || threads > MOST_THREADS) return -1;
    pthread_t ids[MOST_THREADS];
    job jobs[MOST_THREADS];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    work.start = &start;
    for (size_t t = 0; t < threads; t++) {
        jobs[t] = work;
        if (work.words) jobs[t].words += t * work.size / 8;
        if (pthread_create(&ids[t], NULL, body, &jobs[t])) abort();
    }
    double rate = 0;
    for (size_t t = 0; t < threads; t++) {
        pthread_join(ids[t], NULL);
        rate = jobs[t].failed || rate < 0 ? -1 : rate + jobs[t].amount / jobs[t].spent * 1e-9;
    }
    pthread_barrier_destroy(&start);
    return rate;
}

double ceiling_product(
    int bf16, ceiling_layout layout, size_t threads, size_t M, size_t N, size_t K, double seconds) {
    const job work = {.type = bf16 ? dnnl_bf16 : dnnl_f32, .layout = layout, .M = (dnnl_dim_t)M,
                      .N = (dnnl_dim_t)N, .K = (dnnl_dim_t)K, .seconds = seconds};
    return run_threads(work, threads, product_thread);
}

double ceiling_read(size_t threads, double seconds) {
    if (threads == 0 || threads > MOST_THREADS) return -1;
    const size_t size = (size_t)128 << 20;
    void *buffer = aligned_alloc(ALIGNMENT, threads * size);
    if (buffer == NULL) return -1;
    memset(buffer, 1, threads * size);
    const double rate = ceiling_read_again(buffer, threads * size, threads, seconds);
    free(buffer);
    return rate;
}

double ceiling_read_again(const void *bytes, size_t size, size_t threads, double seconds) {
    if (threads == 0 || threads > MOST_THREADS) return -1;
    // What read_thread adds up at a time.
    const size_t part = size / threads / ALIGNMENT * ALIGNMENT;
    const job work = {.words = bytes, .size = part, .seconds = seconds};
    return run_threads(work, threads, read_thread);
}
