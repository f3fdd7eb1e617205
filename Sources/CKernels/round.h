// Rounding to bf16. Included under LORA_LANES by the operations that round many numbers.

#ifndef LORA_ROUND_NAMES
#define LORA_ROUND_NAMES
#define round_to_bf16 LORA_NAME(round_to_bf16)
#endif

/// out (n) = x to nearest, ties to even; a NaN stays a (quiet) one.
LORA_INLINE void round_to_bf16(uint16_t *restrict out, const float *restrict x, size_t n) {
    size_t i = 0;
    while (i < n) {
        size_t end = n;
#ifdef LORA_HAS_BF16
        for (; i + 16 <= n; i += 16) {
            __m512 floats = _mm512_loadu_ps(x + i);
            if (_mm512_fpclass_ps_mask(floats, 0x20)) break;  // the instruction takes subnormals as zeros
            __m256bh halves = _mm512_cvtneps_pbh(floats);
            __builtin_memcpy(out + i, &halves, sizeof halves);
        }
        if (n - i > 16) end = i + 16;
#endif
        for (; i < end; i++) {
            uint32_t bits = bits_of(x[i]);
            uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40;
            out[i] = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
        }
    }
}
