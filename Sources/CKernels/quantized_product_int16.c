// y = x W^T for rows of x as integers of 16 bits with a scale for every 32, and a W of blocks of 32 integers with a scale.
// The products of a block are summed exactly, as integers; the sums of blocks meet in floats, in one chain over K for each
// element of y, which does not depend on the number of rows.
//
// AVX512_VNNI multiplies bytes without a sign by bytes with one. So x is kept as two of the latter, 256 high + low, and a
// weight is taken with ZERO(type) added, whose products with x are subtracted from the sum.
#ifdef LORA_LANES

#include "quantized_blocks.h"

/// x (32) as the row `row` of a block of `rows`: high (8,rows,4), low (8,rows,4), scales (rows), sums of integers (rows).
LORA_INLINE void LORA_NAME(round_block)(uint8_t *block, size_t rows, size_t row, const float *x) {
    ints magnitudes = 0, sums = 0;
#pragma clang loop unroll(full)
    for (int p = 0; p < PARTS; p++) {
        ints bits = (ints)v_load(x + p * LORA_LANES) & 0x7fffffff;
        magnitudes = bits > magnitudes ? bits : magnitudes;
    }
    // What is not finite is the largest, and makes the scale and the result no finite numbers.
    const float largest = float_of((uint32_t)__builtin_reduce_max(magnitudes)), scale = largest / LARGEST_INTEGER;
    const float inverse = largest > 1e-30f ? LARGEST_INTEGER / largest : 0;
    int8_t bytes[64];  // high, low
#pragma clang loop unroll(full)
    for (int p = 0; p < PARTS; p++) {
        // Adding 1.5 * 2^23 puts the last place at 1: the addition rounds. What is not finite becomes any 16 bits.
        ints integers = (ints)(v_load(x + p * LORA_LANES) * inverse + 0x1.8p23f) << 16 >> 16;
        ints low = integers << 24 >> 24;
        signed_bytes_of_lanes lows = __builtin_convertvector(low, signed_bytes_of_lanes);
        signed_bytes_of_lanes highs = __builtin_convertvector((integers - low) >> 8, signed_bytes_of_lanes);
        __builtin_memcpy(bytes + 32 + p * LORA_LANES, &lows, sizeof lows);
        __builtin_memcpy(bytes + p * LORA_LANES, &highs, sizeof highs);
        sums += integers;
    }
    const int32_t sum = __builtin_reduce_add(sums);
    for (size_t k = 0; k < 16; k++) __builtin_memcpy(block + (k * rows + row) * 4, bytes + 4 * k, 4);
    __builtin_memcpy(block + 64 * rows + 4 * row, &scale, sizeof scale);
    __builtin_memcpy(block + 68 * rows + 4 * row, &sum, sizeof sum);
}

static void LORA_NAME(round_rows_int16)(void *out, const float *x, size_t M, size_t K, size_t first, size_t count) {
    static const float zeros[32] = {0};
    const size_t rows = rows_of_group(M);
    for (size_t m = 0; m < M; m += rows)
        for (size_t b = first; b < first + count; b++) {
            uint8_t *block = (uint8_t *)out + (m * (K / 32) + b * rows) * ROW_BYTES;
            for (size_t i = 0; i < rows; i++)
                LORA_NAME(round_block)(block, rows, i, m + i < M ? x + (m + i) * K + b * 32 : zeros);
        }
}

#ifdef LORA_HAS_BF16  // this variant's CPU has AVX512_VNNI too

/// 32 weights, each with ZERO(type) added.
LORA_INLINE __m256i LORA_NAME(weights)(const uint8_t *block, const lora_type type) {
    if (type == LORA_Q8_0)
        return _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(block + 2)), _mm256_set1_epi8(-128));
    __m128i nibbles = _mm_loadu_si128((const __m128i *)(block + (type == LORA_Q4_1 ? 4 : 2)));
    const __m256i shifts = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4);
    __m256i shifted = _mm256_srlv_epi32(_mm256_broadcastsi128_si256(nibbles), shifts);
    return _mm256_and_si256(shifted, _mm256_set1_epi8(15));
}

