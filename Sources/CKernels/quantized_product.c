// y = x W^T for few rows of x and a quantised W. For one or two rows of x, or as many as there are registers for their sums,
// a weight block is decoded in registers; else four rows of W are decoded into the cache, for all rows of x.
//
// Every element of y is one set of lanes over K, in an order that does not depend on the number of rows.
#ifdef LORA_LANES

#include "quantized_blocks.h"

#if LORA_ROWS == 8
#define MOST_ROWS 4
#define KEPT_ROWS 6
#else
#define MOST_ROWS 2
#define KEPT_ROWS 3
#endif

/// y (rows,columns) overwritten or added to, for `columns` rows of W; K a multiple of 32, or of 256 for K-quants.
LORA_INLINE void LORA_NAME(block)(const lora_type type, const size_t bytes, const int rows, const int columns, float *y,
                                  size_t y_stride, const float *x, size_t x_stride, const uint8_t *W, size_t W_bytes,
                                  size_t K, int add) {
    floats sums[MOST_ROWS][8];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) sums[i][j] = v_splat(0);
    const int large = is_large(type);
    const uint8_t *block = W;
    float scales[8][16], offsets[8][16];
    for (size_t k = 0; k < K; k += 32) {
        const size_t part = k / 32 % 8;
        if (large && part == 0)
#pragma clang loop unroll(full)
            for (int j = 0; j < columns; j++)
                LORA_NAME(unpack)(scales[j], offsets[j], block + (size_t)j * W_bytes, type);
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) {
            floats w[PARTS];
            // The rows that the next ones will take: the CPU does not see that they follow.
            __builtin_prefetch(block + (size_t)(j + columns * 2) * W_bytes);
            if (large)
                LORA_NAME(decode_part)(w, block + (size_t)j * W_bytes, scales[j], offsets[j], part, type);
            else
                LORA_NAME(decode)(w, block + (size_t)j * W_bytes, type);
#pragma clang loop unroll(full)
            for (int p = 0; p < PARTS; p++)
#pragma clang loop unroll(full)
                for (int i = 0; i < rows; i++)
                    sums[i][j] += w[p] * v_load(x + (size_t)i * x_stride + k + (size_t)p * LORA_LANES);
        }
        if (!large || part == 7) block += bytes;
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) {
            float sum = v_sum(sums[i][j]), *to = y + (size_t)i * y_stride + j;
            *to = add ? *to + sum : sum;
        }
}

/// y (rows,N): one row of x takes the rows of W by eight, several by four, so that at least eight sums are under way.
LORA_INLINE void LORA_NAME(band)(const lora_type type, const size_t bytes, const int rows, float *y, size_t y_stride,
                                 const float *x, size_t x_stride, const uint8_t *W, size_t W_bytes, size_t N, size_t K,
                                 int add) {
    const int columns = rows == 1 ? 8 : 4;
    size_t n = 0;
    for (; n + (size_t)columns <= N; n += (size_t)columns)
        LORA_NAME(block)(type, bytes, rows, columns, y + n, y_stride, x, x_stride, W + n * W_bytes, W_bytes, K, add);
    for (; n < N; n++)
        LORA_NAME(block)(type, bytes, rows, 1, y + n, y_stride, x, x_stride, W + n * W_bytes, W_bytes, K, add);
}

/// kept (columns,K) overwritten with rows of W; K a multiple of 32, or of 256 for K-quants.
LORA_INLINE void LORA_NAME(keep)(const lora_type type, const size_t bytes, const int columns, float *kept,
                                 const uint8_t *W, size_t W_bytes, size_t K) {
    const int large = is_large(type);
    for (int j = 0; j < columns; j++, kept += K) {
        const uint8_t *block = W + (size_t)j * W_bytes;
        float scales[16], offsets[16];
        for (size_t k = 0; k < K; k += 32) {
            const size_t part = k / 32 % 8;
            floats w[PARTS];
            if (large && part == 0) LORA_NAME(unpack)(scales, offsets, block, type);
            if (large)
                LORA_NAME(decode_part)(w, block, scales, offsets, part, type);
            else
                LORA_NAME(decode)(w, block, type);
#pragma clang loop unroll(full)
            for (int p = 0; p < PARTS; p++) v_store(kept + k + (size_t)p * LORA_LANES, w[p]);
            if (!large || part == 7) block += bytes;
        }
    }
}

