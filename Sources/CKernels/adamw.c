// AdamW (arXiv 1711.05101), as torch.optim.AdamW computes it.
#ifdef LORA_LANES

static void LORA_NAME(adamw_step)(float *parameters, float *m, float *v, const float *gradients, float grad_scale,
                                  float learning_rate, float beta1, float beta2, float epsilon, float weight_decay,
                                  float correction1, float correction2, size_t n) {
    floats root = v_splat(sqrtf(correction2));
    float step = learning_rate / correction1, keep = 1 - learning_rate * weight_decay;
    for (size_t i = 0; i < n; i += LORA_LANES) {
        size_t width = n - i < LORA_LANES ? n - i : LORA_LANES;
        floats g = v_load_up_to(gradients + i, width) * grad_scale;
        floats mean = v_load_up_to(m + i, width), square = v_load_up_to(v + i, width);
        mean = mean + (g - mean) * (1 - beta1);
        square = square * beta2 + (1 - beta2) * (g * g);
        floats denominator = __builtin_elementwise_sqrt(square) / root + epsilon;
        floats parameter = v_load_up_to(parameters + i, width) * keep;
        v_store_up_to(m + i, mean, width);
        v_store_up_to(v + i, square, width);
        v_store_up_to(parameters + i, parameter - step * (mean / denominator), width);
    }
}

#else

#include <math.h>

#define LORA_FILE "adamw.c"
#include "variants.h"

LORA_DISPATCH(adamw_step);

void lora_adamw_step(float *parameters, float *m, float *v, const float *gradients, float grad_scale,
                     float learning_rate, float beta1, float beta2, float epsilon, float weight_decay,
                     float correction1, float correction2, size_t n) {
    LORA_CALL(adamw_step)
    (parameters, m, v, gradients, grad_scale, learning_rate, beta1, beta2, epsilon, weight_decay, correction1,
     correction2, n);
}

#endif
