// Blocks of quantised weights (GGML's formats) to vectors of floats. Included under LORA_LANES.
//
// Numbers, scales and their products fit into the 24 bits of a float, so fusing the product with the sum that follows
// rounds as lora_dequantize does.

#ifndef LORA_QUANTIZED_BLOCKS_NAMES
#define LORA_QUANTIZED_BLOCKS_NAMES
typedef uint8_t eight_bytes __attribute__((ext_vector_type(8)));
typedef int8_t signed_eight_bytes __attribute__((ext_vector_type(8)));

#define bytes_of_lanes LORA_NAME(bytes_of_lanes)
#define signed_bytes_of_lanes LORA_NAME(signed_bytes_of_lanes)
#define shorts_of_lanes LORA_NAME(shorts_of_lanes)
#define PARTS (32 / LORA_LANES)  // vectors of 32 weights
#endif

typedef uint8_t bytes_of_lanes __attribute__((ext_vector_type(LORA_LANES)));
typedef int8_t signed_bytes_of_lanes __attribute__((ext_vector_type(LORA_LANES)));
typedef uint16_t shorts_of_lanes __attribute__((ext_vector_type(LORA_LANES)));

/// The two halves at p, of which a block's scale is the first; reads four bytes, which every block has.
LORA_INLINE lora_floats4 LORA_NAME(two_halves)(const uint8_t *p) {
    uint32_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
#if LORA_LANES >= 8
    // One load of both, which the empty statement keeps whole: a half inserted into a register instead would wait for
    // that register's last use, and blocks would follow each other one by one.
    __m128i both = _mm_cvtsi32_si128((int32_t)bits);
    __asm__("" : "+x"(both));
    return (lora_floats4)_mm_cvtph_ps(both);
#else
    return (lora_floats4){from_half((uint16_t)bits), from_half((uint16_t)(bits >> 16)), 0, 0};
#endif
}

/// 32 nibbles, low halves of the bytes first: value i becomes i * scale + offset.
LORA_INLINE void LORA_NAME(decode_nibbles)(floats w[PARTS], const uint8_t *q, float scale, float offset) {
#if LORA_LANES == 16
    // A vector holds all sixteen values: they are looked up, and vpermps reads the low four bits alone.
    __m512 table = __builtin_convertvector(v_lane_numbers(), floats) * scale + offset;
    __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)q));
    w[0] = _mm512_permutexvar_ps(bytes, table);
    w[1] = _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), table);
#else
    bytes_of_lanes bytes;
#pragma clang loop unroll(full)
    for (int j = 0; j < PARTS / 2; j++) {
        __builtin_memcpy(&bytes, q + j * LORA_LANES, sizeof bytes);
        ints wide = __builtin_convertvector(bytes, ints);
        w[j] = __builtin_convertvector(wide & 15, floats) * scale + offset;
        w[j + PARTS / 2] = __builtin_convertvector(wide >> 4, floats) * scale + offset;
    }
#endif
}

/// 32 nibbles with a fifth bit each: value i becomes i * scale + offset.
LORA_INLINE void LORA_NAME(decode_fives)(floats w[PARTS], const uint8_t *high, const uint8_t *q, float scale,
                                         float offset) {
    int32_t bits;
    __builtin_memcpy(&bits, high, sizeof bits);
#pragma clang loop unroll(full)
    for (int p = 0; p < PARTS; p++) {
        bytes_of_lanes bytes;
        __builtin_memcpy(&bytes, q + p * LORA_LANES % 16, sizeof bytes);
        ints number = __builtin_convertvector(bytes, ints) >> (p * LORA_LANES / 16 * 4) & 15;
        number |= ((ints)bits >> (v_lane_numbers() + p * LORA_LANES) & 1) << 4;
        w[p] = __builtin_convertvector(number, floats) * scale + offset;
    }
}

