/* Exact change of the sample rate, as docs/exactness.md specifies it. */
#ifndef SPEECHTOK_RESAMPLER_H
#define SPEECHTOK_RESAMPLER_H

#include "error.h"

typedef struct Filter Filter;

/* The filter of a pair of rates, which any number of rows share. */
speechtok_status st_open_filter(int64_t from_rate, int64_t to_rate, Filter **filter);
void st_close_filter(Filter *filter);

/* Inputs of a row that later outputs need; see st_resample_row. */
int64_t st_max_pending(const Filter *filter);

typedef struct { /* all zeros at first */
    int64_t taken, given;
    bool flushed;
} ResamplerRow;

/* Outputs that `samples` more inputs complete; -1 stands for those of a flush. */
int64_t st_next_outputs(const Filter *filter, const ResamplerRow *row, int64_t samples);

/* Take `samples` inputs, or with -1 end the utterance. `pending` has st_max_pending(filter) values, zeros at first. */
speechtok_status st_resample_row(const Filter *filter, ResamplerRow *row, double *pending, const float *chunk,
                                 int64_t samples, float *outputs);

#endif
