// RMSNorm (arXiv 1910.07467).
#ifdef LORA_LANES

#define LORA_SUM LORA_NAME(sum_of_products)

/// Sum over C of a * b * x, four chains of lanes; b may be null.
LORA_INLINE float LORA_SUM(const float *a, const float *b, const float *x, size_t C) {
    floats sums[4] = {0, 0, 0, 0};
    size_t c = 0;
    for (; c + 4 * LORA_LANES <= C; c += 4 * LORA_LANES)
#pragma clang loop unroll(full)
        for (int j = 0; j < 4; j++) {
            floats product = v_load(a + c + j * LORA_LANES);
            if (b) product *= v_load(b + c + j * LORA_LANES);
            sums[j] += product * v_load(x + c + j * LORA_LANES);
        }
    for (; c < C; c += LORA_LANES) {
        size_t width = C - c < LORA_LANES ? C - c : LORA_LANES;
        floats product = v_load_up_to(a + c, width);
        if (b) product *= v_load_up_to(b + c, width);
        sums[0] += product * v_load_up_to(x + c, width);
    }
    return v_sum((sums[0] + sums[2]) + (sums[1] + sums[3]));
}

static void LORA_NAME(rmsnorm_forward)(float *out, float *rstd, const float *x, const float *weight, float epsilon,
                                       size_t T, size_t C) {
    for (size_t t = 0; t < T; t++, x += C, out += C) {
        float scale = 1 / sqrtf(LORA_SUM(x, NULL, x, C) / (float)C + epsilon);
        rstd[t] = scale;
        for (size_t c = 0; c < C; c += LORA_LANES) {
            size_t width = C - c < LORA_LANES ? C - c : LORA_LANES;
            v_store_up_to(out + c, v_load_up_to(x + c, width) * scale * v_load_up_to(weight + c, width), width);
        }
    }
}

static void LORA_NAME(rmsnorm_backward)(float *dx, const float *dout, const float *x, const float *weight,
                                        const float *rstd, size_t T, size_t C) {
    for (size_t t = 0; t < T; t++, x += C, dx += C, dout += C) {
        // out = x * rstd * weight, and rstd = (mean(x^2) + epsilon)^-1/2 has d rstd / dx = -rstd^3 * x / C
        float scale = rstd[t], inner = LORA_SUM(dout, weight, x, C) * scale * scale / (float)C;
        for (size_t c = 0; c < C; c += LORA_LANES) {
            size_t width = C - c < LORA_LANES ? C - c : LORA_LANES;
            floats direct = v_load_up_to(dout + c, width) * v_load_up_to(weight + c, width);
            floats gradient = scale * (direct - v_load_up_to(x + c, width) * inner);
            v_store_up_to(dx + c, v_load_up_to(dx + c, width) + gradient, width);
        }
    }
}

#undef LORA_SUM

#else

#include <math.h>

#define LORA_FILE "rmsnorm.c"
#include "variants.h"

LORA_DISPATCH(rmsnorm_forward);
LORA_DISPATCH(rmsnorm_backward);

void lora_rmsnorm_forward(float *out, float *rstd, const float *x, const float *weight, float epsilon, size_t T,
                          size_t C) {
    LORA_CALL(rmsnorm_forward)(out, rstd, x, weight, epsilon, T, C);
}

void lora_rmsnorm_backward(float *dx, const float *dout, const float *x, const float *weight, const float *rstd,
                           size_t T, size_t C) {
    LORA_CALL(rmsnorm_backward)(dx, dout, x, weight, rstd, T, C);
}

#endif