/// The first and the last 16 weights of two rows, those of `a` in the lower half.
LORA_INLINE void LORA_NAME(weights_of_two)(__m256i weights[2], const uint8_t *a, const uint8_t *b,
                                           const lora_type type) {
    const size_t at = type == LORA_Q4_1 ? 4 : 2;
    __m256i first = _mm256_loadu2_m128i((const __m128i *)(b + at), (const __m128i *)(a + at));
    if (type == LORA_Q8_0) {
        __m256i last = _mm256_loadu2_m128i((const __m128i *)(b + at + 16), (const __m128i *)(a + at + 16));
        weights[0] = _mm256_xor_si256(first, _mm256_set1_epi8(-128));
        weights[1] = _mm256_xor_si256(last, _mm256_set1_epi8(-128));
    } else {
        weights[0] = _mm256_and_si256(first, _mm256_set1_epi8(15));
        weights[1] = _mm256_and_si256(_mm256_srli_epi16(first, 4), _mm256_set1_epi8(15));
    }
}

/// The sums of sixteen halves of vectors: the lower ones of the first four, the upper ones, the same of the other four.
LORA_INLINE ints LORA_NAME(add_up)(const __m256i sums[8]) {
    __m256i twos[4], fours[2];
#pragma clang loop unroll(full)
    for (int p = 0; p < 4; p++)
        twos[p] = _mm256_add_epi32(_mm256_unpacklo_epi32(sums[2 * p], sums[2 * p + 1]),
                                   _mm256_unpackhi_epi32(sums[2 * p], sums[2 * p + 1]));
#pragma clang loop unroll(full)
    for (int p = 0; p < 2; p++)
        fours[p] = _mm256_add_epi32(_mm256_unpacklo_epi64(twos[2 * p], twos[2 * p + 1]),
                                    _mm256_unpackhi_epi64(twos[2 * p], twos[2 * p + 1]));
    return (ints)_mm512_inserti64x4(_mm512_castsi256_si512(fours[0]), fours[1], 1);
}

/// y (used,columns) overwritten or added to: `rows` = 1, 2 or 4 rows of x, x_bytes apart, of which `used` exist, times
/// `columns` <= 16 / rows rows of W. A lane for each of the sums, those of a row of W side by side. Fetches what is
/// `ahead`.
LORA_INLINE void LORA_NAME(strip)(const lora_type type, const size_t bytes, const size_t rows, float *y, size_t y_stride,
                                  size_t used, const uint8_t *x, size_t x_bytes, const uint8_t *W, size_t W_bytes,
                                  const uint8_t *ahead, const size_t columns, size_t K, int add) {
    floats total = 0;
    for (size_t k = 0; k < K; k += 32, x += ROW_BYTES, W += bytes) {
#pragma clang loop unroll(full)
        for (size_t line = 0; line < 16 / rows * bytes; line += 64) __builtin_prefetch(ahead + line, 0, 2);
        ahead += 16 / rows * bytes;
        __m256i sums[8];
        int32_t halves[16], x_sums[4];
        float x_scales[4];
#pragma clang loop unroll(full)
        for (size_t i = 0; i < 4; i++) {
            const uint8_t *row = x + (i % rows < used ? i % rows : used - 1) * x_bytes;
            __builtin_memcpy(x_scales + i, row + 64, sizeof x_scales[i]);
            __builtin_memcpy(x_sums + i, row + 68, sizeof x_sums[i]);
        }
#pragma clang loop unroll(full)
        for (size_t l = 0; l < 16; l++)
            __builtin_memcpy(halves + l, W + (l / rows < columns ? l / rows : columns - 1) * W_bytes, sizeof halves[l]);
        // Two lanes four apart share a vector: their rows of W differ, that of x does not.
        __m256i w[2];
#pragma clang loop unroll(full)
        for (size_t p = 0; p < 8; p++) {
            const size_t lane = p < 4 ? p : p + 4, i = lane % rows, a = lane / rows, b = (lane + 4) / rows;
            if (i == 0) {
                const uint8_t *lower = W + (a < columns ? a : columns - 1) * W_bytes;
                const uint8_t *upper = W + (b < columns ? b : columns - 1) * W_bytes;
                LORA_NAME(weights_of_two)(w, lower, upper, type);
            }
            const __m128i *row = (const __m128i *)(x + (i < used ? i : used - 1) * x_bytes);
            __m256i parts[4];  // high, low
#pragma clang loop unroll(full)
            for (int q = 0; q < 4; q++) parts[q] = _mm256_broadcastsi128_si256(_mm_loadu_si128(row + q));
            __m256i sum = _mm256_dpbusd_epi32(_mm256_setzero_si256(), w[0], parts[0]);
            sum = _mm256_slli_epi32(_mm256_dpbusd_epi32(sum, w[1], parts[1]), 8);
            sums[p] = _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(sum, w[0], parts[2]), w[1], parts[3]);
        }
        const ints pairs = {halves[0], halves[1], halves[2],  halves[3],  halves[4],  halves[5],  halves[6],  halves[7],
                            halves[8], halves[9], halves[10], halves[11], halves[12], halves[13], halves[14], halves[15]};
        const ints x_sum = (ints)_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)x_sums));
        const floats x_scale = _mm512_broadcast_f32x4(_mm_loadu_ps(x_scales));
        const floats scale = _mm512_cvtph_ps(_mm512_cvtepi32_epi16((__m512i)pairs));
        const floats sum = __builtin_convertvector(LORA_NAME(add_up)(sums) - ZERO(type) * x_sum, floats);
        total = __builtin_elementwise_fma(sum, scale * x_scale, total);
        if (type == LORA_Q4_1) {
            const floats offset = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32((__m512i)pairs, 16)));
            total = __builtin_elementwise_fma(offset, x_scale * __builtin_convertvector(x_sum, floats), total);
        }
    }
    float out[16];
    v_store(out, total);
    for (size_t j = 0; j < columns; j++)
        for (size_t i = 0; i < used; i++) {
            float *to = y + i * y_stride + j;
            *to = add ? *to + out[j * rows + i] : out[j * rows + i];
        }
}

