// Causal attention of one query head with bf16 operands and f32 sums, tiled as in attention.c.
//
// The products multiply pairs of neighbours along the contraction. A tile begins at an even position, so a key has the
// same partner in any call; a partner that a query does not see has probability zero and adds exactly nothing.
#ifdef LORA_LANES

#include "tile_bf16.h"

LORA_INLINE size_t LORA_NAME(whole_vectors)(size_t count) { return (count + LORA_LANES - 1) / LORA_LANES * LORA_LANES; }

/// 2^x for x < 127 within 3e-6 of its size, far below the rounding to bf16; never less than 2^-126; NaN for NaN.
///
/// 2^x = 2^n 2^r with n the nearest integer, and a minimax polynomial for 2^r that is exact at 0. Adding 1.5 * 2^23
/// rounds and leaves n in the low bits, which then move to the exponent.
LORA_INLINE floats LORA_NAME(exp2_near)(floats x) {
    const float magic = 0x1.8p23f;
    x = v_larger(v_splat(-126), x);
    floats shifted = x + magic;
    floats r = x - (shifted - magic);
    floats p = r * 0x1.3a02ccp-7f + 0x1.c9fc46p-5f;
    p = p * r + 0x1.ec0378p-3f;
    p = p * r + 0x1.62e12cp-1f;
    p = p * r + 1.0f;
    return (floats)((ints)p + ((ints)shifted << 23));
}

/// One query row against a tile: scores become probabilities relative to a running maximum. sums (row): the output,
/// then the lanes of the total. `factor` takes scores to exponents of 2, as `maximum` is one.
LORA_INLINE void LORA_NAME(soften)(uint16_t *probabilities, const float *scores, size_t width, size_t visible,
                                   float factor, float *sums, size_t row, float *maximum) {
    floats largest = v_splat(-INFINITY);
    for (size_t k = 0; k < width; k += LORA_LANES) {
        floats x = v_load(scores + k) * factor;
        if (k + LORA_LANES > visible) x = v_lane_numbers() + (int32_t)k < (int32_t)visible ? x : v_splat(-INFINITY);
        largest = v_larger(largest, x);
    }
    float now = v_maximum(largest), before = *maximum;
    // A maximum that is out of date by a small factor serves as well, and spares most corrections.
    if (!(now <= before + SLACK)) {
        float correction = LORA_NAME(exp2_near)(v_splat(before - now))[0];
        for (size_t d = 0; d < row; d += LORA_LANES) v_store(sums + d, v_load(sums + d) * correction);
        *maximum = now;
    } else
        now = before;
    floats total = v_load(sums + row - LORA_LANES);
    for (size_t k = 0; k < width; k += LORA_LANES) {
        floats p = LORA_NAME(exp2_near)(v_load(scores + k) * factor - now);
        if (k + LORA_LANES > visible) p = v_lane_numbers() + (int32_t)k < (int32_t)visible ? p : v_splat(0);
        v_store_bf16(probabilities + k, p, LORA_LANES);
        total += p;
    }
    v_store(sums + row - LORA_LANES, total);
}

LORA_INLINE void LORA_NAME(store_row)(uint16_t *out, const float *sums, float factor, size_t D) {
    for (size_t d = 0; d < D; d += LORA_LANES)
        v_store_bf16(out + d, v_load(sums + d) * factor, D - d < LORA_LANES ? D - d : LORA_LANES);
}