/// 32 weights as floats, exactly what lora_dequantize gives.
LORA_INLINE void LORA_NAME(decode)(floats w[PARTS], const uint8_t *block, const lora_type type) {
    if (type == LORA_Q4_0) {
        float scale = LORA_NAME(two_halves)(block)[0];
        LORA_NAME(decode_nibbles)(w, block + 2, scale, -8 * scale);
    } else if (type == LORA_Q4_1) {
        lora_floats4 scale_and_offset = LORA_NAME(two_halves)(block);
        LORA_NAME(decode_nibbles)(w, block + 4, scale_and_offset[0], scale_and_offset[1]);
    } else if (type == LORA_Q5_0) {
        float scale = LORA_NAME(two_halves)(block)[0];
        LORA_NAME(decode_fives)(w, block + 2, block + 6, scale, -16 * scale);
    } else if (type == LORA_Q5_1) {
        lora_floats4 scale_and_offset = LORA_NAME(two_halves)(block);
        LORA_NAME(decode_fives)(w, block + 4, block + 8, scale_and_offset[0], scale_and_offset[1]);
    } else {
        float scale = type == LORA_Q8_0 ? LORA_NAME(two_halves)(block)[0] : 0;
#pragma clang loop unroll(full)
        for (int j = 0; j < PARTS; j++) {
            const int at = j * LORA_LANES;
            if (type == LORA_Q8_0) {
                signed_bytes_of_lanes bytes;
                __builtin_memcpy(&bytes, block + 2 + at, sizeof bytes);
                w[j] = __builtin_convertvector(__builtin_convertvector(bytes, ints), floats) * scale;
            } else if (type == LORA_F32) {
                __builtin_memcpy(&w[j], block + 4 * at, sizeof w[j]);
            } else {
                shorts_of_lanes shorts;
                __builtin_memcpy(&shorts, block + 2 * at, sizeof shorts);
                if (type == LORA_BF16) {
                    w[j] = (floats)(__builtin_convertvector(shorts, ints) << 16);
                } else {
#if LORA_LANES == 16
                    w[j] = _mm512_cvtph_ps((__m256i)shorts);
#elif LORA_LANES == 8
                    w[j] = _mm256_cvtph_ps((__m128i)shorts);
#else
                    for (int i = 0; i < LORA_LANES; i++) w[j][i] = from_half(shorts[i]);
#endif
                }
            }
        }
    }
}

/// The sixteen or eight scales and offsets of a block of 256: a weight is its number times scale plus offset.
LORA_INLINE void LORA_NAME(unpack)(float scales[16], float offsets[16], const uint8_t *block, const lora_type type) {
    eight_bytes first, second;
    if (type == LORA_Q6_K) {  // ql[128], qh[64], signed scales[16], d
        float d = LORA_NAME(two_halves)(block + 206)[1];
        signed_eight_bytes low, high;
        __builtin_memcpy(&low, block + 192, sizeof low);
        __builtin_memcpy(&high, block + 200, sizeof high);
        lora_floats8 a = __builtin_convertvector(low, lora_floats8) * d;
        lora_floats8 b = __builtin_convertvector(high, lora_floats8) * d;
        __builtin_memcpy(scales, &a, sizeof a);
        __builtin_memcpy(scales + 8, &b, sizeof b);
        a *= -32.0f, b *= -32.0f;
        __builtin_memcpy(offsets, &a, sizeof a);
        __builtin_memcpy(offsets + 8, &b, sizeof b);
        return;
    }
    // d, dmin, then eight scales and eight minima of six bits in twelve bytes: the first four of each lie in the low
    // bits of bytes 0-3 and 4-7; of the last four, four bits lie in bytes 8-11 and two above those of the first.
    uint32_t part[3], packed[4];
    __builtin_memcpy(part, block + 4, sizeof part);
    packed[0] = part[0] & 0x3f3f3f3f;
    packed[1] = (part[2] & 0x0f0f0f0f) | (part[0] >> 2 & 0x30303030);
    packed[2] = part[1] & 0x3f3f3f3f;
    packed[3] = (part[2] >> 4 & 0x0f0f0f0f) | (part[1] >> 2 & 0x30303030);
    __builtin_memcpy(&first, packed, sizeof first);
    __builtin_memcpy(&second, packed + 2, sizeof second);
    lora_floats4 d = LORA_NAME(two_halves)(block);
    lora_floats8 a = __builtin_convertvector(first, lora_floats8) * d[0];
    lora_floats8 b = __builtin_convertvector(second, lora_floats8) * -d[1];
    __builtin_memcpy(scales, &a, sizeof a);
    __builtin_memcpy(offsets, &b, sizeof b);
}

/// The 32 weights of part `s` of 8 of a block of 256.
LORA_INLINE void LORA_NAME(decode_part)(floats w[PARTS], const uint8_t *block, const float scales[16],
                                        const float offsets[16], size_t s, const lora_type type) {
    const uint8_t *low = block + large_low(type, s), *high = block + large_high(type, s);
    const int low_shift = large_low_shift(type, s), high_shift = large_high_shift(type, s);
    const int mask = type == LORA_Q6_K ? 3 : 1;
#pragma clang loop unroll(full)
    for (int p = 0; p < PARTS; p++) {
        bytes_of_lanes bytes;
        __builtin_memcpy(&bytes, low + p * LORA_LANES, sizeof bytes);
        ints number = __builtin_convertvector(bytes, ints) >> low_shift & 15;
        if (type != LORA_Q4_K) {
            __builtin_memcpy(&bytes, high + p * LORA_LANES, sizeof bytes);
            number |= (__builtin_convertvector(bytes, ints) >> high_shift & mask) << 4;
        }
        size_t scale = type == LORA_Q6_K ? 2 * s + (size_t)(p * LORA_LANES / 16) : s;
        w[p] = __builtin_convertvector(number, floats) * scales[scale] + offsets[scale];
    }
}
