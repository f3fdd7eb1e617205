// Whole numbers of 16 bits as two bytes, 256 high + low, for AVX512_VNNI, which multiplies bytes without a sign by bytes
// with one. So a weight is taken with ZERO(type) added, whose products with x are subtracted from the sum. Included under
// LORA_HAS_VNNI.

#define WORDS 8   // of four bytes, in 32 weights
#define HALVES 2  // of x, that many words each: high, low
#define FEW_ROWS 8  // of x, that are multiplied apart (int16_lanes.h)
/// What makes weights of a type numbers without a sign, of those of Q4_1 nothing.
#define ZERO(type) ((type) == LORA_Q8_0 ? 128 : (type) == LORA_Q4_0 ? 8 : (type) == LORA_Q6_K ? 32 : 0)

typedef int32_t eight_words __attribute__((ext_vector_type(8)));

/// LORA_LANES of 32 integers of x, from `at` on, into the halves of a row (64 bytes).
LORA_INLINE void LORA_NAME(store_integers)(uint8_t *halves, size_t at, ints integers) {
    ints low = integers << 24 >> 24;
    signed_bytes_of_lanes lows = __builtin_convertvector(low, signed_bytes_of_lanes);
    signed_bytes_of_lanes highs = __builtin_convertvector((integers - low) >> 8, signed_bytes_of_lanes);
    __builtin_memcpy(halves + at, &highs, sizeof highs);
    __builtin_memcpy(halves + 32 + at, &lows, sizeof lows);
}

/// Of each byte of the words that hold bits above the low four, those of one number.
#define HIGH_BITS(type) ((type) == LORA_Q4_K ? 0 : (type) == LORA_Q5_K ? 0x01010101 : 0x03030303)
/// Numbers of part `part` of blocks of 256, in vectors of the words that hold their low bits and those above.
#define LARGE_NUMBERS(low, high, type, part)                                                                           \
    (((low) >> large_low_shift(type, part) & 0x0f0f0f0f) |                                                             \
     ((high) >> large_high_shift(type, part) & HIGH_BITS(type)) << 4)

/// 32 weights (of part `part` of a block of 256), each with ZERO(type) added.
LORA_INLINE void LORA_NAME(load_words)(int32_t words[WORDS], const uint8_t *block, const lora_type type, size_t part) {
    __m256i weights;
    if (is_large(type)) {
        eight_words low, high;
        __builtin_memcpy(&low, block + large_low(type, part), sizeof low);
        __builtin_memcpy(&high, block + large_high(type, part), sizeof high);
        weights = (__m256i)LARGE_NUMBERS(low, high, type, part);
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

#define GROUP 16
#define GROUP_LANES 16
#define GROUP_NAME(name) LORA_NAME(name##_16)
#define add_products(sum, w, x) (group_ints) _mm512_dpbusd_epi32((__m512i)(sum), _mm512_set1_epi32(w), (__m512i)(x))
#include "int16_group.h"
