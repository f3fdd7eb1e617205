// y = x W^T for rows of x in bf16 and a quantised W: blocks are decoded in registers, rounded to bf16 as
// lora_dequantize_bf16 does, and used for all rows of a group.
//
// Every element of y is one set of lanes over K, in an order that does not depend on the number of rows.
#ifdef LORA_LANES

#include "quantized_blocks.h"
#include "round.h"

#ifdef LORA_HAS_BF16
#define DECODED 1  // vectors of 32 decoded weights
#else
#define DECODED PARTS
#endif

/// Vectors of 32 weights in the form that `LORA_NAME(add_products)` takes.
LORA_INLINE void LORA_NAME(round_weights)(floats w[DECODED], const floats decoded[PARTS]) {
#ifdef LORA_HAS_BF16
    w[0] = (floats)_mm512_cvtne2ps_pbh((__m512)decoded[1], (__m512)decoded[0]);
#else
#pragma clang loop unroll(full)
    for (int p = 0; p < PARTS; p++) {
        ints bits = (ints)decoded[p];
        w[p] = (floats)((bits + 0x7fff + (bits >> 16 & 1)) & (int32_t)0xffff0000);
    }
#endif
}

/// 32 weights of a block.
LORA_INLINE void LORA_NAME(decode_bf16)(floats w[DECODED], const uint8_t *block, const lora_type type) {
#ifdef LORA_HAS_BF16
    if (type == LORA_BF16) {
        __builtin_memcpy(w, block, sizeof w[0]);
        return;
    }
#endif
    floats decoded[PARTS];
    LORA_NAME(decode)(decoded, block, type);
    LORA_NAME(round_weights)(w, decoded);
}

/// sum + the products of 32 weights and as many of x.
LORA_INLINE floats LORA_NAME(add_products)(floats sum, const floats w[DECODED], const uint16_t *x) {
#ifdef LORA_HAS_BF16
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)w[0], (__m512bh)_mm512_loadu_si512(x));
#else
#pragma clang loop unroll(full)
    for (int p = 0; p < PARTS; p++) {
        shorts_of_lanes own;
        __builtin_memcpy(&own, x + p * LORA_LANES, sizeof own);
        sum += w[p] * (floats)(__builtin_convertvector(own, ints) << 16);
    }
    return sum;
#endif
}

/// totals (count) overwritten with v_sum of each.
LORA_INLINE void LORA_NAME(add_up)(float *totals, const floats *sums, const int count) {
    int i = 0;
#if LORA_LANES == 16
    // Eight at a time: the halves of two vectors are joined as v_sum joins those of one.
#pragma clang loop unroll(full)
    for (; i + 8 <= count; i += 8) {
        floats eights[4], fours[2];
#pragma clang loop unroll(full)
        for (int p = 0; p < 4; p++) {
            floats a = sums[i + 2 * p], b = sums[i + 2 * p + 1];
            eights[p] =
                __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
        }
#pragma clang loop unroll(full)
        for (int p = 0; p < 2; p++) {
            floats a = eights[2 * p], b = eights[2 * p + 1];
            fours[p] =
                __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
                __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
        }
        floats a = fours[0], b = fours[1];
        floats twos = __builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +
                      __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
        lora_floats8 ones = twos.even + twos.odd;
        __builtin_memcpy(totals + i, &ones, sizeof ones);
    }
#endif
#pragma clang loop unroll(full)
    for (; i < count; i++) totals[i] = v_sum(sums[i]);
}

