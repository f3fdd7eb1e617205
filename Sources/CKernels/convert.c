#include <string.h>

#include "lora_kernels.h"

void lora_f32_to_bf16(uint16_t *out, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, 4);
        uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        out[i] = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? bits >> 16 | 0x40 : rounded);
    }
}

void lora_bf16_to_f32(float *out, const uint16_t *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)x[i] << 16;
        memcpy(out + i, &bits, 4);
    }
}

static uint16_t to_half(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) {
        // Adding 0.5 puts the unit of the last place at 2^-24, the step of subnormal halves: the addition rounds.
        float value;
        memcpy(&value, &magnitude, 4);
        value += 0.5f;
        memcpy(&bits, &value, 4);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    uint32_t odd = magnitude >> 13 & 1;
    return (uint16_t)(sign | ((magnitude - 0x38000000 + 0xfff + odd) >> 13));
}

void lora_f32_to_f16(uint16_t *out, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = to_half(x[i]);
}

void lora_f16_to_f32(float *out, const uint16_t *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t sign = (uint32_t)(x[i] & 0x8000) << 16, magnitude = x[i] & 0x7fff, bits = magnitude << 13;
        float value;
        if (magnitude >= 0x7c00) {
            bits |= 0x7f800000;
            memcpy(&value, &bits, 4);
        } else {
            memcpy(&value, &bits, 4);
            value *= 0x1p112f;
        }
        memcpy(&bits, &value, 4);
        bits |= sign;
        if (magnitude > 0x7c00) bits |= 0x400000;
        memcpy(out + i, &bits, 4);
    }
}
