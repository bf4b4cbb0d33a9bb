/* libspeechtok: speech to discrete tokens and back, bit for bit as the Python package speechtok does it.
 *
 * Shapes are those of the Python package: B batch, S samples, T frames, Q codebooks. Arrays are row-major. A waveform
 * is float32 in [-1, 1]; codes are int64.
 *
 * Functions that can fail return a speechtok_status, 0 on success, and write a message for speechtok_error_message().
 * A call that fails changes nothing that it was given. A tokenizer may be used by many threads at once; a stream, a
 * resampler by one at a time.
 */
#ifndef SPEECHTOK_H
#define SPEECHTOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(SPEECHTOK_STATIC)
#define SPEECHTOK_API
#elif defined(_WIN32)
#ifdef SPEECHTOK_BUILD
#define SPEECHTOK_API __declspec(dllexport)
#else
#define SPEECHTOK_API __declspec(dllimport)
#endif
#else
#define SPEECHTOK_API __attribute__((visibility("default")))
#endif

#define SPEECHTOK_VERSION_MAJOR 0
#define SPEECHTOK_VERSION_MINOR 3

/* Fills a row of streamed codes that has fewer frames than another row. */
#define SPEECHTOK_NO_CODE (-1)

typedef enum {
    SPEECHTOK_OK = 0,
    SPEECHTOK_NO_MEMORY = 1,
    SPEECHTOK_BAD_ARGUMENT = 2, /* a value of this call cannot be used */
    SPEECHTOK_BAD_FILE = 3,     /* a file is missing, damaged, or cannot be written */
    SPEECHTOK_BAD_CONFIG = 4,   /* a configuration is out of range, or of a family that this library does not compute */
    SPEECHTOK_FINGERPRINT = 5,  /* tokens or weights belong to another tokenizer */
    SPEECHTOK_BAD_STATE = 6,    /* a row of a stream has ended; reset it first */
    SPEECHTOK_SELF_TEST = 7     /* this build computes other codes than it should: do not use it */
} speechtok_status;

/* What the last failed call of this thread found, what it expected, and the way out; "" before any. */
SPEECHTOK_API const char *speechtok_error_message(void);

/* ---- Tokenizers ---- */

typedef struct speechtok_tokenizer speechtok_tokenizer;

typedef struct {
    int64_t sample_rate;             /* in hertz */
    int64_t hop_length;              /* samples per frame */
    int64_t num_codebooks;           /* Q */
    int64_t codebook_size;           /* codes are from 0 to codebook_size - 1 */
    int64_t semantic_dim;            /* dimensions of the latent that decide the code of codebook 0; 0 for all */
    const char *fingerprint;         /* of encoder and codebooks: which codes it makes. Lives as long as the tokenizer */
    const char *decoder_fingerprint; /* of the decoder */
} speechtok_info;

/* Load a tokenizer of the convnext family: config.json and model.safetensors, as `tok.save(folder)` writes them.
 *
 * The files are checked whole and may come from anywhere. The weights are hashed and compared with the fingerprints in
 * config.json. Then the library encodes and decodes a known signal, and refuses to work if it computes other bits. */
SPEECHTOK_API speechtok_status speechtok_load(const char *folder, speechtok_tokenizer **tokenizer);

/* Load a tokenizer from the contents of the two files. They may be freed afterwards. */
SPEECHTOK_API speechtok_status speechtok_load_memory(const void *config, size_t config_size, const void *weights,
                                                     size_t weights_size, speechtok_tokenizer **tokenizer);

/* A null tokenizer is allowed. Streams of the tokenizer must be closed before. */
SPEECHTOK_API void speechtok_free(speechtok_tokenizer *tokenizer);

SPEECHTOK_API speechtok_info speechtok_get_info(const speechtok_tokenizer *tokenizer);

/* Frames of `samples` samples at the tokenizer's rate: ceil(samples / hop_length). */
SPEECHTOK_API int64_t speechtok_num_frames(const speechtok_tokenizer *tokenizer, int64_t samples);

/* Encode an utterance.
 *
 * waveform:      (S,), at the tokenizer's rate; see speechtok_resample. Finite, with a peak of at most 2; it is clipped
 *                to [-1, 1].
 * num_codebooks: Q, codebooks to encode with, from the first; 0 for all.
 * codes:         result, (Q, T) with T = speechtok_num_frames(tokenizer, samples). The last frame is completed with
 *                silence. */
