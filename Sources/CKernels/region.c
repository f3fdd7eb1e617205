#include "lora_region.h"

#include <stdint.h>

typedef __attribute__((swiftcall)) void closure(intptr_t thread, __attribute__((swift_context)) void *context);

// Declared in Swift, where it takes a closure: by Swift's calling convention that is its code and its context.
__attribute__((swiftcall)) void lora_region_begin(void *code, void *context, lora_region *region);

__attribute__((swiftcall)) void lora_region_begin(void *code, void *context, lora_region *region) {
    region->code = code;
    region->context = context;
}

void lora_region_call(lora_region region, long thread) { ((closure *)region.code)(thread, region.context); }
