// Products of bf16 matrices with f32 sums, in registers. Included under LORA_LANES by the operations made of them.
//
// The instruction multiplies pairs: two neighbours along the contraction share a 32-bit lane, the even one in the low
// half. A left operand is read pair by pair; a right operand is packed, (K/2, N) pairs.

#ifndef LORA_TILE_BF16_NAMES
#define LORA_TILE_BF16_NAMES
#define pairs LORA_NAME(pairs)
#define halves LORA_NAME(halves)
#define v_pairs LORA_NAME(v_pairs)
#define v_pairs_up_to LORA_NAME(v_pairs_up_to)
#define v_add_products LORA_NAME(v_add_products)
#define v_bf16 LORA_NAME(v_bf16)
#define v_pair_up LORA_NAME(v_pair_up)
#define v_store_bf16 LORA_NAME(v_store_bf16)
#define pair_block LORA_NAME(pair_block)
#define pair_columns LORA_NAME(pair_columns)
#define pair_product LORA_NAME(pair_product)
#define pack_columns LORA_NAME(pack_columns)
#define pack_rows LORA_NAME(pack_rows)
typedef struct pair_matrix {
    const uint16_t *values;
    size_t row, column;  // distances in elements; a column is a pair
} pair_matrix;
typedef enum pair_sum { PAIR_SET, PAIR_ADD } pair_sum;
typedef uint16_t lora_halves32 __attribute__((ext_vector_type(32)));
#endif

typedef uint32_t pairs __attribute__((ext_vector_type(LORA_LANES)));
typedef uint16_t halves __attribute__((ext_vector_type(LORA_LANES)));

