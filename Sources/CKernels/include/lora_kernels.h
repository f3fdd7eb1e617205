/// Numeric kernels of lora: one operation per file, forward and backward side by side.
///
/// Conventions. Matrices are row-major; rows are contiguous unless a stride (in floats, between rows) is given.
/// Outputs come first. Each function says whether it overwrites or adds. Nothing here allocates, and every row is
/// reduced in an order that does not depend on how many rows there are. Shapes: T rows (tokens), C hidden size,
/// H heads, D head size, V vocabulary, r rank; M rows in, N rows of a weight, K columns of a weight.
#ifndef LORA_KERNELS_H
#define LORA_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

// MARK: Choice of CPU variant

typedef enum lora_cpu {
    LORA_CPU_PORTABLE = 0,
    LORA_CPU_AVX2 = 1,         // AVX2 + FMA + F16C
    LORA_CPU_AVX512 = 2,       // AVX-512 F/BW/DQ/VL
    LORA_CPU_AVX512_VNNI = 3,  // the former + AVX512_VNNI
    LORA_CPU_AVX512_BF16 = 4,  // the former + AVX512_BF16
} lora_cpu;

/// The best variant this machine can run; chosen once when the library is loaded.
lora_cpu lora_cpu_best(void);
/// The variant in use.
lora_cpu lora_cpu_current(void);
/// Switches all kernels to `variant`, for tests and comparisons; returns 0, or -1 when the machine cannot run it.
int lora_cpu_use(lora_cpu variant);

/// Tells the processor that the caller is spinning.
static inline void lora_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// MARK: RMSNorm (arXiv 1910.07467)

/// out (T,C) overwritten, rstd (T) overwritten: out = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + epsilon).
void lora_rmsnorm_forward(float *out, float *rstd, const float *x, const float *weight, float epsilon, size_t T,
                          size_t C);
/// dx (T,C) ADDS.
void lora_rmsnorm_backward(float *dx, const float *dout, const float *x, const float *weight, const float *rstd,
                           size_t T, size_t C);

// MARK: Rotary position embedding (arXiv 2104.09864)

/// Rotates x (T,H,D), rows `stride` floats apart, in place. cosines and sines are (positions, D/2) tables.
/// `halves` 0: pairs are (2i, 2i+1), as GGUF stores the llama architecture; 1: pairs are (i, i + D/2).
void lora_rope_forward(float *x, size_t stride, const int32_t *positions, const float *cosines, const float *sines,
                       size_t T, size_t H, size_t D, int halves);
/// Rotates the gradient dx (T,H,D) back, in place.
void lora_rope_backward(float *dx, size_t stride, const int32_t *positions, const float *cosines, const float *sines,
                        size_t T, size_t H, size_t D, int halves);

// MARK: SwiGLU (arXiv 2002.05202)

/// out (n) overwritten: silu(gate) * up.
void lora_swiglu_forward(float *out, const float *gate, const float *up, size_t n);
/// dgate, dup (n) overwritten; dgate may alias gate, dup may alias up.
void lora_swiglu_backward(float *dgate, float *dup, const float *dout, const float *gate, const float *up, size_t n);

// MARK: Attention: causal, online softmax (arXiv 2205.14135), one query head at a time

/// A run of consecutive positions of one key/value head. Positions count through the spans of a call in order,
/// from 0: a shared prefix, cache pages or one packed example are all lists of spans.
typedef struct lora_key_span {
    const float *keys;               // (count, D), rows `key_stride` floats apart
    const float *values;             // (count, D), rows `key_stride` floats apart
    float *_Nullable dkeys;          // backward only, ADDS
    float *_Nullable dvalues;        // backward only, ADDS
    size_t count;
} lora_key_span;

/// A query's result depends, bit for bit, neither on the other queries of the call nor on how the keys are cut into
/// spans. Forward and backward use up to 160 KiB of stack.

/// out (n,D) and logsumexp (n) overwritten. queries (n,D) are at positions first..first+n-1 and each sees the keys at
/// positions up to its own. Rows of queries are `query_stride` floats apart, rows of out `out_stride`. D is a multiple
/// of 8 up to 256.
void lora_attention_forward(float *out, size_t out_stride, float *logsumexp, const float *queries, size_t query_stride,
                            const lora_key_span *spans, size_t span_count, size_t key_stride, size_t first, size_t n,
                            size_t D, float scale);
/// The same for one token: queries (heads,D) of the heads that share the spans, all at `position`; out (heads,D) and
/// logsumexp (heads) overwritten. Every head gets the bits that lora_attention_forward gives it with n = 1; the keys
/// are read once for all of them.
void lora_attention_decode(float *out, float *logsumexp, const float *queries, const lora_key_span *spans,
                           size_t span_count, size_t key_stride, size_t position, size_t heads, size_t D, float scale);
