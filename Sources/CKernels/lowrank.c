// The low-rank branch (arXiv 2106.09685): h = x A^T, y += s * h B^T, and its four gradients.
//
// Every element of a result is one chain (or LORA_LANES chains) over the reduced dimension in an order that depends on
// the shapes C, N and r alone, so a row of x gives the same bits in any company.
#ifdef LORA_LANES

#include "tile.h"

#if LORA_LANES == 16
#define DOT_ROWS 4
#else
#define DOT_ROWS 2
#endif

/// h (rows,4) overwritten or added to: x (rows,C) times the transpose of a (4,C); `columns` of the 4 exist.
LORA_INLINE void LORA_NAME(dot_block)(const int rows, const int columns, float *h, size_t h_row, const float *x,
                                      size_t x_row, const float *a, size_t a_row, size_t C, int add) {
    floats sums[DOT_ROWS][4];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) sums[i][j] = v_splat(0);
    for (size_t c = 0; c < C; c += LORA_LANES) {
        size_t width = C - c < LORA_LANES ? C - c : LORA_LANES;
        floats other[4];
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) {
            other[j] = v_load_up_to(a + (size_t)j * a_row + c, width);
            // One row of x uses a once, so that all of it comes from memory.
            if (rows == 1) __builtin_prefetch(a + (size_t)(j + columns) * a_row + c);
        }
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
            floats own = v_load_up_to(x + (size_t)i * x_row + c, width);
#pragma clang loop unroll(full)
            for (int j = 0; j < columns; j++) sums[i][j] += own * other[j];
        }
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) {
            float sum = v_sum(sums[i][j]), *to = h + (size_t)i * h_row + j;
            *to = add ? *to + sum : sum;
        }
}

LORA_INLINE void LORA_NAME(dot_rows)(const int rows, float *h, size_t h_row, const float *x, size_t x_row,
                                     const float *a, size_t a_row, size_t N, size_t C, int add) {
    size_t n = 0;
    for (; n + 4 <= N; n += 4) LORA_NAME(dot_block)(rows, 4, h + n, h_row, x, x_row, a + n * a_row, a_row, C, add);
    for (; n < N; n++) LORA_NAME(dot_block)(rows, 1, h + n, h_row, x, x_row, a + n * a_row, a_row, C, add);
}

/// h (T,N) overwritten or added to: x (T,C) times the transpose of a (N,C).
static void LORA_NAME(dot_product)(float *h, size_t h_row, const float *x, size_t x_row, const float *a, size_t a_row,
                                   size_t T, size_t N, size_t C, int add) {
    size_t t = 0;
    for (; t + DOT_ROWS <= T; t += DOT_ROWS)
        LORA_NAME(dot_rows)(DOT_ROWS, h + t * h_row, h_row, x + t * x_row, x_row, a, a_row, N, C, add);
    for (; t < T; t++) LORA_NAME(dot_rows)(1, h + t * h_row, h_row, x + t * x_row, x_row, a, a_row, N, C, add);
}

static void LORA_NAME(lowrank_down)(float *h, const float *x, size_t x_stride, const float *A, size_t T, size_t C,
                                    size_t r) {
    LORA_NAME(dot_product)(h, r, x, x_stride, A, C, T, r, C, 0);
}

/// to (ranks,width), rows `to_row` apart, overwritten: s times the transpose of B (width,ranks), rows r apart.
LORA_INLINE void LORA_NAME(transpose_rows)(float *to, size_t to_row, const float *B, size_t r, size_t width,
                                           size_t ranks, float s) {
    for (size_t n = 0; n < width; n += LORA_LANES) {
        const float *rows[LORA_LANES];
        size_t count = width - n < LORA_LANES ? width - n : LORA_LANES;
        for (size_t i = 0; i < count; i++) rows[i] = B + (n + i) * r;
        tile_transpose(to + n, to_row, rows, count, ranks, s);
    }
}

static void LORA_NAME(lowrank_up)(float *y, size_t y_stride, const float *h, const float *B, float s, size_t T,
                                  size_t N, size_t r) {
    float packed[PACKED];  // (ranks, strip)
    for (size_t j = 0; j < r; j += RANKS) {
        size_t ranks = r - j < RANKS ? r - j : RANKS, strip = ranks <= 64 ? 256 : PACKED / RANKS;
        for (size_t n = 0; n < N; n += strip) {
            size_t width = N - n < strip ? N - n : strip;
            LORA_NAME(transpose_rows)(packed, strip, B + n * r + j, r, width, ranks, s);
            tile_product(y + n, y_stride, (tile_matrix){h + j, r, 1}, packed, strip, T, width, ranks);
        }
    }
}

static void LORA_NAME(lowrank_up_backward_input)(float *dh, const float *dy, size_t dy_stride, const float *B, float s,
                                                 size_t T, size_t N, size_t r) {
    memset(dh, 0, T * r * sizeof(float));
    // y += s * h B^T: dh = s * dy B
    if (r >= LORA_LANES) {
        for (size_t n = 0; n < N; n += STEP) {
            size_t count = N - n < STEP ? N - n : STEP;
            tile_product(dh, r, (tile_matrix){dy + n, dy_stride, 1}, B + n * r, r, T, r, count);
        }
    } else {
        float packed[LORA_LANES * STEP];  // (r, STEP): lanes along N, as r does not fill a vector
        for (size_t n = 0; n < N; n += STEP) {
            size_t count = N - n < STEP ? N - n : STEP;
            LORA_NAME(transpose_rows)(packed, STEP, B + n * r, r, count, r, 1);
            LORA_NAME(dot_product)(dh, r, dy + n, dy_stride, packed, STEP, T, r, count, 1);
        }
    }
    for (size_t i = 0; i < T * r; i++) dh[i] *= s;
}

