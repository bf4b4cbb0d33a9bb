/* The functions that JavaScript calls. Sizes are 32-bit, codes 16-bit, and results are arrays that the caller releases.
 *
 * Functions return a speechtok_status, and write to `result` the addresses and counts that they name in this order. */
#include <stdlib.h>
#include <string.h>

#include "packed.h"

#define EXPORT(name) __attribute__((export_name(#name))) name

void *EXPORT(allocate)(uint32_t size) { return malloc(size ? size : 1); }

void EXPORT(release)(void *memory) { free(memory); }

const char *EXPORT(error_message)(void) { return speechtok_error_message(); }

/* ---- Tokenizers ---- */

/* result: tokenizer */
int EXPORT(load_packed)(const uint8_t *packed, uint32_t size, void **result) {
    speechtok_tokenizer *tokenizer;
    const speechtok_status status = st_load_packed(packed, size, &tokenizer);
    result[0] = tokenizer;
    return status;
}

/* result: tokenizer */
int EXPORT(load_files)(const void *config, uint32_t config_size, const void *weights, uint32_t weights_size,
                       void **result) {
    speechtok_tokenizer *tokenizer;
    const speechtok_status status = speechtok_load_memory(config, config_size, weights, weights_size, &tokenizer);
    result[0] = tokenizer;
    return status;
}

/* result: bytes, size */
int EXPORT(pack_files)(const void *config, uint32_t config_size, const void *weights, uint32_t weights_size,
                       void **result) {
    uint8_t *packed;
    size_t size = 0;
    const speechtok_status status = st_pack(config, config_size, weights, weights_size, &packed, &size);
    result[0] = packed;
    result[1] = (void *)size;
    return status;
}

void EXPORT(free_tokenizer)(speechtok_tokenizer *tokenizer) { speechtok_free(tokenizer); }

/* result: sample_rate, hop_length, num_codebooks, codebook_size, semantic_dim, fingerprint, decoder_fingerprint */
void EXPORT(describe)(const speechtok_tokenizer *tokenizer, uint32_t *result) {
    const speechtok_info info = speechtok_get_info(tokenizer);
    const uint32_t values[] = {(uint32_t)info.sample_rate,   (uint32_t)info.hop_length,
                               (uint32_t)info.num_codebooks, (uint32_t)info.codebook_size,
                               (uint32_t)info.semantic_dim,  (uint32_t)info.fingerprint,
                               (uint32_t)info.decoder_fingerprint};
    memcpy(result, values, sizeof values);
}

uint32_t EXPORT(num_kernels)(void) { return (uint32_t)speechtok_num_kernels(); }

int EXPORT(use_kernel)(speechtok_tokenizer *tokenizer, uint32_t kernel) { return speechtok_use_kernel(tokenizer, kernel); }

static speechtok_status no_memory(void) { return st_fail(SPEECHTOK_NO_MEMORY, "there is not enough memory"); }

static void *new_array(uint64_t count, size_t size) {
    return count > UINT32_MAX / 2 / size ? NULL : malloc(count ? (size_t)count * size : 1);
}

/* Codes (Q, stride) to 16-bit ones, (Q, frames), in the same memory. */
static void narrow(int64_t *codes, int64_t num_codebooks, int64_t stride, int64_t frames) {
    char *to = (char *)codes;
    for (int64_t q = 0; q < num_codebooks; q++)
        for (int64_t t = 0; t < frames; t++, to += 2) {
            const uint16_t code = (uint16_t)codes[q * stride + t];
            memcpy(to, &code, 2);
        }
}

static int64_t *widen(const uint16_t *codes, uint64_t count) {
    int64_t *wide = new_array(count, sizeof *wide);
    for (uint64_t i = 0; wide && i < count; i++) wide[i] = codes[i];
    return wide;
}

/* result: codes (num_codebooks, frames), frames */
int EXPORT(encode)(const speechtok_tokenizer *tokenizer, const float *waveform, uint32_t samples,
                   uint32_t num_codebooks, void **result) {
    const int64_t frames = speechtok_num_frames(tokenizer, samples);
    int64_t *codes = new_array((uint64_t)frames * num_codebooks, sizeof *codes);
    if (!codes) return no_memory();
    const speechtok_status status = speechtok_encode(tokenizer, waveform, samples, num_codebooks, codes);
    if (!status) narrow(codes, num_codebooks, frames, frames);
    if (status) free(codes);
    result[0] = codes;
    result[1] = (void *)(uint32_t)frames;
    return status;
}

