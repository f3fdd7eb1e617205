// Whole numbers of 16 bits as two bytes, 256 high + low, for AVX512_VNNI, which multiplies bytes without a sign by bytes
// with one. So a weight is taken with ZERO(type) added, whose products with x are subtracted from the sum. Included under
// LORA_HAS_VNNI.

#define WORDS 8   // of four bytes, in 32 weights
#define HALVES 2  // of x, that many words each: high, low
/// What makes weights of a type numbers without a sign, of those of Q4_1 nothing.
#define ZERO(type) ((type) == LORA_Q8_0 ? 128 : (type) == LORA_Q4_0 ? 8 : (type) == LORA_Q6_K ? 32 : 0)

/// LORA_LANES of 32 integers of x, from `at` on, into the halves of a row (64 bytes).
LORA_INLINE void LORA_NAME(store_integers)(uint8_t *halves, size_t at, ints integers) {
    ints low = integers << 24 >> 24;
    signed_bytes_of_lanes lows = __builtin_convertvector(low, signed_bytes_of_lanes);
    signed_bytes_of_lanes highs = __builtin_convertvector((integers - low) >> 8, signed_bytes_of_lanes);
    __builtin_memcpy(halves + at, &highs, sizeof highs);
    __builtin_memcpy(halves + 32 + at, &lows, sizeof lows);
}

/// Numbers of part `part` of blocks of 256 out of the bytes that hold their low bits, and those above.
LORA_INLINE __m256i LORA_NAME(numbers)(__m256i low, __m256i high, const lora_type type, size_t part) {
    const int low_shift = large_low_shift(type, part), high_shift = large_high_shift(type, part);
    low = _mm256_and_si256(_mm256_srl_epi16(low, _mm_cvtsi32_si128(low_shift)), _mm256_set1_epi8(15));
    if (type == LORA_Q4_K) return low;
    const __m256i mask = _mm256_set1_epi8(type == LORA_Q6_K ? 3 : 1);
    high = _mm256_and_si256(_mm256_srl_epi16(high, _mm_cvtsi32_si128(high_shift)), mask);
    return _mm256_or_si256(low, _mm256_slli_epi16(high, 4));
}

/// 32 weights (of part `part` of a block of 256), each with ZERO(type) added.
LORA_INLINE void LORA_NAME(load_words)(int32_t words[WORDS], const uint8_t *block, const lora_type type, size_t part) {
    __m256i weights;
    if (is_large(type)) {
        weights = LORA_NAME(numbers)(_mm256_loadu_si256((const __m256i *)(block + large_low(type, part))),
                                     _mm256_loadu_si256((const __m256i *)(block + large_high(type, part))), type, part);
    } else if (type == LORA_Q8_0) {
        weights = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(block + 2)), _mm256_set1_epi8(-128));
    } else {
        __m128i nibbles = _mm_loadu_si128((const __m128i *)(block + (type == LORA_Q4_1 ? 4 : 2)));
        const __m256i shifts = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4);
        __m256i shifted = _mm256_srlv_epi32(_mm256_broadcastsi128_si256(nibbles), shifts);
        weights = _mm256_and_si256(shifted, _mm256_set1_epi8(15));
    }
    __builtin_memcpy(words, &weights, sizeof weights);
}

/// The first and the last 16 weights of two rows, those of `a` in the lower half, each with ZERO(type) added.
LORA_INLINE void LORA_NAME(weights_of_two)(__m256i weights[2], const uint8_t *a, const uint8_t *b,
                                           const lora_type type, size_t part) {
    if (is_large(type)) {
        const size_t low = large_low(type, part), high = large_high(type, part);
#pragma clang loop unroll(full)
        for (size_t i = 0; i < 2; i++) {
            const __m256i lows = _mm256_loadu2_m128i((const __m128i *)(b + low) + i, (const __m128i *)(a + low) + i);
            const __m256i highs = _mm256_loadu2_m128i((const __m128i *)(b + high) + i, (const __m128i *)(a + high) + i);
            weights[i] = LORA_NAME(numbers)(lows, highs, type, part);
        }
        return;
    }
    const size_t at = type == LORA_Q4_1 ? 4 : 2;
    __m256i first = _mm256_loadu2_m128i((const __m128i *)(b + at), (const __m128i *)(a + at));
    if (type == LORA_Q8_0) {
        __m256i last = _mm256_loadu2_m128i((const __m128i *)(b + at + 16), (const __m128i *)(a + at + 16));
        weights[0] = _mm256_xor_si256(first, _mm256_set1_epi8(-128));
        weights[1] = _mm256_xor_si256(last, _mm256_set1_epi8(-128));
    } else {
        weights[0] = _mm256_and_si256(first, _mm256_set1_epi8(15));
        weights[1] = _mm256_and_si256(_mm256_srli_epi16(first, 4), _mm256_set1_epi8(15));
    }
}