SPEECHTOK_API speechtok_status speechtok_encode(const speechtok_tokenizer *tokenizer, const float *waveform,
                                                int64_t samples, int64_t num_codebooks, int64_t *codes);

/* Decode an utterance.
 *
 * codes:    (Q, T), of any number of codebooks from the first.
 * samples:  of the result: from 0 to T * hop_length.
 * waveform: result, (samples,). */
SPEECHTOK_API speechtok_status speechtok_decode(const speechtok_tokenizer *tokenizer, const int64_t *codes,
                                                int64_t num_codebooks, int64_t num_frames, int64_t samples,
                                                float *waveform);

/* Kernels that this processor has, from the slowest to the fastest. All give equal results; the fastest is used. */
SPEECHTOK_API int64_t speechtok_num_kernels(void);

/* Use another kernel, from 0 to speechtok_num_kernels() - 1, to compare them; not while another thread computes. */
SPEECHTOK_API speechtok_status speechtok_use_kernel(speechtok_tokenizer *tokenizer, int64_t kernel);

/* ---- Streams ---- */

/* Audio to codes and codes to audio, piece by piece, for B utterances ("rows") at a time. Pieces may have any length:
 * joined together, they equal the results for the whole. A frame's codes come with its last sample; its audio comes
 * with the codes of the next frame, or with speechtok_stream_drain. */
typedef struct speechtok_stream speechtok_stream;

/* rows:          B, from 1 to 16384.
 * num_codebooks: to encode with, from the first; 0 for all.
 * sample_rate:   of the chunks to encode, in hertz; 0 for that of the tokenizer. Others are resampled. Decoded audio
 *                always has the rate of the tokenizer. */
SPEECHTOK_API speechtok_status speechtok_stream_open(const speechtok_tokenizer *tokenizer, int64_t rows,
                                                     int64_t num_codebooks, int64_t sample_rate,
                                                     speechtok_stream **stream);
SPEECHTOK_API void speechtok_stream_close(speechtok_stream *stream);

/* Most frames that a chunk of `samples` samples, or with 0 a flush, can complete: enough for `capacity` below. */
SPEECHTOK_API int64_t speechtok_stream_max_frames(const speechtok_stream *stream, int64_t samples);

/* Take the next samples.
 *
 * chunk:    (B, samples), at the rate of the stream.
 * lengths:  (B,), samples of each row that count; null for all.
 * codes:    result, (B, Q, capacity). Rows with fewer frames than the longest end in SPEECHTOK_NO_CODE; frames after
 *           those of the longest row are not written.
 * capacity: room in frames, at least that of the longest row.
 * frames:   result, (B,), frames of each row. */
SPEECHTOK_API speechtok_status speechtok_stream_encode(speechtok_stream *stream, const float *chunk, int64_t samples,
                                                       const int64_t *lengths, int64_t *codes, int64_t capacity,
                                                       int64_t *frames);

/* End utterances: complete their last, partial frame with silence. `rows` is (B,), true for rows to end; null for all.
 * They take no more samples until speechtok_stream_reset. The other arguments are those of speechtok_stream_encode. */
SPEECHTOK_API speechtok_status speechtok_stream_flush(speechtok_stream *stream, const bool *rows, int64_t *codes,
                                                      int64_t capacity, int64_t *frames);

/* Take the next codes.
 *
 * codes:    (B, num_codebooks, num_frames), of any number of codebooks from the first.
 * lengths:  (B,), frames of each row that count; null for all.
 * audio:    result, (B, capacity). Rows with fewer samples than the longest end in 0.
 * capacity: room in samples; num_frames * hop_length is always enough.
 * samples:  result, (B,), samples of each row: all of its frames but the last one taken. */
SPEECHTOK_API speechtok_status speechtok_stream_decode(speechtok_stream *stream, const int64_t *codes,
                                                       int64_t num_codebooks, int64_t num_frames,
                                                       const int64_t *lengths, float *audio, int64_t capacity,
                                                       int64_t *samples);

/* End decoding: the audio of the last frame, hop_length samples, or none for rows without codes. The rows take no more
 * codes until speechtok_stream_reset. */
SPEECHTOK_API speechtok_status speechtok_stream_drain(speechtok_stream *stream, const bool *rows, float *audio,
                                                      int64_t capacity, int64_t *samples);

