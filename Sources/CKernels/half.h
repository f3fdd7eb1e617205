/// Half precision in integer arithmetic, bit for bit what F16C instructions give.
#ifndef LORA_HALF_H
#define LORA_HALF_H

#include <stdint.h>

#define LORA_HALF static inline __attribute__((always_inline, unused))

LORA_HALF uint32_t bits_of(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}

LORA_HALF float float_of(uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

LORA_HALF uint16_t to_half(float x) {
    uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    // From 65520 on the nearest half is infinity.
    if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) {
        // Adding 0.5 puts the last place at 2^-24, the step of subnormal halves: the addition rounds.
        return (uint16_t)(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000));
    }
    uint32_t odd = magnitude >> 13 & 1;
    return (uint16_t)(sign | ((magnitude - 0x38000000 + 0xfff + odd) >> 13));
}

LORA_HALF float from_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
    // Scaling by 2^112 moves the exponent's bias from 15 to 127, and makes subnormals normal.
    uint32_t finite = bits_of(float_of(magnitude << 13) * 0x1p112f);
    uint32_t special = magnitude << 13 | 0x7f800000 | (magnitude > 0x7c00 ? 0x400000 : 0);
    return float_of(sign | (magnitude >= 0x7c00 ? special : finite));
}

#undef LORA_HALF

#endif