static void LORA_NAME(attention_forward_bf16)(uint16_t *out, size_t out_stride, float *logsumexp,
                                              const uint16_t *queries, size_t query_stride,
                                              const lora_key_span_bf16 *spans, size_t span_count, size_t key_stride,
                                              size_t first, size_t n, size_t D, float scale) {
    enum { BLOCK = 16, SUMS = 24576 };
    uint32_t keys[MAXIMUM_D / 2 * KEYS], values[KEYS / 2 * MAXIMUM_D];  // (D/2, KEYS), (KEYS/2, columns)
    float scores[BLOCK * KEYS];                                         // (BLOCK, KEYS)
    uint16_t probabilities[BLOCK * KEYS];                               // (BLOCK, KEYS)
    float sums[SUMS];                                                   // (chunk, row)
    size_t columns = LORA_NAME(whole_vectors)(D), row = columns + LORA_LANES;
    size_t most = SUMS / row / BLOCK * BLOCK;
    for (size_t chunk = 0; chunk < n; chunk += most) {
        size_t end = chunk + most < n ? chunk + most : n;
        memset(sums, 0, (end - chunk) * row * sizeof(float));
        for (size_t q = chunk; q < end; q++) logsumexp[q] = -INFINITY;  // the running maximum, until the end
        key_tile tile = {.span = spans, .spans_left = span_count};
        while (next_tile(&tile, key_stride, first + end)) {
            pack_columns(keys, KEYS, tile.keys, tile.count, D);
            pack_rows(values, columns, tile.values, tile.count, D);
            size_t q = tile.start > first + chunk ? tile.start - first : chunk;
            for (size_t rows; q < end; q += rows) {
                rows = end - q < BLOCK ? end - q : BLOCK;
                size_t seen = seen_of_tile(&tile, first + q + rows - 1);
                size_t width = LORA_NAME(whole_vectors)(seen);
                pair_product(PAIR_SET, scores, KEYS, (pair_matrix){queries + q * query_stride, query_stride, 2}, keys,
                             KEYS, rows, width, D / 2);
                for (size_t i = 0; i < rows; i++)
                    LORA_NAME(soften)(probabilities + i * KEYS, scores + i * KEYS, width,
                                      first + q + i + 1 - tile.start, scale * LOG2_E, sums + (q + i - chunk) * row, row,
                                      logsumexp + q + i);
                pair_product(PAIR_ADD, sums + (q - chunk) * row, row, (pair_matrix){probabilities, KEYS, 2}, values,
                             columns, rows, columns, (seen + 1) / 2);
            }
        }
        for (size_t q = chunk; q < end; q++) {
            const float *sum = sums + (q - chunk) * row;
            float total = v_sum(v_load(sum + columns));
            LORA_NAME(store_row)(out + q * out_stride, sum, 1 / total, D);
            logsumexp[q] = logsumexp[q] * LN_2 + logf(total);
        }
    }
}

/// Fetches `bytes` into the second cache.
LORA_INLINE void LORA_NAME(fetch)(const void *p, size_t bytes) {
    for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch((const char *)p + line, 0, 2);
}

/// Query q is at position first + q * step: step 1 for a sequence, 0 for the heads of one token. The same sums in the same
/// order as attention_forward_bf16; pages are packed already.
static void LORA_NAME(attention_pages_bf16)(uint16_t *out, size_t out_stride, const uint16_t *queries,
                                            size_t query_stride, const uint16_t *const *pages, size_t first,
                                            size_t step, size_t n, size_t D, float scale) {
    enum { BLOCK = 16, SUMS = 24576, PAGE = LORA_PAGE_LENGTH, FEW = 8 };
    float scores[BLOCK * KEYS], maxima[SUMS / 2 / LORA_LANES];
    uint16_t probabilities[BLOCK * KEYS];
    float sums[SUMS];  // (chunk, row)
    size_t row = LORA_NAME(whole_vectors)(D) + LORA_LANES, most = SUMS / row / BLOCK * BLOCK;
    size_t page_bytes = PAGE * D * 2;  // of keys, or of values
    for (size_t chunk = 0; chunk < n; chunk += most) {
        size_t end = chunk + most < n ? chunk + most : n, limit = first + (end - 1) * step + 1;
        memset(sums, 0, (end - chunk) * row * sizeof(float));
        for (size_t q = chunk; q < end; q++) maxima[q - chunk] = -INFINITY;
        // Of few queries, most of the time goes into waiting for pages.
        int fetches = end - chunk <= FEW;
        for (size_t k = 0; fetches && k < limit && k < KEYS; k += PAGE) LORA_NAME(fetch)(pages[k / PAGE], page_bytes);
        for (size_t start = 0; start < limit; start += KEYS) {
            const uint16_t *const *page = pages + start / PAGE;
            size_t q = start > first + chunk * step ? start - first : chunk;
            for (size_t rows; q < end; q += rows) {
                rows = end - q < BLOCK ? end - q : BLOCK;
                size_t seen = first + (q + rows - 1) * step + 1 - start;
                seen = seen < KEYS ? seen : KEYS;
                size_t width = LORA_NAME(whole_vectors)(seen);
                for (size_t k = 0; k < width; k += PAGE) {
                    if (fetches) LORA_NAME(fetch)((const char *)page[k / PAGE] + page_bytes, page_bytes);
                    pair_product(PAIR_SET, scores + k, KEYS, (pair_matrix){queries + q * query_stride, query_stride, 2},
                                 (const uint32_t *)page[k / PAGE], PAGE, rows, width - k < PAGE ? width - k : PAGE,
                                 D / 2);
                }
                for (size_t i = 0; i < rows; i++)
                    LORA_NAME(soften)(probabilities + i * KEYS, scores + i * KEYS, width,
                                      first + (q + i) * step + 1 - start, scale * LOG2_E, sums + (q + i - chunk) * row,
                                      row, maxima + q + i - chunk);
                for (size_t k = 0; k < seen; k += PAGE) {
                    size_t left = seen - k < PAGE ? seen - k : PAGE;
                    if (fetches && start + KEYS + k < limit) LORA_NAME(fetch)(page[(KEYS + k) / PAGE], page_bytes);
                    pair_product(PAIR_ADD, sums + (q - chunk) * row, row, (pair_matrix){probabilities + k, KEYS, 2},
                                 (const uint32_t *)(page[k / PAGE] + PAGE * D), D, rows, D, (left + 1) / 2);
                }
            }
        }
        for (size_t q = chunk; q < end; q++) {
            const float *sum = sums + (q - chunk) * row;
            LORA_NAME(store_row)(out + q * out_stride, sum, 1 / v_sum(v_load(sum + row - LORA_LANES)), D);
        }
    }
}

