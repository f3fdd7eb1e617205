// The product of quantized_product_int16.c for groups of GROUP rows, a lane for each, in vectors of GROUP_LANES. Included
// once per group size by int16_bytes.h and int16_pairs.h.

#define group_ints GROUP_NAME(group_ints)
#define group_floats GROUP_NAME(group_floats)
#define VECTORS (GROUP / GROUP_LANES)
/// Rows of W at a time: as many as have room for their sums in registers.
#define COLUMNS (VECTORS <= 2 ? 4 : 8 / VECTORS)

typedef int32_t group_ints __attribute__((ext_vector_type(GROUP_LANES)));
typedef float group_floats __attribute__((ext_vector_type(GROUP_LANES)));

/// y (used,columns) overwritten or added to. Fetches what is `ahead`.
LORA_INLINE void GROUP_NAME(block)(const lora_type type, const size_t bytes, const int columns, float *y,
                                   size_t y_stride, size_t used, const uint8_t *x, const uint8_t *W, size_t W_bytes,
                                   const uint8_t *ahead, size_t K, int add) {
    group_floats totals[COLUMNS][VECTORS];
#pragma clang loop unroll(full)
    for (int j = 0; j < columns; j++)
#pragma clang loop unroll(full)
        for (int v = 0; v < VECTORS; v++) totals[j][v] = 0;
    float scales[COLUMNS][16], offsets[COLUMNS][16];
    for (size_t k = 0; k < K; k += 32, x += ROW_BYTES * GROUP) {
        const size_t part = k / 32 % 8, share = BYTES_OF_32(type, bytes);
#pragma clang loop unroll(full)
        for (size_t line = 0; line < (size_t)columns * share; line += 64) __builtin_prefetch(ahead + line, 0, 2);
        ahead += (size_t)columns * share;
        int32_t w[COLUMNS][WORDS];
        group_ints x_sums[2][VECTORS];
        group_floats x_scales[VECTORS];
        __builtin_memcpy(x_scales, x + 64 * GROUP, sizeof x_scales);
        __builtin_memcpy(x_sums[0], x + 68 * GROUP, sizeof x_sums[0]);
        if (TERMS(type) == 2) {
            __builtin_memcpy(x_sums[1], x + 72 * GROUP, sizeof x_sums[1]);
#pragma clang loop unroll(full)
            for (int v = 0; v < VECTORS; v++) x_sums[0][v] -= x_sums[1][v];
        }
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) {
            const uint8_t *block = W + (size_t)j * W_bytes;
            if (is_large(type) && part == 0) LORA_NAME(unpack)(scales[j], offsets[j], block, type);
            LORA_NAME(load_words)(w[j], block, type, part);
        }
        // Weights are broadcast from memory: out of a register, a shuffle of each would keep products waiting.
        __asm__("" : "+m"(w));
#pragma clang loop unroll(full)
        for (int t = 0; t < TERMS(type); t++) {
            group_ints sums[COLUMNS][HALVES][VECTORS];
#pragma clang loop unroll(full)
            for (int j = 0; j < columns; j++)
#pragma clang loop unroll(full)
                for (int v = 0; v < VECTORS; v++) {
                    sums[j][0][v] = 0;
                    sums[j][HALVES - 1][v] = x_sums[t][v] * -ZERO(type);
                }
#pragma clang loop unroll(full)
            for (int q = t * WORDS / TERMS(type); q < (t + 1) * WORDS / TERMS(type); q++) {
                group_ints own[HALVES][VECTORS];
#pragma clang loop unroll(full)
                for (int h = 0; h < HALVES; h++)
                    __builtin_memcpy(own[h], x + (h * WORDS + q) * 4 * GROUP, sizeof own[h]);
#pragma clang loop unroll(full)
                for (int j = 0; j < columns; j++)
#pragma clang loop unroll(full)
                    for (int h = 0; h < HALVES; h++)
#pragma clang loop unroll(full)
                        for (int v = 0; v < VECTORS; v++)
                            sums[j][h][v] = add_products(sums[j][h][v], w[j][q], own[h][v]);
            }
#pragma clang loop unroll(full)
            for (int j = 0; j < columns; j++) {
                float scale, offset;
                if (is_large(type)) {
                    scale = scales[j][TERMS(type) * part + (size_t)t], offset = offsets[j][part];
                } else {
                    const lora_floats4 both = LORA_NAME(two_halves)(W + (size_t)j * W_bytes);
                    scale = both[0], offset = both[1];
                }
#pragma clang loop unroll(full)
                for (int v = 0; v < VECTORS; v++) {
                    const group_ints sum = HALVES == 1 ? sums[j][0][v] : (sums[j][0][v] << 8) + sums[j][HALVES - 1][v];
                    totals[j][v] += __builtin_convertvector(sum, group_floats) * (scale * x_scales[v]);
                    if (HAS_OFFSET(type))
                        totals[j][v] += offset * (x_scales[v] * __builtin_convertvector(x_sums[0][v], group_floats));
                }
            }
        }
        if (!is_large(type) || part == 7) W += bytes;
    }
    float out[COLUMNS][GROUP];
    __builtin_memcpy(out, totals, sizeof out);
    for (size_t i = 0; i < used; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) {
            float *to = y + i * y_stride + j;
            *to = add ? *to + out[j][i] : out[j][i];
        }
}

/// y (M,N), COLUMNS rows of W at a time for all groups.
LORA_INLINE void GROUP_NAME(groups)(const lora_type type, const size_t bytes, float *y, size_t y_stride,
                                    const uint8_t *x, const uint8_t *W, const uint8_t *next, size_t M, size_t N, size_t K,
                                    int add) {
    const size_t W_bytes = ROW_BYTES_OF(type, bytes, K), group = K / 32 * ROW_BYTES * GROUP;
    const uint8_t *end = W + N * W_bytes;
    for (size_t n = 0, columns; n < N; n += columns, W += columns * W_bytes) {
        columns = N - n < COLUMNS ? 1 : COLUMNS;
        const uint8_t *ahead = ahead_of(W, end, next);
        for (size_t m = 0; m < M; m += GROUP) {
            float *to = y + m * y_stride + n;
            const size_t used = M - m < GROUP ? M - m : GROUP;
            const uint8_t *rows = x + m / GROUP * group;
            if (columns == 1)
                GROUP_NAME(block)(type, bytes, 1, to, y_stride, used, rows, W, W_bytes, ahead, K, add);
            else
                GROUP_NAME(block)(type, bytes, COLUMNS, to, y_stride, used, rows, W, W_bytes, ahead, K, add);
        }
    }
}

#undef GROUP
#undef GROUP_LANES
#undef GROUP_NAME
#undef VECTORS
#undef COLUMNS
#undef group_ints
#undef group_floats
#undef add_products
