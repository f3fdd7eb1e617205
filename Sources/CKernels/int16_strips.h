// The product of quantized_product_int16.c for few rows of x, by pairs of numbers: the sums of products along a row are added
// up across lanes. Included under LORA_LANES.

/// The sum of each vector, a lane for each.
LORA_INLINE ints LORA_NAME(add_up)(const ints sums[LORA_LANES]) {
    ints twos[LORA_LANES / 2], fours[LORA_LANES / 4];
#pragma clang loop unroll(full)
    for (int p = 0; p < LORA_LANES / 2; p++) {
        const ints a = sums[2 * p], b = sums[2 * p + 1];
#if LORA_LANES == 8
        twos[p] = __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13) +
                  __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
#else
        twos[p] = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
    }
#pragma clang loop unroll(full)
    for (int p = 0; p < LORA_LANES / 4; p++) {
        const ints a = twos[2 * p], b = twos[2 * p + 1];
#if LORA_LANES == 8
        fours[p] = __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13) +
                   __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
#else
        fours[p] = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
#endif
    }
#if LORA_LANES == 8
    return __builtin_shufflevector(fours[0], fours[1], 0, 1, 2, 3, 8, 9, 10, 11) +
           __builtin_shufflevector(fours[0], fours[1], 4, 5, 6, 7, 12, 13, 14, 15);
#else
    return fours[0];
#endif
}

/// Sums of products of 32 weights, or of the first and the last 16 where they have scales of their own: lane l has row
/// l % rows of x, x_bytes apart, of which `used` exist, and row l / rows of W, of which `columns` exist.
LORA_INLINE void LORA_NAME(strip_sums)(ints out[2], const lora_type type, size_t part, const size_t rows, size_t used,
                                       const uint8_t *x, size_t x_bytes, const uint8_t *W, size_t W_bytes,
                                       const size_t columns) {
    ints sums[2][LORA_LANES];
#pragma clang loop unroll(full)
    for (size_t j = 0; j < LORA_LANES / rows; j++) {
        shorts w[WIDE_PARTS];
        LORA_NAME(widen)(w, W + (j < columns ? j : columns - 1) * W_bytes, type, part);
#pragma clang loop unroll(full)
        for (size_t i = 0; i < rows; i++) {
            shorts own[WIDE_PARTS];
            __builtin_memcpy(own, x + (i < used ? i : used - 1) * x_bytes, sizeof own);
#pragma clang loop unroll(full)
            for (size_t t = 0; t < TERMS(type); t++) {
                ints sum = 0;
#pragma clang loop unroll(full)
                for (size_t p = t * WIDE_PARTS / TERMS(type); p < (t + 1) * WIDE_PARTS / TERMS(type); p++)
                    sum += LORA_NAME(add_pairs)(w[p], own[p]);
                sums[t][j * rows + i] = sum;
            }
        }
    }
#pragma clang loop unroll(full)
    for (int t = 0; t < TERMS(type); t++) out[t] = LORA_NAME(add_up)(sums[t]);
}

/// Four lanes, again and again.
LORA_INLINE floats LORA_NAME(repeat)(lora_floats4 four) {
#if LORA_LANES == 8
    return __builtin_shufflevector(four, four, 0, 1, 2, 3, 0, 1, 2, 3);
#else
    return four;
#endif
}

/// y (used,columns) overwritten or added to: `rows` = 1, 2 or 4 rows of x, x_bytes apart, of which `used` exist, times
/// `columns` <= LORA_LANES / rows rows of W. A lane for each of the sums, those of a row of W side by side. Fetches what
/// is `ahead`.
LORA_INLINE void LORA_NAME(strip)(const lora_type type, const size_t bytes, const size_t rows, float *y, size_t y_stride,
                                  size_t used, const uint8_t *x, size_t x_bytes, const uint8_t *W, size_t W_bytes,
                                  const uint8_t *ahead, const size_t columns, size_t K, int add) {
    floats total = 0, table[16];
    for (size_t k = 0; k < K; k += 32, x += ROW_BYTES) {
        const size_t part = k / 32 % 8, share = BYTES_OF_32(type, bytes);
#pragma clang loop unroll(full)
        for (size_t line = 0; line < LORA_LANES / rows * share; line += 64) __builtin_prefetch(ahead + line, 0, 2);
        ahead += LORA_LANES / rows * share;
        lora_floats4 x_scales, x_sums;  // the sums are integers
#pragma clang loop unroll(full)
        for (size_t i = 0; i < 4; i++) {
            const uint8_t *row = x + (i % rows < used ? i % rows : used - 1) * x_bytes;
            __builtin_memcpy((float *)&x_scales + i, row + 64, sizeof(float));
            __builtin_memcpy((float *)&x_sums + i, row + 68, sizeof(float));
        }
        const floats x_scale = LORA_NAME(repeat)(x_scales);
        const ints x_sum = (ints)LORA_NAME(repeat)(x_sums);
        ints sums[2];
        floats scales[2], offset;
        LORA_NAME(scales_of_lanes)(scales, &offset, table, type, part, rows, W, W_bytes, columns);
        LORA_NAME(strip_sums)(sums, type, part, rows, used, x, x_bytes, W, W_bytes, columns);
#pragma clang loop unroll(full)
        for (size_t t = 0; t < TERMS(type); t++)
            total += __builtin_convertvector(sums[t], floats) * (scales[t] * x_scale);
        if (HAS_OFFSET(type)) total += offset * (x_scale * __builtin_convertvector(x_sum, floats));
        if (!is_large(type) || part == 7) W += bytes;
    }
    float out[LORA_LANES];
    v_store(out, total);
    for (size_t j = 0; j < columns; j++)
        for (size_t i = 0; i < used; i++) {
            float *to = y + i * y_stride + j;
            *to = add ? *to + out[j * rows + i] : out[j * rows + i];
        }
}

/// y (M,N), M <= rows, `LORA_LANES / rows` rows of W at a time.
LORA_INLINE void LORA_NAME(strips)(const lora_type type, const size_t bytes, const size_t rows, float *y, size_t y_stride,
                                   const uint8_t *x, const uint8_t *W, const uint8_t *next, size_t M, size_t N,
                                   size_t K, int add) {
    const size_t W_bytes = ROW_BYTES_OF(type, bytes, K), x_bytes = K / 32 * ROW_BYTES, width = LORA_LANES / rows;
    const uint8_t *end = W + N * W_bytes;
    size_t n = 0;
    for (; n + width <= N; n += width, W += width * W_bytes)
        LORA_NAME(strip)(type, bytes, rows, y + n, y_stride, M, x, x_bytes, W, W_bytes, ahead_of(W, end, next), width,
                         K, add);
    if (n < N)
        LORA_NAME(strip)(type, bytes, rows, y + n, y_stride, M, x, x_bytes, W, W_bytes, ahead_of(W, end, next), N - n,
                         K, add);
}

/// y (M,N), M <= FEW_ROWS.
LORA_INLINE void LORA_NAME(few_rows)(const lora_type type, const size_t bytes, float *y, size_t y_stride, const uint8_t *x,
                                     const uint8_t *W, const uint8_t *next, size_t M, size_t N, size_t K, int add) {
    if (M == 1)
        LORA_NAME(strips)(type, bytes, 1, y, y_stride, x, W, next, 1, N, K, add);
    else if (M == 2)
        LORA_NAME(strips)(type, bytes, 2, y, y_stride, x, W, next, 2, N, K, add);
    else
        LORA_NAME(strips)(type, bytes, 4, y, y_stride, x, W, next, M, N, K, add);
}
