// Rounding to evenly spaced values. Included under LORA_LANES by the operations that quantise.
//
// A grid holds the values scale * q + offset, q whole from `low` to `high`. Sums run in 16 lanes whatever the variant,
// so that every one finds the same grid.

#ifndef LORA_GRID_NAMES
#define LORA_GRID_NAMES
#define grid_codes LORA_NAME(grid_codes)
#define grid_error LORA_NAME(grid_error)
#define grid_moments LORA_NAME(grid_moments)
#define lane_sum LORA_NAME(lane_sum)
#define fit_symmetric LORA_NAME(fit_symmetric)
#define fit_affine LORA_NAME(fit_affine)
#define consider LORA_NAME(consider)
#define refine LORA_NAME(refine)

/// Steps of a search for the best spacing, around the one that just holds all values.
#define GRID_STEPS 9

typedef struct lora_grid {
    float scale, offset;
    float low, high;
} lora_grid;

/// The best grid found so far. `halves`: numbers are stored as such.
typedef struct lora_grid_search {
    lora_grid grid;
    float error;
    int halves, affine, non_positive_offset;
} lora_grid_search;

/// Sums over n elements x and their codes q.
typedef struct lora_grid_moments {
    float x, xx, q, qq, xq;
} lora_grid_moments;
#endif

LORA_INLINE float lane_sum(const float *lanes) {
    float sum = 0;
    for (int lane = 0; lane < 16; lane++) sum += lanes[lane];
    return sum;
}

/// q (n) overwritten with the nearest places on the grid, ties to even; n is a multiple of 16.
LORA_INLINE void grid_codes(float *restrict q, const float *restrict x, size_t n, lora_grid grid) {
    float inverse = grid.scale != 0 ? 1 / grid.scale : 0;
    for (size_t i = 0; i < n; i++) {
        float place = (x[i] - grid.offset) * inverse;
        // Comparisons with a NaN are false: it becomes `low`.
        place = place > grid.low ? place : grid.low;
        place = place < grid.high ? place : grid.high;
        // Adding 1.5 * 2^23 puts the last place at 1: the addition rounds.
        q[i] = place + 12582912.0f - 12582912.0f;
    }
}

/// The sum of squared differences between x (n) and what the grid makes of it; n is a multiple of 16 up to 32.
LORA_INLINE float grid_error(const float *restrict x, size_t n, lora_grid grid) {
    float q[32], lanes[16] = {0};
    grid_codes(q, x, n, grid);
    for (size_t i = 0; i < n; i += 16)
        for (size_t lane = 0; lane < 16; lane++) {
            float difference = grid.scale * q[i + lane] + grid.offset - x[i + lane];
            lanes[lane] += difference * difference;
        }
    return lane_sum(lanes);
}

LORA_INLINE lora_grid_moments grid_moments(const float *restrict x, size_t n, lora_grid grid) {
    float q[32], lanes[5][16] = {{0}};
    grid_codes(q, x, n, grid);
    for (size_t i = 0; i < n; i += 16)
        for (size_t lane = 0; lane < 16; lane++) {
            float value = x[i + lane], code = q[i + lane];
            lanes[0][lane] += value;
            lanes[1][lane] += value * value;
            lanes[2][lane] += code;
            lanes[3][lane] += code * code;
            lanes[4][lane] += value * code;
        }
    return (lora_grid_moments){
        lane_sum(lanes[0]), lane_sum(lanes[1]), lane_sum(lanes[2]), lane_sum(lanes[3]), lane_sum(lanes[4])};
}

/// Takes the grid if it meets x better than the best one so far.
LORA_INLINE void consider(lora_grid_search *search, const float *x, size_t n, float scale, float offset) {
    if (search->non_positive_offset && offset > 0) offset = 0;
    if (search->halves) {
        scale = from_half(to_half(scale));
        offset = from_half(to_half(offset));
    }
    lora_grid grid = {scale, offset, search->grid.low, search->grid.high};
    float error = grid_error(x, n, grid);
    if (error < search->error) {
        search->grid = grid;
        search->error = error;
    }
}

/// Considers a grid, and the one that least squares fits to the places which x takes on it.
LORA_INLINE void refine(lora_grid_search *search, const float *x, size_t n, float scale, float offset) {
    consider(search, x, n, scale, offset);
    lora_grid_moments sum = grid_moments(x, n, (lora_grid){scale, offset, search->grid.low, search->grid.high});
    float count = (float)n, determinant = count * sum.qq - sum.q * sum.q;
    float fitted = 0;
    if (search->affine && determinant > 0) {
        fitted = (sum.x * sum.qq - sum.q * sum.xq) / determinant;
        if (!search->non_positive_offset || fitted <= 0) {
            consider(search, x, n, (count * sum.xq - sum.q * sum.x) / determinant, fitted);
            return;
        }
        fitted = 0;
    }
    if (sum.qq > 0) consider(search, x, n, sum.xq / sum.qq, fitted);
}

/// The best grid through zero for x (n), codes from `low` to `high`.
LORA_INLINE lora_grid_search fit_symmetric(const float *x, size_t n, float low, float high, int halves) {
    lora_grid_search search = {{0, 0, low, high}, __builtin_inff(), halves, 0, 0};
    consider(&search, x, n, 0, 0);
    float extreme = 0;
    for (size_t i = 0; i < n; i++) extreme = __builtin_fabsf(x[i]) > __builtin_fabsf(extreme) ? x[i] : extreme;
    if (extreme == 0) return search;
    refine(&search, x, n, extreme / high, 0);
    for (int step = 0; step < GRID_STEPS; step++)
        refine(&search, x, n, extreme / (low * (1.16f - 0.04f * (float)step)), 0);
    return search;
}

/// The best grid for x (n) with codes from 0 to `high`.
LORA_INLINE lora_grid_search fit_affine(const float *x, size_t n, float high, int halves, int non_positive_offset) {
    lora_grid_search search = {{0, 0, 0, high}, __builtin_inff(), halves, 1, non_positive_offset};
    float least = x[0], most = x[0];
    for (size_t i = 1; i < n; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    if (non_positive_offset && least > 0) least = 0;
    consider(&search, x, n, 0, least);
    if (!(most > least)) return search;
    for (int step = 0; step < GRID_STEPS; step++)
        refine(&search, x, n, (most - least) / (high + 1 - 0.25f * (float)step), least);
    return search;
}