/// y (M,N), M <= rows, `16 / rows` rows of W at a time.
LORA_INLINE void LORA_NAME(strips)(const lora_type type, const size_t bytes, const size_t rows, float *y, size_t y_stride,
                                   const uint8_t *x, const uint8_t *W, const uint8_t *next, size_t M, size_t N,
                                   size_t K, int add) {
    const size_t W_bytes = K / 32 * bytes, x_bytes = K / 32 * ROW_BYTES, width = 16 / rows;
    const uint8_t *end = W + N * W_bytes;
    size_t n = 0;
    for (; n + width <= N; n += width, W += width * W_bytes)
        LORA_NAME(strip)(type, bytes, rows, y + n, y_stride, M, x, x_bytes, W, W_bytes, ahead_of(W, end, next), width,
                         K, add);
    if (n < N)
        LORA_NAME(strip)(type, bytes, rows, y + n, y_stride, M, x, x_bytes, W, W_bytes, ahead_of(W, end, next), N - n,
                         K, add);
}

#define GROUP 8
#define GROUP_NAME(name) LORA_NAME(name##_8)
#define add_products(sum, w, x) (group_ints) _mm256_dpbusd_epi32((__m256i)(sum), _mm256_set1_epi32(w), (__m256i)(x))
#include "int16_group.h"
#define GROUP 16
#define GROUP_NAME(name) LORA_NAME(name##_16)
#define add_products(sum, w, x) (group_ints) _mm512_dpbusd_epi32((__m512i)(sum), _mm512_set1_epi32(w), (__m512i)(x))
#include "int16_group.h"

/// y (M,N) for one type.
LORA_INLINE void LORA_NAME(matrix)(const lora_type type, const size_t bytes, float *y, size_t y_stride, const uint8_t *x,
                                   const uint8_t *W, const uint8_t *next, size_t M, size_t N, size_t K, int add) {
    if (M == 1)
        LORA_NAME(strips)(type, bytes, 1, y, y_stride, x, W, next, 1, N, K, add);
    else if (M == 2)
        LORA_NAME(strips)(type, bytes, 2, y, y_stride, x, W, next, 2, N, K, add);
    else if (M <= 4)
        LORA_NAME(strips)(type, bytes, 4, y, y_stride, x, W, next, M, N, K, add);
    else if (M <= 8)
        LORA_NAME(groups_8)(type, bytes, y, y_stride, x, W, next, M, N, K, add);
    else
        LORA_NAME(groups_16)(type, bytes, y, y_stride, x, W, next, M, N, K, add);
}

#else

LORA_INLINE int32_t LORA_NAME(weight)(const uint8_t *block, size_t k, const lora_type type) {
    if (type == LORA_Q8_0) return (int8_t)block[2 + k];
    return (block[(type == LORA_Q4_1 ? 4 : 2) + k % 16] >> (k / 16 * 4) & 15) - (type == LORA_Q4_0 ? 8 : 0);
}

