// Transposes of small matrices, on the way to and from the products of a low-rank branch.
#ifdef LORA_LANES

#include "tile.h"
#include "tile_bf16.h"

/// A square of x (count,width), rows x_row apart, transposed; what is missing is zero.
LORA_INLINE void LORA_NAME(square)(floats m[LORA_LANES], const float *x, size_t x_row, size_t count, size_t width) {
#pragma clang loop unroll(full)
    for (size_t i = 0; i < LORA_LANES; i++) m[i] = i < count ? v_load_up_to(x + i * x_row, width) : v_splat(0);
    v_transpose(m);
}

static void LORA_NAME(transpose_f32)(float *out, size_t out_row, const float *x, float s, size_t T, size_t r) {
    for (size_t t = 0; t < (T + 15) / 16 * 16; t += LORA_LANES)
        for (size_t j = 0; j < r; j += LORA_LANES) {
            floats m[LORA_LANES];
            size_t left = t < T ? T - t : 0, width = r - j < LORA_LANES ? r - j : LORA_LANES;
            LORA_NAME(square)(m, x + t * r + j, r, left < LORA_LANES ? left : LORA_LANES, width);
            for (size_t i = 0; i < width; i++) v_store(out + (j + i) * out_row + t, m[i] * s);
        }
}

static void LORA_NAME(transpose_bf16)(uint16_t *out, size_t out_row, const float *x, float s, size_t T, size_t r) {
    for (size_t t = 0; t < (T + 15) / 16 * 16; t += LORA_LANES)
        for (size_t j = 0; j < r; j += LORA_LANES) {
            floats m[LORA_LANES];
            size_t left = t < T ? T - t : 0, width = r - j < LORA_LANES ? r - j : LORA_LANES;
            LORA_NAME(square)(m, x + t * r + j, r, left < LORA_LANES ? left : LORA_LANES, width);
            for (size_t i = 0; i < width; i++)
                v_store_bf16(out + (j + i) * out_row + t, m[i] * s, LORA_LANES);
        }
}

static void LORA_NAME(add_transpose)(float *out, const float *x, size_t x_row, size_t N, size_t r) {
    for (size_t n = 0; n < N; n += LORA_LANES)
        for (size_t j = 0; j < r; j += LORA_LANES) {
            floats m[LORA_LANES];
            size_t width = N - n < LORA_LANES ? N - n : LORA_LANES, ranks = r - j < LORA_LANES ? r - j : LORA_LANES;
            LORA_NAME(square)(m, x + j * x_row + n, x_row, ranks, width);
            for (size_t i = 0; i < width; i++) {
                float *to = out + (n + i) * r + j;
                v_store_up_to(to, v_load_up_to(to, ranks) + m[i], ranks);
            }
        }
}

#else

#include <string.h>

#include "lora_kernels.h"

#define LORA_MULTIPLIES_BF16
#define LORA_FILE "transpose.c"
#include "variants.h"

LORA_DISPATCH(transpose_f32);
LORA_DISPATCH(transpose_bf16);
LORA_DISPATCH(add_transpose);

void lora_transpose_f32(float *out, size_t out_row, const float *x, float s, size_t T, size_t r) {
    LORA_CALL(transpose_f32)(out, out_row, x, s, T, r);
}

void lora_transpose_bf16(uint16_t *out, size_t out_row, const float *x, float s, size_t T, size_t r) {
    LORA_CALL(transpose_bf16)(out, out_row, x, s, T, r);
}

void lora_add_transpose(float *out, const float *x, size_t x_row, size_t N, size_t r) {
    LORA_CALL(add_transpose)(out, x, x_row, N, r);
}

#endif
