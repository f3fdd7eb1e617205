// SwiGLU (arXiv 2002.05202): silu(gate) * up, silu(g) = g * sigmoid(g).
#ifdef LORA_LANES

/// The gate kept finite on the left, where silu tends to 0 but -infinity * 0 would be NaN.
LORA_INLINE floats LORA_NAME(bounded)(floats gate) { return v_larger(v_splat(-FLT_MAX), gate); }

LORA_INLINE floats LORA_NAME(sigmoid)(floats gate) { return 1.0f / (1.0f + v_exp(-gate)); }

static void LORA_NAME(swiglu_forward)(float *out, const float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i += LORA_LANES) {
        size_t width = n - i < LORA_LANES ? n - i : LORA_LANES;
        floats g = LORA_NAME(bounded)(v_load_up_to(gate + i, width));
        v_store_up_to(out + i, g * LORA_NAME(sigmoid)(g) * v_load_up_to(up + i, width), width);
    }
}

static void LORA_NAME(swiglu_backward)(float *dgate, float *dup, const float *dout, const float *gate, const float *up,
                                       size_t n) {
    for (size_t i = 0; i < n; i += LORA_LANES) {
        size_t width = n - i < LORA_LANES ? n - i : LORA_LANES;
        floats g = LORA_NAME(bounded)(v_load_up_to(gate + i, width));
        floats u = v_load_up_to(up + i, width), d = v_load_up_to(dout + i, width);
        floats s = LORA_NAME(sigmoid)(g);
        // 1 - sigmoid(g) = sigmoid(-g), without the cancellation; where it is 0, so is its product with g.
        floats rest = v_exp(-g) * s;
        floats slope = s * (g > 80.0f ? v_splat(1) : g < -80.0f ? v_splat(0) : 1.0f + g * rest);
        // out = g * sigmoid(g) * up
        v_store_up_to(dgate + i, d * u * slope, width);
        v_store_up_to(dup + i, d * (g * s), width);
    }
}

#else

#include <float.h>

#define LORA_FILE "swiglu.c"
#include "variants.h"

LORA_DISPATCH(swiglu_forward);
LORA_DISPATCH(swiglu_backward);

void lora_swiglu_forward(float *out, const float *gate, const float *up, size_t n) {
    LORA_CALL(swiglu_forward)(out, gate, up, n);
}

void lora_swiglu_backward(float *dgate, float *dup, const float *dout, const float *gate, const float *up, size_t n) {
    LORA_CALL(swiglu_backward)(dgate, dup, dout, gate, up, n);
}

#endif
