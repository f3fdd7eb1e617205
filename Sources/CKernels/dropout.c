// Dropout with a counter-based generator: element i depends on (seed, offset + i) alone.
#ifdef LORA_LANES

/// Two rounds of a 32-bit integer hash of low bias (its constants: Chris Wellons, hash-prospector), keyed before each.
LORA_INLINE uint32_t LORA_NAME(draw)(generator g, uint32_t low) {
    uint32_t z = low ^ g.key0;
    z = (z ^ z >> 16) * 0x21f0aaadu;
    z = (z ^ z >> 15) * 0x735a2d97u;
    z = (z ^ z >> 15) + g.key1;
    z = (z ^ z >> 16) * 0x21f0aaadu;
    z = (z ^ z >> 15) * 0x735a2d97u;
    return z ^ z >> 15;
}

static void LORA_NAME(dropout_forward)(float *out, const float *x, float p, uint64_t seed, uint64_t offset, size_t n) {
    uint32_t threshold = threshold_of(p);
    float scale = 1 / (1 - p);
    for (size_t run; n > 0; out += run, x += run, offset += run, n -= run) {
        run = run_length(offset, n);
        generator g = generator_at(seed, (uint32_t)(offset >> 32));
        for (size_t i = 0; i < run; i++) {
            float kept = x[i] * scale;
            out[i] = LORA_NAME(draw)(g, (uint32_t)offset + (uint32_t)i) >> 8 >= threshold ? kept : 0;
        }
    }
}

static void LORA_NAME(dropout_backward)(float *dx, const float *dout, float p, uint64_t seed, uint64_t offset,
                                        size_t n) {
    uint32_t threshold = threshold_of(p);
    float scale = 1 / (1 - p);
    for (size_t run; n > 0; dx += run, dout += run, offset += run, n -= run) {
        run = run_length(offset, n);
        generator g = generator_at(seed, (uint32_t)(offset >> 32));
        for (size_t i = 0; i < run; i++) {
            // out = x * scale where kept
            float kept = dout[i] * scale;
            dx[i] += LORA_NAME(draw)(g, (uint32_t)offset + (uint32_t)i) >> 8 >= threshold ? kept : 0;
        }
    }
}

#else

#include "lora_kernels.h"

typedef struct generator {
    uint32_t key0, key1;
} generator;

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014).
static uint64_t mix64(uint64_t z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static generator generator_at(uint64_t seed, uint32_t high) {
    uint64_t z = mix64(mix64(seed + 0x9e3779b97f4a7c15u) + high);
    return (generator){(uint32_t)z, (uint32_t)(z >> 32)};
}

/// How many of n elements share the upper half of their counter.
static size_t run_length(uint64_t offset, size_t n) {
    uint64_t left = ((uint64_t)1 << 32) - (uint32_t)offset;
    return left < n ? (size_t)left : n;
}

static uint32_t threshold_of(float p) { return (uint32_t)(p * 0x1p24f); }

#define LORA_FILE "dropout.c"
#include "variants.h"

LORA_DISPATCH(dropout_forward);
LORA_DISPATCH(dropout_backward);

void lora_dropout_forward(float *out, const float *x, float p, uint64_t seed, uint64_t offset, size_t n) {
    LORA_CALL(dropout_forward)(out, x, p, seed, offset, n);
}

void lora_dropout_backward(float *dx, const float *dout, float p, uint64_t seed, uint64_t offset, size_t n) {
    LORA_CALL(dropout_backward)(dx, dout, p, seed, offset, n);
}

#endif
