#include "tokenizer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "files.h"
#include "memory.h"

speechtok_status st_make_tokenizer(const Checkpoint *checkpoint, speechtok_tokenizer **result) {
    *result = NULL;
    speechtok_tokenizer *tokenizer = st_array(1, sizeof *tokenizer);
    if (!tokenizer) return st_no_memory();
    speechtok_status status = st_make_model(checkpoint, &tokenizer->model);
    tokenizer->config = checkpoint->config;
    tokenizer->kernel = st_num_kernels() - 1;
    if (!status) status = st_self_test(tokenizer);
    if (status) speechtok_free(tokenizer);
    else *result = tokenizer;
    return status;
}

speechtok_status speechtok_load_memory(const void *config, size_t config_size, const void *weights,
                                       size_t weights_size, speechtok_tokenizer **result) {
    Checkpoint checkpoint;
    *result = NULL;
    speechtok_status status = st_read_checkpoint(config, config_size, weights, weights_size, &checkpoint);
    if (!status) status = st_make_tokenizer(&checkpoint, result);
    st_free_checkpoint(&checkpoint);
    return status;
}

static speechtok_status read_part(const char *folder, const char *name, void **data, size_t *size) {
    *data = NULL;
    char *path = malloc(strlen(folder) + strlen(name) + 2);
    if (!path) return st_no_memory();
    sprintf(path, "%s/%s", folder, name);
    const speechtok_status status = st_read_file(path, data, size);
    free(path);
    return status;
}

speechtok_status speechtok_load(const char *folder, speechtok_tokenizer **tokenizer) {
    void *config, *weights = NULL;
    size_t config_size, weights_size;
    *tokenizer = NULL;
    speechtok_status status = read_part(folder, "config.json", &config, &config_size);
    if (!status) status = read_part(folder, "model.safetensors", &weights, &weights_size);
    if (!status)
        status = st_prefix(speechtok_load_memory(config, config_size, weights, weights_size, tokenizer), folder);
    free(config);
    free(weights);
    return status;
}

void speechtok_free(speechtok_tokenizer *tokenizer) {
    if (!tokenizer) return;
    st_free_model(tokenizer->model);
    free(tokenizer);
}

speechtok_info speechtok_get_info(const speechtok_tokenizer *tokenizer) {
    const Config *c = &tokenizer->config;
    return (speechtok_info){c->sample_rate,  c->hop_length,  c->num_codebooks,      c->codebook_size,
                            c->semantic_dim, c->fingerprint, c->decoder_fingerprint};
}

int64_t speechtok_num_frames(const speechtok_tokenizer *tokenizer, int64_t samples) {
    const int64_t hop = tokenizer->config.hop_length;
    return samples / hop + (samples % hop > 0);
}

int64_t speechtok_num_kernels(void) { return st_num_kernels(); }

speechtok_status speechtok_use_kernel(speechtok_tokenizer *tokenizer, int64_t kernel) {
    if (kernel < 0 || kernel >= st_num_kernels())
        return st_fail(SPEECHTOK_BAD_ARGUMENT, "kernel is %" PRId64 "; expected 0 to %" PRId64, kernel,
                       st_num_kernels() - 1);
    tokenizer->kernel = kernel;
    return SPEECHTOK_OK;
}

speechtok_status st_check_waveform(const float *waveform, int64_t samples) {
    for (int64_t i = 0; i < samples; i++)
        if (!(fabsf(waveform[i]) <= 2.0f))
            return st_fail(SPEECHTOK_BAD_ARGUMENT, "sample %" PRId64 " is %g; expected finite samples in [-1, 1]", i,
                           (double)waveform[i]);
    return SPEECHTOK_OK;
}

void st_clip(float *to, const float *from, int64_t samples) {
    for (int64_t i = 0; i < samples; i++) {
        const float x = from[i] < -1.0f ? -1.0f : from[i];
        to[i] = x > 1.0f ? 1.0f : x;
    }
}

speechtok_status st_check_codes(const speechtok_tokenizer *tokenizer, const int64_t *codes, int64_t num_codebooks,
                                int64_t num_frames, int64_t stride) {
    const Config *c = &tokenizer->config;
    if (num_codebooks < 1 || num_codebooks > c->num_codebooks)
        return st_fail(SPEECHTOK_BAD_ARGUMENT, "num_codebooks is %" PRId64 "; expected 1 to %" PRId64, num_codebooks,
                       c->num_codebooks);
    for (int64_t q = 0; q < num_codebooks; q++)
        for (int64_t t = 0; t < num_frames; t++)
            if (codes[q * stride + t] < 0 || codes[q * stride + t] >= c->codebook_size)
                return st_fail(SPEECHTOK_BAD_ARGUMENT,
                               "the code of codebook %" PRId64 ", frame %" PRId64 " is %" PRId64
                               "; expected 0 to %" PRId64,
                               q, t, codes[q * stride + t], c->codebook_size - 1);
    return SPEECHTOK_OK;
}