/// y (M,N) for one type, an element at a time.
LORA_INLINE void LORA_NAME(matrix)(const lora_type type, const size_t bytes, float *y, size_t y_stride, const uint8_t *x,
                                   const uint8_t *W, const uint8_t *next, size_t M, size_t N, size_t K, int add) {
    const size_t rows = rows_of_group(M);
    (void)next;
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N; n++) {
            const uint8_t *block = x + m / rows * rows * K / 32 * ROW_BYTES, *w = W + n * (K / 32 * bytes);
            const size_t row = m % rows;
            float total = 0;
            for (size_t k = 0; k < K; k += 32, block += rows * ROW_BYTES, w += bytes) {
                int32_t sum = 0, x_sum;
                float x_scale;
                for (size_t i = 0; i < 32; i++) {
                    size_t at = (i / 4 * rows + row) * 4 + i % 4;
                    int32_t integer = 256 * (int8_t)block[at] + (int8_t)block[32 * rows + at];
                    sum += integer * LORA_NAME(weight)(w, i, type);
                }
                __builtin_memcpy(&x_scale, block + 64 * rows + 4 * row, sizeof x_scale);
                __builtin_memcpy(&x_sum, block + 68 * rows + 4 * row, sizeof x_sum);
                lora_floats4 scales = LORA_NAME(two_halves)(w);
                total += (float)sum * (scales[0] * x_scale);
                if (type == LORA_Q4_1) total += scales[1] * (x_scale * (float)x_sum);
            }
            float *to = y + m * y_stride + n;
            *to = add ? *to + total : total;
        }
}

#endif

static int LORA_NAME(quantized_product_int16)(float *y, size_t y_stride, const void *x, const void *W, lora_type type,
                                              size_t M, size_t N, size_t K, int add, const void *next) {
    switch (type) {
    case LORA_Q4_0: LORA_NAME(matrix)(LORA_Q4_0, 18, y, y_stride, x, W, next, M, N, K, add); return 0;
    case LORA_Q4_1: LORA_NAME(matrix)(LORA_Q4_1, 20, y, y_stride, x, W, next, M, N, K, add); return 0;
    case LORA_Q8_0: LORA_NAME(matrix)(LORA_Q8_0, 34, y, y_stride, x, W, next, M, N, K, add); return 0;
    default: return -1;
    }
}

#else

#include "fetch_ahead.h"
#include "half.h"
#include "lora_kernels.h"

enum {
    ROW_BYTES = 72,     // a row's share of a block: 32 integers, their scale and sum
    GROUP_COLUMNS = 4,  // rows of W at a time for a group of rows of x
};

/// Of x: 256 high + low with both in a byte.
static const float LARGEST_INTEGER = 127 * 256 + 127;

/// What makes weights of a type numbers without a sign, of those of Q4_1 nothing.
#define ZERO(type) ((type) == LORA_Q8_0 ? 128 : (type) == LORA_Q4_0 ? 8 : 0)

/// Rows of a group of M rows.
static size_t rows_of_group(size_t M) { return M <= 4 ? 1 : M <= 8 ? 8 : 16; }

#define LORA_MULTIPLIES_BF16
#define LORA_FILE "quantized_product_int16.c"
#include "variants.h"

LORA_DISPATCH(round_rows_int16);
LORA_DISPATCH(quantized_product_int16);

size_t lora_int16_rows_size(size_t M, size_t K) {
    const size_t rows = rows_of_group(M);
    return (M + rows - 1) / rows * rows * (K / 32) * ROW_BYTES;
}

void lora_round_rows_int16(void *out, const float *x, size_t M, size_t K, size_t first, size_t count) {
    LORA_CALL(round_rows_int16)(out, x, M, K, first, count);
}

int lora_multiplies_int16(lora_type type) { return type == LORA_Q4_0 || type == LORA_Q4_1 || type == LORA_Q8_0; }

int lora_quantized_product_int16(float *y, size_t y_stride, const void *x, const void *W, lora_type type, size_t M,
                                 size_t N, size_t K, int add, const void *next) {
    if (K % 32 != 0) return -1;
    return LORA_CALL(quantized_product_int16)(y, y_stride, x, W, type, M, N, K, add, next);
}

#endif
