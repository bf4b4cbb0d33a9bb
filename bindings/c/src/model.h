/* A tokenizer's weights, laid out for the arithmetic in speechtok/nn/native/native.c, and calls of it. */
#ifndef SPEECHTOK_MODEL_H
#define SPEECHTOK_MODEL_H

#include "checkpoint.h"

typedef struct Model Model;

/* Round the weights to levels. The checkpoint is not needed afterwards. */
speechtok_status st_make_model(const Checkpoint *checkpoint, Model **model);
void st_free_model(Model *model);

int64_t st_num_kernels(void);

/* Floats of a row's state. A state of zeros is that before the first sample or frame. */
int64_t st_encoder_state_size(const Model *model);
int64_t st_decoder_state_size(const Model *model);

/* Encode `frames` frames of `rows` rows of samples, `waveform_stride` apart. `state` is updated, (B, state size).
 * `strides` are those of row, codebook and frame. */
speechtok_status st_model_encode(const Model *model, int64_t kernel, int64_t rows, int64_t frames,
                                 const float *waveform, int64_t waveform_stride, int64_t num_codebooks, float *state,
                                 int64_t *codes, const int64_t strides[3]);

/* Decode `frames` frames to a waveform that is late by one frame. Null codes stand for silence. If a code is out of
 * range, nothing is changed. */
speechtok_status st_model_decode(const Model *model, int64_t kernel, int64_t rows, int64_t frames,
                                 const int64_t *codes, const int64_t strides[3], int64_t num_codebooks, float *state,
                                 float *waveform, int64_t waveform_stride);

#endif