/// LORA_LANES scores and their gradients dP become P and dS; 0 for keys that the query does not see.
LORA_INLINE void LORA_NAME(soften_vector)(floats *p, floats *ds, const float *scores, const float *dscores, size_t k,
                                          size_t visible, float factor, float scale, softmax_row row) {
    // P = exp(scale * S - logsumexp). P is at most 1 and stays so when the scores are too large to be exact.
    *p = LORA_NAME(exp2_near)(v_smaller(v_splat(0), v_load(scores + k) * factor - row.logsumexp));
    *ds = *p * scale * (v_load(dscores + k) - row.delta);
    if (k + LORA_LANES > visible) {
        ints mask = v_lane_numbers() + (int32_t)k < (int32_t)visible;
        *p = mask ? *p : v_splat(0);
        *ds = mask ? *ds : v_splat(0);
    }
}

/// Two query rows against a tile: the pairs of their P and of their dS, and the rows of dS.
LORA_INLINE void LORA_NAME(soften_backward)(uint32_t *p_pairs, uint32_t *ds_pairs, uint16_t *ds_rows,
                                            const float *scores, const float *dscores, size_t width, size_t visible,
                                            float scale, const softmax_row *rows, int both) {
    float factor = scale * LOG2_E;
    for (size_t k = 0; k < width; k += LORA_LANES) {
        floats p[2] = {0, 0}, ds[2] = {0, 0};
        LORA_NAME(soften_vector)(&p[0], &ds[0], scores, dscores, k, visible, factor, scale, rows[0]);
        if (both)
            LORA_NAME(soften_vector)
            (&p[1], &ds[1], scores + KEYS, dscores + KEYS, k, visible + 1, factor, scale, rows[1]);
        pairs p_pair = v_pair_up(p[0], p[1]), ds_pair = v_pair_up(ds[0], ds[1]);
        __builtin_memcpy(p_pairs + k, &p_pair, sizeof p_pair);
        __builtin_memcpy(ds_pairs + k, &ds_pair, sizeof ds_pair);
        v_store_bf16(ds_rows + k, ds[0], LORA_LANES);
        v_store_bf16(ds_rows + KEYS + k, ds[1], LORA_LANES);
    }
}

static void LORA_NAME(softmax_rows)(softmax_row *rows, const uint16_t *dout, const uint16_t *out, size_t out_stride,
                                    const float *logsumexp, size_t count, size_t D) {
    for (size_t q = 0; q < count; q++, dout += out_stride, out += out_stride) {
        floats delta = 0;
        for (size_t d = 0; d < D; d += 2 * LORA_LANES) {
            size_t width = D - d < 2 * LORA_LANES ? (D - d) / 2 : LORA_LANES;
            delta = v_add_products(delta, v_pairs_up_to(dout + d, width), v_pairs_up_to(out + d, width));
        }
        rows[q] = (softmax_row){logsumexp[q] * LOG2_E, v_sum(delta)};
    }
}

