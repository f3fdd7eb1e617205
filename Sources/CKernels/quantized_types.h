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

/// Whether blocks have 256 weights, eight parts of 32 with scales of their own.
static inline int is_large(lora_type type) { return weights_of_block(type) == 256; }

/// Where a block of 256 holds the low four bits of part `part`, in 32 bytes, and those above, and how far up in the bytes.
static inline size_t large_low(lora_type type, size_t part) {
    return type == LORA_Q6_K ? part / 4 * 64 + part % 2 * 32 : (type == LORA_Q4_K ? 16 : 48) + part / 2 * 32;
}
static inline size_t large_high(lora_type type, size_t part) {
    return type == LORA_Q6_K ? 128 + part / 4 * 32 : 16;
}
static inline int large_low_shift(lora_type type, size_t part) {
    return (int)(type == LORA_Q6_K ? part % 4 / 2 : part % 2) * 4;
}
static inline int large_high_shift(lora_type type, size_t part) {
    return (int)(type == LORA_Q6_K ? part % 4 * 2 : part);
}

#endif
