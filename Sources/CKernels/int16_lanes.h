// The product of quantized_product_int16.c for few rows of x, with AVX512_VNNI: a lane for each of 16 rows of W. Words of
// theirs change places once for all rows of x, whose words are broadcast from memory, and no sum is added up across lanes.
// Included under LORA_HAS_VNNI.

/// Out of 16 rows of W, W_bytes apart, of which `columns` exist, 16 bytes each: lane l of words[q] has word q of row l.
LORA_INLINE void LORA_NAME(load_quads)(ints words[4], const uint8_t *W, size_t W_bytes, const size_t columns) {
    __m512i rows[4], pairs[4];
#pragma clang loop unroll(full)
    for (size_t i = 0; i < 4; i++) {
        __m128i quads[4];
#pragma clang loop unroll(full)
        for (size_t j = 0; j < 4; j++) {
            const size_t l = i + 4 * j;
            quads[j] = _mm_loadu_si128((const __m128i *)(W + (l < columns ? l : columns - 1) * W_bytes));
        }
        rows[i] = _mm512_inserti32x4(_mm512_castsi128_si512(quads[0]), quads[1], 1);
        rows[i] = _mm512_inserti32x4(_mm512_inserti32x4(rows[i], quads[2], 2), quads[3], 3);
    }
#pragma clang loop unroll(full)
    for (size_t i = 0; i < 2; i++) {
        pairs[i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[i + 2] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
#pragma clang loop unroll(full)
    for (size_t i = 0; i < 2; i++) {
        words[2 * i] = (ints)_mm512_unpacklo_epi64(pairs[2 * i], pairs[2 * i + 1]);
        words[2 * i + 1] = (ints)_mm512_unpackhi_epi64(pairs[2 * i], pairs[2 * i + 1]);
    }
}

/// 32 weights of each row (of part `part` of a block of 256), each with ZERO(type) added: lane l of words[q] has word q of
/// row l.
LORA_INLINE void LORA_NAME(load_lanes)(ints words[WORDS], const lora_type type, size_t part, const uint8_t *W,
                                       size_t W_bytes, const size_t columns) {
    if (is_large(type)) {
#pragma clang loop unroll(full)
        for (size_t q = 0; q < WORDS; q += 4) {
            ints high[4] = {0};
            LORA_NAME(load_quads)(words + q, W + large_low(type, part) + 4 * q, W_bytes, columns);
            if (type != LORA_Q4_K)
                LORA_NAME(load_quads)(high, W + large_high(type, part) + 4 * q, W_bytes, columns);
#pragma clang loop unroll(full)
            for (size_t i = 0; i < 4; i++) words[q + i] = LARGE_NUMBERS(words[q + i], high[i], type, part);
        }
    } else if (type == LORA_Q8_0) {
        LORA_NAME(load_quads)(words, W + 2, W_bytes, columns);
        LORA_NAME(load_quads)(words + 4, W + 18, W_bytes, columns);
#pragma clang loop unroll(full)
        for (size_t q = 0; q < WORDS; q++) words[q] ^= (int32_t)0x80808080;
    } else {
        LORA_NAME(load_quads)(words, W + (type == LORA_Q4_1 ? 4 : 2), W_bytes, columns);
#pragma clang loop unroll(full)
        for (size_t q = 0; q < 4; q++) {
            words[q + 4] = words[q] >> 4 & 0x0f0f0f0f;
            words[q] &= 0x0f0f0f0f;
        }
    }
}

/// y (rows,columns) overwritten or added to: rows of x, x_bytes apart, times `columns` <= 16 rows of W. Fetches what is
/// `ahead`.
LORA_INLINE void LORA_NAME(lanes)(const lora_type type, const size_t bytes, const size_t rows, float *y, size_t y_stride,
                                  const uint8_t *x, size_t x_bytes, const uint8_t *W, size_t W_bytes,
                                  const uint8_t *ahead, const size_t columns, size_t K, int add) {
    floats totals[FEW_ROWS], table[16];
#pragma clang loop unroll(full)
    for (size_t i = 0; i < rows; i++) totals[i] = v_splat(0);
    for (size_t k = 0; k < K; k += 32, x += ROW_BYTES) {
        const size_t part = k / 32 % 8, share = LORA_LANES * BYTES_OF_32(type, bytes);
#pragma clang loop unroll(full)
        for (size_t line = 0; line < share; line += 64) __builtin_prefetch(ahead + line, 0, 2);
        ahead += share;
        floats scales[2], offset;
        LORA_NAME(scales_of_lanes)(scales, &offset, table, type, part, 1, W, W_bytes, columns);
        ints words[WORDS];
        LORA_NAME(load_lanes)(words, type, part, W, W_bytes, columns);
#pragma clang loop unroll(full)
        for (size_t i = 0; i < rows; i++) {
            int32_t own[HALVES * WORDS], sums[2];
            float scale;
            __builtin_memcpy(own, x + i * x_bytes, sizeof own);
            __builtin_memcpy(&scale, x + i * x_bytes + 64, sizeof scale);
            __builtin_memcpy(sums, x + i * x_bytes + 68, sizeof sums);
            if (TERMS(type) == 2) sums[0] -= sums[1];
#pragma clang loop unroll(full)
            for (size_t t = 0; t < TERMS(type); t++) {
                __m512i high = _mm512_setzero_si512(), low = _mm512_set1_epi32(-ZERO(type) * sums[t]);
#pragma clang loop unroll(full)
                for (size_t q = t * WORDS / TERMS(type); q < (t + 1) * WORDS / TERMS(type); q++) {
                    high = _mm512_dpbusd_epi32(high, (__m512i)words[q], _mm512_set1_epi32(own[q]));
                    low = _mm512_dpbusd_epi32(low, (__m512i)words[q], _mm512_set1_epi32(own[WORDS + q]));
                }
                const ints sum = ((ints)high << 8) + (ints)low;
                totals[i] += __builtin_convertvector(sum, floats) * (scales[t] * scale);
            }
            if (HAS_OFFSET(type)) totals[i] += offset * (scale * (float)sums[0]);
        }
        if (!is_large(type) || part == 7) W += bytes;
    }
#pragma clang loop unroll(full)
    for (size_t i = 0; i < rows; i++) {
        float out[LORA_LANES], *to = y + i * y_stride;
        v_store(out, totals[i]);
        for (size_t j = 0; j < columns; j++) to[j] = add ? to[j] + out[j] : out[j];
    }
}

/// y (rows,N), 16 rows of W at a time.
LORA_INLINE void LORA_NAME(lanes_of_all)(const lora_type type, const size_t bytes, const size_t rows, float *y,
                                         size_t y_stride, const uint8_t *x, const uint8_t *W, const uint8_t *next,
                                         size_t N, size_t K, int add) {
    const size_t W_bytes = ROW_BYTES_OF(type, bytes, K), x_bytes = K / 32 * ROW_BYTES, width = LORA_LANES;
    const uint8_t *end = W + N * W_bytes;
    size_t n = 0;
    for (; n + width <= N; n += width, W += width * W_bytes)
        LORA_NAME(lanes)(type, bytes, rows, y + n, y_stride, x, x_bytes, W, W_bytes, ahead_of(W, end, next), width, K,
                         add);
    if (n < N)
        LORA_NAME(lanes)(type, bytes, rows, y + n, y_stride, x, x_bytes, W, W_bytes, ahead_of(W, end, next), N - n, K,
                         add);
}

/// y (M,N), M <= FEW_ROWS.
LORA_INLINE void LORA_NAME(few_rows)(const lora_type type, const size_t bytes, float *y, size_t y_stride, const uint8_t *x,
                                     const uint8_t *W, const uint8_t *next, size_t M, size_t N, size_t K, int add) {
    switch (M) {
    case 1: LORA_NAME(lanes_of_all)(type, bytes, 1, y, y_stride, x, W, next, N, K, add); break;
    case 2: LORA_NAME(lanes_of_all)(type, bytes, 2, y, y_stride, x, W, next, N, K, add); break;
    case 3: LORA_NAME(lanes_of_all)(type, bytes, 3, y, y_stride, x, W, next, N, K, add); break;
    case 4: LORA_NAME(lanes_of_all)(type, bytes, 4, y, y_stride, x, W, next, N, K, add); break;
    case 5: LORA_NAME(lanes_of_all)(type, bytes, 5, y, y_stride, x, W, next, N, K, add); break;
    case 6: LORA_NAME(lanes_of_all)(type, bytes, 6, y, y_stride, x, W, next, N, K, add); break;
    case 7: LORA_NAME(lanes_of_all)(type, bytes, 7, y, y_stride, x, W, next, N, K, add); break;
    default: LORA_NAME(lanes_of_all)(type, bytes, 8, y, y_stride, x, W, next, N, K, add); break;
    }
}