/// dqueries (n,D) overwritten, rows `query_stride` apart as in queries; dkeys and dvalues of the spans ADD, rows
/// `key_stride` apart. out, logsumexp: what forward wrote; rows of dout and out are `out_stride` apart.
void lora_attention_backward(float *dqueries, const float *dout, const float *out, size_t out_stride,
                             const float *logsumexp, const float *queries, size_t query_stride,
                             const lora_key_span *spans, size_t span_count, size_t key_stride, size_t first, size_t n,
                             size_t D, float scale);

/// The same with bf16 operands, for training. Keys and values are bf16, their gradients f32.
typedef struct lora_key_span_bf16 {
    const uint16_t *keys;            // (count, D), rows `key_stride` elements apart
    const uint16_t *values;          // (count, D), rows `key_stride` elements apart
    float *_Nullable dkeys;          // backward only, ADDS, rows `key_stride` floats apart
    float *_Nullable dvalues;        // backward only, ADDS, rows `key_stride` floats apart
    size_t count;
} lora_key_span_bf16;

/// As lora_attention_forward, with the same freedom in spans and queries. Sums and softmax are f32; probabilities are
/// rounded to bf16 before they meet the values, and out is rounded once (to nearest, ties to even). Strides count
/// elements. Made for AVX512_BF16; the other variants compute the same at the speed of f32. Forward and backward use up
/// to 192 KiB of stack.
void lora_attention_forward_bf16(uint16_t *out, size_t out_stride, float *logsumexp, const uint16_t *queries,
                                 size_t query_stride, const lora_key_span_bf16 *spans, size_t span_count,
                                 size_t key_stride, size_t first, size_t n, size_t D, float scale);
/// Positions of a page: keys, transposed as pairs of neighbours (D/2,16,2), then values as pairs of positions (8,D,2).
/// Readable 64 bytes beyond.
enum { LORA_PAGE_LENGTH = 16 };
/// As lora_attention_forward_bf16, bit for bit, with keys and values in pages from position 0 on, for n queries that are
/// `step` positions apart: 1, or 0 for the heads of one token that share the keys.
void lora_attention_pages_bf16(uint16_t *out, size_t out_stride, const uint16_t *queries, size_t query_stride,
                               const uint16_t *_Nonnull const *_Nonnull pages, size_t first, size_t step, size_t n,
                               size_t D, float scale);
/// Writes the key and value (D each) of position `row` of a page, after those before it.
void lora_page_write_bf16(uint16_t *page, size_t row, const uint16_t *key, const uint16_t *value, size_t D);
/// As lora_attention_backward; probabilities and the gradients of the scores are rounded to bf16 before they meet other
/// operands. dqueries (n,D) are f32, overwritten, rows `query_stride` floats apart.
void lora_attention_backward_bf16(float *dqueries, const uint16_t *dout, const uint16_t *out, size_t out_stride,
                                  const float *logsumexp, const uint16_t *queries, size_t query_stride,
                                  const lora_key_span_bf16 *spans, size_t span_count, size_t key_stride, size_t first,
                                  size_t n, size_t D, float scale);

// MARK: Softmax cross-entropy, a panel of the logits at a time

/// maximum overwritten with the largest of x (n), sum with that of exp(x - maximum), which out (n) is overwritten with
/// unless null; out may be x. Where all of x is -infinity, the exponentials and their sum are 0.
void lora_exponentials_f32(float *_Nullable out, float *maximum, float *sum, const float *x, size_t n);
/// The same; out is rounded, the sum is not.
void lora_exponentials_bf16(uint16_t *_Nullable out, float *maximum, float *sum, const float *x, size_t n);
/// out (n) overwritten: x * factor.
void lora_scaled_f32(float *out, const float *x, float factor, size_t n);
void lora_scaled_bf16(uint16_t *out, const uint16_t *x, float factor, size_t n);

// MARK: Low-rank branch: h = x A^T, y += s * h B^T (arXiv 2106.09685). Rank r is small; rows may be strided.

/// h (T,r) overwritten: x (T,C) times the transpose of A (r,C).
void lora_lowrank_down(float *h, const float *x, size_t x_stride, const float *A, size_t T, size_t C, size_t r);
/// y (T,N) ADDS s * h (T,r) times the transpose of B (N,r), which is transposed at each call.
void lora_lowrank_up(float *y, size_t y_stride, const float *h, const float *B, float s, size_t T, size_t N, size_t r);
/// dh (T,r) overwritten: s * dy (T,N) times B (N,r).
void lora_lowrank_up_backward_input(float *dh, const float *dy, size_t dy_stride, const float *B, float s, size_t T,
                                    size_t N, size_t r);
