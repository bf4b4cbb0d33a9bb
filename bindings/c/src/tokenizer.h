/* A loaded tokenizer, and what streams need of it. */
#ifndef SPEECHTOK_TOKENIZER_H
#define SPEECHTOK_TOKENIZER_H

#include "model.h"

/* Frames of one piece, over all rows: memory stays bounded, and caches stay warm. */
enum { PIECE_FRAMES = 32 };

struct speechtok_tokenizer {
    Config config;
    Model *model;
    int64_t kernel;
};

/* A tokenizer of a checkpoint that was read, after the self-test. */
speechtok_status st_make_tokenizer(const Checkpoint *checkpoint, speechtok_tokenizer **tokenizer);

/* Check samples: finite, with a peak of at most 2. */
speechtok_status st_check_waveform(const float *waveform, int64_t samples);

/* Copy samples, clipped to [-1, 1]. */
void st_clip(float *to, const float *from, int64_t samples);

/* Check codes of one row, and their number of codebooks. */
speechtok_status st_check_codes(const speechtok_tokenizer *tokenizer, const int64_t *codes, int64_t num_codebooks,
                                int64_t num_frames, int64_t stride);

/* Encode and decode known signals, and compare the result with that of the Python package. */
speechtok_status st_self_test(const speechtok_tokenizer *tokenizer);

#endif
