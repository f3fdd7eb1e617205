/// Choice of the CPU variant, read by every public kernel.
#ifndef LORA_DISPATCH_H
#define LORA_DISPATCH_H

#include <stdatomic.h>

/// Written when the library is loaded and by lora_cpu_use alone.
extern _Atomic int lora_variant;

static inline int lora_variant_in_use(void) { return atomic_load_explicit(&lora_variant, memory_order_relaxed); }

#endif
