/// Adapters' deltas of a weight, put together in full (not low-rank) and measured after rounding.
#ifndef LORA_MERGE_H
#define LORA_MERGE_H

#include <stddef.h>
#include <stdint.h>

#include "lora_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

/// Adds to counts (65536) how many of x (n) have which upper 16 bits of magnitude (`prefix` < 0), or which lower 16 bits
/// among those whose upper ones are `prefix`.
void lora_count_magnitudes(uint64_t *counts, const float *x, size_t n, int32_t prefix);
/// x (n) in place: 0 where its magnitude is below the threshold.
void lora_trim(float *x, float threshold, size_t n);
/// out (n) overwritten: of deltas (parts, n), rows `stride` apart, those that have the sign of the sum of all (positive
/// for 0): the sum of weight times delta divided by their number; 0 where none has (TIES, arXiv 2306.01708).
void lora_elect(float *out, const float *deltas, size_t stride, const float *weights, size_t parts, size_t n);

/// sums overwritten, for the wanted change delta (n) and the change after - before (n) that was stored:
/// sum of delta², of delta times the stored change, of the squared difference of both.
void lora_rounding_moments(double sums[_Nonnull 3], const float *delta, const float *before, const float *after,
                           size_t n);
/// Blocks of n elements that delta (n) leaves alone altogether get the bytes they had.
/// Returns 0, or -1 for an unknown type or a part of a block.
int lora_keep_unchanged(void *blocks, const void *previous, const float *delta, lora_type type, size_t n);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif

#endif
