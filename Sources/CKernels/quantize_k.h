/// The part of lora_quantize that makes blocks of 256.
#ifndef LORA_QUANTIZE_K_H
#define LORA_QUANTIZE_K_H

#include <stddef.h>

#include "lora_kernels.h"

int lora_quantize_k(void *blocks, const float *x, const void *previous, lora_type type, size_t n);

#endif