/// dB (width,ranks) ADDS s times the transpose of strip (ranks,STRIP).
LORA_INLINE void LORA_NAME(add_transposed)(float *dB, size_t r, const float *strip, size_t width, size_t ranks,
                                           float s) {
    for (size_t j = 0; j < ranks; j += LORA_LANES) {
        size_t count = ranks - j < LORA_LANES ? ranks - j : LORA_LANES;
        for (size_t n = 0; n < width; n += LORA_LANES) {
            floats m[LORA_LANES];
            for (size_t i = 0; i < LORA_LANES; i++) m[i] = i < count ? v_load(strip + (j + i) * STRIP + n) : v_splat(0);
            v_transpose(m);
            for (size_t i = 0; i < LORA_LANES && n + i < width; i++) {
                float *to = dB + (n + i) * r + j;
                v_store_up_to(to, v_load_up_to(to, count) + m[i] * s, count);
            }
        }
    }
}

static void LORA_NAME(lowrank_up_backward_weight)(float *dB, const float *dy, size_t dy_stride, const float *h, float s,
                                                  size_t T, size_t N, size_t r) {
    float strip[RANKS * STRIP];  // (ranks, STRIP) of the transpose of dB
    for (size_t j = 0; j < r; j += RANKS)
        for (size_t n = 0; n < N; n += STRIP) {
            size_t ranks = r - j < RANKS ? r - j : RANKS, width = N - n < STRIP ? N - n : STRIP;
            memset(strip, 0, ranks * STRIP * sizeof(float));
            for (size_t t = 0; t < T; t += ROWS) {
                size_t rows = T - t < ROWS ? T - t : ROWS;
                // y += s * h B^T: dB += s * dy^T h
                tile_product(strip, STRIP, (tile_matrix){h + t * r + j, 1, r}, dy + t * dy_stride + n, dy_stride, ranks,
                             width, rows);
            }
            LORA_NAME(add_transposed)(dB + n * r + j, r, strip, width, ranks, s);
        }
}

static void LORA_NAME(lowrank_down_backward_input)(float *dx, size_t dx_stride, const float *dh, const float *A,
                                                   size_t T, size_t C, size_t r) {
    // h = x A^T: dx = dh A
    for (size_t c = 0; c < C; c += 256) {
        size_t width = C - c < 256 ? C - c : 256;
        tile_product(dx + c, dx_stride, (tile_matrix){dh, r, 1}, A + c, C, T, width, r);
    }
}

static void LORA_NAME(lowrank_down_backward_weight)(float *dA, const float *dh, const float *x, size_t x_stride,
                                                    size_t T, size_t C, size_t r) {
    // h = x A^T: dA += dh^T x
    for (size_t t = 0; t < T; t += ROWS) {
        size_t rows = T - t < ROWS ? T - t : ROWS;
        tile_product(dA, C, (tile_matrix){dh + t * r, 1, r}, x + t * x_stride, x_stride, r, C, rows);
    }
}

#undef DOT_ROWS

#else

#include <string.h>

#include "lora_kernels.h"

enum {
    RANKS = 256,             // ranks that are packed at a time
    PACKED = RANKS * 64,     // floats of a packed strip of B
    STRIP = 64,              // columns of dB^T at a time
    STEP = 512,              // columns of dy at a time
    ROWS = 64,               // rows of x or dy at a time, which stay in the cache for all ranks
};

#define LORA_FILE "lowrank.c"
#include "variants.h"

LORA_DISPATCH(lowrank_down);
LORA_DISPATCH(lowrank_up);
LORA_DISPATCH(lowrank_up_backward_input);
LORA_DISPATCH(lowrank_up_backward_weight);
LORA_DISPATCH(lowrank_down_backward_input);
LORA_DISPATCH(lowrank_down_backward_weight);

void lora_lowrank_down(float *h, const float *x, size_t x_stride, const float *A, size_t T, size_t C, size_t r) {
    LORA_CALL(lowrank_down)(h, x, x_stride, A, T, C, r);
}

void lora_lowrank_up(float *y, size_t y_stride, const float *h, const float *B, float s, size_t T, size_t N, size_t r) {
    LORA_CALL(lowrank_up)(y, y_stride, h, B, s, T, N, r);
}

void lora_lowrank_up_backward_input(float *dh, const float *dy, size_t dy_stride, const float *B, float s, size_t T,
                                    size_t N, size_t r) {
    LORA_CALL(lowrank_up_backward_input)(dh, dy, dy_stride, B, s, T, N, r);
}

void lora_lowrank_up_backward_weight(float *dB, const float *dy, size_t dy_stride, const float *h, float s, size_t T,
                                     size_t N, size_t r) {
    LORA_CALL(lowrank_up_backward_weight)(dB, dy, dy_stride, h, s, T, N, r);
}

void lora_lowrank_down_backward_input(float *dx, size_t dx_stride, const float *dh, const float *A, size_t T, size_t C,
                                      size_t r) {
    LORA_CALL(lowrank_down_backward_input)(dx, dx_stride, dh, A, T, C, r);
}

void lora_lowrank_down_backward_weight(float *dA, const float *dh, const float *x, size_t x_stride, size_t T, size_t C,
                                       size_t r) {
    LORA_CALL(lowrank_down_backward_weight)(dA, dh, x, x_stride, T, C, r);
}

#endif
