#include <math.h>
#include <string.h>

#include "lora_kernels.h"

#define ROW(t, n) ((size_t)(t) * (n))

void lora_rmsnorm_forward(float *out, float *rstd, const float *x, const float *weight, float epsilon, size_t T,
                          size_t C) {
    for (size_t t = 0; t < T; t++) {
        double sum = 0;
        for (size_t c = 0; c < C; c++) sum += (double)x[ROW(t, C) + c] * x[ROW(t, C) + c];
        rstd[t] = (float)(1 / sqrt(sum / (double)C + epsilon));
        for (size_t c = 0; c < C; c++) out[ROW(t, C) + c] = x[ROW(t, C) + c] * rstd[t] * weight[c];
    }
}

void lora_rmsnorm_backward(float *dx, const float *dout, const float *x, const float *weight, const float *rstd,
                           size_t T, size_t C) {
    for (size_t t = 0; t < T; t++) {
        double dot = 0;
        for (size_t c = 0; c < C; c++) dot += (double)dout[ROW(t, C) + c] * weight[c] * x[ROW(t, C) + c];
        float mean = (float)(dot / (double)C) * rstd[t] * rstd[t];
        for (size_t c = 0; c < C; c++)
            dx[ROW(t, C) + c] += rstd[t] * (dout[ROW(t, C) + c] * weight[c] - x[ROW(t, C) + c] * mean);
    }
}

static void rotate(float *x, size_t stride, const int32_t *positions, const float *cosines, const float *sines,
                   size_t T, size_t H, size_t D, int halves, float sign) {
    for (size_t t = 0; t < T; t++)
        for (size_t h = 0; h < H; h++)
            for (size_t i = 0; i < D / 2; i++) {
                float *row = x + t * stride + h * D;
                size_t a = halves ? i : 2 * i, b = halves ? i + D / 2 : 2 * i + 1;
                float c = cosines[(size_t)positions[t] * (D / 2) + i];
                float s = sign * sines[(size_t)positions[t] * (D / 2) + i];
                float xa = row[a], xb = row[b];
                row[a] = xa * c - xb * s;
                row[b] = xa * s + xb * c;
            }
}

void lora_rope_forward(float *x, size_t stride, const int32_t *positions, const float *cosines, const float *sines,
                       size_t T, size_t H, size_t D, int halves) {
    rotate(x, stride, positions, cosines, sines, T, H, D, halves, 1);
}

void lora_rope_backward(float *dx, size_t stride, const int32_t *positions, const float *cosines, const float *sines,
                        size_t T, size_t H, size_t D, int halves) {
    rotate(dx, stride, positions, cosines, sines, T, H, D, halves, -1);
}

void lora_swiglu_forward(float *out, const float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

void lora_swiglu_backward(float *dgate, float *dup, const float *dout, const float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float g = gate[i], u = up[i], d = dout[i], s = 1 / (1 + expf(-g));
        dgate[i] = d * u * s * (1 + g * (1 - s));
        dup[i] = d * g * s;
    }
}

void lora_cross_entropy_forward(float *losses, float *logsumexp, const float *logits, const int32_t *targets, size_t T,
                                size_t V) {
    for (size_t t = 0; t < T; t++) {
        const float *row = logits + t * V;
        float maximum = -INFINITY;
        for (size_t v = 0; v < V; v++) maximum = fmaxf(maximum, row[v]);
        double sum = 0;
        for (size_t v = 0; v < V; v++) sum += expf(row[v] - maximum);
        logsumexp[t] = maximum + (float)log(sum);
        losses[t] = logsumexp[t] - row[targets[t]];
    }
}

void lora_cross_entropy_backward(float *logits, const float *logsumexp, const int32_t *targets, float scale, size_t T,
                                 size_t V) {
    for (size_t t = 0; t < T; t++) {
        for (size_t v = 0; v < V; v++)
            logits[t * V + v] = scale * (expf(logits[t * V + v] - logsumexp[t]) - (v == (size_t)targets[t]));
    }
}

static void product(float *c, size_t c_row, size_t c_column, const float *a, size_t a_row, size_t a_column,
                    const float *b, size_t b_row, size_t b_column, float s, int add, size_t M, size_t N, size_t K) {
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++) {
            float sum = 0;
            for (size_t k = 0; k < K; k++) sum += a[i * a_row + k * a_column] * b[k * b_row + j * b_column];
            float *to = c + i * c_row + j * c_column;
            *to = add ? *to + s * sum : s * sum;
        }
}

void lora_lowrank_down(float *h, const float *x, size_t x_stride, const float *A, size_t T, size_t C, size_t r) {
    product(h, r, 1, x, x_stride, 1, A, 1, C, 1, 0, T, r, C);
}
void lora_lowrank_up(float *y, size_t y_stride, const float *h, const float *B, float s, size_t T, size_t N, size_t r) {
    product(y, y_stride, 1, h, r, 1, B, 1, r, s, 1, T, N, r);
}
void lora_lowrank_up_backward_input(float *dh, const float *dy, size_t dy_stride, const float *B, float s, size_t T,
                                    size_t N, size_t r) {
    product(dh, r, 1, dy, dy_stride, 1, B, r, 1, s, 0, T, r, N);
}
void lora_lowrank_up_backward_weight(float *dB, const float *dy, size_t dy_stride, const float *h, float s, size_t T,
                                     size_t N, size_t r) {
    product(dB, r, 1, dy, 1, dy_stride, h, r, 1, s, 1, N, r, T);
}
void lora_lowrank_down_backward_input(float *dx, size_t dx_stride, const float *dh, const float *A, size_t T, size_t C,
                                      size_t r) {
    product(dx, dx_stride, 1, dh, r, 1, A, C, 1, 1, 1, T, C, r);
}
void lora_lowrank_down_backward_weight(float *dA, const float *dh, const float *x, size_t x_stride, size_t T, size_t C,
                                       size_t r) {
    product(dA, C, 1, dh, 1, r, x, x_stride, 1, 1, 1, r, C, T);
}

int lora_quantized_product(float *y, size_t y_stride, const float *x, const void *W, lora_type type, size_t M, size_t N,
                           size_t K) {
    size_t block = 32, bytes;
    switch (type) {
    case LORA_F32: block = 1, bytes = 4; break;
    case LORA_F16: case LORA_BF16: block = 1, bytes = 2; break;
    case LORA_Q4_0: bytes = 18; break;
    case LORA_Q4_1: bytes = 20; break;
    case LORA_Q5_0: bytes = 22; break;
    case LORA_Q5_1: bytes = 24; break;
    case LORA_Q8_0: bytes = 34; break;
    case LORA_Q4_K: block = 256, bytes = 144; break;
    case LORA_Q5_K: block = 256, bytes = 176; break;
    case LORA_Q6_K: block = 256, bytes = 210; break;
    default: return -1;
    }
    float values[2048];
    for (size_t n = 0; n < N; n++)
        for (size_t k = 0; k < K; k += 2048) {
            size_t count = K - k < 2048 ? K - k : 2048;
            lora_dequantize(values, (const char *)W + (n * K + k) / block * bytes, type, count);
            for (size_t m = 0; m < M; m++) {
                float sum = 0;
                for (size_t i = 0; i < count; i++) sum += values[i] * x[m * K + k + i];
                y[m * y_stride + n] = k ? y[m * y_stride + n] + sum : sum;
            }
        }
    return 0;
}
