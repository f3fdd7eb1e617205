// y = x W^T for rows of x as integers of 16 bits with a scale for every 32, and a W of integers with a scale for every 32 or
// 16. The products that share scales are summed exactly, as integers; these sums meet in floats, in one chain over K for
// each element of y, which does not depend on the number of rows.
//
// How a CPU multiplies such integers decides how x is kept: int16_bytes.h, int16_pairs.h.
#ifdef LORA_LANES

#include "quantized_blocks.h"

#ifdef LORA_HAS_VNNI
#include "int16_bytes.h"
#else
#include "int16_pairs.h"
#endif

/// x (32) as the row `row` of a block of `rows`: words of integers (16,rows), scales (rows), sums of integers (rows), sums of
/// the last 16 (rows).
LORA_INLINE void LORA_NAME(round_block)(uint8_t *block, size_t rows, size_t row, const float *x) {
    ints magnitudes = 0, sums = 0, last = 0;
#pragma clang loop unroll(full)
    for (int p = 0; p < PARTS; p++) {
        ints bits = (ints)v_load(x + p * LORA_LANES) & 0x7fffffff;
        magnitudes = bits > magnitudes ? bits : magnitudes;
    }
    // What is not finite is the largest, and makes the scale and the result no finite numbers.
    const float largest = float_of((uint32_t)__builtin_reduce_max(magnitudes)), scale = largest / LARGEST_INTEGER;
    const float inverse = largest > 1e-30f ? LARGEST_INTEGER / largest : 0;
    uint8_t bytes[64];
#pragma clang loop unroll(full)
    for (int p = 0; p < PARTS; p++) {
        // Adding 1.5 * 2^23 puts the last place at 1: the addition rounds. What is not finite becomes any 16 bits.
        ints integers = (ints)(v_load(x + p * LORA_LANES) * inverse + 0x1.8p23f) << 16 >> 16;
        LORA_NAME(store_integers)(bytes, (size_t)p * LORA_LANES, integers);
        sums += integers;
        if (p >= PARTS / 2) last += integers;
    }
    const int32_t sum = __builtin_reduce_add(sums), sum_of_last = __builtin_reduce_add(last);
    for (size_t k = 0; k < 16; k++) __builtin_memcpy(block + (k * rows + row) * 4, bytes + 4 * k, 4);
    __builtin_memcpy(block + 64 * rows + 4 * row, &scale, sizeof scale);
    __builtin_memcpy(block + 68 * rows + 4 * row, &sum, sizeof sum);
    __builtin_memcpy(block + 72 * rows + 4 * row, &sum_of_last, sizeof sum_of_last);
}

/// Rows of a group of M rows: few are apart.
static size_t LORA_NAME(rows_of_group)(size_t M) { return M <= FEW_ROWS ? 1 : M <= 8 ? 8 : 16; }

static void LORA_NAME(round_rows_int16)(void *out, const float *x, size_t M, size_t K, size_t first, size_t count) {
    static const float zeros[32] = {0};
    const size_t rows = LORA_NAME(rows_of_group)(M);
    for (size_t m = 0; m < M; m += rows)
        for (size_t b = first; b < first + count; b++) {
            uint8_t *block = (uint8_t *)out + (m * (K / 32) + b * rows) * ROW_BYTES;
            for (size_t i = 0; i < rows; i++)
                LORA_NAME(round_block)(block, rows, i, m + i < M ? x + (m + i) * K + b * 32 : zeros);
        }
}

/// The half in the lower 16 bits of each lane.
LORA_INLINE floats LORA_NAME(floats_of_halves)(ints halves) {
#if LORA_LANES == 16
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16((__m512i)halves));
#elif LORA_LANES == 8
    return _mm256_cvtph_ps((__m128i)__builtin_convertvector(halves, shorts_of_lanes));
#else
    return (floats){from_half((uint16_t)halves[0]), from_half((uint16_t)halves[1]), from_half((uint16_t)halves[2]),
                    from_half((uint16_t)halves[3])};
#endif
}

/// Scales and offsets of the parts of blocks of 256, a lane for each row of W of a strip: of Q6_K sixteen scales, of the
/// others eight of each.
LORA_INLINE void LORA_NAME(unpack_lanes)(floats table[16], const lora_type type, const size_t rows, const uint8_t *W,
                                         size_t W_bytes, const size_t columns) {
    float values[LORA_LANES][16], offsets[16];
#pragma clang loop unroll(full)
    for (size_t j = 0; j < LORA_LANES / rows; j++) {
        float *own = values[j * rows];
        LORA_NAME(unpack)(own, offsets, W + (j < columns ? j : columns - 1) * W_bytes, type);
        if (type != LORA_Q6_K) __builtin_memcpy(own + 8, offsets, 8 * sizeof *own);
        for (size_t i = 1; i < rows; i++) __builtin_memcpy(values[j * rows + i], own, sizeof *values);
    }
#pragma clang loop unroll(full)
    for (size_t first = 0; first < 16; first += LORA_LANES) {
        floats m[LORA_LANES];
#pragma clang loop unroll(full)
        for (size_t l = 0; l < LORA_LANES; l++) m[l] = v_load(values[l] + first);
        v_transpose(m);
#pragma clang loop unroll(full)
        for (size_t l = 0; l < LORA_LANES; l++) table[first + l] = m[l];
    }
}

