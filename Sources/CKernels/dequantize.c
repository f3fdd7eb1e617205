// Quantised blocks to floats (GGML's block formats, https://github.com/ggml-org/ggml). Every value comes from the same
// operations in the same order as in gguf.quants: products and sums are rounded one by one, never fused.
#ifdef LORA_LANES

LORA_INLINE float LORA_NAME(half)(uint16_t half) {
#if defined(__x86_64__) && LORA_LANES > 4
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
#else
    return from_half(half);
#endif
}

// MARK: One block: out is overwritten with its 32 or 256 values.

LORA_INLINE void LORA_NAME(q8_0)(float *restrict out, const uint8_t *restrict block) {
    float d = LORA_NAME(half)(load_u16(block));
    const int8_t *q = (const int8_t *)block + 2;
    for (int i = 0; i < 32; i++) out[i] = (float)q[i] * d;
}

/// The low halves of 16 bytes, then the high halves. Going through one array of 32 lets the compiler use whole vectors.
LORA_INLINE void LORA_NAME(fours)(uint8_t *restrict q, const uint8_t *restrict packed) {
    for (int i = 0; i < 16; i++) q[i] = packed[i] & 15;
    for (int i = 0; i < 16; i++) q[16 + i] = packed[i] >> 4;
}

LORA_INLINE void LORA_NAME(q4_0)(float *restrict out, const uint8_t *restrict block) {
    uint8_t q[32];
    LORA_NAME(fours)(q, block + 2);
    float d = LORA_NAME(half)(load_u16(block));
    for (int i = 0; i < 32; i++) out[i] = d * (float)(q[i] - 8);
}

LORA_INLINE void LORA_NAME(q4_1)(float *restrict out, const uint8_t *restrict block) {
    uint8_t q[32];
    LORA_NAME(fours)(q, block + 4);
    float d = LORA_NAME(half)(load_u16(block)), m = LORA_NAME(half)(load_u16(block + 2));
    for (int i = 0; i < 32; i++) out[i] = d * (float)q[i] + m;
}

/// The fifth bits of 32 values stand in one word, the first value's lowest.
LORA_INLINE void LORA_NAME(fives)(int32_t *restrict q, const uint8_t *restrict high, const uint8_t *restrict low) {
    uint32_t bits;
    __builtin_memcpy(&bits, high, sizeof bits);
    for (int i = 0; i < 16; i++) q[i] = (int32_t)((low[i] & 15u) | (bits >> i & 1) << 4);
    for (int i = 0; i < 16; i++) q[16 + i] = (int32_t)((low[i] >> 4) | (bits >> (16 + i) & 1) << 4);
}

LORA_INLINE void LORA_NAME(q5_0)(float *restrict out, const uint8_t *restrict block) {
    int32_t q[32];
    LORA_NAME(fives)(q, block + 2, block + 6);
    float d = LORA_NAME(half)(load_u16(block));
    for (int i = 0; i < 32; i++) out[i] = d * (float)(q[i] - 16);
}

LORA_INLINE void LORA_NAME(q5_1)(float *restrict out, const uint8_t *restrict block) {
    int32_t q[32];
    LORA_NAME(fives)(q, block + 4, block + 8);
    float d = LORA_NAME(half)(load_u16(block)), m = LORA_NAME(half)(load_u16(block + 2));
    for (int i = 0; i < 32; i++) out[i] = d * (float)q[i] + m;
}

/// Eight scales and eight minima of 6 bits in 12 bytes.
LORA_INLINE void LORA_NAME(scales)(uint8_t *restrict scale, uint8_t *restrict minimum, const uint8_t *restrict s) {
    for (int i = 0; i < 4; i++) {
        scale[i] = s[i] & 63;
        minimum[i] = s[4 + i] & 63;
        scale[4 + i] = (uint8_t)((s[8 + i] & 15) | (s[i] >> 2 & 48));
        minimum[4 + i] = (uint8_t)(s[8 + i] >> 4 | (s[4 + i] >> 2 & 48));
    }
}

LORA_INLINE void LORA_NAME(q4_k)(float *restrict out, const uint8_t *restrict block) {
    uint8_t scale[8], minimum[8];
    LORA_NAME(scales)(scale, minimum, block + 4);
    float d = LORA_NAME(half)(load_u16(block)), dmin = LORA_NAME(half)(load_u16(block + 2));
    for (int group = 0; group < 8; group++) {
        const uint8_t *q = block + 16 + group / 2 * 32;
        int shift = group % 2 * 4;
        float dg = d * (float)scale[group], mg = dmin * (float)minimum[group];
        for (int i = 0; i < 32; i++) out[group * 32 + i] = dg * (float)(q[i] >> shift & 15) - mg;
    }
}

