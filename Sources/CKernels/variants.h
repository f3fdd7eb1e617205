/// Compiles LORA_FILE, an operation's own file, once per CPU variant.
///
/// An operation's file has two halves. The first, under `#ifdef LORA_LANES`, holds the bodies, written for vectors of
/// LORA_LANES floats and named LORA_NAME(…); it is compiled here once per variant under that variant's target
/// attribute. The second holds the public functions, which call through a table of the variants. A file that multiplies
/// bf16 defines LORA_MULTIPLIES_BF16 and gets a variant of its own, under LORA_HAS_BF16, for the last CPU. One that
/// multiplies whole numbers defines LORA_MULTIPLIES_INTEGERS and gets one under LORA_HAS_VNNI for the last two.
#include "dispatch.h"
#include "lora_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define LORA_PASTE_(a, b) a##_##b
#define LORA_PASTE(a, b) LORA_PASTE_(a, b)
#define LORA_NAME(name) LORA_PASTE(name, LORA_SUFFIX)
#define LORA_INLINE static inline __attribute__((always_inline, unused))

#define LORA_LANES 4
#define LORA_SUFFIX portable
#if defined(__x86_64__)
#define LORA_ROWS 4
#else
#define LORA_ROWS 8
#endif
#include "vector.h"
#include LORA_FILE
#undef LORA_LANES
#undef LORA_SUFFIX
#undef LORA_ROWS

#if defined(__x86_64__)

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define LORA_LANES 8
#define LORA_SUFFIX avx2
#define LORA_ROWS 4
#include "vector.h"
#include LORA_FILE
#undef LORA_LANES
#undef LORA_SUFFIX
#undef LORA_ROWS
#pragma clang attribute pop

#ifdef LORA_MULTIPLIES_INTEGERS

#pragma clang attribute push(                                                                                          \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), apply_to = function)
#define LORA_LANES 16
#define LORA_SUFFIX avx512_vnni
#define LORA_ROWS 8
#define LORA_HAS_VNNI 1
#include "vector.h"
#include LORA_FILE
#undef LORA_LANES
#undef LORA_SUFFIX
#undef LORA_ROWS
#undef LORA_HAS_VNNI
#pragma clang attribute pop

// AVX-512 alone multiplies whole numbers no better than AVX2.
#define LORA_VARIANTS(name) {name##_portable, name##_avx2, name##_avx2, name##_avx512_vnni, name##_avx512_vnni}

#else

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"))),              \
                             apply_to = function)
#define LORA_LANES 16
#define LORA_SUFFIX avx512
#define LORA_ROWS 8
#include "vector.h"
#include LORA_FILE
#undef LORA_LANES
#undef LORA_SUFFIX
#undef LORA_ROWS
#pragma clang attribute pop

#ifdef LORA_MULTIPLIES_BF16

#pragma clang attribute push(                                                                                          \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16"))), apply_to = function)
#define LORA_LANES 16
#define LORA_SUFFIX avx512_bf16
#define LORA_ROWS 8
#define LORA_HAS_BF16 1
#include "vector.h"
#include LORA_FILE
#undef LORA_LANES
#undef LORA_SUFFIX
#undef LORA_ROWS
#undef LORA_HAS_BF16
#pragma clang attribute pop

#define LORA_VARIANTS(name) {name##_portable, name##_avx2, name##_avx512, name##_avx512, name##_avx512_bf16}

#else

// The other operations accumulate products of f32, so that the last instructions have no use.
#define LORA_VARIANTS(name) {name##_portable, name##_avx2, name##_avx512, name##_avx512, name##_avx512}

#endif

#endif

#else

#define LORA_VARIANTS(name) {name##_portable}

#endif

/// Declares the table of the variants of lora_`name`; LORA_CALL(name) is the one in use.
#define LORA_DISPATCH(name) static __typeof__(lora_##name) *const name##_variants[] = LORA_VARIANTS(name)
#define LORA_CALL(name) name##_variants[lora_variant_in_use()]
