// y = x W for many rows of x and a W packed in blocks of 16 outputs (pack.c): tiles of y in registers take a block from
// its first term to its last. Packing beforehand pays because a weight is packed once for all chunks of rows.
#ifdef LORA_LANES

#if LORA_LANES == 16
#define TILE_ROWS 12
#elif LORA_LANES == 8
#define TILE_ROWS 6
#elif defined(__x86_64__)
#define TILE_ROWS 3
#else
#define TILE_ROWS 6
#endif
#define TILE_VECTORS (WIDTH / LORA_LANES)

/// One term of all sums: x (rows), x_row apart, times w (WIDTH).
LORA_INLINE void LORA_NAME(add_term)(const int rows, floats sums[TILE_ROWS][TILE_VECTORS], const float *x, size_t x_row,
                                     const float *w) {
    floats weights[TILE_VECTORS];
#pragma clang loop unroll(full)
    for (int j = 0; j < TILE_VECTORS; j++) weights[j] = v_load(w + j * LORA_LANES);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
        floats factor = v_splat(x[(size_t)i * x_row]);
#pragma clang loop unroll(full)
        for (int j = 0; j < TILE_VECTORS; j++) sums[i][j] += factor * weights[j];
    }
}

/// y (rows,WIDTH) of one block.
LORA_INLINE void LORA_NAME(packed_tile)(const int rows, float *y, size_t y_row, const float *x, size_t x_row,
                                        const float *w, size_t K, int add) {
    floats sums[TILE_ROWS][TILE_VECTORS];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < TILE_VECTORS; j++)
            sums[i][j] = add ? v_load(y + (size_t)i * y_row + j * LORA_LANES) : v_splat(0);
    size_t k = 0;
    // Where two threads share a core, the instructions around the arithmetic count: four terms share them.
    for (; k + 4 <= K; k += 4, w += 4 * WIDTH)
#pragma clang loop unroll(full)
        for (size_t u = 0; u < 4; u++) LORA_NAME(add_term)(rows, sums, x + k + u, x_row, w + u * WIDTH);
    for (; k < K; k++, w += WIDTH) LORA_NAME(add_term)(rows, sums, x + k, x_row, w);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < TILE_VECTORS; j++) v_store(y + (size_t)i * y_row + j * LORA_LANES, sums[i][j]);
}

/// y (rows,width) of one block, of which the last may have less than WIDTH outputs.
LORA_INLINE void LORA_NAME(packed_rows)(const int rows, size_t width, float *y, size_t y_row, const float *x,
                                        size_t x_row, const float *w, size_t K, int add) {
    if (width == WIDTH) return LORA_NAME(packed_tile)(rows, y, y_row, x, x_row, w, K, add);
    float edge[TILE_ROWS * WIDTH] = {0};
    for (int i = 0; add && i < rows; i++)
        __builtin_memcpy(edge + i * WIDTH, y + (size_t)i * y_row, width * sizeof(float));
    LORA_NAME(packed_tile)(rows, edge, WIDTH, x, x_row, w, K, add);
    for (int i = 0; i < rows; i++)
        __builtin_memcpy(y + (size_t)i * y_row, edge + i * WIDTH, width * sizeof(float));
}

static void LORA_NAME(packed_product)(float *y, size_t y_row, const float *x, size_t x_row, const float *w,
                                      size_t block, size_t M, size_t N, size_t K, int add) {
    for (size_t n = 0; n < N; n += WIDTH, w += block) {
        size_t width = N - n < WIDTH ? N - n : WIDTH, m = 0;
        for (; m + TILE_ROWS <= M; m += TILE_ROWS)
            LORA_NAME(packed_rows)(TILE_ROWS, width, y + m * y_row + n, y_row, x + m * x_row, x_row, w, K, add);
        for (; m + 2 <= M; m += 2)
            LORA_NAME(packed_rows)(2, width, y + m * y_row + n, y_row, x + m * x_row, x_row, w, K, add);
        if (m < M) LORA_NAME(packed_rows)(1, width, y + m * y_row + n, y_row, x + m * x_row, x_row, w, K, add);
    }
}

#undef TILE_ROWS
#undef TILE_VECTORS

#else

#include "lora_kernels.h"

enum { WIDTH = 16 };  // outputs of a block

#define LORA_FILE "packed_product.c"
#include "variants.h"

LORA_DISPATCH(packed_product);

void lora_packed_product(float *y, size_t y_row, const float *x, size_t x_row, const float *w, size_t block, size_t M,
                         size_t N, size_t K, int add) {
    LORA_CALL(packed_product)(y, y_row, x, x_row, w, block, M, N, K, add);
}

#endif