LORA_INLINE pairs v_pairs(const void *p) {
    pairs v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

/// The first `count` <= LORA_LANES pairs at p, then zeros.
LORA_INLINE pairs v_pairs_up_to(const void *p, size_t count) {
    if (count == LORA_LANES) return v_pairs(p);
    pairs v = 0;
    __builtin_memcpy(&v, p, count * sizeof v[0]);
    return v;
}

/// sum + a.even * b.even + a.odd * b.odd, lane by lane.
LORA_INLINE floats v_add_products(floats sum, pairs a, pairs b) {
#ifdef LORA_HAS_BF16
    return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    sum += (floats)(a << 16) * (floats)(b << 16);
    return sum + (floats)(a & 0xffff0000) * (floats)(b & 0xffff0000);
#endif
}

/// To nearest, ties to even; a NaN stays one.
LORA_INLINE halves v_bf16(floats x) {
#ifdef LORA_HAS_BF16
    return (halves)_mm512_cvtneps_pbh((__m512)x);
#else
    pairs bits = (pairs)x, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return __builtin_convertvector(x == x ? rounded : (bits >> 16 | 0x40), halves);
#endif
}

/// The even and the odd members of pairs, rounded.
LORA_INLINE pairs v_pair_up(floats even, floats odd) {
#ifdef LORA_HAS_BF16
    lora_halves32 both = (lora_halves32)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even);
    return (pairs)__builtin_shufflevector(both, both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9,
                                          25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#else
    return __builtin_convertvector(v_bf16(even), pairs) | __builtin_convertvector(v_bf16(odd), pairs) << 16;
#endif
}

/// Stores the first `count` lanes, rounded.
LORA_INLINE void v_store_bf16(uint16_t *p, floats v, size_t count) {
    halves rounded = v_bf16(v);
    if (count == LORA_LANES)
        __builtin_memcpy(p, &rounded, sizeof rounded);
    else
        __builtin_memcpy(p, &rounded, count * sizeof *p);
}

/// c (rows,N) = or += a (rows,2K) b (2K,N) for N = `vectors` vectors, the last of `width` lanes when width is not 0.
/// Rows of b are readable up to whole vectors.
///
/// Each element of c is one chain of additions over the pairs in order, so it does not depend on its neighbours.
LORA_INLINE void pair_block(const int rows, const int vectors, size_t width, pair_sum sum, float *c, size_t c_row,
                            pair_matrix a, const uint32_t *b, size_t b_row, size_t K) {
    floats sums[LORA_ROWS][4];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++) {
            const float *from = c + (size_t)i * c_row + j * LORA_LANES;
            sums[i][j] = sum == PAIR_SET ? v_splat(0) : width ? v_load_part(from, width) : v_load(from);
        }
    for (size_t k = 0; k < K; k++) {
        pairs row[4];
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++) row[j] = v_pairs(b + j * LORA_LANES);
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
            uint32_t pair;
            __builtin_memcpy(&pair, a.values + (size_t)i * a.row, sizeof pair);
#pragma clang loop unroll(full)
            for (int j = 0; j < vectors; j++) sums[i][j] = v_add_products(sums[i][j], (pairs)pair, row[j]);
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

LORA_INLINE void pair_columns(const int rows, pair_sum sum, float *c, size_t c_row, pair_matrix a, const uint32_t *b,
                              size_t b_row, size_t N, size_t K) {
    size_t n = 0;
    for (; n + 2 * LORA_LANES <= N; n += 2 * LORA_LANES)
        pair_block(rows, 2, 0, sum, c + n, c_row, a, b + n, b_row, K);
    if (n + LORA_LANES <= N) {
        pair_block(rows, 1, 0, sum, c + n, c_row, a, b + n, b_row, K);
        n += LORA_LANES;
    }
    if (n < N) pair_block(rows, 1, N - n, sum, c + n, c_row, a, b + n, b_row, K);
}

/// c (M,N) = or += a (M,2K) b (2K,N). The order of additions of an element depends on K alone.
LORA_INLINE void pair_product(pair_sum sum, float *c, size_t c_row, pair_matrix a, const uint32_t *b, size_t b_row,
                              size_t M, size_t N, size_t K) {
    size_t m = 0;
    for (; m + LORA_ROWS <= M; m += LORA_ROWS, c += LORA_ROWS * c_row, a.values += LORA_ROWS * a.row)
        pair_columns(LORA_ROWS, sum, c, c_row, a, b, b_row, N, K);
    for (; m + 2 <= M; m += 2, c += 2 * c_row, a.values += 2 * a.row)
        pair_columns(2, sum, c, c_row, a, b, b_row, N, K);
    if (m < M) pair_columns(1, sum, c, c_row, a, b, b_row, N, K);
}

/// to (columns/2, to_row) pairs, overwritten: the transpose of `count` rows, zeros up to a multiple of LORA_LANES rows.
static __attribute__((unused, noinline)) void pack_columns(uint32_t *to, size_t to_row, const uint16_t *const *rows,
                                                           size_t count, size_t columns) {
    for (size_t n = 0; n < count; n += LORA_LANES)
        for (size_t c = 0; c < columns; c += 2 * LORA_LANES) {
            size_t width = columns - c < 2 * LORA_LANES ? (columns - c) / 2 : LORA_LANES;
            floats m[LORA_LANES];  // bits on their way: nothing computes with them
#pragma clang loop unroll(full)
            for (size_t i = 0; i < LORA_LANES; i++)
                m[i] = n + i < count ? (floats)v_pairs_up_to(rows[n + i] + c, width) : v_splat(0);
            v_transpose(m);
#pragma clang loop unroll(full)
            for (size_t i = 0; i < LORA_LANES; i++)
                if (i < width) __builtin_memcpy(to + (c / 2 + i) * to_row + n, &m[i], sizeof m[i]);
        }
}

/// to (count/2, to_row) pairs, overwritten: rows 2i and 2i + 1 side by side; zeros up to a multiple of LORA_LANES
/// columns and for the partner that a last row lacks.
static __attribute__((unused, noinline)) void pack_rows(uint32_t *to, size_t to_row, const uint16_t *const *rows,
                                                        size_t count, size_t columns) {
    for (size_t n = 0; n < count; n += 2, to += to_row)
        for (size_t c = 0; c < columns; c += LORA_LANES) {
            size_t width = columns - c < LORA_LANES ? columns - c : LORA_LANES;
            halves even = 0, odd = 0;
            if (width == LORA_LANES) {
                __builtin_memcpy(&even, rows[n] + c, sizeof even);
                if (n + 1 < count) __builtin_memcpy(&odd, rows[n + 1] + c, sizeof odd);
            } else {
                __builtin_memcpy(&even, rows[n] + c, width * sizeof *rows[n]);
                if (n + 1 < count) __builtin_memcpy(&odd, rows[n + 1] + c, width * sizeof *rows[n]);
            }
            pairs both = __builtin_convertvector(even, pairs) | __builtin_convertvector(odd, pairs) << 16;
            __builtin_memcpy(to + c, &both, sizeof both);
        }
}
