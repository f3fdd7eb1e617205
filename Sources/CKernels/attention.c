// Causal attention of one query head, tiled with an online softmax (arXiv 2205.14135, 2307.08691). No (n, keys) buffer.
//
// Keys are taken in tiles of KEYS that begin at multiples of KEYS in absolute positions, whatever the spans. Every
// score is one chain over D, every output one chain over positions, and a masked key contributes exactly nothing. So a
// query's result depends neither on how the keys are cut into spans nor on how many queries a call has.
#ifdef LORA_LANES

#include "few_rows.h"
#include "tile.h"

/// One query row against a tile: scores become probabilities relative to the new running maximum.
static void LORA_NAME(soften)(float *scores, size_t width, size_t visible, float scale, float *out, size_t D,
                              float *maximum, float *total) {
    floats largest = v_splat(-INFINITY);
    for (size_t k = 0; k < width; k += LORA_LANES) {
        floats x = v_load(scores + k) * scale;
        if (k + LORA_LANES > visible) x = v_lane_numbers() + (int32_t)k < (int32_t)visible ? x : v_splat(-INFINITY);
        v_store(scores + k, x);
        largest = v_larger(largest, x);
    }
    float before = *maximum, now = v_maximum(largest);
    now = before > now ? before : now;
    floats sum = 0;
    for (size_t k = 0; k < width; k += LORA_LANES) {
        floats p = v_exp(v_load(scores + k) - now);
        v_store(scores + k, p);
        sum += p;
    }
    if (now != before) {
        float correction = v_exp(v_splat(before - now))[0];
        size_t d = 0;
        for (; d + LORA_LANES <= D; d += LORA_LANES) v_store(out + d, v_load(out + d) * correction);
        for (; d < D; d++) out[d] *= correction;
        *total *= correction;
        *maximum = now;
    }
    *total += v_sum(sum);
}

static void LORA_NAME(pack)(float *to, const float *const *rows, size_t count, size_t D) {
    for (size_t k = 0; k < KEYS; k += LORA_LANES) {
        size_t left = k < count ? count - k : 0;
        tile_transpose(to + k, KEYS, rows + k, left < LORA_LANES ? left : LORA_LANES, D, 1);
    }
}

/// Query q is at position first + q * step: step 1 for a sequence, 0 for the heads of one token.
static void LORA_NAME(attention_forward)(float *out, size_t out_stride, float *logsumexp, const float *queries,
                                         size_t query_stride, const lora_key_span *spans, size_t span_count,
                                         size_t key_stride, size_t first, size_t step, size_t n, size_t D,
                                         float scale) {
    enum { QUERIES = 128, BLOCK = 16, FEW = 8 };
    float keys[MAXIMUM_D * KEYS];  // (D, KEYS)
    float scores[BLOCK * KEYS];    // (BLOCK, KEYS)
    float total[QUERIES];
    for (size_t chunk = 0; chunk < n; chunk += QUERIES) {
        size_t end = chunk + QUERIES < n ? chunk + QUERIES : n;
        for (size_t q = chunk; q < end; q++) {
            memset(out + q * out_stride, 0, D * sizeof(float));
            logsumexp[q] = -INFINITY;  // the running maximum, until the end
            total[q - chunk] = 0;
        }
        int few = end - chunk <= FEW;  // too few for a transposed copy of the tile to pay
        key_tile tile = {.span = spans, .spans_left = span_count};
        while (next_tile(&tile, key_stride, first + (end - 1) * step + 1)) {
            if (few)
                fill_rows(&tile, LORA_LANES);
            else
                LORA_NAME(pack)(keys, tile.keys, tile.count, D);
            size_t q = tile.start > first + chunk * step ? tile.start - first : chunk;
            for (size_t rows; q < end; q += rows) {
                rows = end - q < BLOCK ? end - q : BLOCK;
                size_t seen = seen_of_tile(&tile, first + (q + rows - 1) * step);
                size_t width = (seen + LORA_LANES - 1) / LORA_LANES * LORA_LANES;
                const float *query = queries + q * query_stride;
                if (few) {
                    few_scores(scores, query, query_stride, tile.keys, tile.values, rows, width, D);
                } else {
                    memset(scores, 0, rows * KEYS * sizeof(float));
                    tile_product(scores, KEYS, (tile_matrix){query, query_stride, 1}, keys, KEYS, rows, width, D);
                }
                for (size_t i = q; i < q + rows; i++)
                    LORA_NAME(soften)(scores + (i - q) * KEYS, width, first + i * step + 1 - tile.start, scale,
                                      out + i * out_stride, D, logsumexp + i, total + i - chunk);
                for (size_t s = 0; s < tile.segment_count && tile.segments[s].at < seen; s++) {
                    key_segment segment = tile.segments[s];
                    size_t count = segment.count < seen - segment.at ? segment.count : seen - segment.at;
                    tile_product(out + q * out_stride, out_stride, (tile_matrix){scores + segment.at, KEYS, 1},
                                 segment.span->values + segment.offset * key_stride, key_stride, rows, D, count);
                }
            }
        }
        for (size_t q = chunk; q < end; q++) {
            float inverse = 1 / total[q - chunk];
            for (size_t d = 0; d < D; d++) out[q * out_stride + d] *= inverse;
            logsumexp[q] += logf(total[q - chunk]);
        }
    }
}

