#include "levels.h"

#include <math.h>

#include "platform.h"

enum { MAX_LEVEL = 127, MAX_SUM = (1 << 24) / MAX_LEVEL };

/* 1.5 * 2**23: a sum with it is rounded to a whole number, halves to even, whatever the processor's rounding functions
 * cost. For values up to 2**22. */
static const float rounding = 12582912.0f;

static float round_level(float x) { return x + rounding - rounding; }

static float peak_of(const float *x, int64_t count, float peak) {
    for (int64_t i = 0; i < count; i++) peak = fabsf(x[i]) > peak ? fabsf(x[i]) : peak;
    return peak;
}

/* By how much the levels of a row are too large for exact sums. */
static float excess_of(const float *x, int64_t count, float scale) {
    float sum = 0.0f; /* of whole numbers: exact */
    for (int64_t i = 0; i < count; i++) sum += fabsf(round_level(x[i] / scale));
    return sum / (float)(MAX_SUM - count);
}

static float enlarge(float scale, float excess) {
    const float factor = ceilf(excess);
    return scale * (factor > 1.0f ? factor : 1.0f);
}

void st_weight_levels(const float *weights, int64_t outputs, int64_t inputs, int64_t stride, bool one_scale,
                      int8_t *levels, float *scales) {
    const float min_peak = 1e-30f, step = (float)(1.0 / MAX_LEVEL);
    for (int64_t n = 0; n < outputs; n++) scales[n] = peak_of(weights + n * stride, inputs, min_peak);
    if (one_scale) {
        const float peak = peak_of(scales, outputs, min_peak);
        for (int64_t n = 0; n < outputs; n++) scales[n] = peak;
    }
    float largest = 0.0f;
    for (int64_t n = 0; n < outputs; n++) {
        scales[n] = scales[n] * step;
        const float excess = excess_of(weights + n * stride, inputs, scales[n]);
        if (!one_scale) scales[n] = enlarge(scales[n], excess);
        largest = excess > largest ? excess : largest;
    }
    for (int64_t n = 0; n < outputs; n++) {
        if (one_scale) scales[n] = enlarge(scales[n], largest);
        for (int64_t k = 0; k < inputs; k++)
            levels[n * inputs + k] = (int8_t)round_level(weights[n * stride + k] / scales[n]);
    }
}
