// y = x W^T for few rows of x and a quantised W: a weight block is decoded in registers and used for a block of rows.
//
// Every element of y is one set of lanes over K, in an order that does not depend on the number of rows.
#ifdef LORA_LANES

enum { LORA_NAME(PARTS) = 32 / LORA_LANES };
#define PARTS LORA_NAME(PARTS)
#if LORA_ROWS == 8
#define MOST_ROWS 4
#else
#define MOST_ROWS 2
#endif

typedef uint8_t bytes_of_lanes __attribute__((ext_vector_type(LORA_LANES)));
typedef int8_t signed_bytes_of_lanes __attribute__((ext_vector_type(LORA_LANES)));
typedef uint16_t shorts_of_lanes __attribute__((ext_vector_type(LORA_LANES)));

/// The two halves at p, of which a block's scale is the first; reads four bytes, which every block has.
LORA_INLINE lora_floats4 LORA_NAME(two_halves)(const uint8_t *p) {
    uint32_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
#if LORA_LANES >= 8
    // One load of both, which the empty statement keeps whole: a half inserted into a register instead would wait for
    // that register's last use, and blocks would follow each other one by one.
    __m128i both = _mm_cvtsi32_si128((int32_t)bits);
    __asm__("" : "+x"(both));
    return (lora_floats4)_mm_cvtph_ps(both);
#else
    return (lora_floats4){from_half((uint16_t)bits), from_half((uint16_t)(bits >> 16)), 0, 0};
#endif
}

/// 32 nibbles, low halves of the bytes first: value i becomes i * scale + offset.
LORA_INLINE void LORA_NAME(decode_nibbles)(floats w[PARTS], const uint8_t *q, float scale, float offset) {
#if LORA_LANES == 16
    // A vector holds all sixteen values: they are looked up, and vpermps reads the low four bits alone.
    __m512 table = __builtin_convertvector(v_lane_numbers(), floats) * scale + offset;
    __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)q));
    w[0] = _mm512_permutexvar_ps(bytes, table);
    w[1] = _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), table);
#else
    bytes_of_lanes bytes;
#pragma clang loop unroll(full)
    for (int j = 0; j < PARTS / 2; j++) {
        __builtin_memcpy(&bytes, q + j * LORA_LANES, sizeof bytes);
        ints wide = __builtin_convertvector(bytes, ints);
        w[j] = __builtin_convertvector(wide & 15, floats) * scale + offset;
        w[j + PARTS / 2] = __builtin_convertvector(wide >> 4, floats) * scale + offset;
    }
#endif
}

/// 32 weights as floats, exactly what lora_dequantize gives.
LORA_INLINE void LORA_NAME(decode)(floats w[PARTS], const uint8_t *block, const lora_type type) {
    if (type == LORA_Q4_0) {
        float scale = LORA_NAME(two_halves)(block)[0];
        LORA_NAME(decode_nibbles)(w, block + 2, scale, -8 * scale);
    } else if (type == LORA_Q4_1) {
        lora_floats4 scale_and_offset = LORA_NAME(two_halves)(block);
        LORA_NAME(decode_nibbles)(w, block + 4, scale_and_offset[0], scale_and_offset[1]);
    } else {
        float scale = type == LORA_Q8_0 ? LORA_NAME(two_halves)(block)[0] : 0;
#pragma clang loop unroll(full)
        for (int j = 0; j < PARTS; j++) {
            const int at = j * LORA_LANES;
            if (type == LORA_Q8_0) {
                signed_bytes_of_lanes bytes;
                __builtin_memcpy(&bytes, block + 2 + at, sizeof bytes);
                w[j] = __builtin_convertvector(__builtin_convertvector(bytes, ints), floats) * scale;
            } else if (type == LORA_F32) {
                __builtin_memcpy(&w[j], block + 4 * at, sizeof w[j]);
            } else {
                shorts_of_lanes shorts;
                __builtin_memcpy(&shorts, block + 2 * at, sizeof shorts);
                if (type == LORA_BF16) {
                    w[j] = (floats)(__builtin_convertvector(shorts, ints) << 16);
                } else {
#if LORA_LANES == 16
                    w[j] = _mm512_cvtph_ps((__m256i)shorts);
#elif LORA_LANES == 8
                    w[j] = _mm256_cvtph_ps((__m128i)shorts);
#else
                    for (int i = 0; i < LORA_LANES; i++) w[j][i] = from_half(shorts[i]);
#endif
                }
            }
        }
    }
}

