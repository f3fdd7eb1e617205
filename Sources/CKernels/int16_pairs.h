// Whole numbers of 16 bits as they are, for CPUs that multiply those and add up pairs of products; weights are widened.
// Included under LORA_LANES.

#define WORDS 16  // of two numbers, in 32 weights
#define HALVES 1
#define FEW_ROWS 4  // of x, that are multiplied apart (int16_strips.h)
#define ZERO(type) 0  // weights keep their sign
#define WIDE_PARTS (16 / LORA_LANES)

#ifndef LORA_INT16_PAIRS_NAMES
#define LORA_INT16_PAIRS_NAMES
#define shorts LORA_NAME(shorts)
#define shorts_of_ints LORA_NAME(shorts_of_ints)
#define bytes_of_shorts LORA_NAME(bytes_of_shorts)
#define signed_bytes_of_shorts LORA_NAME(signed_bytes_of_shorts)
#endif

typedef int16_t shorts __attribute__((ext_vector_type(2 * LORA_LANES)));
typedef int16_t shorts_of_ints __attribute__((ext_vector_type(LORA_LANES)));
typedef uint8_t bytes_of_shorts __attribute__((ext_vector_type(2 * LORA_LANES)));
typedef int8_t signed_bytes_of_shorts __attribute__((ext_vector_type(2 * LORA_LANES)));

/// LORA_LANES of 32 integers of x, from `at` on, into a row (64 bytes).
LORA_INLINE void LORA_NAME(store_integers)(uint8_t *row, size_t at, ints integers) {
    shorts_of_ints narrow = __builtin_convertvector(integers, shorts_of_ints);
    __builtin_memcpy(row + 2 * at, &narrow, sizeof narrow);
}

/// The sums of products of neighbours.
LORA_INLINE ints LORA_NAME(add_pairs)(shorts a, shorts b) {
#if LORA_LANES == 8
    return (ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__x86_64__)
    return (ints)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    shorts_of_ints a_even = a.even, a_odd = a.odd, b_even = b.even, b_odd = b.odd;
    return __builtin_convertvector(a_even, ints) * __builtin_convertvector(b_even, ints) +
           __builtin_convertvector(a_odd, ints) * __builtin_convertvector(b_odd, ints);
#endif
}

/// 32 weights (of part `part` of a block of 256).
LORA_INLINE void LORA_NAME(widen)(shorts w[WIDE_PARTS], const uint8_t *block, const lora_type type, size_t part) {
#pragma clang loop unroll(full)
    for (size_t p = 0; p < WIDE_PARTS; p++) {
        const size_t at = p * 2 * LORA_LANES;
        if (is_large(type)) {
            bytes_of_shorts low, high;
            __builtin_memcpy(&low, block + large_low(type, part) + at, sizeof low);
            __builtin_memcpy(&high, block + large_high(type, part) + at, sizeof high);
            w[p] = __builtin_convertvector(low, shorts) >> (short)large_low_shift(type, part) & 15;
            if (type != LORA_Q4_K) {
                shorts above = __builtin_convertvector(high, shorts) >> (short)large_high_shift(type, part);
                w[p] |= (above & (type == LORA_Q6_K ? 3 : 1)) << 4;
            }
            if (type == LORA_Q6_K) w[p] -= 32;
        } else if (type == LORA_Q8_0) {
            signed_bytes_of_shorts bytes;
            __builtin_memcpy(&bytes, block + 2 + at, sizeof bytes);
            w[p] = __builtin_convertvector(bytes, shorts);
        } else {
            bytes_of_shorts bytes;
            __builtin_memcpy(&bytes, block + (type == LORA_Q4_1 ? 4 : 2) + at % 16, sizeof bytes);
            w[p] = (__builtin_convertvector(bytes, shorts) >> (short)(at / 16 * 4) & 15) - (type == LORA_Q4_0 ? 8 : 0);
        }
    }
}

LORA_INLINE void LORA_NAME(load_words)(int32_t words[WORDS], const uint8_t *block, const lora_type type, size_t part) {
    shorts w[WIDE_PARTS];
    LORA_NAME(widen)(w, block, type, part);
    __builtin_memcpy(words, w, sizeof w);
}

#define add_products(sum, w, x) ((sum) + LORA_NAME(add_pairs)((shorts)(ints)(w), (shorts)(x)))
#define GROUP_LANES LORA_LANES
#define GROUP 8
#define GROUP_NAME(name) LORA_NAME(name##_8)
#include "int16_group.h"
#define add_products(sum, w, x) ((sum) + LORA_NAME(add_pairs)((shorts)(ints)(w), (shorts)(x)))
#define GROUP_LANES LORA_LANES
#define GROUP 16
#define GROUP_NAME(name) LORA_NAME(name##_16)
#include "int16_group.h"
