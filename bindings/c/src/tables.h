/* Constant tables of a decoder: window and noise. */
#ifndef SPEECHTOK_TABLES_H
#define SPEECHTOK_TABLES_H

#include <stdbool.h>
#include <stdint.h>

enum { NOISE_PERIOD = 800 };

/* A periodic Hann window, without the cosine of a library, whose last bits differ between systems. */
void st_hann_window(int64_t length, float *window);

/* docs/formats.md, "Noise": (bands, NOISE_PERIOD * patch_length). Filters are (bands, taps). Returns false if they are
 * not whole numbers, or if their absolute values add up to more than 2**24. `signs` has room for
 * NOISE_PERIOD * patch_length + taps floats. */
bool st_noise_table(const float *filters, int64_t bands, int64_t taps, int64_t patch_length, float *signs,
                    float *table);

#endif