/* result: waveform */
int EXPORT(decode)(const speechtok_tokenizer *tokenizer, const uint16_t *codes, uint32_t num_codebooks, uint32_t frames,
                   uint32_t samples, void **result) {
    int64_t *wide = widen(codes, (uint64_t)num_codebooks * frames);
    float *waveform = new_array(samples, sizeof *waveform);
    speechtok_status status = wide && waveform ? SPEECHTOK_OK : no_memory();
    if (!status) status = speechtok_decode(tokenizer, wide, num_codebooks, frames, samples, waveform);
    free(wide);
    if (status) free(waveform);
    result[0] = waveform;
    return status;
}

/* ---- Streams of one row ---- */

/* result: stream */
int EXPORT(open_stream)(const speechtok_tokenizer *tokenizer, uint32_t num_codebooks, uint32_t sample_rate,
                        void **result) {
    speechtok_stream *stream;
    const speechtok_status status = speechtok_stream_open(tokenizer, 1, num_codebooks, sample_rate, &stream);
    result[0] = stream;
    return status;
}

void EXPORT(close_stream)(speechtok_stream *stream) { speechtok_stream_close(stream); }

void EXPORT(reset_stream)(speechtok_stream *stream) { speechtok_stream_reset(stream, NULL); }

/* Without samples, the end of the utterance. result: codes (num_codebooks, frames), frames */
static int take(speechtok_stream *stream, const float *chunk, uint32_t samples, bool ending, uint32_t num_codebooks,
                void **result) {
    const int64_t most = ending || samples ? speechtok_stream_max_frames(stream, samples) : 0;
    int64_t *codes = new_array((uint64_t)most * num_codebooks, sizeof *codes), frames = 0;
    if (!codes) return no_memory();
    const speechtok_status status = ending
                                        ? speechtok_stream_flush(stream, NULL, codes, most, &frames)
                                        : speechtok_stream_encode(stream, chunk, samples, NULL, codes, most, &frames);
    if (!status) narrow(codes, num_codebooks, most, frames);
    if (status) free(codes);
    result[0] = codes;
    result[1] = (void *)(uint32_t)frames;
    return status;
}

int EXPORT(stream_encode)(speechtok_stream *stream, const float *chunk, uint32_t samples, uint32_t num_codebooks,
                          void **result) {
    return take(stream, chunk, samples, false, num_codebooks, result);
}

int EXPORT(stream_flush)(speechtok_stream *stream, uint32_t num_codebooks, void **result) {
    return take(stream, NULL, 0, true, num_codebooks, result);
}

/* result: audio, samples */
int EXPORT(stream_decode)(speechtok_stream *stream, const uint16_t *codes, uint32_t num_codebooks, uint32_t frames,
                          uint32_t hop_length, void **result) {
    const uint64_t room = (uint64_t)frames * hop_length;
    int64_t *wide = widen(codes, (uint64_t)num_codebooks * frames), samples = 0;
    float *audio = new_array(room, sizeof *audio);
    speechtok_status status = wide && audio ? SPEECHTOK_OK : no_memory();
    if (!status)
        status = speechtok_stream_decode(stream, wide, num_codebooks, frames, NULL, audio, (int64_t)room, &samples);
    free(wide);
    if (status) free(audio);
    result[0] = audio;
    result[1] = (void *)(uint32_t)samples;
    return status;
}

/* result: audio, samples */
int EXPORT(stream_drain)(speechtok_stream *stream, uint32_t hop_length, void **result) {
    int64_t samples = 0;
    float *audio = new_array(hop_length, sizeof *audio);
    if (!audio) return no_memory();
    const speechtok_status status = speechtok_stream_drain(stream, NULL, audio, hop_length, &samples);
    if (status) free(audio);
    result[0] = audio;
    result[1] = (void *)(uint32_t)samples;
    return status;
}

/* ---- Sample rates ---- */

/* result: resampler */
int EXPORT(open_resampler)(uint32_t from_rate, uint32_t to_rate, void **result) {
    speechtok_resampler *resampler;
    const speechtok_status status = speechtok_resampler_open(from_rate, to_rate, &resampler);
    result[0] = resampler;
    return status;
}

