/* The known-answer test of bindings/conformance: compilers that contract multiplications and additions change codes, and
 * no macro tells. */
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "tokenizer.h"

enum { FULL_SCALE = 1 << 23, SQUARE = 8000, SAMPLES = 16000, SMALL_SAMPLES = 4000 };

typedef struct {
    const char *fingerprint, *decoder_fingerprint;
    uint32_t codes, audio;
} Answer;

/* Of the golden files. */
static const Answer answers[] = {{"a8758276273309ef", "7cc965fe7af23870", 0xfed0636f, 0x5ee4e9dc},
                                 {"6e0f5f766c426279", "3f71f34c7073ddfe", 0x3abb5ece, 0x2307831d},
                                 {"e152cdaf13d0b14a", "639616ff19180b41", 0xb1d2af6c, 0xac0880c0}};
/* Of the small model below, for all other tokenizers. */
static const Answer small_answer = {"", "", 0xab32b86c, 0xa2b68bdd};

static uint32_t hash(uint32_t value, const void *data, size_t size) {
    for (const uint8_t *byte = data; size; size--, byte++) value = (value ^ *byte) * 16777619u;
    return value;
}

static int32_t next_signed(uint32_t *state) {
    *state = 1664525u * *state + 1013904223u;
    return (int32_t)(*state >> 8) - FULL_SCALE;
}

/* x / 2**n, rounded down. */
static int64_t shift(int64_t x, int n) { return x >= 0 ? x >> n : ~(~x >> n); }

/* Samples 431 200 to 447 200 of the stress input: a square wave, and the beginning of the voice. */
static void make_signal(float *x) {
    for (int i = 0; i < SQUARE; i++) x[i] = (i / 40 % 2 ? -5872025.0f : 5872025.0f) / FULL_SCALE;
    int64_t first = 0, second = 0, third = 0, fourth = 0;
    uint32_t generator = 3;
    for (int i = 0, countdown = 0; i < SAMPLES - SQUARE; i++, countdown--) {
        int64_t pulse = shift(next_signed(&generator), 9), past = first;
        if (!countdown) countdown = 80 + i / 400 % 120, pulse = FULL_SCALE / 4;
        first = pulse + shift(31000 * first - 15600 * second, 14);
        second = past;
        past = third;
        third = shift(first, 3) + shift(24500 * third - 15200 * fourth, 14);
        fourth = past;
        const int64_t clipped = third > FULL_SCALE ? FULL_SCALE : third < -FULL_SCALE ? -FULL_SCALE : third;
        x[SQUARE + i] = (float)clipped / FULL_SCALE;
    }
}

static speechtok_status compare(const speechtok_tokenizer *tokenizer, const float *x, int64_t samples,
                                const Answer *answer) {
    const int64_t hop = tokenizer->config.hop_length, count = tokenizer->config.num_codebooks;
    const int64_t frames = speechtok_num_frames(tokenizer, samples);
    int64_t *codes = st_array(frames * count, sizeof *codes);
    float *audio = st_array(samples, sizeof *audio);
    speechtok_status status = codes && audio ? SPEECHTOK_OK : st_no_memory();
    if (!status) status = speechtok_encode(tokenizer, x, samples, 0, codes);
    if (!status) status = speechtok_decode(tokenizer, codes, count, frames, samples, audio);
    uint32_t of_codes = 2166136261u, of_audio = of_codes;
    for (int64_t t = 0; t < frames && !status; t++) {
        uint32_t of_frame = 2166136261u;
        for (int64_t q = 0; q < count; q++) {
            const uint16_t code = (uint16_t)codes[q * frames + t];
            of_codes = hash(of_codes, &code, 2);
        }
        for (int64_t i = t * hop; i < (t + 1) * hop && i < samples; i++) {
            const float sample = audio[i] + 0.0f;
            of_frame = hash(of_frame, &sample, 4);
        }
        of_audio = hash(of_audio, &of_frame, 4);
    }
    free(codes);
    free(audio);
    if (status || (of_codes == answer->codes && of_audio == answer->audio)) return status;
    return st_fail(SPEECHTOK_SELF_TEST,
                   "this build of libspeechtok computes other %s than it should: compile it with -ffp-contract=off and "
                   "without -ffast-math",
                   of_codes != answer->codes ? "codes" : "audio");
}

/* Weights by whole numbers alone; the test of the bindings makes the same ones in Python. */
static speechtok_status fill(Checkpoint *checkpoint) {
    uint32_t generator = 5;
    for (int64_t i = 0; i < checkpoint->num_weights; i++) {
        Weight *weight = checkpoint->weights + i;
        weight->values = st_array(weight->count, sizeof *weight->values);
        if (!weight->values) return st_no_memory();
        const int noise = !strcmp(weight->name, "decoder.noise.filters");
        for (int64_t j = 0; j < weight->count; j++) {
            const int32_t value = next_signed(&generator);
            weight->values[j] = noise ? (float)shift(value, 12) : (float)value / (4 * FULL_SCALE);
        }
    }
    return SPEECHTOK_OK;
}

static speechtok_status test_small_model(int64_t kernel, const float *x) {
    static const Config config = {.sample_rate = 16000, .hop_length = 160, .patch_length = 40, .window_length = 120,
                                  .latent_dim = 24, .semantic_dim = 8, .num_codebooks = 3, .codebook_size = 40,
                                  .noise_bands = 5, .hold = 3000, .encoder = {16, 1, 40, 2, 3, 3}, .decoder = {24, 1, 32, 1, 5, 3}};
    Checkpoint checkpoint = {.config = config};
    speechtok_tokenizer tokenizer = {.config = config, .kernel = kernel};
    speechtok_status status = st_list_weights(&checkpoint);
    if (!status) status = fill(&checkpoint);
    if (!status) status = st_make_model(&checkpoint, &tokenizer.model);
    if (!status) status = compare(&tokenizer, x, SMALL_SAMPLES, &small_answer);
    st_free_checkpoint(&checkpoint);
    st_free_model(tokenizer.model);
    return status;
}

speechtok_status st_self_test(const speechtok_tokenizer *tokenizer) {
    const Config *c = &tokenizer->config;
    float *x = st_array(SAMPLES, sizeof *x);
    if (!x) return st_no_memory();
    make_signal(x);
    speechtok_status status = test_small_model(tokenizer->kernel, x + SQUARE);
    for (size_t i = 0; i < sizeof answers / sizeof *answers && !status; i++)
        if (!strcmp(c->fingerprint, answers[i].fingerprint) &&
            !strcmp(c->decoder_fingerprint, answers[i].decoder_fingerprint))
            status = compare(tokenizer, x, SAMPLES, answers + i);
    free(x);
    return status;
}