LORA_INLINE void LORA_NAME(q5_k)(float *restrict out, const uint8_t *restrict block) {
    uint8_t scale[8], minimum[8];
    LORA_NAME(scales)(scale, minimum, block + 4);
    float d = LORA_NAME(half)(load_u16(block)), dmin = LORA_NAME(half)(load_u16(block + 2));
    const uint8_t *high = block + 16;
    for (int group = 0; group < 8; group++) {
        const uint8_t *q = block + 48 + group / 2 * 32;
        int shift = group % 2 * 4;
        float dg = d * (float)scale[group], mg = dmin * (float)minimum[group];
        for (int i = 0; i < 32; i++) {
            int value = (q[i] >> shift & 15) | (high[i] >> group & 1) << 4;
            out[group * 32 + i] = dg * (float)value - mg;
        }
    }
}

LORA_INLINE void LORA_NAME(q6_k)(float *restrict out, const uint8_t *restrict block) {
    const uint8_t *low = block, *high = block + 128;
    const int8_t *scale = (const int8_t *)block + 192;
    float d = LORA_NAME(half)(load_u16(block + 208));
    for (int group = 0; group < 8; group++) {
        const uint8_t *l = low + group / 4 * 64 + group % 2 * 32, *h = high + group / 4 * 32;
        int low_shift = group % 4 / 2 * 4, high_shift = group % 4 * 2;
        float first = d * (float)scale[group * 2], second = d * (float)scale[group * 2 + 1];
        for (int i = 0; i < 32; i++) {
            int value = (l[i] >> low_shift & 15) | (h[i] >> high_shift & 3) << 4;
            out[group * 32 + i] = (i < 16 ? first : second) * (float)(value - 32);
        }
    }
}

// MARK: Rows

#include "round.h"

#define BLOCKS(function, size, bytes)                                                                         \
    for (size_t b = 0; b < n / size; b++) LORA_NAME(function)(out + b * size, (const uint8_t *)blocks + b * bytes); \
    return 0

static int LORA_NAME(dequantize)(float *out, const void *blocks, lora_type type, size_t n) {
    const uint8_t *bytes = blocks;
    switch (type) {
    case LORA_F32: __builtin_memcpy(out, blocks, n * sizeof *out); return 0;
    case LORA_F16:
        for (size_t i = 0; i < n; i++) out[i] = from_half(load_u16(bytes + 2 * i));
        return 0;
    case LORA_BF16:
        for (size_t i = 0; i < n; i++) out[i] = float_of((uint32_t)load_u16(bytes + 2 * i) << 16);
        return 0;
    case LORA_Q8_0: BLOCKS(q8_0, 32, 34);
    case LORA_Q4_0: BLOCKS(q4_0, 32, 18);
    case LORA_Q4_1: BLOCKS(q4_1, 32, 20);
    case LORA_Q5_0: BLOCKS(q5_0, 32, 22);
    case LORA_Q5_1: BLOCKS(q5_1, 32, 24);
    case LORA_Q4_K: BLOCKS(q4_k, 256, 144);
    case LORA_Q5_K: BLOCKS(q5_k, 256, 176);
    case LORA_Q6_K: BLOCKS(q6_k, 256, 210);
    }
    return -1;
}

/// out (n) = x as `round_to_bf16` does. Scales are f16 and what they multiply is whole, so no value is subnormal in f32.
LORA_INLINE void LORA_NAME(round_values)(uint16_t *restrict out, const float *restrict x, size_t n) {
#ifdef LORA_HAS_BF16
    for (size_t i = 0; i < n; i += 16) {
        __m256bh rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(x + i));
        __builtin_memcpy(out + i, &rounded, sizeof rounded);
    }
#else
    round_to_bf16(out, x, n);
#endif
}

#if LORA_LANES == 16
/// A block of 4 bits has 16 values: they are rounded once and looked up.
LORA_INLINE void LORA_NAME(sixteen)(uint16_t *restrict out, floats values, const uint8_t *restrict packed) {
    __m256i rounded;
#ifdef LORA_HAS_BF16
    rounded = (__m256i)_mm512_cvtneps_pbh((__m512)values);
#else
    float unrounded[16];
    v_store(unrounded, values);
    round_to_bf16((uint16_t *)&rounded, unrounded, 16);
#endif
    __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)packed));
    __m256i low = _mm256_and_si256(wide, _mm256_set1_epi16(15)), high = _mm256_srli_epi16(wide, 4);
    __m512i places = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    _mm512_storeu_si512(out, _mm512_permutexvar_epi16(places, _mm512_castsi256_si512(rounded)));
}