/// One query row against a tile: scores become P, dscores (which hold dP) become dS.
static void LORA_NAME(soften_backward)(float *scores, float *dscores, size_t width, size_t visible, float scale,
                                       float logsumexp, const float *dout, const float *out, size_t D) {
    floats sum = 0;
    size_t d = 0;
    for (; d + LORA_LANES <= D; d += LORA_LANES) sum += v_load(dout + d) * v_load(out + d);
    if (d < D) sum += v_load_part(dout + d, D - d) * v_load_part(out + d, D - d);
    float delta = v_sum(sum);  // = sum over keys of P * dP, as out = P V
    for (size_t k = 0; k < width; k += LORA_LANES) {
        // P = exp(scale * S - logsumexp)
        floats p = v_exp(v_load(scores + k) * scale - logsumexp);
        floats dp = v_load(dscores + k);
        if (k + LORA_LANES > visible) {
            ints mask = v_lane_numbers() + (int32_t)k < (int32_t)visible;
            p = mask ? p : v_splat(0);
            dp = mask ? dp : v_splat(0);
        }
        v_store(scores + k, p);
        v_store(dscores + k, p * (dp - delta) * scale);
    }
}

static void LORA_NAME(attention_backward)(float *dqueries, const float *dout, const float *out, size_t out_stride,
                                          const float *logsumexp, const float *queries, size_t query_stride,
                                          const lora_key_span *spans, size_t span_count, size_t key_stride,
                                          size_t first, size_t n, size_t D, float scale) {
    enum { BLOCK = 32 };
    float keys[MAXIMUM_D * KEYS], values[MAXIMUM_D * KEYS];  // (D, KEYS)
    float scores[BLOCK * KEYS], dscores[BLOCK * KEYS];       // (BLOCK, KEYS)
    for (size_t q = 0; q < n; q++) memset(dqueries + q * query_stride, 0, D * sizeof(float));
    key_tile tile = {.span = spans, .spans_left = span_count};
    while (next_tile(&tile, key_stride, first + n)) {
        LORA_NAME(pack)(keys, tile.keys, tile.count, D);
        LORA_NAME(pack)(values, tile.values, tile.count, D);
        size_t q = tile.start > first ? tile.start - first : 0;
        for (size_t rows; q < n; q += rows) {
            rows = n - q < BLOCK ? n - q : BLOCK;
            size_t seen = seen_of_tile(&tile, first + q + rows - 1);
            size_t width = (seen + LORA_LANES - 1) / LORA_LANES * LORA_LANES;
            const float *query = queries + q * query_stride, *drow = dout + q * out_stride;
            memset(scores, 0, rows * KEYS * sizeof(float));
            memset(dscores, 0, rows * KEYS * sizeof(float));
            // out = P V: dP = dout V^T
            tile_product(scores, KEYS, (tile_matrix){query, query_stride, 1}, keys, KEYS, rows, width, D);
            tile_product(dscores, KEYS, (tile_matrix){drow, out_stride, 1}, values, KEYS, rows, width, D);
            for (size_t i = 0; i < rows; i++)
                LORA_NAME(soften_backward)(scores + i * KEYS, dscores + i * KEYS, width,
                                           first + q + i + 1 - tile.start, scale, logsumexp[q + i],
                                           drow + i * out_stride, out + (q + i) * out_stride, D);
            for (size_t s = 0; s < tile.segment_count && tile.segments[s].at < seen; s++) {
                key_segment segment = tile.segments[s];
                size_t count = segment.count < seen - segment.at ? segment.count : seen - segment.at;
                size_t offset = segment.offset * key_stride;
                // out = P V: dV = P^T dout
                if (segment.span->dvalues)
                    tile_product(segment.span->dvalues + offset, key_stride,
                                 (tile_matrix){scores + segment.at, 1, KEYS}, drow, out_stride, count, D, rows);
                // S = Q K^T: dK = dS^T Q, dQ = dS K
                if (segment.span->dkeys)
                    tile_product(segment.span->dkeys + offset, key_stride,
                                 (tile_matrix){dscores + segment.at, 1, KEYS}, query, query_stride, count, D, rows);
                tile_product(dqueries + q * query_stride, query_stride, (tile_matrix){dscores + segment.at, KEYS, 1},
                             segment.span->keys + offset, key_stride, rows, D, count);
            }
        }
    }
}

#else

#include <math.h>
#include <string.h>

#include "lora_kernels.h"

typedef float key_element;
typedef lora_key_span key_span;
#include "key_tiles.h"

#define LORA_FILE "attention.c"
#include "variants.h"

typedef void attention_function(float *out, size_t out_stride, float *logsumexp, const float *queries,
                                size_t query_stride, const lora_key_span *spans, size_t span_count, size_t key_stride,
                                size_t first, size_t step, size_t n, size_t D, float scale);
static attention_function *const attention_forward_variants[] = LORA_VARIANTS(attention_forward);
LORA_DISPATCH(attention_backward);

void lora_attention_forward(float *out, size_t out_stride, float *logsumexp, const float *queries, size_t query_stride,
                            const lora_key_span *spans, size_t span_count, size_t key_stride, size_t first, size_t n,
                            size_t D, float scale) {
    LORA_CALL(attention_forward)
    (out, out_stride, logsumexp, queries, query_stride, spans, span_count, key_stride, first, 1, n, D, scale);
}

void lora_attention_decode(float *out, float *logsumexp, const float *queries, const lora_key_span *spans,
                           size_t span_count, size_t key_stride, size_t position, size_t heads, size_t D, float scale) {
    LORA_CALL(attention_forward)
    (out, D, logsumexp, queries, D, spans, span_count, key_stride, position, 0, heads, D, scale);
}

void lora_attention_backward(float *dqueries, const float *dout, const float *out, size_t out_stride,
                             const float *logsumexp, const float *queries, size_t query_stride,
                             const lora_key_span *spans, size_t span_count, size_t key_stride, size_t first, size_t n,
                             size_t D, float scale) {
    LORA_CALL(attention_backward)
    (dqueries, dout, out, out_stride, logsumexp, queries, query_stride, spans, span_count, key_stride, first, n, D,
     scale);
}

#endif
