/* Weights, rounded to whole numbers from -127 to 127: speechtok/nn/exact.py, operation by operation. */
#ifndef SPEECHTOK_LEVELS_H
#define SPEECHTOK_LEVELS_H

#include <stdbool.h>
#include <stdint.h>

/* exact.weight_levels. Rows of `inputs` weights, `stride` apart, to levels (outputs, inputs) and a scale for each row.
 * With `one_scale`, all rows have the same scale. */
void st_weight_levels(const float *weights, int64_t outputs, int64_t inputs, int64_t stride, bool one_scale,
                      int8_t *levels, float *scales);

#endif
