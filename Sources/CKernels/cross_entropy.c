// Softmax cross-entropy of a row of logits, of which a panel at a time exists.
#ifdef LORA_LANES

#include "tile_bf16.h"

enum { LORA_NAME(CHAINS) = 4 };
#define CHAINS LORA_NAME(CHAINS)

LORA_INLINE float LORA_NAME(largest)(const float *x, size_t n) {
    floats largest[CHAINS];
    for (int j = 0; j < CHAINS; j++) largest[j] = v_splat(-FLT_MAX);
    size_t i = 0;
    for (; i + CHAINS * LORA_LANES <= n; i += CHAINS * LORA_LANES)
#pragma clang loop unroll(full)
        for (int j = 0; j < CHAINS; j++) largest[j] = v_larger(largest[j], v_load(x + i + j * LORA_LANES));
    float maximum = v_maximum(v_larger(v_larger(largest[0], largest[2]), v_larger(largest[1], largest[3])));
    for (; i < n; i++) maximum = maximum > x[i] ? maximum : x[i];
    // Of nothing but excluded tokens the exponentials are to be 0.
    return maximum > -FLT_MAX ? maximum : -FLT_MAX;
}

/// What both element types share: `store` keeps `width` exponentials at i.
#define EXPONENTIALS(store)                                                                                            \
    float shift = *maximum = LORA_NAME(largest)(x, n);                                                                 \
    floats sums[CHAINS] = {0, 0, 0, 0};                                                                                \
    size_t i = 0;                                                                                                      \
    for (; i + CHAINS * LORA_LANES <= n; i += CHAINS * LORA_LANES)                                                     \
        _Pragma("clang loop unroll(full)") for (int j = 0; j < CHAINS; j++) {                                          \
            floats e = v_exp(v_load(x + i + j * LORA_LANES) - shift);                                                  \
            sums[j] += e;                                                                                              \
            store(e, i + j * LORA_LANES, LORA_LANES);                                                                  \
        }                                                                                                              \
    for (; i < n; i += LORA_LANES) {                                                                                   \
        size_t width = n - i < LORA_LANES ? n - i : LORA_LANES;                                                        \
        floats e = v_exp(v_load_up_to(x + i, width) - shift);                                                          \
        sums[0] += v_lane_numbers() < (int32_t)width ? e : v_splat(0);                                                 \
        store(e, i, width);                                                                                            \
    }                                                                                                                  \
    *sum = v_sum((sums[0] + sums[2]) + (sums[1] + sums[3]))

static void LORA_NAME(exponentials_f32)(float *out, float *maximum, float *sum, const float *x, size_t n) {
#define STORE(e, at, width)                                                                                            \
    if (out) v_store_up_to(out + (at), e, width)
    EXPONENTIALS(STORE);
#undef STORE
}

static void LORA_NAME(exponentials_bf16)(uint16_t *out, float *maximum, float *sum, const float *x, size_t n) {
#define STORE(e, at, width)                                                                                            \
    if (out) v_store_bf16(out + (at), e, width)
    EXPONENTIALS(STORE);
#undef STORE
}

static void LORA_NAME(scaled_f32)(float *out, const float *x, float factor, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = x[i] * factor;
}

static void LORA_NAME(scaled_bf16)(uint16_t *out, const uint16_t *x, float factor, size_t n) {
    size_t i = 0;
    for (; i + LORA_LANES <= n; i += LORA_LANES) {
        halves bits;
        __builtin_memcpy(&bits, x + i, sizeof bits);
        v_store_bf16(out + i, (floats)(__builtin_convertvector(bits, pairs) << 16) * factor, LORA_LANES);
    }
    if (i < n) {
        halves bits = 0;
        __builtin_memcpy(&bits, x + i, (n - i) * sizeof *x);
        v_store_bf16(out + i, (floats)(__builtin_convertvector(bits, pairs) << 16) * factor, n - i);
    }
}

#undef EXPONENTIALS
#undef CHAINS

#else

#include <float.h>
#include <math.h>

#define LORA_MULTIPLIES_BF16
#define LORA_FILE "cross_entropy.c"
#include "variants.h"

LORA_DISPATCH(exponentials_f32);
LORA_DISPATCH(exponentials_bf16);
LORA_DISPATCH(scaled_f32);
LORA_DISPATCH(scaled_bf16);

void lora_exponentials_f32(float *out, float *maximum, float *sum, const float *x, size_t n) {
    LORA_CALL(exponentials_f32)(out, maximum, sum, x, n);
}

void lora_exponentials_bf16(uint16_t *out, float *maximum, float *sum, const float *x, size_t n) {
    LORA_CALL(exponentials_bf16)(out, maximum, sum, x, n);
}

void lora_scaled_f32(float *out, const float *x, float factor, size_t n) { LORA_CALL(scaled_f32)(out, x, factor, n); }

void lora_scaled_bf16(uint16_t *out, const uint16_t *x, float factor, size_t n) {
    LORA_CALL(scaled_bf16)(out, x, factor, n);
}

#endif
