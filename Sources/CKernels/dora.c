// DoRA (arXiv 2402.09353): gains of a projection's rows, and what flows back through them.
#ifdef LORA_LANES

static void LORA_NAME(dora_scale)(float *y, size_t y_stride, const float *onto, const float *gains, size_t T,
                                  size_t N) {
    for (size_t t = 0; t < T; t++)
        for (size_t n = 0; n < N; n += LORA_LANES) {
            size_t width = N - n < LORA_LANES ? N - n : LORA_LANES;
            float *to = y + t * y_stride + n;
            floats gain = v_load_up_to(gains + n, width), value = v_load_up_to(to, width);
            if (onto) {
                floats held = v_load_up_to(onto + t * N + n, width);
                v_store_up_to(to, held + gain * (value - held), width);
            } else {
                v_store_up_to(to, gain * value, width);
            }
        }
}

static void LORA_NAME(dora_add)(float *y, size_t y_stride, const float *base, const float *branch, const float *gains,
                                size_t T, size_t N) {
    for (size_t t = 0; t < T; t++)
        for (size_t n = 0; n < N; n += LORA_LANES) {
            size_t width = N - n < LORA_LANES ? N - n : LORA_LANES, at = t * N + n;
            float *to = y + t * y_stride + n;
            floats gain = v_load_up_to(gains + n, width);
            floats sum = (gain - 1) * v_load_up_to(base + at, width) + gain * v_load_up_to(branch + at, width);
            v_store_up_to(to, v_load_up_to(to, width) + sum, width);
        }
}

static void LORA_NAME(dora_backward_input)(float *branch, float *base, const float *dy, size_t dy_stride,
                                           const float *gains, size_t T, size_t N) {
    for (size_t t = 0; t < T; t++)
        for (size_t n = 0; n < N; n += LORA_LANES) {
            size_t width = N - n < LORA_LANES ? N - n : LORA_LANES, at = t * N + n;
            floats gain = v_load_up_to(gains + n, width), gradient = v_load_up_to(dy + t * dy_stride + n, width);
            v_store_up_to(branch + at, gain * gradient, width);
            v_store_up_to(base + at, (gain - 1) * gradient, width);
        }
}

static void LORA_NAME(dora_backward_magnitude)(float *dm, const float *dy, size_t dy_stride, const float *z,
                                               const float *factors, size_t T, size_t N) {
    for (size_t n = 0; n < N; n += LORA_LANES) {
        size_t width = N - n < LORA_LANES ? N - n : LORA_LANES;
        floats sum = v_splat(0);
        // y = m * z / norm: dm = dy * z / norm
        for (size_t t = 0; t < T; t++)
            sum += v_load_up_to(dy + t * dy_stride + n, width) * v_load_up_to(z + t * N + n, width);
        v_store_up_to(dm + n, v_load_up_to(dm + n, width) + v_load_up_to(factors + n, width) * sum, width);
    }
}

#else

#include "lora_dora.h"

#define LORA_FILE "dora.c"
#include "variants.h"

LORA_DISPATCH(dora_scale);
LORA_DISPATCH(dora_add);
LORA_DISPATCH(dora_backward_input);
LORA_DISPATCH(dora_backward_magnitude);

void lora_dora_scale(float *y, size_t y_stride, const float *onto, const float *gains, size_t T, size_t N) {
    LORA_CALL(dora_scale)(y, y_stride, onto, gains, T, N);
}

void lora_dora_add(float *y, size_t y_stride, const float *base, const float *branch, const float *gains, size_t T,
                   size_t N) {
    LORA_CALL(dora_add)(y, y_stride, base, branch, gains, T, N);
}

void lora_dora_backward_input(float *branch, float *base, const float *dy, size_t dy_stride, const float *gains,
                              size_t T, size_t N) {
    LORA_CALL(dora_backward_input)(branch, base, dy, dy_stride, gains, T, N);
}

void lora_dora_backward_magnitude(float *dm, const float *dy, size_t dy_stride, const float *z, const float *factors,
                                  size_t T, size_t N) {
    LORA_CALL(dora_backward_magnitude)(dm, dy, dy_stride, z, factors, T, N);
}

#endif