/// What the queries of a block, the first of them at `position`, add to dK and dV of the tile's keys below `seen`.
/// p_pairs, ds_pairs (queries/2, KEYS); query_rows, dout_rows (queries/2, columns), where queries is a multiple of 2.
static void LORA_NAME(add_key_gradients)(const key_tile *tile, size_t seen, size_t key_stride, const uint32_t *p_pairs,
                                         const uint32_t *ds_pairs, const uint32_t *query_rows,
                                         const uint32_t *dout_rows, size_t columns, size_t position, size_t queries,
                                         size_t D) {
    for (size_t s = 0; s < tile->segment_count && tile->segments[s].at < seen; s++) {
        key_segment segment = tile->segments[s];
        size_t end = segment.at + segment.count < seen ? segment.at + segment.count : seen;
        for (size_t k = segment.at, count; k < end; k += count) {
            count = end - k < STRIP ? end - k : STRIP;
            // The first pair of queries that sees a key of the strip.
            size_t pair = tile->start + k > position ? (tile->start + k - position) / 2 : 0;
            size_t at = pair * KEYS + k, offset = (segment.offset + k - segment.at) * key_stride;
            // out = P V: dV = P^T dout
            if (segment.span->dvalues)
                pair_product(PAIR_ADD, segment.span->dvalues + offset, key_stride,
                             (pair_matrix){(const uint16_t *)(p_pairs + at), 2, 2 * KEYS}, dout_rows + pair * columns,
                             columns, count, D, queries / 2 - pair);
            // S = Q K^T: dK = dS^T Q
            if (segment.span->dkeys)
                pair_product(PAIR_ADD, segment.span->dkeys + offset, key_stride,
                             (pair_matrix){(const uint16_t *)(ds_pairs + at), 2, 2 * KEYS}, query_rows + pair * columns,
                             columns, count, D, queries / 2 - pair);
        }
    }
}

static void LORA_NAME(attention_backward_bf16)(float *dqueries, const uint16_t *dout, const uint16_t *out,
                                               size_t out_stride, const float *logsumexp, const uint16_t *queries,
                                               size_t query_stride, const lora_key_span_bf16 *spans, size_t span_count,
                                               size_t key_stride, size_t first, size_t n, size_t D, float scale) {
    enum { CHUNK = 512, BLOCK = 64, PACKED = BLOCK / 2 * MAXIMUM_D / 2 };
    uint32_t keys[MAXIMUM_D / 2 * KEYS], values[MAXIMUM_D / 2 * KEYS];  // (D/2, KEYS)
    uint32_t key_rows[KEYS / 2 * MAXIMUM_D];                            // (KEYS/2, columns)
    uint32_t query_rows[PACKED], dout_rows[PACKED];                     // (block/2, columns)
    float scores[STRIP * KEYS], dscores[STRIP * KEYS];                  // (STRIP, KEYS)
    uint32_t p_pairs[BLOCK / 2 * KEYS], ds_pairs[BLOCK / 2 * KEYS];     // (block/2, KEYS)
    uint16_t ds_rows[STRIP * KEYS];                                     // (STRIP, KEYS)
    softmax_row rows[CHUNK];
    size_t columns = LORA_NAME(whole_vectors)(D), block = D <= MAXIMUM_D / 2 ? BLOCK : BLOCK / 2;
    for (size_t chunk = 0; chunk < n; chunk += CHUNK) {
        size_t end = chunk + CHUNK < n ? chunk + CHUNK : n;
        for (size_t q = chunk; q < end; q++) memset(dqueries + q * query_stride, 0, D * sizeof(float));
        LORA_NAME(softmax_rows)(rows, dout + chunk * out_stride, out + chunk * out_stride, out_stride,
                                logsumexp + chunk, end - chunk, D);
        key_tile tile = {.span = spans, .spans_left = span_count};
        while (next_tile(&tile, key_stride, first + end)) {
            pack_columns(keys, KEYS, tile.keys, tile.count, D);
            pack_columns(values, KEYS, tile.values, tile.count, D);
            pack_rows(key_rows, columns, tile.keys, tile.count, D);
            size_t q = tile.start > first + chunk ? tile.start - first : chunk;
            for (size_t count; q < end; q += count) {
                count = end - q < block ? end - q : block;
                size_t seen = seen_of_tile(&tile, first + q + count - 1);
                const uint16_t *query[BLOCK], *drow[BLOCK];
                for (size_t i = 0; i < count; i++) {
                    query[i] = queries + (q + i) * query_stride;
                    drow[i] = dout + (q + i) * out_stride;
                }
                pack_rows(query_rows, columns, query, count, D);
                pack_rows(dout_rows, columns, drow, count, D);
                for (size_t i = 0, strip; i < count; i += strip) {
                    strip = count - i < STRIP ? count - i : STRIP;
                    size_t strip_seen = seen_of_tile(&tile, first + q + i + strip - 1);
                    size_t width = LORA_NAME(whole_vectors)(strip_seen);
                    size_t unseen = LORA_NAME(whole_vectors)(seen) - width;
                    // out = P V: dP = dout V^T
                    pair_product(PAIR_SET, scores, KEYS, (pair_matrix){query[i], query_stride, 2}, keys, KEYS, strip,
                                 width, D / 2);
                    pair_product(PAIR_SET, dscores, KEYS, (pair_matrix){drow[i], out_stride, 2}, values, KEYS, strip,
                                 width, D / 2);
                    for (size_t j = 0; j < strip; j += 2) {
                        uint32_t *p = p_pairs + (i + j) / 2 * KEYS, *ds = ds_pairs + (i + j) / 2 * KEYS;
                        LORA_NAME(soften_backward)(p, ds, ds_rows + j * KEYS, scores + j * KEYS, dscores + j * KEYS,
                                                   width, first + q + i + j + 1 - tile.start, scale,
                                                   rows + (q + i + j - chunk), j + 1 < strip);
                        memset(p + width, 0, unseen * sizeof *p);
                        memset(ds + width, 0, unseen * sizeof *ds);
                    }
                    // S = Q K^T: dQ = dS K
                    pair_product(PAIR_ADD, dqueries + (q + i) * query_stride, query_stride,
                                 (pair_matrix){ds_rows, KEYS, 2}, key_rows, columns, strip, D, (strip_seen + 1) / 2);
                }
                LORA_NAME(add_key_gradients)(&tile, seen, key_stride, p_pairs, ds_pairs, query_rows, dout_rows, columns,
                                             first + q, (count + 1) / 2 * 2, D);
            }
        }
    }
}

