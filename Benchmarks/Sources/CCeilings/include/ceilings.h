/// What this machine can do at best, measured with the libraries alone.
#ifndef CEILINGS_H
#define CEILINGS_H

#include <stddef.h>

/// How the (N, K) weights of a product lie in memory.
typedef enum {
    /// Row by row, as a model's file has them.
    CEILING_ROW_MAJOR,
    /// As oneDNN likes them best (`format_tag::any`), laid out before the clock runs.
    CEILING_BLOCKED,
} ceiling_layout;

/// GFLOP/s of the product (M, K) · (N, K)ᵀ with f32 sums: `threads` threads, each with M rows of its own and oneDNN
/// single-threaded, for about `seconds`. `bf16` 1: bf16 operands, 0: f32. Negative when oneDNN refuses.
double ceiling_product(
    int bf16, ceiling_layout layout, size_t threads, size_t M, size_t N, size_t K, double seconds);

/// GB/s that `threads` threads read from memory, far more than the caches hold, for about `seconds`. Negative when
/// there is no memory for it.
double ceiling_read(size_t threads, double seconds);

/// GB/s at which `threads` threads read `bytes`, each a part of its own, again and again for about `seconds`.
double ceiling_read_again(const void *bytes, size_t size, size_t threads, double seconds);

#endif
