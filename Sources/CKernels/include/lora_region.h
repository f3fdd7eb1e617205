/// A parallel region: a Swift closure that other threads call while its caller waits. Swift would move the closure's
/// context to the heap to hand it to another thread, and those of the closures inside it; here it stays on the stack.
#ifndef LORA_REGION_H
#define LORA_REGION_H

typedef struct lora_region {
    void *code, *context;
} lora_region;

/// Calls the closure that `lora_region_begin` was given, which must not have returned since.
void lora_region_call(lora_region region, long thread);

#endif