/// y (rows,columns) overwritten or added to, for `columns` rows of W; K a multiple of 32.
LORA_INLINE void LORA_NAME(block)(const lora_type type, const size_t bytes, const int rows, const int columns, float *y,
                                  size_t y_stride, const float *x, size_t x_stride, const uint8_t *W, size_t W_bytes,
                                  size_t K, int add) {
    floats sums[MOST_ROWS][8];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) sums[i][j] = v_splat(0);
    for (size_t k = 0; k < K; k += 32, W += bytes) {
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) {
            floats w[PARTS];
            LORA_NAME(decode)(w, W + (size_t)j * W_bytes, type);
#pragma clang loop unroll(full)
            for (int p = 0; p < PARTS; p++)
#pragma clang loop unroll(full)
                for (int i = 0; i < rows; i++)
                    sums[i][j] += w[p] * v_load(x + (size_t)i * x_stride + k + (size_t)p * LORA_LANES);
        }
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

/// y (M,N) for one type; `bytes` of 32 weights. STRIP rows of W stay in the cache for all rows of x.
LORA_INLINE void LORA_NAME(matrix)(const lora_type type, const size_t bytes, float *y, size_t y_stride, const float *x,
                                   size_t x_stride, const uint8_t *W, size_t W_bytes, size_t M, size_t N, size_t K,
                                   int add) {
    for (size_t n = 0; n < N; n += STRIP) {
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
                                    const uint8_t *W, size_t M, size_t N, size_t K) {
    const size_t element = bytes / 32, whole = K / 32 * 32, left = K - whole;
    const size_t W_bytes = left ? K * element : whole / 32 * bytes;
    LORA_NAME(matrix)(type, bytes, y, y_stride, x, K, W, W_bytes, M, N, whole, 0);
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

/// The columns of y from rows that lora_dequantize writes, CHUNK weights at a time.
static int LORA_NAME(dequantized)(float *y, size_t y_stride, const float *x, const uint8_t *W, lora_type type, size_t M,
                                  size_t N, size_t K, size_t block, size_t bytes) {
    float values[CHUNK];
    for (size_t n = 0; n < N; n++)
        for (size_t k = 0; k < K; k += CHUNK) {
            size_t count = K - k < CHUNK ? K - k : CHUNK;
            if (lora_dequantize(values, W + (n * K + k) / block * bytes, type, count) != 0) return -1;
            LORA_NAME(matrix)(LORA_F32, 128, y + n, y_stride, x + k, K, (const uint8_t *)values, 0, M, 1, count, k > 0);
        }
    return 0;
}

static int LORA_NAME(quantized_product)(float *y, size_t y_stride, const float *x, const void *W, lora_type type,
                                        size_t M, size_t N, size_t K) {
    switch (type) {
    case LORA_F32: LORA_NAME(decoded)(LORA_F32, 128, y, y_stride, x, W, M, N, K); return 0;
    case LORA_F16: LORA_NAME(decoded)(LORA_F16, 64, y, y_stride, x, W, M, N, K); return 0;
    case LORA_BF16: LORA_NAME(decoded)(LORA_BF16, 64, y, y_stride, x, W, M, N, K); return 0;
    case LORA_Q4_0: LORA_NAME(decoded)(LORA_Q4_0, 18, y, y_stride, x, W, M, N, K); return 0;
    case LORA_Q4_1: LORA_NAME(decoded)(LORA_Q4_1, 20, y, y_stride, x, W, M, N, K); return 0;
    case LORA_Q8_0: LORA_NAME(decoded)(LORA_Q8_0, 34, y, y_stride, x, W, M, N, K); return 0;
    case LORA_Q5_0: return LORA_NAME(dequantized)(y, y_stride, x, W, type, M, N, K, 32, 22);
    case LORA_Q5_1: return LORA_NAME(dequantized)(y, y_stride, x, W, type, M, N, K, 32, 24);
    case LORA_Q4_K: return LORA_NAME(dequantized)(y, y_stride, x, W, type, M, N, K, 256, 144);
    case LORA_Q5_K: return LORA_NAME(dequantized)(y, y_stride, x, W, type, M, N, K, 256, 176);
    case LORA_Q6_K: return LORA_NAME(dequantized)(y, y_stride, x, W, type, M, N, K, 256, 210);
    }
    return -1;
}

#undef PARTS
#undef MOST_ROWS

#else

#include "half.h"
#include "lora_kernels.h"

enum {
    CHUNK = 2048,  // weights that are dequantised at a time
    STRIP = 64,    // rows of W at a time
};

#define bytes_of_lanes LORA_NAME(bytes_of_lanes)
#define signed_bytes_of_lanes LORA_NAME(signed_bytes_of_lanes)
#define shorts_of_lanes LORA_NAME(shorts_of_lanes)

#define LORA_FILE "quantized_product.c"
#include "variants.h"

LORA_DISPATCH(quantized_product);

int lora_quantized_product(float *y, size_t y_stride, const float *x, const void *W, lora_type type, size_t M, size_t N,
                           size_t K) {
    return LORA_CALL(quantized_product)(y, y_stride, x, W, type, M, N, K);
}

#endif
