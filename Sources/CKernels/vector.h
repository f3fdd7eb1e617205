// No include guard: variants.h includes this once per variant.

#ifndef LORA_VECTOR_NAMES
#define LORA_VECTOR_NAMES
#define floats LORA_NAME(floats)
#define ints LORA_NAME(ints)
#define v_load LORA_NAME(v_load)
#define v_load_part LORA_NAME(v_load_part)
#define v_store LORA_NAME(v_store)
#define v_store_part LORA_NAME(v_store_part)
#define v_load_up_to LORA_NAME(v_load_up_to)
#define v_store_up_to LORA_NAME(v_store_up_to)
#define v_even LORA_NAME(v_even)
#define v_odd LORA_NAME(v_odd)
#define v_weave_low LORA_NAME(v_weave_low)
#define v_weave_high LORA_NAME(v_weave_high)
#define v_splat LORA_NAME(v_splat)
#define v_lane_numbers LORA_NAME(v_lane_numbers)
#define v_larger LORA_NAME(v_larger)
#define v_smaller LORA_NAME(v_smaller)
#define v_sum LORA_NAME(v_sum)
#define v_maximum LORA_NAME(v_maximum)
#define v_exp LORA_NAME(v_exp)
#define v_transpose LORA_NAME(v_transpose)

typedef float lora_floats4 __attribute__((ext_vector_type(4)));
typedef float lora_floats8 __attribute__((ext_vector_type(8)));
#endif

typedef float floats __attribute__((ext_vector_type(LORA_LANES)));
typedef int32_t ints __attribute__((ext_vector_type(LORA_LANES)));

LORA_INLINE floats v_load(const float *p) {
    floats v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

LORA_INLINE void v_store(float *p, floats v) { __builtin_memcpy(p, &v, sizeof v); }

LORA_INLINE floats v_splat(float x) { return (floats)x; }

LORA_INLINE ints v_lane_numbers(void) {
#if LORA_LANES == 4
    return (ints){0, 1, 2, 3};
#elif LORA_LANES == 8
    return (ints){0, 1, 2, 3, 4, 5, 6, 7};
#else
    return (ints){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#endif
}

/// The first `count` < LORA_LANES floats at p, then zeros.
LORA_INLINE floats v_load_part(const float *p, size_t count) {
#if LORA_LANES == 16
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
#elif LORA_LANES == 8
    return (floats)_mm256_maskload_ps(p, (__m256i)(v_lane_numbers() < (ints)(int32_t)count));
#else
    floats v = 0;
    for (size_t i = 0; i < count; i++) v[i] = p[i];
    return v;
#endif
}

LORA_INLINE void v_store_part(float *p, floats v, size_t count) {
#if LORA_LANES == 16
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), v);
#elif LORA_LANES == 8
    _mm256_maskstore_ps(p, (__m256i)(v_lane_numbers() < (ints)(int32_t)count), (__m256)v);
#else
    for (size_t i = 0; i < count; i++) p[i] = v[i];
#endif
}

LORA_INLINE floats v_load_up_to(const float *p, size_t count) {
    return count == LORA_LANES ? v_load(p) : v_load_part(p, count);
}

LORA_INLINE void v_store_up_to(float *p, floats v, size_t count) {
    if (count == LORA_LANES)
        v_store(p, v);
    else
        v_store_part(p, v, count);
}

/// Lane by lane; a NaN in `b` stays, which is how a diverged run shows.
LORA_INLINE floats v_larger(floats a, floats b) { return a > b ? a : b; }
LORA_INLINE floats v_smaller(floats a, floats b) { return a < b ? a : b; }

// Each step joins the halves of a vector, so the order is always the same.
#if LORA_LANES == 16
#define LORA_HALVES(v)                                                                                                 \
    lora_floats8 low8 = v.lo, high8 = v.hi, eight = LORA_JOIN(low8, high8);                                            \
    lora_floats4 low = eight.lo, high = eight.hi, four = LORA_JOIN(low, high)