/// As `unpack_lanes` the scales of part `part`, and what is added to each weight where the type has it. `table` is kept from
/// one part of a block of 256 to the next.
LORA_INLINE void LORA_NAME(scales_of_lanes)(floats scales[2], floats *offset, floats table[16], const lora_type type,
                                            size_t part, const size_t rows, const uint8_t *W, size_t W_bytes,
                                            const size_t columns) {
    if (is_large(type)) {
        if (part == 0) LORA_NAME(unpack_lanes)(table, type, rows, W, W_bytes, columns);
#pragma clang loop unroll(full)
        for (size_t t = 0; t < TERMS(type); t++) scales[t] = table[TERMS(type) * part + t];
        if (HAS_OFFSET(type)) *offset = table[8 + part];
        return;
    }
    int32_t halves[LORA_LANES];
    ints pairs;
#pragma clang loop unroll(full)
    for (size_t l = 0; l < LORA_LANES; l++)
        __builtin_memcpy(halves + l, W + (l / rows < columns ? l / rows : columns - 1) * W_bytes, sizeof *halves);
    __builtin_memcpy(&pairs, halves, sizeof pairs);
    scales[0] = LORA_NAME(floats_of_halves)(pairs);
    if (HAS_OFFSET(type)) *offset = LORA_NAME(floats_of_halves)(pairs >> 16);
}

#ifdef LORA_HAS_VNNI
#include "int16_lanes.h"
#else
#include "int16_strips.h"
#endif

/// y (M,N) for one type.
LORA_INLINE void LORA_NAME(matrix)(const lora_type type, const size_t bytes, float *y, size_t y_stride, const uint8_t *x,
                                   const uint8_t *W, const uint8_t *next, size_t M, size_t N, size_t K, int add) {
    if (M <= FEW_ROWS)
        LORA_NAME(few_rows)(type, bytes, y, y_stride, x, W, next, M, N, K, add);
#if FEW_ROWS < 8
    else if (M <= 8)
        LORA_NAME(groups_8)(type, bytes, y, y_stride, x, W, next, M, N, K, add);
#endif
    else
        LORA_NAME(groups_16)(type, bytes, y, y_stride, x, W, next, M, N, K, add);
}

static int LORA_NAME(quantized_product_int16)(float *y, size_t y_stride, const void *x, const void *W, lora_type type,
                                              size_t M, size_t N, size_t K, int add, const void *next) {
    switch (type) {
    case LORA_Q4_0: LORA_NAME(matrix)(LORA_Q4_0, 18, y, y_stride, x, W, next, M, N, K, add); return 0;
    case LORA_Q4_1: LORA_NAME(matrix)(LORA_Q4_1, 20, y, y_stride, x, W, next, M, N, K, add); return 0;
    case LORA_Q8_0: LORA_NAME(matrix)(LORA_Q8_0, 34, y, y_stride, x, W, next, M, N, K, add); return 0;
    case LORA_Q4_K: LORA_NAME(matrix)(LORA_Q4_K, 144, y, y_stride, x, W, next, M, N, K, add); return 0;
    case LORA_Q5_K: LORA_NAME(matrix)(LORA_Q5_K, 176, y, y_stride, x, W, next, M, N, K, add); return 0;
    case LORA_Q6_K: LORA_NAME(matrix)(LORA_Q6_K, 210, y, y_stride, x, W, next, M, N, K, add); return 0;
    default: return -1;
    }
}

#undef WORDS
#undef HALVES
#undef FEW_ROWS
#undef ZERO
#undef HIGH_BITS
#undef LARGE_NUMBERS
#undef WIDE_PARTS

#else

#include "fetch_ahead.h"
#include "half.h"
#include "lora_kernels.h"
#include "quantized_types.h"

enum {
    ROW_BYTES = 76,  // a row's share of a block: 32 integers, their scale and sums
};

/// Of x: 256 high + low with both in a byte.
static const float LARGEST_INTEGER = 127 * 256 + 127;

/// Scales of 32 weights.
#define TERMS(type) ((type) == LORA_Q6_K ? 2 : 1)
/// Whether a weight is a number without a sign times the scale, plus an offset.
#define HAS_OFFSET(type) ((type) == LORA_Q4_1 || (type) == LORA_Q4_K || (type) == LORA_Q5_K)
/// Bytes of a row of K weights, and of 32 of them, rounded up; `bytes` of a block.
#define ROW_BYTES_OF(type, bytes, K) ((K) / (is_large(type) ? 256 : 32) * (bytes))
#define BYTES_OF_32(type, bytes) (is_large(type) ? ((bytes) + 7) / 8 : (bytes))

#define LORA_MULTIPLIES_INTEGERS
#define LORA_FILE "quantized_product_int16.c"
#include "variants.h"

LORA_DISPATCH(round_rows_int16);
LORA_DISPATCH(quantized_product_int16);

size_t lora_int16_rows_size(size_t M, size_t K) {
    // Of the largest groups that any variant makes of them.
    const size_t rows = M <= 4 ? 1 : M <= 8 ? 8 : 16;
    return (M + rows - 1) / rows * rows * (K / 32) * ROW_BYTES;
}

void lora_round_rows_int16(void *out, const float *x, size_t M, size_t K, size_t first, size_t count) {
    LORA_CALL(round_rows_int16)(out, x, M, K, first, count);
}

int lora_multiplies_int16(lora_type type) {
    return type == LORA_Q4_0 || type == LORA_Q4_1 || type == LORA_Q8_0 || is_large(type);
}

int lora_quantized_product_int16(float *y, size_t y_stride, const void *x, const void *W, lora_type type, size_t M,
                                 size_t N, size_t K, int add, const void *next) {
    if (K % (is_large(type) ? 256 : 32) != 0) return -1;
    return LORA_CALL(quantized_product_int16)(y, y_stride, x, W, type, M, N, K, add, next);
}

#endif
