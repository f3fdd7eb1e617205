/// The naive truth that the tests compare the kernels with: double precision, loops as in the papers, no blocking.
/// Shapes and letters as in lora_kernels.h; every matrix is contiguous.
#ifndef LORA_REFERENCE_H
#define LORA_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

/// out (T,C) overwritten.
void lora_reference_rmsnorm_forward(double *out, const double *x, const double *weight, double epsilon, size_t T,
                                    size_t C);
/// dx (T,C) ADDS.
void lora_reference_rmsnorm_backward(double *dx, const double *dout, const double *x, const double *weight,
                                     double epsilon, size_t T, size_t C);
/// x (T,H,D) rotated in place by `sign` times the angles; tables (positions, D/2).
void lora_reference_rope(double *x, const int32_t *positions, const double *cosines, const double *sines, double sign,
                         size_t T, size_t H, size_t D, int halves);
/// out (n) overwritten.
void lora_reference_swiglu_forward(double *out, const double *gate, const double *up, size_t n);
/// dgate, dup (n) overwritten.
void lora_reference_swiglu_backward(double *dgate, double *dup, const double *dout, const double *gate,
                                    const double *up, size_t n);
/// out (n,D), logsumexp (n) overwritten; keys, values (first + n, D).
void lora_reference_attention_forward(double *out, double *logsumexp, const double *queries, const double *keys,
                                      const double *values, size_t first, size_t n, size_t D, double scale);
/// dqueries (n,D) overwritten; dkeys, dvalues (first + n, D) ADD.
void lora_reference_attention_backward(double *dqueries, double *dkeys, double *dvalues, const double *dout,
                                       const double *queries, const double *keys, const double *values, size_t first,
                                       size_t n, size_t D, double scale);
/// losses (T), logsumexp (T) overwritten; logits (T,V).
void lora_reference_cross_entropy_forward(double *losses, double *logsumexp, const double *logits,
                                          const int32_t *targets, size_t T, size_t V);
/// dlogits (T,V) overwritten: scale * (softmax - onehot).
void lora_reference_cross_entropy_backward(double *dlogits, const double *logits, const int32_t *targets, double scale,
                                           size_t T, size_t V);
/// c (M,N) ADDS s * a (M,K) b (K,N). `a_transposed`: a is stored (K,M); `b_transposed`: b is stored (N,K).
void lora_reference_product(double *c, const double *a, int a_transposed, const double *b, int b_transposed, double s,
                            size_t M, size_t N, size_t K);
/// One step of torch.optim.AdamW over one parameter.
void lora_reference_adamw_step(double *parameter, double *m, double *v, double gradient, double learning_rate,
                               double beta1, double beta2, double epsilon, double weight_decay, uint64_t t);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif

#endif
