// Floats to blocks of 32 with a scale (and a minimum) of their own, and to the types without blocks.
#ifdef LORA_LANES

#include "grid.h"
#include "round.h"

// MARK: Packing, the inverse of dequantize.c. Codes are whole numbers from 0 on.

LORA_INLINE void LORA_NAME(pack_fours)(uint8_t *restrict packed, const uint8_t *restrict q) {
    for (int i = 0; i < 16; i++) packed[i] = (uint8_t)((q[i] & 15) | (q[16 + i] & 15) << 4);
}

LORA_INLINE void LORA_NAME(pack_fifth_bits)(uint8_t *restrict high, const uint8_t *restrict q) {
    uint32_t bits = 0;
    for (int i = 0; i < 32; i++) bits |= (uint32_t)(q[i] >> 4 & 1) << i;
    __builtin_memcpy(high, &bits, sizeof bits);
}

/// What distinguishes the five types: the codes' range, and whether there is a minimum.
typedef struct LORA_NAME(shape) {
    size_t bytes;
    float low, high;
    int affine, fifth;
} LORA_NAME(shape);

LORA_INLINE void LORA_NAME(quantize_block)(
    uint8_t *restrict block, const float *restrict x, const uint8_t *previous, LORA_NAME(shape) shape) {
    lora_grid_search search = shape.affine ? fit_affine(x, 32, shape.high, 1, 0)
                                           : fit_symmetric(x, 32, shape.low, shape.high, 1);
    if (previous) {
        float offset = shape.affine ? from_half(load_u16(previous + 2)) : 0;
        refine(&search, x, 32, from_half(load_u16(previous)), offset);
    }
    float q[32];
    uint8_t codes[32];
    grid_codes(q, x, 32, search.grid);
    uint16_t scale = to_half(search.grid.scale), offset = to_half(search.grid.offset);
    __builtin_memcpy(block, &scale, 2);
    if (shape.affine) __builtin_memcpy(block + 2, &offset, 2);
    uint8_t *rest = block + (shape.affine ? 4 : 2);
    if (shape.bytes == 34) {
        for (int i = 0; i < 32; i++) rest[i] = (uint8_t)(int8_t)q[i];
        return;
    }
    for (int i = 0; i < 32; i++) codes[i] = (uint8_t)(q[i] - shape.low);
    if (shape.fifth) {
        LORA_NAME(pack_fifth_bits)(rest, codes);
        rest += 4;
    }
    LORA_NAME(pack_fours)(rest, codes);
}

static int LORA_NAME(quantize_blocks)(
    void *blocks, const float *x, const void *previous, LORA_NAME(shape) shape, size_t n) {
    if (n % 32) return -1;
    for (size_t b = 0; b < n / 32; b++) {
        const uint8_t *old = previous ? (const uint8_t *)previous + b * shape.bytes : 0;
        LORA_NAME(quantize_block)((uint8_t *)blocks + b * shape.bytes, x + b * 32, old, shape);
    }
    return 0;
}

static int LORA_NAME(quantize)(void *blocks, const float *x, const void *previous, lora_type type, size_t n) {
    switch (type) {
    case LORA_F32: __builtin_memcpy(blocks, x, n * sizeof *x); return 0;
    case LORA_F16:
        for (size_t i = 0; i < n; i++) {
            uint16_t half = to_half(x[i]);
            __builtin_memcpy((uint8_t *)blocks + 2 * i, &half, sizeof half);
        }
        return 0;
    case LORA_BF16:
        for (size_t i = 0; i < n; i++) {
            uint16_t rounded;
            round_to_bf16(&rounded, x + i, 1);
            __builtin_memcpy((uint8_t *)blocks + 2 * i, &rounded, sizeof rounded);
        }
        return 0;
    // Kernels elsewhere take the absolute value of a byte: -128 is never written.
    case LORA_Q8_0: return LORA_NAME(quantize_blocks)(blocks, x, previous, (LORA_NAME(shape)){34, -127, 127, 0, 0}, n);
    case LORA_Q4_0: return LORA_NAME(quantize_blocks)(blocks, x, previous, (LORA_NAME(shape)){18, -8, 7, 0, 0}, n);
    case LORA_Q4_1: return LORA_NAME(quantize_blocks)(blocks, x, previous, (LORA_NAME(shape)){20, 0, 15, 1, 0}, n);
    case LORA_Q5_0: return LORA_NAME(quantize_blocks)(blocks, x, previous, (LORA_NAME(shape)){22, -16, 15, 0, 1}, n);
    case LORA_Q5_1: return LORA_NAME(quantize_blocks)(blocks, x, previous, (LORA_NAME(shape)){24, 0, 31, 1, 1}, n);
    default: return -1;
    }
}

#else

#pragma STDC FP_CONTRACT OFF

#include "lora_quantize.h"

#include "half.h"
#include "quantize_k.h"

static inline __attribute__((always_inline)) uint16_t load_u16(const uint8_t *bytes) {
    uint16_t value;
    __builtin_memcpy(&value, bytes, sizeof value);
    return value;
}

#define LORA_FILE "quantize.c"
#include "variants.h"

LORA_DISPATCH(quantize);

int lora_quantize(void *blocks, const float *x, const void *previous, lora_type type, size_t n) {
    if (type == LORA_Q4_K || type == LORA_Q5_K || type == LORA_Q6_K)
        return lora_quantize_k(blocks, x, previous, type, n);
    return LORA_CALL(quantize)(blocks, x, previous, type, n);
}

#endif