/// y (rows,columns) overwritten or added to, of which the first `used` rows exist; x (K/32,rows,32), padded with zeros.
/// `kept` (columns,K/32,32), unless null, gets the rounded weights.
LORA_INLINE void LORA_NAME(block)(const lora_type type, const size_t bytes, const int rows, const int columns, float *y,
                                  size_t y_stride, size_t used, const uint16_t *x, const uint8_t *W, size_t W_bytes,
                                  const uint8_t *ahead, size_t K, uint16_t *kept, int add) {
    floats sums[ROWS * 8];  // (rows, columns)
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) sums[i * columns + j] = v_splat(0);
    const int large = is_large(type);
    const int plain = type == LORA_F32 || type == LORA_F16 || type == LORA_BF16;
    const uint8_t *block = W;
    float scales[8][16], offsets[8][16];
    const size_t whole = K / 32 * 32;
    for (size_t k = 0; k < whole; k += 32, x += rows * 32) {
        const size_t part = k / 32 % 8;
        if (large && part == 0)
#pragma clang loop unroll(full)
            for (int j = 0; j < columns; j++)
                LORA_NAME(unpack)(scales[j], offsets[j], block + (size_t)j * W_bytes, type);
#pragma clang loop unroll(full)
        for (size_t line = 0; line < columns * bytes; line += 64) __builtin_prefetch(ahead + line, 0, 2);
        ahead += columns * bytes;
        floats w[8][DECODED];
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) {
            const uint8_t *from = block + (size_t)j * W_bytes;
            if (large) {
                floats decoded[PARTS];
                LORA_NAME(decode_part)(decoded, from, scales[j], offsets[j], part, type);
                LORA_NAME(round_weights)(w[j], decoded);
            } else {
                LORA_NAME(decode_bf16)(w[j], from, type);
            }
#ifdef LORA_HAS_BF16
            if (kept) __builtin_memcpy(kept + (size_t)j * whole + k, w[j], sizeof w[j]);
#else
            (void)kept;
#endif
        }
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
            for (int j = 0; j < columns; j++)
                sums[i * columns + j] = LORA_NAME(add_products)(sums[i * columns + j], w[j], x + i * 32);
        if (!large || part == 7) block += bytes;
    }
    if (plain && whole < K)
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) {
            floats w[DECODED];
            uint8_t padded[128] = {0};
            __builtin_memcpy(padded, block + (size_t)j * W_bytes, (K - whole) * bytes / 32);
            LORA_NAME(decode_bf16)(w, padded, type);
#pragma clang loop unroll(full)
            for (int i = 0; i < rows; i++) sums[i * columns + j] = LORA_NAME(add_products)(sums[i * columns + j], w, x + i * 32);
        }
    float totals[ROWS * 8];
    LORA_NAME(add_up)(totals, sums, rows * columns);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
        if ((size_t)i >= used) break;
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) {
            float sum = totals[i * columns + j], *to = y + (size_t)i * y_stride + j;
            *to = add ? *to + sum : sum;
        }
    }
}

/// y (M,columns): the first group of rows decodes, and where it keeps what it decoded the others read that.
LORA_INLINE void LORA_NAME(columns)(const lora_type type, const size_t bytes, const int rows, const int columns,
                                    float *y, size_t y_stride, const uint16_t *x, const uint8_t *W, size_t W_bytes,
                                    const uint8_t *ahead, size_t M, size_t K, int add) {
    const size_t padded = (K + 31) / 32 * 32;
#ifdef LORA_HAS_BF16
    uint16_t kept[COLUMNS * LONGEST_KEPT];
    if (type != LORA_BF16 && rows == ROWS && M > ROWS && K <= LONGEST_KEPT && K % 32 == 0) {
        LORA_NAME(block)(type, bytes, rows, columns, y, y_stride, rows, x, W, W_bytes, ahead, K, kept, add);
        for (size_t m = ROWS; m < M; m += ROWS)
            LORA_NAME(block)(LORA_BF16, 64, rows, columns, y + m * y_stride, y_stride, M - m, x + m * padded,
                             (const uint8_t *)kept, K * 2, (const uint8_t *)kept, K, NULL, add);
        return;
    }
#endif
    for (size_t m = 0; m < M; m += (size_t)rows)
        LORA_NAME(block)(type, bytes, rows, columns, y + m * y_stride, y_stride, M - m, x + m * padded, W, W_bytes, ahead,
                         K, NULL, add);
}

/// y (M,N) for one type, `columns` rows of W at a time for all groups of `rows` rows.
LORA_INLINE void LORA_NAME(groups)(const lora_type type, const size_t bytes, const int rows, const int columns,
                                   float *y, size_t y_stride, const uint16_t *x, const uint8_t *W, const uint8_t *next,
                                   size_t M, size_t N, size_t K, int add) {
    const size_t W_bytes = is_large(type) ? K / 256 * bytes : K * bytes / 32;
    const uint8_t *end = W + N * W_bytes;
    size_t n = 0;
    for (; n + (size_t)columns <= N; n += (size_t)columns, W += (size_t)columns * W_bytes)
        LORA_NAME(columns)(type, bytes, rows, columns, y + n, y_stride, x, W, W_bytes, ahead_of(W, end, next), M, K,
                           add);
    for (; n < N; n++, W += W_bytes)
        LORA_NAME(columns)(type, bytes, rows, 1, y + n, y_stride, x, W, W_bytes, ahead_of(W, end, next), M, K, add);
}