/// dB (N,r) ADDS s * transpose of dy (T,N) times h (T,r).
void lora_lowrank_up_backward_weight(float *dB, const float *dy, size_t dy_stride, const float *h, float s, size_t T,
                                     size_t N, size_t r);
/// dx (T,C) ADDS dh (T,r) times A (r,C).
void lora_lowrank_down_backward_input(float *dx, size_t dx_stride, const float *dh, const float *A, size_t T, size_t C,
                                      size_t r);
/// dA (r,C) ADDS the transpose of dh (T,r) times x (T,C).
void lora_lowrank_down_backward_weight(float *dA, const float *dh, const float *x, size_t x_stride, size_t T, size_t C,
                                       size_t r);

// MARK: The branch as inference reads it: B (N,r) in blocks of columns (N / LORA_LOWRANK_BLOCK,r,LORA_LOWRANK_BLOCK), the
// last one padded with zeros; A and blocks in f32 or in bf16. A result's bits do not depend on T.

enum { LORA_LOWRANK_BLOCK = 16 };

/// Elements of B (N,r) in blocks.
size_t lora_lowrank_blocks_count(size_t N, size_t r);
/// out overwritten: B (N,r) in blocks.
void lora_lowrank_to_blocks(float *out, const float *B, size_t N, size_t r);
/// Whether every number of x (n) is one of bf16.
int lora_is_bf16(const float *x, size_t n);
/// h (T,r) overwritten as lora_lowrank_down does, bit for bit, with A in bf16.
void lora_lowrank_down_bf16(float *h, const float *x, size_t x_stride, const uint16_t *A, size_t T, size_t C, size_t r);
/// y (T,N) ADDS s * h (T,r) times the transpose of B; the sum over r comes first.
void lora_lowrank_up_blocks_f32(float *y, size_t y_stride, const float *h, const float *blocks, float s, size_t T,
                                size_t N, size_t r);
void lora_lowrank_up_blocks_bf16(float *y, size_t y_stride, const float *h, const uint16_t *blocks, float s, size_t T,
                                 size_t N, size_t r);

/// out (r,T), rows out_row apart, overwritten with s times the transpose of x (T,r), and with zeros up to a multiple of
/// 16 columns.
void lora_transpose_f32(float *out, size_t out_row, const float *x, float s, size_t T, size_t r);
/// The same, rounded.
void lora_transpose_bf16(uint16_t *out, size_t out_row, const float *x, float s, size_t T, size_t r);
/// out (N,r) ADDS the transpose of x (r,N), rows x_row apart.
void lora_add_transpose(float *out, const float *x, size_t x_row, size_t N, size_t r);

// MARK: Dropout on the input of the low-rank branch

/// out (n) overwritten: x / (1 - p) where the counter-based generator keeps the element, else 0. Element i draws from
/// (seed, offset + i), the same in every variant, so any part can be computed again. 0 <= p < 1.
void lora_dropout_forward(float *out, const float *x, float p, uint64_t seed, uint64_t offset, size_t n);
/// dx (n) ADDS dout / (1 - p) where forward kept the element.
void lora_dropout_backward(float *dx, const float *dout, float p, uint64_t seed, uint64_t offset, size_t n);

// MARK: Elementwise and conversions

/// out (n) ADDS x.
void lora_add(float *out, const float *x, size_t n);
/// Sum of squares in double precision, in a fixed order.
double lora_sum_of_squares(const float *x, size_t n);
/// 1 when every element is finite, else 0.
int lora_all_finite(const float *x, size_t n);
/// Round to nearest, ties to even.
void lora_f32_to_bf16(uint16_t *out, const float *x, size_t n);
void lora_bf16_to_f32(float *out, const uint16_t *x, size_t n);
void lora_f32_to_f16(uint16_t *out, const float *x, size_t n);
void lora_f16_to_f32(float *out, const uint16_t *x, size_t n);

// MARK: Weights in the matrix engine's order

