#include "lora_reference.h"

#include <math.h>
#include <string.h>

void lora_reference_rmsnorm_forward(double *out, const double *x, const double *weight, double epsilon, size_t T,
                                    size_t C) {
    for (size_t t = 0; t < T; t++, x += C, out += C) {
        double sum = 0;
        for (size_t c = 0; c < C; c++) sum += x[c] * x[c];
        double rstd = 1 / sqrt(sum / (double)C + epsilon);
        for (size_t c = 0; c < C; c++) out[c] = x[c] * rstd * weight[c];
    }
}

void lora_reference_rmsnorm_backward(double *dx, const double *dout, const double *x, const double *weight,
                                     double epsilon, size_t T, size_t C) {
    for (size_t t = 0; t < T; t++, x += C, dx += C, dout += C) {
        double sum = 0, dot = 0;
        for (size_t c = 0; c < C; c++) {
            sum += x[c] * x[c];
            dot += dout[c] * weight[c] * x[c];
        }
        double rstd = 1 / sqrt(sum / (double)C + epsilon);
        for (size_t c = 0; c < C; c++)
            dx[c] += rstd * (dout[c] * weight[c] - x[c] * rstd * rstd * dot / (double)C);
    }
}

void lora_reference_rope(double *x, const int32_t *positions, const double *cosines, const double *sines, double sign,
                         size_t T, size_t H, size_t D, int halves) {
    for (size_t t = 0; t < T; t++) {
        const double *cosine = cosines + (size_t)positions[t] * (D / 2);
        const double *sine = sines + (size_t)positions[t] * (D / 2);
        for (size_t h = 0; h < H; h++, x += D)
            for (size_t i = 0; i < D / 2; i++) {
                size_t first = halves ? i : 2 * i, second = halves ? i + D / 2 : 2 * i + 1;
                double a = x[first], b = x[second];
                x[first] = a * cosine[i] - b * sign * sine[i];
                x[second] = a * sign * sine[i] + b * cosine[i];
            }
    }
}

void lora_reference_swiglu_forward(double *out, const double *gate, const double *up, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
}

void lora_reference_swiglu_backward(double *dgate, double *dup, const double *dout, const double *gate,
                                    const double *up, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double sigmoid = 1 / (1 + exp(-gate[i]));
        dgate[i] = dout[i] * up[i] * (sigmoid + gate[i] * sigmoid * (1 - sigmoid));
        dup[i] = dout[i] * gate[i] * sigmoid;
    }
}

static double dot(const double *a, const double *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static double row_logsumexp(const double *query, const double *keys, size_t count, size_t D, double scale) {
    double maximum = -INFINITY, sum = 0;
    for (size_t k = 0; k < count; k++) maximum = fmax(maximum, scale * dot(query, keys + k * D, D));
    for (size_t k = 0; k < count; k++) sum += exp(scale * dot(query, keys + k * D, D) - maximum);
    return maximum + log(sum);
}

void lora_reference_attention_forward(double *out, double *logsumexp, const double *queries, const double *keys,
                                      const double *values, size_t first, size_t n, size_t D, double scale) {
    memset(out, 0, n * D * sizeof(double));
    for (size_t q = 0; q < n; q++, queries += D, out += D) {
        size_t count = first + q + 1;
        logsumexp[q] = row_logsumexp(queries, keys, count, D, scale);
        for (size_t k = 0; k < count; k++) {
            double p = exp(scale * dot(queries, keys + k * D, D) - logsumexp[q]);
            for (size_t d = 0; d < D; d++) out[d] += p * values[k * D + d];
        }
    }
}

void lora_reference_attention_backward(double *dqueries, double *dkeys, double *dvalues, const double *dout,
                                       const double *queries, const double *keys, const double *values, size_t first,
                                       size_t n, size_t D, double scale) {
    memset(dqueries, 0, n * D * sizeof(double));
    for (size_t q = 0; q < n; q++, queries += D, dqueries += D, dout += D) {
        size_t count = first + q + 1;
        double logsumexp = row_logsumexp(queries, keys, count, D, scale), delta = 0;
        for (size_t k = 0; k < count; k++)
            delta += exp(scale * dot(queries, keys + k * D, D) - logsumexp) * dot(dout, values + k * D, D);
        for (size_t k = 0; k < count; k++) {
            double p = exp(scale * dot(queries, keys + k * D, D) - logsumexp);
            double ds = scale * p * (dot(dout, values + k * D, D) - delta);
            for (size_t d = 0; d < D; d++) {
                dvalues[k * D + d] += p * dout[d];
                dkeys[k * D + d] += ds * queries[d];
                dqueries[d] += ds * keys[k * D + d];
            }
        }
    }
}

static double logits_logsumexp(const double *logits, size_t V) {
    double maximum = -INFINITY, sum = 0;
    for (size_t v = 0; v < V; v++) maximum = fmax(maximum, logits[v]);
    for (size_t v = 0; v < V; v++) sum += exp(logits[v] - maximum);
    return maximum + log(sum);
}

void lora_reference_cross_entropy_forward(double *losses, double *logsumexp, const double *logits,
                                          const int32_t *targets, size_t T, size_t V) {
    for (size_t t = 0; t < T; t++) {
        logsumexp[t] = logits_logsumexp(logits + t * V, V);
        losses[t] = logsumexp[t] - logits[t * V + (size_t)targets[t]];
    }
}

void lora_reference_cross_entropy_backward(double *dlogits, const double *logits, const int32_t *targets, double scale,
                                           size_t T, size_t V) {
    for (size_t t = 0; t < T; t++) {
        double logsumexp = logits_logsumexp(logits + t * V, V);
        for (size_t v = 0; v < V; v++)
            dlogits[t * V + v] = scale * (exp(logits[t * V + v] - logsumexp) - (v == (size_t)targets[t]));
    }
}

void lora_reference_product(double *c, const double *a, int a_transposed, const double *b, int b_transposed, double s,
                            size_t M, size_t N, size_t K) {
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N; n++) {
            double sum = 0;
            for (size_t k = 0; k < K; k++)
                sum += (a_transposed ? a[k * M + m] : a[m * K + k]) * (b_transposed ? b[n * K + k] : b[k * N + n]);
            c[m * N + n] += s * sum;
        }
}

void lora_reference_adamw_step(double *parameter, double *m, double *v, double gradient, double learning_rate,
                               double beta1, double beta2, double epsilon, double weight_decay, uint64_t t) {
    *parameter *= 1 - learning_rate * weight_decay;
    *m = beta1 * *m + (1 - beta1) * gradient;
    *v = beta2 * *v + (1 - beta2) * gradient * gradient;
    double m_hat = *m / (1 - pow(beta1, (double)t)), v_hat = *v / (1 - pow(beta2, (double)t));
    *parameter -= learning_rate * m_hat / (sqrt(v_hat) + epsilon);
}