/// y (rows,KEPT_COLUMNS) overwritten or added to, for decoded rows of W; K a multiple of LORA_LANES.
LORA_INLINE void LORA_NAME(kept_block)(const int rows, float *y, size_t y_stride, const float *x, size_t x_stride,
                                       const float *kept, size_t K, int add) {
    floats sums[KEPT_ROWS][KEPT_COLUMNS];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < KEPT_COLUMNS; j++) sums[i][j] = v_splat(0);
    for (size_t k = 0; k < K; k += LORA_LANES) {
        floats own[KEPT_ROWS];
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) own[i] = v_load(x + (size_t)i * x_stride + k);
#pragma clang loop unroll(full)
        for (int j = 0; j < KEPT_COLUMNS; j++) {
            floats w = v_load(kept + (size_t)j * K + k);
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) sums[i][j] += w * own[i];
        }
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < KEPT_COLUMNS; j++) {
            float sum = v_sum(sums[i][j]), *to = y + (size_t)i * y_stride + j;
            *to = add ? *to + sum : sum;
        }
}

/// y (M,KEPT_COLUMNS), the rows of W decoded once.
LORA_INLINE void LORA_NAME(kept_columns)(const lora_type type, const size_t bytes, float *y, size_t y_stride,
                                         const float *x, size_t x_stride, const uint8_t *W, size_t W_bytes, size_t M,
                                         size_t K, int add) {
    float kept[KEPT_COLUMNS * LONGEST_KEPT];
    LORA_NAME(keep)(type, bytes, KEPT_COLUMNS, kept, W, W_bytes, K);
    size_t m = 0;
    for (; m + KEPT_ROWS <= M; m += KEPT_ROWS)
        LORA_NAME(kept_block)(KEPT_ROWS, y + m * y_stride, y_stride, x + m * x_stride, x_stride, kept, K, add);
    for (; m + 2 <= M; m += 2)
        LORA_NAME(kept_block)(2, y + m * y_stride, y_stride, x + m * x_stride, x_stride, kept, K, add);
    if (m < M) LORA_NAME(kept_block)(1, y + m * y_stride, y_stride, x + m * x_stride, x_stride, kept, K, add);
}

/// y (M,N) for one type; `bytes` of 32 weights.
LORA_INLINE void LORA_NAME(matrix)(const lora_type type, const size_t bytes, float *y, size_t y_stride, const float *x,
                                   size_t x_stride, const uint8_t *W, size_t W_bytes, size_t M, size_t N, size_t K,
                                   int add) {
    if (M > 2 && M != MOST_ROWS && K <= LONGEST_KEPT) {
        size_t n = 0;
        for (; n + KEPT_COLUMNS <= N; n += KEPT_COLUMNS)
            LORA_NAME(kept_columns)(type, bytes, y + n, y_stride, x, x_stride, W + n * W_bytes, W_bytes, M, K, add);
        y += n, W += n * W_bytes, N -= n;
    }
    for (size_t n = 0; n < N; n += STRIP) {
        // STRIP rows of W stay in the cache for all rows of x.
        size_t width = N - n < STRIP ? N - n : STRIP, m = 0;
        const uint8_t *strip = W + n * W_bytes;
        for (; m + MOST_ROWS <= M; m += MOST_ROWS)
            LORA_NAME(band)(type, bytes, MOST_ROWS, y + m * y_stride + n, y_stride, x + m * x_stride, x_stride, strip,
                            W_bytes, width, K, add);
#if MOST_ROWS > 2
        if (m + 2 <= M) {
            LORA_NAME(band)(type, bytes, 2, y + m * y_stride + n, y_stride, x + m * x_stride, x_stride, strip, W_bytes,
                            width, K, add);
            m += 2;
        }
#endif
        if (m < M)
            LORA_NAME(band)(type, bytes, 1, y + m * y_stride + n, y_stride, x + m * x_stride, x_stride, strip, W_bytes,
                            width, K, add);
    }
}