/// y (M,N) for one type; `bytes` of 32 weights.
LORA_INLINE void LORA_NAME(matrix)(const lora_type type, const size_t bytes, float *y, size_t y_stride,
                                   const uint16_t *x, const uint8_t *W, const uint8_t *next, size_t M, size_t N,
                                   size_t K, int add) {
    switch (rows_of_group(M)) {
    case 1: LORA_NAME(groups)(type, bytes, 1, 8, y, y_stride, x, W, next, M, N, K, add); break;
    case 4: LORA_NAME(groups)(type, bytes, 4, 4, y, y_stride, x, W, next, M, N, K, add); break;
    default: LORA_NAME(groups)(type, bytes, ROWS, COLUMNS, y, y_stride, x, W, next, M, N, K, add); break;
    }
}

static int LORA_NAME(quantized_product_bf16)(float *y, size_t y_stride, const uint16_t *x, const void *W,
                                             lora_type type, size_t M, size_t N, size_t K, int add, const void *next) {
#define CASE(type, bytes) \
    case type: LORA_NAME(matrix)(type, bytes, y, y_stride, x, W, next, M, N, K, add); return 0
    switch (type) {
        CASE(LORA_F32, 128);
        CASE(LORA_F16, 64);
        CASE(LORA_BF16, 64);
        CASE(LORA_Q4_0, 18);
        CASE(LORA_Q4_1, 20);
        CASE(LORA_Q8_0, 34);
        CASE(LORA_Q5_0, 22);
        CASE(LORA_Q5_1, 24);
        CASE(LORA_Q4_K, 144);
        CASE(LORA_Q5_K, 176);
        CASE(LORA_Q6_K, 210);
    }
    return -1;
#undef CASE
}

static void LORA_NAME(group_rows_bf16)(uint16_t *out, const float *x, size_t M, size_t K) {
    const size_t rows = rows_of_group(M), blocks = (K + 31) / 32, left = K % 32;
    for (size_t m = 0; m < M; m += rows, out += rows * blocks * 32)
        for (size_t i = 0; i < rows; i++) {
            uint16_t *to = out + i * 32;
            const float *from = x + (m + i) * K;
            for (size_t b = 0; b < blocks; b++, to += rows * 32, from += 32) {
                if (m + i < M && (b + 1 < blocks || left == 0)) {
                    round_to_bf16(to, from, 32);
                } else {
                    __builtin_memset(to, 0, 32 * sizeof *to);
                    if (m + i < M) round_to_bf16(to, from, left);
                }
            }
        }
}

#undef DECODED

#else

#include "fetch_ahead.h"
#include "half.h"
#include "lora_kernels.h"
#include "quantized_types.h"

enum {
    ROWS = 8,             // rows of x that share a decoded weight
    COLUMNS = 3,          // rows of W at a time for so many: 24 sums hide the latency of the instruction
    LONGEST_KEPT = 8192,  // weights of a row that are kept for the next rows of x
};

/// Rows of a group of M rows.
static size_t rows_of_group(size_t M) { return M == 1 ? 1 : M <= 4 ? 4 : ROWS; }

#define LORA_MULTIPLIES_BF16
#define LORA_FILE "quantized_product_bf16.c"
#include "variants.h"

LORA_DISPATCH(group_rows_bf16);
LORA_DISPATCH(quantized_product_bf16);

size_t lora_grouped_rows_count(size_t M, size_t K) {
    size_t group = rows_of_group(M);
    return (M + group - 1) / group * group * ((K + 31) / 32 * 32);
}

void lora_group_rows_bf16(uint16_t *out, const float *x, size_t M, size_t K) {
    LORA_CALL(group_rows_bf16)(out, x, M, K);
}

int lora_quantized_product_bf16(float *y, size_t y_stride, const uint16_t *x, const void *W, lora_type type, size_t M,
                                size_t N, size_t K, int add, const void *next) {
    size_t block = weights_of_block(type);
    if (block == 0 || K % block != 0) return -1;
    return LORA_CALL(quantized_product_bf16)(y, y_stride, x, W, type, M, N, K, add, next);
}

#endif