LORA_INLINE void LORA_NAME(q4_0_bf16)(uint16_t *restrict out, const uint8_t *restrict block) {
    floats q = __builtin_convertvector(v_lane_numbers() - 8, floats);
    LORA_NAME(sixteen)(out, LORA_NAME(half)(load_u16(block)) * q, block + 2);
}

LORA_INLINE void LORA_NAME(q4_1_bf16)(uint16_t *restrict out, const uint8_t *restrict block) {
    floats scaled = LORA_NAME(half)(load_u16(block)) * __builtin_convertvector(v_lane_numbers(), floats);
    LORA_NAME(sixteen)(out, scaled + LORA_NAME(half)(load_u16(block + 2)), block + 4);
}

#define SIXTEEN(function, bytes)                                                                                       \
    for (size_t b = 0; b < n / 32; b++) {                                                                              \
        __builtin_prefetch((const uint8_t *)blocks + b * bytes + 2048);                                                \
        LORA_NAME(function##_bf16)(out + b * 32, (const uint8_t *)blocks + b * bytes);                                 \
    }                                                                                                                  \
    return 0
#else
#define SIXTEEN(function, bytes) BLOCKS(function, 32, bytes)
#endif

#undef BLOCKS
#define BLOCKS(function, size, bytes)                                                      \
    for (size_t b = 0; b < n / size; b++) {                                                \
        float values[size];                                                                \
        __builtin_prefetch((const uint8_t *)blocks + b * bytes + 2048);                    \
        LORA_NAME(function)(values, (const uint8_t *)blocks + b * bytes);                  \
        LORA_NAME(round_values)(out + b * size, values, size);                             \
    }                                                                                      \
    return 0

static int LORA_NAME(dequantize_bf16)(uint16_t *out, const void *blocks, lora_type type, size_t n) {
    const uint8_t *bytes = blocks;
    switch (type) {
    case LORA_F32:
        for (size_t i = 0; i < n; i++) {
            float value;
            __builtin_memcpy(&value, bytes + 4 * i, sizeof value);
            round_to_bf16(out + i, &value, 1);
        }
        return 0;
    case LORA_F16:
        for (size_t i = 0; i < n; i++) {
            float value = from_half(load_u16(bytes + 2 * i));
            round_to_bf16(out + i, &value, 1);
        }
        return 0;
    case LORA_BF16: __builtin_memcpy(out, blocks, n * sizeof *out); return 0;
    case LORA_Q8_0: BLOCKS(q8_0, 32, 34);
    case LORA_Q4_0: SIXTEEN(q4_0, 18);
    case LORA_Q4_1: SIXTEEN(q4_1, 20);
    case LORA_Q5_0: BLOCKS(q5_0, 32, 22);
    case LORA_Q5_1: BLOCKS(q5_1, 32, 24);
    case LORA_Q4_K: BLOCKS(q4_k, 256, 144);
    case LORA_Q5_K: BLOCKS(q5_k, 256, 176);
    case LORA_Q6_K: BLOCKS(q6_k, 256, 210);
    }
    return -1;
}

#undef BLOCKS
#undef SIXTEEN

#else

#pragma STDC FP_CONTRACT OFF

#include <stdint.h>

#include "half.h"

/// Blocks stand at even addresses, not always at addresses their numbers are aligned to.
static inline __attribute__((always_inline)) uint16_t load_u16(const uint8_t *bytes) {
    uint16_t value;
    __builtin_memcpy(&value, bytes, sizeof value);
    return value;
}

#define LORA_MULTIPLIES_BF16
#define LORA_FILE "dequantize.c"
#include "variants.h"

LORA_DISPATCH(dequantize);
LORA_DISPATCH(dequantize_bf16);

int lora_dequantize(float *out, const void *blocks, lora_type type, size_t n) {
    return LORA_CALL(dequantize)(out, blocks, type, n);
}

int lora_dequantize_bf16(uint16_t *out, const void *blocks, lora_type type, size_t n) {
    return LORA_CALL(dequantize_bf16)(out, blocks, type, n);
}

#endif
