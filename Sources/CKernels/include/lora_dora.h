/// Rows of a projection with a gain of their own, y = g * (W x + s * B A x) with g = m / |W + s B A| by output row, and
/// the gradient of the magnitudes m (DoRA, arXiv 2402.09353). The norms are constants on the way back (section 4.3).
///
/// Conventions as in lora_kernels.h: T rows of N outputs, gains (N).
#ifndef LORA_DORA_H
#define LORA_DORA_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

/// y (T,N), rows y_stride apart, in place: onto + gains * (y - onto), where onto (T,N) is what y held before the
/// projection was added to it; null for zeros.
void lora_dora_scale(float *y, size_t y_stride, const float *_Nullable onto, const float *gains, size_t T, size_t N);
/// y (T,N), rows y_stride apart, ADDS (gains - 1) * base + gains * branch, both (T,N).
void lora_dora_add(float *y, size_t y_stride, const float *base, const float *branch, const float *gains, size_t T,
                   size_t N);
/// branch (T,N) overwritten: gains * dy; base (T,N) overwritten: (gains - 1) * dy. Rows of dy are dy_stride apart.
void lora_dora_backward_input(float *branch, float *base, const float *dy, size_t dy_stride, const float *gains,
                              size_t T, size_t N);
/// dm (N) ADDS factors * the sum over the rows of dy * z, where z (T,N) = W x + s B A x and factors (N) are 1 / norms.
void lora_dora_backward_magnitude(float *dm, const float *dy, size_t dy_stride, const float *z, const float *factors,
                                  size_t T, size_t N);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif

#endif
