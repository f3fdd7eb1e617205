#include "lora_kernels.h"

void lora_add(float *out, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] += x[i];
}

void lora_scale(float *out, float s, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] *= s;
}

double lora_sum_of_squares(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sum;
}

int lora_all_finite(const float *x, size_t n) {
    int finite = 1;
    for (size_t i = 0; i < n; i++) finite &= x[i] - x[i] == 0;
    return finite;
}
