// The scores of a few query rows, as in decoding. Included under LORA_LANES by attention.c.
//
// Few rows do not pay for a transposed copy of the keys: they are transposed in registers, four columns at a time. Most
// of the time goes into waiting for the cache's rows, which lie too far apart for the CPU to foresee.

#ifndef LORA_FEW_ROWS_NAMES
#define LORA_FEW_ROWS_NAMES
#define few_load_fours LORA_NAME(few_load_fours)
#define few_load_columns LORA_NAME(few_load_columns)
#define few_fetch LORA_NAME(few_fetch)
#define few_scores_of LORA_NAME(few_scores_of)
#define few_scores LORA_NAME(few_scores)
#endif

/// (a[i], a[j], b[i], b[j]) of each four lanes.
#if LORA_LANES == 16
#define PAIRS(a, b, i, j)                                                                                              \
    __builtin_shufflevector(a, b, i, j, i + 16, j + 16, i + 4, j + 4, i + 20, j + 20, i + 8, j + 8, i + 24, j + 24,    \
                            i + 12, j + 12, i + 28, j + 28)
#elif LORA_LANES == 8
#define PAIRS(a, b, i, j) __builtin_shufflevector(a, b, i, j, i + 8, j + 8, i + 4, j + 4, i + 12, j + 12)
#else
#define PAIRS(a, b, i, j) __builtin_shufflevector(a, b, i, j, i + 4, j + 4)
#endif

/// Columns d..d+3 of rows 0, 4, 8, … up to LORA_LANES, side by side.
LORA_INLINE floats few_load_fours(const float *const *rows, size_t d) {
    floats fours;
#pragma clang loop unroll(full)
    for (int i = 0; i < LORA_LANES; i += 4) __builtin_memcpy((float *)&fours + i, rows[i] + d, sizeof(lora_floats4));
    return fours;
}

/// Columns d..d+3 of LORA_LANES rows.
LORA_INLINE void few_load_columns(floats columns[4], const float *const *rows, size_t d) {
    floats a = few_load_fours(rows, d), b = few_load_fours(rows + 1, d);
    floats c = few_load_fours(rows + 2, d), e = few_load_fours(rows + 3, d);
    floats ab = PAIRS(a, b, 0, 1), ce = PAIRS(c, e, 0, 1);
    columns[0] = PAIRS(ab, ce, 0, 2), columns[1] = PAIRS(ab, ce, 1, 3);
    ab = PAIRS(a, b, 2, 3), ce = PAIRS(c, e, 2, 3);
    columns[2] = PAIRS(ab, ce, 0, 2), columns[3] = PAIRS(ab, ce, 1, 3);
}

#undef PAIRS

/// Fetches a quarter of 16 columns of LORA_LANES rows into the second cache: all of them when called for d = 0, 4, ….
LORA_INLINE void few_fetch(const float *const *rows, size_t d) {
    for (size_t i = d / 4 % 4; i < LORA_LANES; i += 4) __builtin_prefetch(rows[i] + d, 0, 2);
}

LORA_INLINE void few_scores_of(const size_t rows, float *scores, const float *queries, size_t query_stride,
                               const float *const *keys, const float *const *values, size_t width, size_t D) {
    for (size_t d = 0; d < D; d += 4) few_fetch(keys, d);
    for (size_t k = 0; k < width; k += LORA_LANES) {
        floats sums[4] = {0};
        for (size_t d = 0; d < D; d += 4) {
            // Little by little, and keys twice: a CPU drops what it has no room to wait for.
            few_fetch(values + k, d);
            if (k + LORA_LANES < width) few_fetch(keys + k + LORA_LANES, d);
            if (k + 2 * LORA_LANES < width) few_fetch(keys + k + 2 * LORA_LANES, d);
            floats columns[4];
            few_load_columns(columns, keys + k, d);
#pragma clang loop unroll(full)
            for (size_t c = 0; c < 4; c++)
#pragma clang loop unroll(full)
                for (size_t i = 0; i < rows; i++) sums[i] += queries[i * query_stride + d + c] * columns[c];
        }
#pragma clang loop unroll(full)
        for (size_t i = 0; i < rows; i++) v_store(scores + i * KEYS + k, sums[i]);
    }
}

/// scores (rows,KEYS), overwritten up to `width`, a multiple of LORA_LANES: queries (rows,D) times as many keys. Each
/// is the chain of additions of tile_product. Fetches the values, which follow. D is a multiple of 4.
static void few_scores(float *scores, const float *queries, size_t query_stride, const float *const *keys,
                       const float *const *values, size_t rows, size_t width, size_t D) {
    for (; rows >= 4; rows -= 4, scores += 4 * KEYS, queries += 4 * query_stride)
        few_scores_of(4, scores, queries, query_stride, keys, values, width, D);
    if (rows == 3) few_scores_of(3, scores, queries, query_stride, keys, values, width, D);
    if (rows == 2) few_scores_of(2, scores, queries, query_stride, keys, values, width, D);
    if (rows == 1) few_scores_of(1, scores, queries, query_stride, keys, values, width, D);
}
