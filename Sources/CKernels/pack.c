// Weights in the order that the matrix engine reads them: blocks of some outputs, then the sum's terms one after another
// (f32) or two by two (bf16), so that no product has to rearrange them.
#ifdef LORA_LANES

/// Writes rows of `width` dwords: to[j * width + i] = rows[i * row + j] for 16 rows of n dwords, n a multiple of 16.
LORA_INLINE void LORA_NAME(pack_dwords)(float *to, const size_t width, const float *rows, size_t row, size_t n) {
    for (size_t i = 0; i < 16; i += LORA_LANES)
        for (size_t j = 0; j < n; j += LORA_LANES) {
            floats m[LORA_LANES];
#pragma clang loop unroll(full)
            for (int k = 0; k < LORA_LANES; k++) m[k] = v_load(rows + (i + (size_t)k) * row + j);
            v_transpose(m);
#pragma clang loop unroll(full)
            for (int k = 0; k < LORA_LANES; k++) {
                __builtin_prefetch(to + (j + LORA_LANES * 2 + (size_t)k) * width + i, 1);
                v_store(to + (j + (size_t)k) * width + i, m[k]);
            }
        }
}

static void LORA_NAME(pack_outputs_f32)(float *out, size_t width, const float *rows, size_t row, size_t K) {
    LORA_NAME(pack_dwords)(out, width, rows, row, K);
}

static void LORA_NAME(pack_outputs_bf16)(uint16_t *out, const uint16_t *rows, size_t row, size_t K) {
    // A pair of terms moves as one dword; no arithmetic touches it.
    LORA_NAME(pack_dwords)((float *)out, 64, (const float *)rows, row / 2, K / 2);
}

static void LORA_NAME(pack_terms_f32)(float *out, size_t width, size_t block, const float *rows, size_t row, size_t N) {
    for (size_t n = 0; n < N; n += width, out += block)
        for (size_t k = 0; k < 16; k++)
            for (size_t i = 0; i < width; i += 16)
                __builtin_memcpy(out + k * width + i, rows + k * row + n + i, 16 * sizeof(float));
}

/// to (64) = the 32 of `even` and of `odd` in turn.
LORA_INLINE void LORA_NAME(weave)(uint16_t *restrict to, const uint16_t *restrict even, const uint16_t *restrict odd) {
#if LORA_LANES == 16
    // Dword i takes word i of each: 32 names the second operand's first.
    __m512i places = _mm512_add_epi32((__m512i)(v_lane_numbers() * 0x10001), _mm512_set1_epi32(32 << 16));
    __m512i e = _mm512_loadu_si512(even), o = _mm512_loadu_si512(odd);
    _mm512_storeu_si512(to, _mm512_permutex2var_epi16(e, places, o));
    _mm512_storeu_si512(to + 32, _mm512_permutex2var_epi16(e, _mm512_add_epi16(places, _mm512_set1_epi16(16)), o));
#else
    for (size_t i = 0; i < 32; i++) {
        to[2 * i] = even[i];
        to[2 * i + 1] = odd[i];
    }
#endif
}

static void LORA_NAME(pack_terms_bf16)(uint16_t *out, size_t block, const uint16_t *rows, size_t row, size_t N) {
    for (size_t n = 0; n < N; n += 64)
        for (size_t k = 0; k < 16; k += 2) {
            const uint16_t *even = rows + k * row + n, *odd = even + row;
            uint16_t *to = out + n / 64 * block + k * 64;
            for (int line = 0; line < 4; line++) __builtin_prefetch(to + block + line * 32, 1);
            LORA_NAME(weave)(to, even, odd);
            LORA_NAME(weave)(to + 64, even + 32, odd + 32);
        }
}

#else

#define LORA_FILE "pack.c"
#include "variants.h"

LORA_DISPATCH(pack_outputs_f32);
LORA_DISPATCH(pack_outputs_bf16);
LORA_DISPATCH(pack_terms_f32);
LORA_DISPATCH(pack_terms_bf16);

void lora_pack_outputs_f32(float *out, size_t width, const float *rows, size_t row, size_t K) {
    LORA_CALL(pack_outputs_f32)(out, width, rows, row, K);
}

void lora_pack_outputs_bf16(uint16_t *out, const uint16_t *rows, size_t row, size_t K) {
    LORA_CALL(pack_outputs_bf16)(out, rows, row, K);
}

void lora_pack_terms_f32(float *out, size_t width, size_t block, const float *rows, size_t row, size_t N) {
    LORA_CALL(pack_terms_f32)(out, width, block, rows, row, N);
}

void lora_pack_terms_bf16(uint16_t *out, size_t block, const uint16_t *rows, size_t row, size_t N) {
    LORA_CALL(pack_terms_bf16)(out, block, rows, row, N);
}

#endif