/* Start new utterances in both directions, and discard the state of the old ones. */
SPEECHTOK_API void speechtok_stream_reset(speechtok_stream *stream, const bool *rows);

/* ---- Sample rates: from 1 000 to 768 000 Hz ---- */

/* ceil(samples * to_rate / from_rate); -1 if a value is out of range. */
SPEECHTOK_API int64_t speechtok_resampled_length(int64_t samples, int64_t from_rate, int64_t to_rate);

/* Change the sample rate of a waveform. `resampled` has room for speechtok_resampled_length samples. */
SPEECHTOK_API speechtok_status speechtok_resample(const float *waveform, int64_t samples, int64_t from_rate,
                                                  int64_t to_rate, float *resampled);

/* The same for audio that arrives piece by piece; joined together, the outputs are those of speechtok_resample. */
typedef struct speechtok_resampler speechtok_resampler;

SPEECHTOK_API speechtok_status speechtok_resampler_open(int64_t from_rate, int64_t to_rate,
                                                        speechtok_resampler **resampler);
SPEECHTOK_API void speechtok_resampler_close(speechtok_resampler *resampler);

/* Samples that speechtok_resampler_push would give for `samples` more samples, or with -1 speechtok_resampler_flush. */
SPEECHTOK_API int64_t speechtok_resampler_next(const speechtok_resampler *resampler, int64_t samples);

/* Take the next samples; `resampled` has room for speechtok_resampler_next(resampler, samples) samples. */
SPEECHTOK_API speechtok_status speechtok_resampler_push(speechtok_resampler *resampler, const float *chunk,
                                                        int64_t samples, float *resampled);

/* End the utterance: the samples that waited for later ones. The resampler then takes no more until it is reset. */
SPEECHTOK_API speechtok_status speechtok_resampler_flush(speechtok_resampler *resampler, float *resampled);
SPEECHTOK_API void speechtok_resampler_reset(speechtok_resampler *resampler);

/* ---- Tokens files ---- */

/* Codes of B utterances with what a tokenizer needs to decode them: the contents of a `.tokens` file. */
typedef struct {
    int64_t batch, num_codebooks, num_frames;       /* B, Q, T */
    int64_t sample_rate, hop_length, codebook_size; /* of the tokenizer */
    int64_t *codes;                                 /* (B, Q, T); frames past the end of an utterance hold 0 */
    int64_t *lengths;                               /* (B,), frames of each utterance */
    int64_t *num_samples;                           /* (B,), samples of each utterance at sample_rate */
    char *fingerprint;                              /* of the tokenizer, UTF-8 */
} speechtok_tokens;

/* Encode an utterance to tokens: speechtok_encode with what belongs around it. */
SPEECHTOK_API speechtok_status speechtok_encode_tokens(const speechtok_tokenizer *tokenizer, const float *waveform,
                                                       int64_t samples, int64_t num_codebooks,
                                                       speechtok_tokens **tokens);

/* Decode utterance `row` of tokens, which the tokenizer made, or another one of the same fingerprint. `waveform` has
 * room for tokens->num_samples[row] samples. */
SPEECHTOK_API speechtok_status speechtok_decode_tokens(const speechtok_tokenizer *tokenizer,
                                                       const speechtok_tokens *tokens, int64_t row, float *waveform);

/* Read a file, or the bytes of one. Files that are damaged in a single bit are refused. */
SPEECHTOK_API speechtok_status speechtok_tokens_read(const char *path, speechtok_tokens **tokens);
SPEECHTOK_API speechtok_status speechtok_tokens_parse(const void *data, size_t size, speechtok_tokens **tokens);

/* Write a file, or its bytes, which the caller frees with speechtok_free_bytes. The same tokens are the same bytes in
 * every language. A file takes its name when it is complete. */
SPEECHTOK_API speechtok_status speechtok_tokens_write(const speechtok_tokens *tokens, const char *path);
SPEECHTOK_API speechtok_status speechtok_tokens_to_bytes(const speechtok_tokens *tokens, void **data, size_t *size);
SPEECHTOK_API void speechtok_free_bytes(void *data);

/* Tokens of speechtok_encode_tokens, speechtok_tokens_read and speechtok_tokens_parse. */
SPEECHTOK_API void speechtok_tokens_free(speechtok_tokens *tokens);

#ifdef __cplusplus
}
#endif
#endif
