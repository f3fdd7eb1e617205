// Softmax cross-entropy of rows of logits.
#ifdef LORA_LANES

enum { LORA_NAME(CHAINS) = 4 };
#define CHAINS LORA_NAME(CHAINS)

LORA_INLINE float LORA_NAME(row_maximum)(const float *row, size_t V) {
    floats largest[CHAINS];
    for (int j = 0; j < CHAINS; j++) largest[j] = v_splat(-INFINITY);
    size_t v = 0;
    for (; v + CHAINS * LORA_LANES <= V; v += CHAINS * LORA_LANES)
#pragma clang loop unroll(full)
        for (int j = 0; j < CHAINS; j++) largest[j] = v_larger(largest[j], v_load(row + v + j * LORA_LANES));
    float maximum = v_maximum(v_larger(v_larger(largest[0], largest[2]), v_larger(largest[1], largest[3])));
    for (; v < V; v++) maximum = maximum > row[v] ? maximum : row[v];
    return maximum;
}

LORA_INLINE float LORA_NAME(row_exp_sum)(const float *row, float maximum, size_t V) {
    floats sums[CHAINS] = {0, 0, 0, 0};
    size_t v = 0;
    for (; v + CHAINS * LORA_LANES <= V; v += CHAINS * LORA_LANES)
#pragma clang loop unroll(full)
        for (int j = 0; j < CHAINS; j++) sums[j] += v_exp(v_load(row + v + j * LORA_LANES) - maximum);
    for (; v + LORA_LANES <= V; v += LORA_LANES) sums[0] += v_exp(v_load(row + v) - maximum);
    if (v < V) {
        floats p = v_exp(v_load_part(row + v, V - v) - maximum);
        sums[1] += v_lane_numbers() < (int32_t)(V - v) ? p : v_splat(0);
    }
    return v_sum((sums[0] + sums[2]) + (sums[1] + sums[3]));
}

static void LORA_NAME(cross_entropy_forward)(float *losses, float *logsumexp, const float *logits,
                                             const int32_t *targets, size_t T, size_t V) {
    for (size_t t = 0; t < T; t++, logits += V) {
        // Relative to the largest logit no exponential overflows, and the sum is at least 1.
        float maximum = LORA_NAME(row_maximum)(logits, V);
        float logarithm = logf(LORA_NAME(row_exp_sum)(logits, maximum, V));
        logsumexp[t] = maximum + logarithm;
        losses[t] = (maximum - logits[targets[t]]) + logarithm;
    }
}

static void LORA_NAME(cross_entropy_backward)(float *logits, const float *logsumexp, const int32_t *targets,
                                              float scale, size_t T, size_t V) {
    for (size_t t = 0; t < T; t++, logits += V) {
        for (size_t v = 0; v < V; v += LORA_LANES) {
            size_t width = V - v < LORA_LANES ? V - v : LORA_LANES;
            v_store_up_to(logits + v, v_exp(v_load_up_to(logits + v, width) - logsumexp[t]) * scale, width);
        }
        // losses = logsumexp - logits[target]
        logits[targets[t]] -= scale;
    }
}

#undef CHAINS

#else

#include <math.h>

#define LORA_FILE "cross_entropy.c"
#include "variants.h"

LORA_DISPATCH(cross_entropy_forward);
LORA_DISPATCH(cross_entropy_backward);

void lora_cross_entropy_forward(float *losses, float *logsumexp, const float *logits, const int32_t *targets, size_t T,
                                size_t V) {
    LORA_CALL(cross_entropy_forward)(losses, logsumexp, logits, targets, T, V);
}

void lora_cross_entropy_backward(float *logits, const float *logsumexp, const int32_t *targets, float scale, size_t T,
                                 size_t V) {
    LORA_CALL(cross_entropy_backward)(logits, logsumexp, targets, scale, T, V);
}

#endif
