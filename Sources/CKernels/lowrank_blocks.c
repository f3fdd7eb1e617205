// The low-rank branch (arXiv 2106.09685) as inference reads it, h = x A^T and y += s * h B^T: the matrices never change,
// so that B waits in blocks of columns, and both are in bf16 where that loses nothing.
//
// Every element of a result is one set of lanes over C, or one chain over r, whatever the number of rows.
#ifdef LORA_LANES

#ifndef LORA_LOWRANK_BLOCKS_NAMES
#define LORA_LOWRANK_BLOCKS_NAMES
#define shorts_of_lanes LORA_NAME(shorts_of_lanes)
#define VECTORS (BLOCK / LORA_LANES)  // of a block's row
#endif

typedef uint16_t shorts_of_lanes __attribute__((ext_vector_type(LORA_LANES)));

#if LORA_LANES == 4
#define MOST_ROWS 2
#else
#define MOST_ROWS 4
#endif

/// LORA_LANES elements from `at` on, of which the first `count` exist and the others are zero.
LORA_INLINE floats LORA_NAME(widened)(const int half, const void *p, size_t at, size_t count) {
    if (!half) return v_load_up_to((const float *)p + at, count);
    shorts_of_lanes bits = 0;
    if (count == LORA_LANES)
        __builtin_memcpy(&bits, (const uint16_t *)p + at, sizeof bits);
    else
        __builtin_memcpy(&bits, (const uint16_t *)p + at, count * sizeof(uint16_t));
    return (floats)(__builtin_convertvector(bits, ints) << 16);
}

/// h (rows,columns) overwritten, rows r apart: x (rows,C) times the transpose of a (columns,C).
LORA_INLINE void LORA_NAME(down_block)(const int rows, const int columns, float *h, size_t r, const float *x,
                                       size_t x_stride, const uint16_t *a, size_t C) {
    floats sums[2][4];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) sums[i][j] = v_splat(0);
    for (size_t c = 0; c < C; c += LORA_LANES) {
        size_t width = C - c < LORA_LANES ? C - c : LORA_LANES;
        floats other[4];
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) {
            other[j] = LORA_NAME(widened)(1, a, (size_t)j * C + c, width);
            // One row of x uses a once, so that all of it comes from memory.
            if (rows == 1) __builtin_prefetch(a + (size_t)(j + columns) * C + c);
        }
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
            floats own = v_load_up_to(x + (size_t)i * x_stride + c, width);
#pragma clang loop unroll(full)
            for (int j = 0; j < columns; j++) sums[i][j] += own * other[j];
        }
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) h[(size_t)i * r + (size_t)j] = v_sum(sums[i][j]);
}

LORA_INLINE void LORA_NAME(down_rows)(const int rows, float *h, const float *x, size_t x_stride, const uint16_t *A,
                                      size_t C, size_t r) {
    size_t j = 0;
    for (; j + 4 <= r; j += 4) LORA_NAME(down_block)(rows, 4, h + j, r, x, x_stride, A + j * C, C);
    for (; j < r; j++) LORA_NAME(down_block)(rows, 1, h + j, r, x, x_stride, A + j * C, C);
}

static void LORA_NAME(lowrank_down_bf16)(float *h, const float *x, size_t x_stride, const uint16_t *A, size_t T,
                                         size_t C, size_t r) {
    size_t t = 0;
    for (; t + 2 <= T; t += 2) LORA_NAME(down_rows)(2, h + t * r, x + t * x_stride, x_stride, A, C, r);
    if (t < T) LORA_NAME(down_rows)(1, h + t * r, x + t * x_stride, x_stride, A, C, r);
}

/// y (rows,width) ADDS s * h (rows,r) times a block (r,BLOCK), of which `width` columns exist.
LORA_INLINE void LORA_NAME(up_block)(const int half, const int rows, float *y, size_t y_stride, const float *h,
                                     const void *block, float s, size_t width, size_t r) {
    floats sums[MOST_ROWS][VECTORS];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int v = 0; v < VECTORS; v++) sums[i][v] = v_splat(0);
    for (size_t j = 0; j < r; j++) {
#pragma clang loop unroll(full)
        for (int v = 0; v < VECTORS; v++) {
            floats b = LORA_NAME(widened)(half, block, j * BLOCK + (size_t)v * LORA_LANES, LORA_LANES);
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) sums[i][v] += h[(size_t)i * r + j] * b;
        }
    }