/// The engine reads a weight, whose product sums over K terms and has N outputs, as blocks of `width` outputs (16 or 64):
/// element (k,n) of f32 is at n / width * block + k * width + n % width, with block = width times the padded K. In bf16
/// blocks have 64 outputs, and it is at n / 64 * block + k / 2 * 128 + n % 64 * 2 + k % 2. These pack 16 rows of a
/// matrix, `row` elements apart; all sizes are padded.
///
/// The rows are 16 outputs with K terms each, K a multiple of 32 (f32: 16); out points at the first output of the rows, term 0.
void lora_pack_outputs_f32(float *out, size_t width, const float *rows, size_t row, size_t K);
void lora_pack_outputs_bf16(uint16_t *out, const uint16_t *rows, size_t row, size_t K);
/// The rows are 16 terms with N outputs each, N a multiple of the block's; out points at output 0 of the rows' first term.
void lora_pack_terms_f32(float *out, size_t width, size_t block, const float *rows, size_t row, size_t N);
void lora_pack_terms_bf16(uint16_t *out, size_t block, const uint16_t *rows, size_t row, size_t N);
/// y (M,N), rows y_row apart, overwritten, or added to where `add`: x (M,K), rows x_row apart, times a weight packed with
/// width 16, whose blocks are `block` floats apart. An element of y is one chain of additions over K in order: it depends
/// on nothing but its row of x, its output's weights, and what it was.
void lora_packed_product(float *y, size_t y_row, const float *x, size_t x_row, const float *w, size_t block, size_t M,
                         size_t N, size_t K, int add);

// MARK: AdamW (arXiv 1711.05101)

/// One step over n parameters: parameters, m, v updated in place. The gradient is multiplied by grad_scale first
/// (clipping). correction1 = 1 - beta1^t, correction2 = 1 - beta2^t.
void lora_adamw_step(float *parameters, float *m, float *v, const float *gradients, float grad_scale,
                     float learning_rate, float beta1, float beta2, float epsilon, float weight_decay,
                     float correction1, float correction2, size_t n);

// MARK: Quantised tensors (GGML block formats)

/// GGML's type numbers.
typedef enum lora_type {
    LORA_F32 = 0,
    LORA_F16 = 1,
    LORA_Q4_0 = 2,
    LORA_Q4_1 = 3,
    LORA_Q5_0 = 6,
    LORA_Q5_1 = 7,
    LORA_Q8_0 = 8,
    LORA_Q4_K = 12,
    LORA_Q5_K = 13,
    LORA_Q6_K = 14,
    LORA_BF16 = 30,
} lora_type;

/// out (n) overwritten with the values of n elements (a whole number of blocks); equal to gguf.quants.dequantize.
/// Returns 0, or -1 for an unknown type.
int lora_dequantize(float *out, const void *blocks, lora_type type, size_t n);
/// The same, rounded to bf16 (nearest, ties to even).
int lora_dequantize_bf16(uint16_t *out, const void *blocks, lora_type type, size_t n);
/// y (M,N), rows y_stride apart, overwritten, or added to where `add`: x (M,K) times the transpose of W (N,K) in its
/// stored type, for few rows: each weight is read once. f32 accumulation, in an order that does not depend on M. K up to
/// 65536 (whole blocks). Returns 0, or -1 for an unknown type or a part of a block in K.
int lora_quantized_product(float *y, size_t y_stride, const float *x, const void *W, lora_type type, size_t M, size_t N,
                           size_t K, int add);
/// The same with operands rounded to bf16, made for AVX512_BF16: x as lora_group_rows_bf16 writes it, weights as
/// lora_dequantize_bf16 rounds them. Fetches ahead, in the end the beginning of the weights that are read `next`.
int lora_quantized_product_bf16(float *y, size_t y_stride, const uint16_t *x, const void *W, lora_type type, size_t M,
                                size_t N, size_t K, int add, const void *_Nullable next);
/// out (lora_grouped_rows_count(M,K)) overwritten with x (M,K), rounded, for lora_quantized_product_bf16: in groups of
/// rows, each (K/32,rows,32), padded with zeros. The size of a group depends on M.
void lora_group_rows_bf16(uint16_t *out, const float *x, size_t M, size_t K);
size_t lora_grouped_rows_count(size_t M, size_t K);
/// The same for Q4_0, Q4_1, Q8_0 and K-quants with x as lora_round_rows_int16 writes it: weights as they are.
/// Returns -1 for other types.
int lora_quantized_product_int16(float *y, size_t y_stride, const void *x, const void *W, lora_type type, size_t M,
                                 size_t N, size_t K, int add, const void *_Nullable next);
int lora_multiplies_int16(lora_type type);
/// out (lora_int16_rows_size(M,K) bytes) overwritten with x (M,K), K a multiple of 32, as integers of 16 bits with a
/// scale for every 32, in groups of rows whose size depends on M: `count` of each row's K/32 blocks, from `first` on.
void lora_round_rows_int16(void *out, const float *x, size_t M, size_t K, size_t first, size_t count);
size_t lora_int16_rows_size(size_t M, size_t K);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif

#endif