/// The sums of sixteen halves of vectors: the lower ones of the first four, the upper ones, the same of the other four.
LORA_INLINE ints LORA_NAME(add_up)(const __m256i sums[8]) {
    __m256i twos[4], fours[2];
#pragma clang loop unroll(full)
    for (int p = 0; p < 4; p++)
        twos[p] = _mm256_add_epi32(_mm256_unpacklo_epi32(sums[2 * p], sums[2 * p + 1]),
                                   _mm256_unpackhi_epi32(sums[2 * p], sums[2 * p + 1]));
#pragma clang loop unroll(full)
    for (int p = 0; p < 2; p++)
        fours[p] = _mm256_add_epi32(_mm256_unpacklo_epi64(twos[2 * p], twos[2 * p + 1]),
                                    _mm256_unpackhi_epi64(twos[2 * p], twos[2 * p + 1]));
    return (ints)_mm512_inserti64x4(_mm512_castsi256_si512(fours[0]), fours[1], 1);
}

/// Sums of products of 32 weights, or of the first and the last 16 where they have scales of their own: lane l has row
/// l % rows of x, x_bytes apart, of which `used` exist, and row l / rows of W, of which `columns` exist.
LORA_INLINE void LORA_NAME(strip_sums)(ints out[2], const lora_type type, size_t part, const size_t rows, size_t used,
                                       const uint8_t *x, size_t x_bytes, const uint8_t *W, size_t W_bytes,
                                       const size_t columns, const ints x_sums[2]) {
    // Two lanes four apart share a vector: their rows of W differ, that of x does not.
    __m256i w[2], sums[2][8];
#pragma clang loop unroll(full)
    for (size_t p = 0; p < 8; p++) {
        const size_t lane = p < 4 ? p : p + 4, i = lane % rows, a = lane / rows, b = (lane + 4) / rows;
        if (i == 0) {
            const uint8_t *lower = W + (a < columns ? a : columns - 1) * W_bytes;
            const uint8_t *upper = W + (b < columns ? b : columns - 1) * W_bytes;
            LORA_NAME(weights_of_two)(w, lower, upper, type, part);
        }
        const __m128i *row = (const __m128i *)(x + (i < used ? i : used - 1) * x_bytes);
        __m256i parts[4];  // high, low
#pragma clang loop unroll(full)
        for (int q = 0; q < 4; q++) parts[q] = _mm256_broadcastsi128_si256(_mm_loadu_si128(row + q));
        __m256i sum = _mm256_dpbusd_epi32(_mm256_setzero_si256(), w[0], parts[0]);
        if (TERMS(type) == 2) {
            sums[0][p] = _mm256_dpbusd_epi32(_mm256_slli_epi32(sum, 8), w[0], parts[2]);
            sum = _mm256_dpbusd_epi32(_mm256_setzero_si256(), w[1], parts[1]);
            sums[1][p] = _mm256_dpbusd_epi32(_mm256_slli_epi32(sum, 8), w[1], parts[3]);
        } else {
            sum = _mm256_slli_epi32(_mm256_dpbusd_epi32(sum, w[1], parts[1]), 8);
            sums[0][p] = _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(sum, w[0], parts[2]), w[1], parts[3]);
        }
    }
#pragma clang loop unroll(full)
    for (int t = 0; t < TERMS(type); t++) out[t] = LORA_NAME(add_up)(sums[t]) - ZERO(type) * x_sums[t];
}

#define GROUP 8
#define GROUP_LANES 8
#define GROUP_NAME(name) LORA_NAME(name##_8)
#define add_products(sum, w, x) (group_ints) _mm256_dpbusd_epi32((__m256i)(sum), _mm256_set1_epi32(w), (__m256i)(x))
#include "int16_group.h"
#define GROUP 16
#define GROUP_LANES 16
#define GROUP_NAME(name) LORA_NAME(name##_16)
#define add_products(sum, w, x) (group_ints) _mm512_dpbusd_epi32((__m512i)(sum), _mm512_set1_epi32(w), (__m512i)(x))
#include "int16_group.h"

#undef WORDS
#undef HALVES
#undef ZERO