#else

#include <math.h>
#include <string.h>

#include "lora_kernels.h"

typedef uint16_t key_element;
typedef lora_key_span_bf16 key_span;
#include "key_tiles.h"

#define LOG2_E 0x1.715476p0f
#define LN_2 0x1.62e43p-1f
/// How far, as an exponent of 2, a score may exceed the maximum in use: the sums keep far from overflow.
#define SLACK 8.0f

/// What a query row brings to the softmax of backward.
typedef struct softmax_row {
    float logsumexp;  // as an exponent of 2
    float delta;      // the sum over keys of P * dP, = sum of out * dout, as out = P V
} softmax_row;

enum { STRIP = 8 };  // rows of a result at a time in backward

#define LORA_MULTIPLIES_BF16
#define LORA_FILE "attention_bf16.c"
#include "variants.h"

LORA_DISPATCH(attention_forward_bf16);
LORA_DISPATCH(attention_backward_bf16);
LORA_DISPATCH(attention_pages_bf16);

void lora_attention_forward_bf16(uint16_t *out, size_t out_stride, float *logsumexp, const uint16_t *queries,
                                 size_t query_stride, const lora_key_span_bf16 *spans, size_t span_count,
                                 size_t key_stride, size_t first, size_t n, size_t D, float scale) {
    LORA_CALL(attention_forward_bf16)
    (out, out_stride, logsumexp, queries, query_stride, spans, span_count, key_stride, first, n, D, scale);
}

void lora_attention_backward_bf16(float *dqueries, const uint16_t *dout, const uint16_t *out, size_t out_stride,
                                  const float *logsumexp, const uint16_t *queries, size_t query_stride,
                                  const lora_key_span_bf16 *spans, size_t span_count, size_t key_stride, size_t first,
                                  size_t n, size_t D, float scale) {
    LORA_CALL(attention_backward_bf16)
    (dqueries, dout, out, out_stride, logsumexp, queries, query_stride, spans, span_count, key_stride, first, n, D,
     scale);
}

void lora_attention_pages_bf16(uint16_t *out, size_t out_stride, const uint16_t *queries, size_t query_stride,
                               const uint16_t *const *pages, size_t first, size_t step, size_t n, size_t D,
                               float scale) {
    LORA_CALL(attention_pages_bf16)(out, out_stride, queries, query_stride, pages, first, step, n, D, scale);
}

void lora_page_write_bf16(uint16_t *page, size_t row, const uint16_t *key, const uint16_t *value, size_t D) {
    for (size_t d = 0; d < D; d += 2) memcpy(page + d * LORA_PAGE_LENGTH + row * 2, key + d, 2 * sizeof *key);
    uint16_t *values = page + LORA_PAGE_LENGTH * D + row / 2 * 2 * D + row % 2;
    for (size_t d = 0; d < D; d++) values[2 * d] = value[d];
    // A partner that is not there yet must be a finite number.
    if (row % 2 == 0)
        for (size_t d = 0; d < D; d++) values[2 * d + 1] = 0;
}

#endif
