// Floats to blocks of 256 whose groups' scales (and minima) are whole multiples of two halves.
#ifdef LORA_LANES

#include "grid.h"

/// Rounds of: groups choose multiples, then the unit is fitted to all of them.
#define ROUNDS 3

/// A block's numbers before packing: group g of `size` elements has the grid
/// unit * multiple[g] * q - minimum_unit * minimum[g].
typedef struct LORA_NAME(super) {
    float unit, minimum_unit;
    float multiple[16], minimum[16];
    float error;
} LORA_NAME(super);

/// What distinguishes the three types.
typedef struct LORA_NAME(kind) {
    size_t bytes, groups, size;
    float low, high;              // of codes
    float multiple_low, multiple_high;
    int affine;
} LORA_NAME(kind);

LORA_INLINE lora_grid LORA_NAME(group_grid)(const LORA_NAME(super) *block, size_t group, LORA_NAME(kind) kind) {
    return (lora_grid){block->unit * block->multiple[group], -(block->minimum_unit * block->minimum[group]), kind.low,
                       kind.high};
}

LORA_INLINE float LORA_NAME(clamp_to)(float x, float low, float high) {
    x = x > low ? x : low;
    x = x < high ? x : high;
    return x + 12582912.0f - 12582912.0f;
}

/// The nearest multiples to what the groups would like, or their neighbours where those meet x better.
LORA_INLINE void LORA_NAME(choose_multiples)(
    LORA_NAME(super) *block, const float *x, const lora_grid_search *wanted, LORA_NAME(kind) kind) {
    float unit = block->unit != 0 ? 1 / block->unit : 0;
    float minimum_unit = block->minimum_unit != 0 ? 1 / block->minimum_unit : 0;
    block->error = 0;
    for (size_t g = 0; g < kind.groups; g++) {
        float multiple = LORA_NAME(clamp_to)(wanted[g].grid.scale * unit, kind.multiple_low, kind.multiple_high);
        float minimum = LORA_NAME(clamp_to)(-wanted[g].grid.offset * minimum_unit, 0, 63);
        float best = __builtin_inff(), best_multiple = multiple, best_minimum = minimum;
        int reach = kind.affine ? 1 : 0;
        for (int step = -1; step <= 1; step++)
            for (int other = -reach; other <= reach; other++) {
                block->multiple[g] =
                    LORA_NAME(clamp_to)(multiple + (float)step, kind.multiple_low, kind.multiple_high);
                block->minimum[g] = LORA_NAME(clamp_to)(minimum + (float)other, 0, 63);
                float error = grid_error(x + g * kind.size, kind.size, LORA_NAME(group_grid)(block, g, kind));
                if (error < best) {
                    best = error;
                    best_multiple = block->multiple[g];
                    best_minimum = block->minimum[g];
                }
            }
        block->multiple[g] = best_multiple;
        block->minimum[g] = best_minimum;
        block->error += best;
    }
}

/// The units that least squares fits to the multiples and codes as they are, rounded to halves.
LORA_INLINE void LORA_NAME(fit_units)(LORA_NAME(super) *block, const float *x, LORA_NAME(kind) kind) {
    // x is unit * a - minimum_unit * b, with a = multiple * q and b = minimum.
    float aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
    for (size_t g = 0; g < kind.groups; g++) {
        lora_grid_moments sum =
            grid_moments(x + g * kind.size, kind.size, LORA_NAME(group_grid)(block, g, kind));
        float multiple = block->multiple[g], minimum = block->minimum[g];
        aa += multiple * multiple * sum.qq;
        ab += multiple * minimum * sum.q;
        bb += minimum * minimum * (float)kind.size;
        xa += multiple * sum.xq;
        xb += minimum * sum.x;
    }
    float determinant = aa * bb - ab * ab;
    float unit = block->unit, minimum_unit = block->minimum_unit;
    if (kind.affine && determinant > 1e-6f * aa * bb) {
        unit = (xa * bb - xb * ab) / determinant;
        minimum_unit = (xa * ab - xb * aa) / determinant;
    } else if (aa > 0) {
        unit = (xa + minimum_unit * ab) / aa;
    }
    if (kind.affine && !(unit >= 0 && minimum_unit >= 0)) return;
    block->unit = from_half(to_half(unit));
    block->minimum_unit = from_half(to_half(minimum_unit));
}

