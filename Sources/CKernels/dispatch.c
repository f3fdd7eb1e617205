#include "dispatch.h"

#include "lora_kernels.h"

_Atomic int lora_variant = LORA_CPU_PORTABLE;
static int best_variant = LORA_CPU_PORTABLE;

static lora_cpu detect(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")))
        return LORA_CPU_PORTABLE;
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")))
        return LORA_CPU_AVX2;
    if (!__builtin_cpu_supports("avx512vnni")) return LORA_CPU_AVX512;
    if (!__builtin_cpu_supports("avx512bf16")) return LORA_CPU_AVX512_VNNI;
    return LORA_CPU_AVX512_BF16;
#else
    return LORA_CPU_PORTABLE;
#endif
}

__attribute__((constructor)) static void choose_variant(void) {
    best_variant = detect();
    lora_variant = best_variant;
}

lora_cpu lora_cpu_best(void) { return (lora_cpu)best_variant; }

lora_cpu lora_cpu_current(void) { return (lora_cpu)lora_variant_in_use(); }

int lora_cpu_use(lora_cpu variant) {
    if ((int)variant < 0 || (int)variant > best_variant) return -1;
    atomic_store_explicit(&lora_variant, (int)variant, memory_order_relaxed);
    return 0;
}
