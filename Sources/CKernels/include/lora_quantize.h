/// Floats to stored tensor elements: the inverse of lora_dequantize.
#ifndef LORA_QUANTIZE_H
#define LORA_QUANTIZE_H

#include <stddef.h>

#include "lora_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

/// blocks overwritten with n elements of x (a whole number of blocks), to nearest. Quantised blocks get, of a small set
/// of scales and minima, those with the least sum of squared errors. `previous`, where there is one, holds as many
/// blocks of the same type: their scales belong to the set, so x that was expanded from them comes back unchanged, and
/// x near it is met at least as well as by leaving them as they are. Whatever x holds, every element is a defined one;
/// x outside the type's range, and what is not finite, is not met. Same blocks in every variant.
/// Returns 0, or -1 for an unknown type or a part of a block.
int lora_quantize(void *blocks, const float *x, const void *_Nullable previous, lora_type type, size_t n);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif

#endif
