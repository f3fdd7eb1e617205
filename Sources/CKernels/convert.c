// Conversions between f32 and the 16-bit formats, to nearest, ties to even; a NaN stays a (quiet) NaN.
#ifdef LORA_LANES

#include "round.h"

static void LORA_NAME(f32_to_bf16)(uint16_t *out, const float *x, size_t n) { round_to_bf16(out, x, n); }

static void LORA_NAME(bf16_to_f32)(float *out, const uint16_t *x, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = float_of((uint32_t)x[i] << 16);
}

static void LORA_NAME(f32_to_f16)(uint16_t *out, const float *x, size_t n) {
    size_t i = 0;
#if LORA_LANES == 16
    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(out + i), _mm512_cvtps_ph(_mm512_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#elif LORA_LANES == 8
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(out + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#endif
    for (; i < n; i++) out[i] = to_half(x[i]);
}

static void LORA_NAME(f16_to_f32)(float *out, const uint16_t *x, size_t n) {
    size_t i = 0;
#if LORA_LANES == 16
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(x + i))));
#elif LORA_LANES == 8
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
#endif
    for (; i < n; i++) out[i] = from_half(x[i]);
}

#else

#include "half.h"

#define LORA_MULTIPLIES_BF16
#define LORA_FILE "convert.c"
#include "variants.h"

LORA_DISPATCH(f32_to_bf16);
LORA_DISPATCH(bf16_to_f32);
LORA_DISPATCH(f32_to_f16);
LORA_DISPATCH(f16_to_f32);

void lora_f32_to_bf16(uint16_t *out, const float *x, size_t n) { LORA_CALL(f32_to_bf16)(out, x, n); }

void lora_bf16_to_f32(float *out, const uint16_t *x, size_t n) { LORA_CALL(bf16_to_f32)(out, x, n); }

void lora_f32_to_f16(uint16_t *out, const float *x, size_t n) { LORA_CALL(f32_to_f16)(out, x, n); }

void lora_f16_to_f32(float *out, const uint16_t *x, size_t n) { LORA_CALL(f16_to_f32)(out, x, n); }

#endif
