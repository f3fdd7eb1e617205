#include <math.h>

#include "lora_kernels.h"

void lora_adamw_step(float *parameters, float *m, float *v, const float *gradients, float grad_scale,
                     float learning_rate, float beta1, float beta2, float epsilon, float weight_decay,
                     float correction1, float correction2, size_t n) {
    float root = sqrtf(correction2), step = learning_rate / correction1, keep = 1 - learning_rate * weight_decay;
    for (size_t i = 0; i < n; i++) {
        float g = gradients[i] * grad_scale;
        m[i] += (g - m[i]) * (1 - beta1);
        v[i] = v[i] * beta2 + (1 - beta2) * g * g;
        parameters[i] = parameters[i] * keep - step * (m[i] / (sqrtf(v[i]) / root + epsilon));
    }
}