speechtok_status speechtok_encode(const speechtok_tokenizer *tokenizer, const float *waveform, int64_t samples,
                                  int64_t num_codebooks, int64_t *codes) {
    const Config *c = &tokenizer->config;
    if (samples < 1 || samples > (int64_t)(PTRDIFF_MAX / 64))
        return st_fail(SPEECHTOK_BAD_ARGUMENT, "samples is %" PRId64 "; expected at least one sample", samples);
    if (num_codebooks < 0 || num_codebooks > c->num_codebooks)
        return st_fail(SPEECHTOK_BAD_ARGUMENT, "num_codebooks is %" PRId64 "; expected 1 to %" PRId64 ", or 0 for all",
                       num_codebooks, c->num_codebooks);
    speechtok_status status = st_check_waveform(waveform, samples);
    if (status) return status;
    const int64_t count = num_codebooks ? num_codebooks : c->num_codebooks, hop = c->hop_length;
    const int64_t frames = speechtok_num_frames(tokenizer, samples), strides[3] = {0, frames, 1};
    const int64_t piece = frames < PIECE_FRAMES ? frames : PIECE_FRAMES;
    float *x = st_array(piece * hop, sizeof *x);
    float *state = st_array(st_encoder_state_size(tokenizer->model), sizeof *state);
    if (!x || !state) status = st_no_memory();
    for (int64_t start = 0; start < frames && !status; start += piece) {
        const int64_t some = frames - start < piece ? frames - start : piece, left = samples - start * hop;
        const int64_t given = left < some * hop ? left : some * hop;
        st_clip(x, waveform + start * hop, given);
        memset(x + given, 0, sizeof *x * (size_t)(some * hop - given));
        status = st_model_encode(tokenizer->model, tokenizer->kernel, 1, some, x, some * hop, count, state,
                                 codes + start, strides);
    }
    free(x);
    free(state);
    return status;
}

speechtok_status speechtok_decode(const speechtok_tokenizer *tokenizer, const int64_t *codes, int64_t num_codebooks,
                                  int64_t num_frames, int64_t samples, float *waveform) {
    const int64_t hop = tokenizer->config.hop_length;
    if (num_frames < 0 || num_frames > (int64_t)(PTRDIFF_MAX / 64) / hop || samples < 0 || samples > num_frames * hop)
        return st_fail(SPEECHTOK_BAD_ARGUMENT, "samples is %" PRId64 "; expected 0 to the %" PRId64 " frames' samples",
                       samples, num_frames);
    speechtok_status status = st_check_codes(tokenizer, codes, num_codebooks, num_frames, num_frames);
    if (status) return status;
    const int64_t piece = num_frames + 1 < PIECE_FRAMES ? num_frames + 1 : PIECE_FRAMES;
    float *x = st_array(piece * hop, sizeof *x);
    float *state = st_array(st_decoder_state_size(tokenizer->model), sizeof *state);
    if (!x || !state) status = st_no_memory();
    /* the decoder is late by one frame, so it runs one frame further */
    for (int64_t start = 0; start <= num_frames && !status; start += piece) {
        const int64_t left = num_frames - start, given = left < piece ? left : piece;
        const int64_t some = left < piece ? left + 1 : piece, strides[3] = {0, num_frames, 1};
        if (given) /* and then the silent frame, if it belongs to this piece */
            status = st_model_decode(tokenizer->model, tokenizer->kernel, 1, given, codes + start, strides,
                                     num_codebooks, state, x, given * hop);
        if (!status && some > given)
            status = st_model_decode(tokenizer->model, tokenizer->kernel, 1, 1, NULL, NULL, 0, state, x + given * hop,
                                     hop);
        const int64_t first = start ? 0 : hop, at = start * hop + first - hop, wanted = samples - at;
        const int64_t ready = some * hop - first, count = wanted < ready ? wanted : ready;
        if (!status && count > 0) memcpy(waveform + at, x + first, sizeof *x * (size_t)count);
    }
    free(x);
    free(state);
    return status;
}