#pragma clang loop unroll(full)
    for (int v = 0; v < VECTORS; v++) {
        const size_t at = (size_t)v * LORA_LANES;
        if (at >= width) break;
        size_t count = width - at < LORA_LANES ? width - at : LORA_LANES;
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
            float *to = y + (size_t)i * y_stride + at;
            v_store_up_to(to, v_load_up_to(to, count) + sums[i][v] * s, count);
        }
    }
}

LORA_INLINE void LORA_NAME(up_blocks)(const int half, float *y, size_t y_stride, const float *h, const void *blocks,
                                      float s, size_t T, size_t N, size_t r) {
    const size_t bytes = r * BLOCK * (half ? sizeof(uint16_t) : sizeof(float));
    const char *block = blocks;
    for (size_t n = 0; n < N; n += BLOCK, block += bytes) {
        size_t width = N - n < BLOCK ? N - n : BLOCK, t = 0;
        for (; t + MOST_ROWS <= T; t += MOST_ROWS)
            LORA_NAME(up_block)(half, MOST_ROWS, y + t * y_stride + n, y_stride, h + t * r, block, s, width, r);
        for (; t < T; t++) LORA_NAME(up_block)(half, 1, y + t * y_stride + n, y_stride, h + t * r, block, s, width, r);
    }
}

static void LORA_NAME(lowrank_up_blocks_f32)(float *y, size_t y_stride, const float *h, const float *blocks, float s,
                                             size_t T, size_t N, size_t r) {
    LORA_NAME(up_blocks)(0, y, y_stride, h, blocks, s, T, N, r);
}

static void LORA_NAME(lowrank_up_blocks_bf16)(float *y, size_t y_stride, const float *h, const uint16_t *blocks,
                                              float s, size_t T, size_t N, size_t r) {
    LORA_NAME(up_blocks)(1, y, y_stride, h, blocks, s, T, N, r);
}

#undef MOST_ROWS

#else

#include <string.h>

#include "lora_kernels.h"

enum { BLOCK = LORA_LOWRANK_BLOCK };

#define LORA_FILE "lowrank_blocks.c"
#include "variants.h"

LORA_DISPATCH(lowrank_down_bf16);
LORA_DISPATCH(lowrank_up_blocks_f32);
LORA_DISPATCH(lowrank_up_blocks_bf16);

size_t lora_lowrank_blocks_count(size_t N, size_t r) { return (N + BLOCK - 1) / BLOCK * BLOCK * r; }

void lora_lowrank_to_blocks(float *out, const float *B, size_t N, size_t r) {
    for (size_t n = 0; n < N; n += BLOCK, out += r * BLOCK)
        for (size_t j = 0; j < r; j++)
            for (size_t i = 0; i < BLOCK; i++) out[j * BLOCK + i] = n + i < N ? B[(n + i) * r + j] : 0;
}

int lora_is_bf16(const float *x, size_t n) {
    uint32_t lost = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        lost |= bits & 0xffff;
    }
    return lost == 0;
}

void lora_lowrank_down_bf16(float *h, const float *x, size_t x_stride, const uint16_t *A, size_t T, size_t C,
                            size_t r) {
    LORA_CALL(lowrank_down_bf16)(h, x, x_stride, A, T, C, r);
}

void lora_lowrank_up_blocks_f32(float *y, size_t y_stride, const float *h, const float *blocks, float s, size_t T,
                                size_t N, size_t r) {
    LORA_CALL(lowrank_up_blocks_f32)(y, y_stride, h, blocks, s, T, N, r);
}

void lora_lowrank_up_blocks_bf16(float *y, size_t y_stride, const float *h, const uint16_t *blocks, float s, size_t T,
                                 size_t N, size_t r) {
    LORA_CALL(lowrank_up_blocks_bf16)(y, y_stride, h, blocks, s, T, N, r);
}

#endif
