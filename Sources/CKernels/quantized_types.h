#ifndef LORA_QUANTIZED_TYPES_H
#define LORA_QUANTIZED_TYPES_H

#include "lora_kernels.h"

/// The weights of one block, 0 for an unknown type.
static inline size_t weights_of_block(lora_type type) {
    switch (type) {
    case LORA_F32:
    case LORA_F16:
    case LORA_BF16: return 1;
    case LORA_Q4_0:
    case LORA_Q4_1:
    case LORA_Q5_0:
    case LORA_Q5_1:
    case LORA_Q8_0: return 32;
    case LORA_Q4_K:
    case LORA_Q5_K:
    case LORA_Q6_K: return 256;
    }
    return 0;
}

#endif