void EXPORT(close_resampler)(speechtok_resampler *resampler) { speechtok_resampler_close(resampler); }

void EXPORT(reset_resampler)(speechtok_resampler *resampler) { speechtok_resampler_reset(resampler); }

/* With -1 as `samples`, the end of the utterance. result: audio, samples */
int EXPORT(resample)(speechtok_resampler *resampler, const float *chunk, int32_t samples, void **result) {
    const int64_t count = speechtok_resampler_next(resampler, samples);
    float *audio = new_array((uint64_t)count, sizeof *audio);
    if (!audio) return no_memory();
    const speechtok_status status = samples < 0 ? speechtok_resampler_flush(resampler, audio)
                                                : speechtok_resampler_push(resampler, chunk, samples, audio);
    if (status) free(audio);
    result[0] = audio;
    result[1] = (void *)(uint32_t)count;
    return status;
}

/* ---- Tokens files ---- */

/* result: tokens, batch, num_codebooks, num_frames, sample_rate, hop_length, codebook_size, fingerprint */
int EXPORT(parse_tokens)(const void *data, uint32_t size, void **result) {
    speechtok_tokens *tokens;
    const speechtok_status status = speechtok_tokens_parse(data, size, &tokens);
    if (status) return status;
    const uint32_t values[] = {(uint32_t)tokens,
                               (uint32_t)tokens->batch,
                               (uint32_t)tokens->num_codebooks,
                               (uint32_t)tokens->num_frames,
                               (uint32_t)tokens->sample_rate,
                               (uint32_t)tokens->hop_length,
                               (uint32_t)tokens->codebook_size,
                               (uint32_t)tokens->fingerprint};
    memcpy(result, values, sizeof values);
    return status;
}

/* An utterance of parsed tokens. result: codes (num_codebooks, frames), frames, samples */
int EXPORT(utterance_of)(const speechtok_tokens *tokens, uint32_t row, void **result) {
    const int64_t q_count = tokens->num_codebooks, stride = tokens->num_frames, frames = tokens->lengths[row];
    int64_t *codes = new_array((uint64_t)(q_count * stride), sizeof *codes);
    if (!codes) return no_memory();
    memcpy(codes, tokens->codes + row * q_count * stride, sizeof *codes * (size_t)(q_count * stride));
    narrow(codes, q_count, stride, frames);
    result[0] = codes;
    result[1] = (void *)(uint32_t)frames;
    result[2] = (void *)(uint32_t)tokens->num_samples[row];
    return SPEECHTOK_OK;
}

void EXPORT(free_tokens)(speechtok_tokens *tokens) { speechtok_tokens_free(tokens); }

/* Tokens of a batch. codes: (batch, num_codebooks, frames). lengths, num_samples: (batch,). result: bytes, size */
int EXPORT(write_tokens)(const uint16_t *codes, const uint32_t *lengths, const uint32_t *num_samples, uint32_t batch,
                         uint32_t num_codebooks, uint32_t frames, uint32_t sample_rate, uint32_t hop_length,
                         uint32_t codebook_size, char *fingerprint, void **result) {
    speechtok_tokens tokens = {batch,         num_codebooks, frames, sample_rate, hop_length,
                               codebook_size, NULL,          NULL,   NULL,        fingerprint};
    void *data = NULL;
    size_t size = 0;
    tokens.codes = widen(codes, (uint64_t)batch * num_codebooks * frames);
    tokens.lengths = new_array(batch, sizeof *tokens.lengths);
    tokens.num_samples = new_array(batch, sizeof *tokens.num_samples);
    speechtok_status status =
        tokens.codes && tokens.lengths && tokens.num_samples ? SPEECHTOK_OK : no_memory();
    for (uint32_t row = 0; row < batch && !status; row++) {
        tokens.lengths[row] = lengths[row];
        tokens.num_samples[row] = num_samples[row];
    }
    if (!status) status = speechtok_tokens_to_bytes(&tokens, &data, &size);
    free(tokens.codes);
    free(tokens.lengths);
    free(tokens.num_samples);
    result[0] = data;
    result[1] = (void *)size;
    return status;
}
