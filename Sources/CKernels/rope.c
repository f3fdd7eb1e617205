// Rotary position embedding (arXiv 2104.09864).
#ifdef LORA_LANES

/// (a, b) becomes (a cos - b sin, a sin + b cos).
LORA_INLINE void LORA_NAME(turn)(floats *a, floats *b, floats cosine, floats sine) {
    floats turned = *a * cosine - *b * sine;
    *b = *a * sine + *b * cosine;
    *a = turned;
}

/// One head whose pairs are (i, i + half).
LORA_INLINE void LORA_NAME(turn_halves)(float *x, const float *cosines, const float *sines, float sign, size_t half) {
    for (size_t i = 0; i < half; i += LORA_LANES) {
        size_t width = half - i < LORA_LANES ? half - i : LORA_LANES;
        floats a = v_load_up_to(x + i, width), b = v_load_up_to(x + half + i, width);
        LORA_NAME(turn)(&a, &b, v_load_up_to(cosines + i, width), v_load_up_to(sines + i, width) * sign);
        v_store_up_to(x + i, a, width);
        v_store_up_to(x + half + i, b, width);
    }
}

/// One head whose pairs are (2i, 2i + 1).
LORA_INLINE void LORA_NAME(turn_pairs)(float *x, const float *cosines, const float *sines, float sign, size_t half) {
    for (size_t i = 0; i < half; i += LORA_LANES) {
        size_t width = half - i < LORA_LANES ? half - i : LORA_LANES;
        size_t low = 2 * width < LORA_LANES ? 2 * width : LORA_LANES, high = 2 * width - low;
        float *from = x + 2 * i;
        floats first = v_load_up_to(from, low), second = high ? v_load_up_to(from + LORA_LANES, high) : v_splat(0);
        floats a = v_even(first, second), b = v_odd(first, second);
        LORA_NAME(turn)(&a, &b, v_load_up_to(cosines + i, width), v_load_up_to(sines + i, width) * sign);
        v_store_up_to(from, v_weave_low(a, b), low);
        if (high) v_store_up_to(from + LORA_LANES, v_weave_high(a, b), high);
    }
}

static void LORA_NAME(rope)(float *x, size_t stride, const int32_t *positions, const float *cosines, const float *sines,
                            float sign, size_t T, size_t H, size_t D, int halves) {
    size_t half = D / 2;
    for (size_t t = 0; t < T; t++, x += stride) {
        const float *cosine = cosines + (size_t)positions[t] * half, *sine = sines + (size_t)positions[t] * half;
        for (size_t h = 0; h < H; h++) {
            if (halves)
                LORA_NAME(turn_halves)(x + h * D, cosine, sine, sign, half);
            else
                LORA_NAME(turn_pairs)(x + h * D, cosine, sine, sign, half);
        }
    }
}

#else

#define LORA_FILE "rope.c"
#include "variants.h"

typedef void rope_function(float *x, size_t stride, const int32_t *positions, const float *cosines, const float *sines,
                           float sign, size_t T, size_t H, size_t D, int halves);
static rope_function *const rope_variants[] = LORA_VARIANTS(rope);

void lora_rope_forward(float *x, size_t stride, const int32_t *positions, const float *cosines, const float *sines,
                       size_t T, size_t H, size_t D, int halves) {
    LORA_CALL(rope)(x, stride, positions, cosines, sines, 1, T, H, D, halves);
}

void lora_rope_backward(float *dx, size_t stride, const int32_t *positions, const float *cosines, const float *sines,
                        size_t T, size_t H, size_t D, int halves) {
    // The inverse of a rotation is its transpose: the same angles, the other way.
    LORA_CALL(rope)(dx, stride, positions, cosines, sines, -1, T, H, D, halves);
}

#endif
