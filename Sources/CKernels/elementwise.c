// Elementwise operations and their whole-array reductions.
#ifdef LORA_LANES

static void LORA_NAME(add)(float *out, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += LORA_LANES) {
        size_t width = n - i < LORA_LANES ? n - i : LORA_LANES;
        v_store_up_to(out + i, v_load_up_to(out + i, width) + v_load_up_to(x + i, width), width);
    }
}

/// Sixteen chains in every variant: squares of floats are exact in double, so all variants agree bit for bit.
static double LORA_NAME(sum_of_squares)(const float *x, size_t n) {
    sixteen_doubles sums = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        sixteen_floats part;
        __builtin_memcpy(&part, x + i, sizeof part);
        sixteen_doubles wide = __builtin_convertvector(part, sixteen_doubles);
        sums += wide * wide;
    }
    double total = 0;
    for (int j = 0; j < 16; j++) total += sums[j];
    for (; i < n; i++) total += (double)x[i] * x[i];
    return total;
}

/// The largest magnitude as an integer: infinity and NaN are the patterns from 0x7f800000 on.
static int LORA_NAME(all_finite)(const float *x, size_t n) {
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        __builtin_memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    return largest < 0x7f800000;
}

#else

#include "lora_kernels.h"

typedef float sixteen_floats __attribute__((ext_vector_type(16)));
typedef double sixteen_doubles __attribute__((ext_vector_type(16)));

#define LORA_FILE "elementwise.c"
#include "variants.h"

LORA_DISPATCH(add);
LORA_DISPATCH(sum_of_squares);
LORA_DISPATCH(all_finite);

void lora_add(float *out, const float *x, size_t n) { LORA_CALL(add)(out, x, n); }

double lora_sum_of_squares(const float *x, size_t n) { return LORA_CALL(sum_of_squares)(x, n); }

int lora_all_finite(const float *x, size_t n) { return LORA_CALL(all_finite)(x, n); }

#endif