/// The columns of y from 32-blocks decoded in registers, then what is left of K, padded with zeros.
LORA_INLINE void LORA_NAME(decoded)(const lora_type type, const size_t bytes, float *y, size_t y_stride, const float *x,
                                    const uint8_t *W, size_t M, size_t N, size_t K, int add) {
    const size_t element = bytes / 32, whole = K / 32 * 32, left = K - whole;
    const size_t W_bytes = left ? K * element : whole / (is_large(type) ? 256 : 32) * bytes;
    LORA_NAME(matrix)(type, bytes, y, y_stride, x, K, W, W_bytes, M, N, whole, add);
    if (left == 0) return;
    for (size_t m = 0; m < M; m += MOST_ROWS) {
        size_t rows = M - m < MOST_ROWS ? M - m : MOST_ROWS;
        float padded[MOST_ROWS * 32] = {0};
        for (size_t i = 0; i < rows; i++)
            __builtin_memcpy(padded + i * 32, x + (m + i) * K + whole, left * sizeof(float));
        for (size_t n = 0; n < N; n++) {
            uint8_t block[128] = {0};
            __builtin_memcpy(block, W + n * W_bytes + whole * element, left * element);
            LORA_NAME(matrix)(type, bytes, y + m * y_stride + n, y_stride, padded, 32, block, 0, rows, 1, 32, 1);
        }
    }
}

static int LORA_NAME(quantized_product)(float *y, size_t y_stride, const float *x, const void *W, lora_type type,
                                        size_t M, size_t N, size_t K, int add) {
    switch (type) {
    case LORA_F32: LORA_NAME(decoded)(LORA_F32, 128, y, y_stride, x, W, M, N, K, add); return 0;
    case LORA_F16: LORA_NAME(decoded)(LORA_F16, 64, y, y_stride, x, W, M, N, K, add); return 0;
    case LORA_BF16: LORA_NAME(decoded)(LORA_BF16, 64, y, y_stride, x, W, M, N, K, add); return 0;
    case LORA_Q4_0: LORA_NAME(decoded)(LORA_Q4_0, 18, y, y_stride, x, W, M, N, K, add); return 0;
    case LORA_Q4_1: LORA_NAME(decoded)(LORA_Q4_1, 20, y, y_stride, x, W, M, N, K, add); return 0;
    case LORA_Q8_0: LORA_NAME(decoded)(LORA_Q8_0, 34, y, y_stride, x, W, M, N, K, add); return 0;
    case LORA_Q5_0: LORA_NAME(decoded)(LORA_Q5_0, 22, y, y_stride, x, W, M, N, K, add); return 0;
    case LORA_Q5_1: LORA_NAME(decoded)(LORA_Q5_1, 24, y, y_stride, x, W, M, N, K, add); return 0;
    case LORA_Q4_K: LORA_NAME(decoded)(LORA_Q4_K, 144, y, y_stride, x, W, M, N, K, add); return 0;
    case LORA_Q5_K: LORA_NAME(decoded)(LORA_Q5_K, 176, y, y_stride, x, W, M, N, K, add); return 0;
    case LORA_Q6_K: LORA_NAME(decoded)(LORA_Q6_K, 210, y, y_stride, x, W, M, N, K, add); return 0;
    }
    return -1;
}

#undef MOST_ROWS
#undef KEPT_ROWS

#else

#include "half.h"
#include "lora_kernels.h"
#include "quantized_types.h"

enum {
    STRIP = 64,           // rows of W at a time
    KEPT_COLUMNS = 4,     // rows of W that are decoded at a time
    LONGEST_KEPT = 4096,  // weights of such a row
};

#define LORA_FILE "quantized_product.c"
#include "variants.h"

LORA_DISPATCH(quantized_product);

int lora_quantized_product(float *y, size_t y_stride, const float *x, const void *W, lora_type type, size_t M, size_t N,
                           size_t K, int add) {
    size_t block = weights_of_block(type);
    if (block == 0 || K % block != 0) return -1;
    return LORA_CALL(quantized_product)(y, y_stride, x, W, type, M, N, K, add);
}

#endif
