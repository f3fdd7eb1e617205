// Small matrix products in registers. Included under LORA_LANES by the operations that are made of them.

#ifndef LORA_TILE_NAMES
#define LORA_TILE_NAMES
#define tile_block LORA_NAME(tile_block)
#define tile_columns LORA_NAME(tile_columns)
#define tile_product LORA_NAME(tile_product)
#define tile_transpose LORA_NAME(tile_transpose)
typedef struct tile_matrix {
    const float *values;
    size_t row, column;  // distances in floats
} tile_matrix;
#endif

/// c (rows,N) += a (rows,K) b (K,N) for N = `vectors` vectors, the last of `width` lanes when width is not 0.
///
/// Each element of c is one chain of additions over k in order, so it does not depend on its neighbours.
LORA_INLINE void tile_block(const int rows, const int vectors, size_t width, float *c, size_t c_row, tile_matrix a,
                            const float *b, size_t b_row, size_t K) {
    floats sums[LORA_ROWS][4];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++) {
            const float *from = c + (size_t)i * c_row + j * LORA_LANES;
            sums[i][j] = width ? v_load_part(from, width) : v_load(from);
        }
    for (size_t k = 0; k < K; k++) {
        floats row[4];
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++)
            row[j] = width ? v_load_part(b + j * LORA_LANES, width) : v_load(b + j * LORA_LANES);
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
            floats factor = v_splat(a.values[(size_t)i * a.row]);
#pragma clang loop unroll(full)
            for (int j = 0; j < vectors; j++) sums[i][j] += factor * row[j];
        }
        a.values += a.column;
        b += b_row;
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++) {
            float *to = c + (size_t)i * c_row + j * LORA_LANES;
            if (width)
                v_store_part(to, sums[i][j], width);
            else
                v_store(to, sums[i][j]);
        }
}

LORA_INLINE void tile_columns(const int rows, float *c, size_t c_row, tile_matrix a, const float *b, size_t b_row,
                              size_t N, size_t K) {
    size_t n = 0;
    // Few rows have few chains of additions under way: more columns hide the latency.
    if (rows <= LORA_ROWS / 2)
        for (; n + 4 * LORA_LANES <= N; n += 4 * LORA_LANES) tile_block(rows, 4, 0, c + n, c_row, a, b + n, b_row, K);
    for (; n + 2 * LORA_LANES <= N; n += 2 * LORA_LANES) tile_block(rows, 2, 0, c + n, c_row, a, b + n, b_row, K);
    if (n + LORA_LANES <= N) {
        tile_block(rows, 1, 0, c + n, c_row, a, b + n, b_row, K);
        n += LORA_LANES;
    }
    if (n < N) tile_block(rows, 1, N - n, c + n, c_row, a, b + n, b_row, K);
}

/// c (M,N) += a (M,K) b (K,N), rows of b and c contiguous. The order of additions of an element depends on K alone.
static __attribute__((unused, noinline)) void tile_product(float *c, size_t c_row, tile_matrix a, const float *b,
                                                           size_t b_row, size_t M, size_t N, size_t K) {
    size_t m = 0;
    for (; m + LORA_ROWS <= M; m += LORA_ROWS, c += LORA_ROWS * c_row, a.values += LORA_ROWS * a.row)
        tile_columns(LORA_ROWS, c, c_row, a, b, b_row, N, K);
#if LORA_ROWS > 4
    if (m + 4 <= M) {
        tile_columns(4, c, c_row, a, b, b_row, N, K);
        m += 4, c += 4 * c_row, a.values += 4 * a.row;
    }
#endif
    if (M - m == 3) tile_columns(3, c, c_row, a, b, b_row, N, K);
    if (M - m == 2) tile_columns(2, c, c_row, a, b, b_row, N, K);
    if (M - m == 1) tile_columns(1, c, c_row, a, b, b_row, N, K);
}

/// to (columns,LORA_LANES), rows `to_row` apart, overwritten: factor times the transpose of `count` <= LORA_LANES rows;
/// missing rows count as zeros.
LORA_INLINE void tile_transpose(float *to, size_t to_row, const float *const *rows, size_t count, size_t columns,
                                float factor) {
    for (size_t c = 0; c < columns; c += LORA_LANES) {
        size_t width = columns - c < LORA_LANES ? columns - c : LORA_LANES;
        floats m[LORA_LANES];
#if LORA_LANES == 16
        if (count == LORA_LANES && width == 8) {  // the usual rank: half of the shuffles fall away
            const lora_floats8 none = 0;
#pragma clang loop unroll(full)
            for (int i = 0; i < LORA_LANES; i++) {
                lora_floats8 half;
                __builtin_memcpy(&half, rows[i] + c, sizeof half);
                half *= factor;
                m[i] = __builtin_shufflevector(half, none, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            }
            v_transpose(m);
#pragma clang loop unroll(full)
            for (int i = 0; i < 8; i++) v_store(to + (c + (size_t)i) * to_row, m[i]);
            continue;
        }
#endif
        if (count == LORA_LANES && width == LORA_LANES) {
#pragma clang loop unroll(full)
            for (int i = 0; i < LORA_LANES; i++) m[i] = v_load(rows[i] + c) * factor;
        } else {
#pragma clang loop unroll(full)
            for (int i = 0; i < LORA_LANES; i++)
                m[i] = (size_t)i < count ? v_load_up_to(rows[i] + c, width) * factor : v_splat(0);
        }
        v_transpose(m);
        if (width == LORA_LANES) {
#pragma clang loop unroll(full)
            for (int i = 0; i < LORA_LANES; i++) v_store(to + (c + (size_t)i) * to_row, m[i]);
        } else {
#pragma clang loop unroll(full)
            for (int i = 0; i < LORA_LANES; i++)
                if ((size_t)i < width) v_store(to + (c + (size_t)i) * to_row, m[i]);
        }
    }
}
