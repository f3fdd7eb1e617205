// The product of quantized_product_int16.c for groups of GROUP rows, a lane for each. Included once per group size, under
// LORA_HAS_BF16.

#define group_ints GROUP_NAME(group_ints)
#define group_floats GROUP_NAME(group_floats)

typedef int32_t group_ints __attribute__((ext_vector_type(GROUP)));
typedef float group_floats __attribute__((ext_vector_type(GROUP)));

/// y (used,columns) overwritten or added to. Fetches what is `ahead`.
LORA_INLINE void GROUP_NAME(block)(const lora_type type, const size_t bytes, const int columns, float *y,
                                   size_t y_stride, size_t used, const uint8_t *x, const uint8_t *W, size_t W_bytes,
                                   const uint8_t *ahead, size_t K, int add) {
    group_floats totals[GROUP_COLUMNS];
#pragma clang loop unroll(full)
    for (int j = 0; j < columns; j++) totals[j] = 0;
    for (size_t k = 0; k < K; k += 32, x += ROW_BYTES * GROUP, W += bytes) {
#pragma clang loop unroll(full)
        for (size_t line = 0; line < (size_t)columns * bytes; line += 64) __builtin_prefetch(ahead + line, 0, 2);
        ahead += (size_t)columns * bytes;
        int32_t w[GROUP_COLUMNS][8];
        group_ints high[GROUP_COLUMNS], low[GROUP_COLUMNS], x_sum;
        group_floats x_scale;
        __builtin_memcpy(&x_scale, x + 64 * GROUP, sizeof x_scale);
        __builtin_memcpy(&x_sum, x + 68 * GROUP, sizeof x_sum);
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) {
            __m256i bytes_of_block = LORA_NAME(weights)(W + (size_t)j * W_bytes, type);
            __builtin_memcpy(w[j], &bytes_of_block, sizeof w[j]);
            high[j] = 0;
            low[j] = x_sum * -ZERO(type);
        }
        // Weights are broadcast from memory: out of a register, a shuffle of each would keep products waiting.
        __asm__("" : "+m"(w));
#pragma clang loop unroll(full)
        for (int q = 0; q < 8; q++) {
            group_ints x_high, x_low;
            __builtin_memcpy(&x_high, x + q * 4 * GROUP, sizeof x_high);
            __builtin_memcpy(&x_low, x + (8 + q) * 4 * GROUP, sizeof x_low);
#pragma clang loop unroll(full)
            for (int j = 0; j < columns; j++) {
                high[j] = add_products(high[j], w[j][q], x_high);
                low[j] = add_products(low[j], w[j][q], x_low);
            }
        }
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) {
            const lora_floats4 scales = LORA_NAME(two_halves)(W + (size_t)j * W_bytes);
            group_floats sum = __builtin_convertvector((high[j] << 8) + low[j], group_floats);
            totals[j] = __builtin_elementwise_fma(sum, scales[0] * x_scale, totals[j]);
            if (type == LORA_Q4_1) {
                group_floats x_total = x_scale * __builtin_convertvector(x_sum, group_floats);
                totals[j] = __builtin_elementwise_fma((group_floats)scales[1], x_total, totals[j]);
            }
        }
    }
    float out[GROUP_COLUMNS][GROUP];
    __builtin_memcpy(out, totals, sizeof out);
    for (size_t i = 0; i < used; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) {
            float *to = y + i * y_stride + j;
            *to = add ? *to + out[j][i] : out[j][i];
        }
}

/// y (M,N), GROUP_COLUMNS rows of W at a time for all groups.
LORA_INLINE void GROUP_NAME(groups)(const lora_type type, const size_t bytes, float *y, size_t y_stride,
                                    const uint8_t *x, const uint8_t *W, const uint8_t *next, size_t M, size_t N, size_t K,
                                    int add) {
    const size_t W_bytes = K / 32 * bytes, group = K / 32 * ROW_BYTES * GROUP;
    const uint8_t *end = W + N * W_bytes;
    for (size_t n = 0, columns; n < N; n += columns, W += columns * W_bytes) {
        columns = N - n < GROUP_COLUMNS ? 1 : GROUP_COLUMNS;
        const uint8_t *ahead = ahead_of(W, end, next);
        for (size_t m = 0; m < M; m += GROUP) {
            float *to = y + m * y_stride + n;
            const size_t used = M - m < GROUP ? M - m : GROUP;
            const uint8_t *rows = x + m / GROUP * group;
            if (columns == 1)
                GROUP_NAME(block)(type, bytes, 1, to, y_stride, used, rows, W, W_bytes, ahead, K, add);
            else
                GROUP_NAME(block)(type, bytes, GROUP_COLUMNS, to, y_stride, used, rows, W, W_bytes, ahead, K, add);
        }
    }
}

#undef GROUP
#undef GROUP_NAME
#undef group_ints
#undef group_floats
#undef add_products
