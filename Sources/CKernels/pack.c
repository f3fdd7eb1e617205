// Weights in the order that the matrix engine reads them: blocks of 64 outputs, then the sum's terms one after another
// (f32) or two by two (bf16), so that no product has to rearrange them.
#ifdef LORA_LANES

/// Writes 64 lanes wide rows of dwords: to[j * 64 + i] = rows[i * row + j] for 16 rows of n dwords, n a multiple of 16.
LORA_INLINE void LORA_NAME(pack_dwords)(float *to, const float *rows, size_t row, size_t n) {
    for (size_t i = 0; i < 16; i += LORA_LANES)
        for (size_t j = 0; j < n; j += LORA_LANES) {
            floats m[LORA_LANES];
#pragma clang loop unroll(full)
            for (int k = 0; k < LORA_LANES; k++) m[k] = v_load(rows + (i + (size_t)k) * row + j);
            v_transpose(m);
#pragma clang loop unroll(full)
            for (int k = 0; k < LORA_LANES; k++) v_store(to + (j + (size_t)k) * 64 + i, m[k]);
        }
}

static void LORA_NAME(pack_outputs_f32)(float *out, const float *rows, size_t row, size_t K) {
    LORA_NAME(pack_dwords)(out, rows, row, K);
}

static void LORA_NAME(pack_outputs_bf16)(uint16_t *out, const uint16_t *rows, size_t row, size_t K) {
    // A pair of terms moves as one dword; no arithmetic touches it.
    LORA_NAME(pack_dwords)((float *)out, (const float *)rows, row / 2, K / 2);
}

static void LORA_NAME(pack_terms_f32)(float *out, size_t block, const float *rows, size_t row, size_t N) {
    for (size_t n = 0; n < N; n += 64)
        for (size_t k = 0; k < 16; k++)
            __builtin_memcpy(out + n / 64 * block + k * 64, rows + k * row + n, 64 * sizeof(float));
}

static void LORA_NAME(pack_terms_bf16)(uint16_t *out, size_t block, const uint16_t *rows, size_t row, size_t N) {
    for (size_t n = 0; n < N; n += 64)
        for (size_t k = 0; k < 16; k += 2) {
            const uint16_t *restrict even = rows + k * row + n, *restrict odd = even + row;
            uint16_t *restrict to = out + n / 64 * block + k * 64;
            for (size_t i = 0; i < 64; i++) {
                to[2 * i] = even[i];
                to[2 * i + 1] = odd[i];
            }
        }
}

#else

#define LORA_FILE "pack.c"
#include "variants.h"

LORA_DISPATCH(pack_outputs_f32);
LORA_DISPATCH(pack_outputs_bf16);
LORA_DISPATCH(pack_terms_f32);
LORA_DISPATCH(pack_terms_bf16);

void lora_pack_outputs_f32(float *out, const float *rows, size_t row, size_t K) {
    LORA_CALL(pack_outputs_f32)(out, rows, row, K);
}

void lora_pack_outputs_bf16(uint16_t *out, const uint16_t *rows, size_t row, size_t K) {
    LORA_CALL(pack_outputs_bf16)(out, rows, row, K);
}

void lora_pack_terms_f32(float *out, size_t block, const float *rows, size_t row, size_t N) {
    LORA_CALL(pack_terms_f32)(out, block, rows, row, N);
}

void lora_pack_terms_bf16(uint16_t *out, size_t block, const uint16_t *rows, size_t row, size_t N) {
    LORA_CALL(pack_terms_bf16)(out, block, rows, row, N);
}

#endif