#elif LORA_LANES == 8
#define LORA_HALVES(v) lora_floats4 low = v.lo, high = v.hi, four = LORA_JOIN(low, high)
#else
#define LORA_HALVES(v) lora_floats4 four = v
#endif

LORA_INLINE float v_sum(floats v) {
#define LORA_JOIN(a, b) ((a) + (b))
    LORA_HALVES(v);
    return (four[0] + four[2]) + (four[1] + four[3]);
#undef LORA_JOIN
}

LORA_INLINE float v_maximum(floats v) {
#define LORA_JOIN(a, b) ((a) > (b) ? (a) : (b))
    LORA_HALVES(v);
    float a = LORA_JOIN(four[0], four[2]), b = LORA_JOIN(four[1], four[3]);
    return LORA_JOIN(a, b);
#undef LORA_JOIN
}

#undef LORA_HALVES

/// e^x within 1.5 units in the last place; 0 below -87, infinity above 88.8, NaN for NaN.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2, and e^r = 1 + r + r^2 q(r) with q a minimax polynomial of degree 4 (relative
/// error 3e-9). Adding 1.5 * 2^23 rounds to the nearest integer and leaves n in the low bits.
LORA_INLINE floats v_exp(floats x) {
    const float magic = 0x1.8p23f;
    floats limited = v_smaller(v_splat(89.0f), v_larger(v_splat(-105.0f), x));
    floats shifted = limited * 0x1.715476p0f + magic;
    floats n = shifted - magic;
    floats r = limited - n * 0x1.62p-1f;
    r = r - n * 0x1.c85fep-10f;
    floats q = r * 0x1.6a2352p-10f + 0x1.123a6cp-7f;
    q = q * r + 0x1.5558f4p-5f;
    q = q * r + 0x1.55549p-3f;
    q = q * r + 0x1.fffffcp-2f;
    floats p = q * (r * r) + (r + 1.0f);
    ints bits = ((ints)shifted << 23) + (126 << 23);
    floats scaled = p * (floats)bits * 2.0f;
    return x < -86.9f ? v_splat(0) : scaled;
}

// The even and odd lanes of two vectors in a row, and their interleaving.
#if LORA_LANES == 16
LORA_INLINE floats v_even(floats a, floats b) {
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}
LORA_INLINE floats v_odd(floats a, floats b) {
    return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}
LORA_INLINE floats v_weave_low(floats a, floats b) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
LORA_INLINE floats v_weave_high(floats a, floats b) {
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif LORA_LANES == 8
LORA_INLINE floats v_even(floats a, floats b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14); }
LORA_INLINE floats v_odd(floats a, floats b) { return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15); }
LORA_INLINE floats v_weave_low(floats a, floats b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
LORA_INLINE floats v_weave_high(floats a, floats b) {
    return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
#else
LORA_INLINE floats v_even(floats a, floats b) { return __builtin_shufflevector(a, b, 0, 2, 4, 6); }
LORA_INLINE floats v_odd(floats a, floats b) { return __builtin_shufflevector(a, b, 1, 3, 5, 7); }
LORA_INLINE floats v_weave_low(floats a, floats b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
LORA_INLINE floats v_weave_high(floats a, floats b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif

/// m[i][j] becomes m[j][i]: log2(LORA_LANES) perfect shuffles.
LORA_INLINE void v_transpose(floats m[LORA_LANES]) {
#pragma clang loop unroll(full)
    for (int step = 1; step < LORA_LANES; step *= 2) {
        floats shuffled[LORA_LANES];
#pragma clang loop unroll(full)
        for (int i = 0; i < LORA_LANES / 2; i++) {
            shuffled[2 * i] = v_weave_low(m[i], m[i + LORA_LANES / 2]);
            shuffled[2 * i + 1] = v_weave_high(m[i], m[i + LORA_LANES / 2]);
        }
#pragma clang loop unroll(full)
        for (int i = 0; i < LORA_LANES; i++) m[i] = shuffled[i];
    }
}