/// The error of a block whose numbers are given.
LORA_INLINE void LORA_NAME(measure)(LORA_NAME(super) *block, const float *x, LORA_NAME(kind) kind) {
    block->error = 0;
    for (size_t g = 0; g < kind.groups; g++)
        block->error += grid_error(x + g * kind.size, kind.size, LORA_NAME(group_grid)(block, g, kind));
}

static LORA_NAME(super) LORA_NAME(fit_super)(const float *x, LORA_NAME(kind) kind) {
    lora_grid_search wanted[16];
    LORA_NAME(super) block = {0}, best = {.error = __builtin_inff()};
    float extreme = 0, deepest = 0;
    for (size_t g = 0; g < kind.groups; g++) {
        const float *group = x + g * kind.size;
        wanted[g] = kind.affine ? fit_affine(group, kind.size, kind.high, 0, 1)
                                : fit_symmetric(group, kind.size, kind.low, kind.high, 0);
        lora_grid grid = wanted[g].grid;
        extreme = __builtin_fabsf(grid.scale) > __builtin_fabsf(extreme) ? grid.scale : extreme;
        deepest = -grid.offset > deepest ? -grid.offset : deepest;
    }
    block.unit = from_half(to_half(extreme / (kind.affine ? kind.multiple_high : kind.multiple_low)));
    block.minimum_unit = from_half(to_half(deepest / 63));
    for (int round = 0; round < ROUNDS; round++) {
        LORA_NAME(choose_multiples)(&block, x, wanted, kind);
        if (block.error < best.error) best = block;
        LORA_NAME(fit_units)(&block, x, kind);
        LORA_NAME(measure)(&block, x, kind);
        if (block.error < best.error) best = block;
    }
    // Nothing was met, as no finite number meets a NaN: zeros are at least defined.
    if (!(best.error < __builtin_inff())) best = (LORA_NAME(super)){0};
    return best;
}

// MARK: Packing, the inverse of dequantize.c

/// Eight scales and eight minima of 6 bits in 12 bytes.
LORA_INLINE void LORA_NAME(pack_multiples)(uint8_t *restrict s, const LORA_NAME(super) *block) {
    uint8_t scale[8], minimum[8];
    for (int g = 0; g < 8; g++) {
        scale[g] = (uint8_t)block->multiple[g];
        minimum[g] = (uint8_t)block->minimum[g];
    }
    for (int i = 0; i < 4; i++) {
        s[i] = (uint8_t)(scale[i] | (scale[4 + i] & 48) << 2);
        s[4 + i] = (uint8_t)(minimum[i] | (minimum[4 + i] & 48) << 2);
        s[8 + i] = (uint8_t)((scale[4 + i] & 15) | (minimum[4 + i] & 15) << 4);
    }
}

LORA_INLINE void LORA_NAME(unpack_multiples)(LORA_NAME(super) *block, const uint8_t *restrict s) {
    for (int i = 0; i < 4; i++) {
        block->multiple[i] = (float)(s[i] & 63);
        block->minimum[i] = (float)(s[4 + i] & 63);
        block->multiple[4 + i] = (float)((s[8 + i] & 15) | (s[i] >> 2 & 48));
        block->minimum[4 + i] = (float)(s[8 + i] >> 4 | (s[4 + i] >> 2 & 48));
    }
}

LORA_INLINE LORA_NAME(super) LORA_NAME(unpack_super)(const uint8_t *bytes, LORA_NAME(kind) kind) {
    LORA_NAME(super) block = {0};
    if (kind.affine) {
        block.unit = from_half(load_u16(bytes));
        block.minimum_unit = from_half(load_u16(bytes + 2));
        LORA_NAME(unpack_multiples)(&block, bytes + 4);
    } else {
        block.unit = from_half(load_u16(bytes + 208));
        for (int g = 0; g < 16; g++) block.multiple[g] = (float)(int8_t)bytes[192 + g];
    }
    return block;
}

