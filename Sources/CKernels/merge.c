#pragma STDC FP_CONTRACT OFF

#include "lora_merge.h"

#include "half.h"

void lora_count_magnitudes(uint64_t *counts, const float *x, size_t n, int32_t prefix) {
    for (size_t i = 0; i < n; i++) {
        uint32_t magnitude = bits_of(x[i]) & 0x7fffffff;
        if (prefix < 0)
            counts[magnitude >> 16]++;
        else if (magnitude >> 16 == (uint32_t)prefix)
            counts[magnitude & 0xffff]++;
    }
}

void lora_trim(float *x, float threshold, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = __builtin_fabsf(x[i]) < threshold ? 0 : x[i];
}

void lora_elect(float *out, const float *deltas, size_t stride, const float *weights, size_t parts, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float total = 0, sum = 0;
        for (size_t part = 0; part < parts; part++) total += deltas[part * stride + i];
        size_t count = 0;
        for (size_t part = 0; part < parts; part++) {
            float delta = deltas[part * stride + i];
            if (total >= 0 ? delta > 0 : delta < 0) {
                sum += weights[part] * delta;
                count++;
            }
        }
        out[i] = count ? sum / (float)count : 0;
    }
}

void lora_rounding_moments(double sums[3], const float *delta, const float *before, const float *after, size_t n) {
    double wanted = 0, common = 0, missed = 0;
    for (size_t i = 0; i < n; i++) {
        double change = (double)after[i] - (double)before[i], want = (double)delta[i];
        wanted += want * want;
        common += want * change;
        missed += (change - want) * (change - want);
    }
    sums[0] = wanted;
    sums[1] = common;
    sums[2] = missed;
}

int lora_keep_unchanged(void *blocks, const void *previous, const float *delta, lora_type type, size_t n) {
    size_t size, bytes;
    switch (type) {
    case LORA_F32: size = 1, bytes = 4; break;
    case LORA_F16:
    case LORA_BF16: size = 1, bytes = 2; break;
    case LORA_Q8_0: size = 32, bytes = 34; break;
    case LORA_Q4_0: size = 32, bytes = 18; break;
    case LORA_Q4_1: size = 32, bytes = 20; break;
    case LORA_Q5_0: size = 32, bytes = 22; break;
    case LORA_Q5_1: size = 32, bytes = 24; break;
    case LORA_Q4_K: size = 256, bytes = 144; break;
    case LORA_Q5_K: size = 256, bytes = 176; break;
    case LORA_Q6_K: size = 256, bytes = 210; break;
    default: return -1;
    }
    if (n % size) return -1;
    for (size_t block = 0; block < n / size; block++) {
        int changes = 0;
        for (size_t i = 0; i < size; i++) changes |= delta[block * size + i] != 0;
        if (!changes)
            __builtin_memcpy((uint8_t *)blocks + block * bytes, (const uint8_t *)previous + block * bytes, bytes);
    }
    return 0;
}
