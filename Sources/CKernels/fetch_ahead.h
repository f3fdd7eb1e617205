// What a product of few rows fetches beforehand, in the order of memory: side by side, the rows of W that it multiplies at
// a time are no stream to the CPU.

#ifndef LORA_FETCH_AHEAD_H
#define LORA_FETCH_AHEAD_H

#include <stddef.h>
#include <stdint.h>

/// Bytes between what is multiplied and what is fetched, into the second cache.
enum { AHEAD = 32 << 10 };

/// What to fetch while the weights at `W` are multiplied: what is AHEAD of them, past their `end` what is read `next`.
/// Without such, W itself, which costs nothing.
static inline const uint8_t *ahead_of(const uint8_t *W, const uint8_t *end, const uint8_t *next) {
    if (end - W > AHEAD) return W + AHEAD;
    return next ? next + (AHEAD - (end - W)) : W;
}

#endif