LORA_INLINE void LORA_NAME(pack_q6)(uint8_t *restrict bytes, const uint8_t *restrict q, const LORA_NAME(super) *block) {
    __builtin_memset(bytes, 0, 192);
    for (int group = 0; group < 8; group++) {
        uint8_t *low = bytes + group / 4 * 64 + group % 2 * 32, *high = bytes + 128 + group / 4 * 32;
        int low_shift = group % 4 / 2 * 4, high_shift = group % 4 * 2;
        for (int i = 0; i < 32; i++) {
            low[i] |= (uint8_t)((q[group * 32 + i] & 15) << low_shift);
            high[i] |= (uint8_t)(q[group * 32 + i] >> 4 << high_shift);
        }
    }
    for (int g = 0; g < 16; g++) bytes[192 + g] = (uint8_t)(int8_t)block->multiple[g];
    uint16_t unit = to_half(block->unit);
    __builtin_memcpy(bytes + 208, &unit, 2);
}

LORA_INLINE void LORA_NAME(pack_affine)(
    uint8_t *restrict bytes, const uint8_t *restrict q, const LORA_NAME(super) *block, LORA_NAME(kind) kind) {
    uint16_t unit = to_half(block->unit), minimum_unit = to_half(block->minimum_unit);
    __builtin_memcpy(bytes, &unit, 2);
    __builtin_memcpy(bytes + 2, &minimum_unit, 2);
    LORA_NAME(pack_multiples)(bytes + 4, block);
    uint8_t *low = bytes + 16;
    if (kind.high > 15) {
        __builtin_memset(low, 0, 32);
        for (int group = 0; group < 8; group++)
            for (int i = 0; i < 32; i++) low[i] |= (uint8_t)((q[group * 32 + i] >> 4 & 1) << group);
        low += 32;
    }
    for (int pair = 0; pair < 4; pair++)
        for (int i = 0; i < 32; i++)
            low[pair * 32 + i] = (uint8_t)((q[pair * 64 + i] & 15) | (q[pair * 64 + 32 + i] & 15) << 4);
}

static void LORA_NAME(quantize_super)(
    uint8_t *bytes, const float *x, const uint8_t *previous, LORA_NAME(kind) kind) {
    LORA_NAME(super) best = LORA_NAME(fit_super)(x, kind);
    if (previous) {
        LORA_NAME(super) old = LORA_NAME(unpack_super)(previous, kind);
        LORA_NAME(measure)(&old, x, kind);
        LORA_NAME(measure)(&best, x, kind);
        if (old.error < best.error) best = old;
    }
    uint8_t codes[256];
    for (size_t g = 0; g < kind.groups; g++) {
        float q[32];
        grid_codes(q, x + g * kind.size, kind.size, LORA_NAME(group_grid)(&best, g, kind));
        for (size_t i = 0; i < kind.size; i++) codes[g * kind.size + i] = (uint8_t)(q[i] - kind.low);
    }
    if (kind.affine)
        LORA_NAME(pack_affine)(bytes, codes, &best, kind);
    else
        LORA_NAME(pack_q6)(bytes, codes, &best);
}

static int LORA_NAME(quantize_k)(void *blocks, const float *x, const void *previous, lora_type type, size_t n) {
    LORA_NAME(kind) kind;
    switch (type) {
    case LORA_Q4_K: kind = (LORA_NAME(kind)){144, 8, 32, 0, 15, 0, 63, 1}; break;
    case LORA_Q5_K: kind = (LORA_NAME(kind)){176, 8, 32, 0, 31, 0, 63, 1}; break;
    case LORA_Q6_K: kind = (LORA_NAME(kind)){210, 16, 16, -32, 31, -128, 127, 0}; break;
    default: return -1;
    }
    if (n % 256) return -1;
    for (size_t b = 0; b < n / 256; b++) {
        const uint8_t *old = previous ? (const uint8_t *)previous + b * kind.bytes : 0;
        LORA_NAME(quantize_super)((uint8_t *)blocks + b * kind.bytes, x + b * 256, old, kind);
    }
    return 0;
}

#else

#pragma STDC FP_CONTRACT OFF

#include <stdint.h>

#include "half.h"
#include "quantize_k.h"

static inline __attribute__((always_inline)) uint16_t load_u16(const uint8_t *bytes) {
    uint16_t value;
    __builtin_memcpy(&value, bytes, sizeof value);
    return value;
}

#define LORA_FILE "quantize_k.c"
#include "variants.h"

LORA_DISPATCH(quantize_k);

int lora_quantize_k(void *blocks, const float *x, const void *previous, lora_type type, size_t n) {
    return LORA_CALL(quantize_k)(blocks, x, previous, type, n);
}

#endif
