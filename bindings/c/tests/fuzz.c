/* Fuzzer: fuzz FOLDER TOKENS COUNT SEED
 *
 * Mutates the files of a tokenizer and a tokens file, and opens streams of random models with random calls. Compile it
 * together with the library under -fsanitize=address,undefined, which report what is wrong. A file that is taken must be
 * read as what it says: tokens are written again and compared. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "files.h"
#include "memory.h"
#include "tokenizer.h"

static uint64_t state;

static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static int64_t below(int64_t n) { return n > 0 ? (int64_t)(next() % (uint64_t)n) : 0; }

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, speechtok_error_message());
    exit(1);
}

/* A copy with a few changes, mostly in the header; exactly as large as its memory. */
static char *mutate(const char *data, size_t size, size_t *new_size, int64_t header) {
    static const char *const pieces[] = {"18446744073709551616", "-1", "0", "1e9", "null", "{", "[", "\"", "\\ud800",
                                         "65536", "4294967296", "\xff", "9223372036854775807", ",", "}", "[0,0]", "1024"};
    *new_size = size;
    char *copy = malloc(size + 64);
    if (!copy) exit(3);
    memcpy(copy, data, size);
    const int64_t changes = 1 + below(4);
    for (int64_t i = 0; i < changes; i++) {
        const int64_t most = header < (int64_t)*new_size ? header : (int64_t)*new_size;
        const int64_t place = below(below(8) ? most : (int64_t)*new_size);
        if (!*new_size) break;
        switch (below(6)) {
        case 0: copy[place] ^= (char)(1 << below(8)); break;
        case 1: copy[place] = (char)('0' + below(10)); break;
        case 2: copy[place] = (char)below(256); break;
        case 3: { /* write over it */
            const char *piece = pieces[below(sizeof pieces / sizeof *pieces)];
            for (int64_t j = 0; piece[j] && place + j < (int64_t)*new_size; j++) copy[place + j] = piece[j];
            break;
        }
        case 4: { /* insert */
            const char *piece = pieces[below(sizeof pieces / sizeof *pieces)];
            const size_t length = strlen(piece);
            if (*new_size + length > size + 64) break;
            memmove(copy + place + length, copy + place, *new_size - (size_t)place);
            memcpy(copy + place, piece, length);
            *new_size += length;
            break;
        }
        default:
            if (!below(4)) *new_size = (size_t)place;
            else { /* take out */
                const size_t left = *new_size - (size_t)place, length = (size_t)(1 + below(9)) < left ? 1 : left;
                memmove(copy + place, copy + place + length, left - length);
                *new_size -= length;
            }
        }
    }
    char *exact = malloc(*new_size ? *new_size : 1); /* reads past its end are seen */
    if (!exact) exit(3);
    memcpy(exact, copy, *new_size);
    free(copy);
    return exact;
}

static void fuzz_tokens(const char *data, size_t size) {
    size_t mutated_size, written_size;
    char *mutated = mutate(data, size, &mutated_size, (int64_t)size);
    speechtok_tokens *tokens, *again;
    void *written;
    if (!speechtok_tokens_parse(mutated, mutated_size, &tokens)) {
        if (speechtok_tokens_to_bytes(tokens, &written, &written_size)) die("tokens that were read cannot be written");
        if (speechtok_tokens_parse(written, written_size, &again)) die("tokens that were written cannot be read");
        speechtok_tokens_free(tokens);
        speechtok_tokens_free(again);
        speechtok_free_bytes(written);
    }
    free(mutated);
}

static void fuzz_files(const char *config, size_t config_size, const char *weights, size_t weights_size) {
    const bool of_config = below(2);
    size_t size;
    uint64_t header;
    memcpy(&header, weights, 8);
    char *mutated = of_config ? mutate(config, config_size, &size, (int64_t)config_size)
                              : mutate(weights, weights_size, &size, (int64_t)header + 8);
    Checkpoint checkpoint; /* without the known-answer test, which takes longer than all the rest */
    Model *model = NULL;
    if (!(of_config ? st_read_checkpoint(mutated, size, weights, weights_size, &checkpoint)
                    : st_read_checkpoint(config, config_size, mutated, size, &checkpoint)) &&
        !below(16))
        st_make_model(&checkpoint, &model);
    st_free_model(model);
    st_free_checkpoint(&checkpoint);
    free(mutated);
}

static float any_float(bool wild) {
    const float x = (float)((double)(int64_t)next() / 9.3e18);
    if (!wild || below(8)) return x;
    static const float extremes[] = {0.0f, -0.0f, 1e-45f, 3e38f, -3e38f, 1e30f, 1.0f};
    return extremes[below(7)];
}

/* A model of random sizes, with random calls of a stream. */
static void fuzz_stream(void) {
    const int64_t patch = 2 * (1 + below(4));
    Config c = {.sample_rate = 16000, .patch_length = patch, .hop_length = patch * (1 + below(4)),
                .window_length = patch * (1 + below(3)), .latent_dim = 1 + below(12), .num_codebooks = 1 + below(3),
                .codebook_size = 2 + below(80), .noise_bands = below(3),
                .hold = below(2) * below(5000)};
    c.semantic_dim = below(c.latent_dim);
    StackConfig *stacks[2] = {&c.encoder, &c.decoder};
    for (int i = 0; i < 2; i++)
        *stacks[i] = (StackConfig){1 + below(9), 1 + below(2), 1 + below(9), 1 + below(2), 1 + below(4), 1 + below(3)};
    Checkpoint checkpoint = {.config = c};
    speechtok_tokenizer tokenizer = {.config = c, .kernel = below(st_num_kernels())};
    const bool wild = below(2);
    if (st_list_weights(&checkpoint)) exit(3);
    for (int64_t i = 0; i < checkpoint.num_weights; i++) {
        Weight *weight = checkpoint.weights + i;
        weight->values = st_array(weight->count, sizeof *weight->values);
        if (!weight->values) exit(3);
        for (int64_t j = 0; j < weight->count; j++) weight->values[j] = any_float(wild);
        if (!strcmp(weight->name, "decoder.noise.filters"))
            for (int64_t j = 0; j < weight->count; j++) weight->values[j] = (float)(below(201) - 100);
    }
    if (st_make_model(&checkpoint, &tokenizer.model)) die("a model of sensible sizes is refused");
    st_free_checkpoint(&checkpoint);
    const int64_t rows = 1 + below(4), q_count = 1 + below(c.num_codebooks), rates[] = {0, 8000, 44100, 16000, 1001};
    speechtok_stream *stream;
    if (speechtok_stream_open(&tokenizer, rows, q_count, rates[below(5)], &stream)) die("open");
    for (int64_t call = below(12); call; call--) {
        const int64_t samples = below(200), frames = below(6);
        int64_t lengths[4], given[4];
        bool mask[4];
        for (int64_t row = 0; row < rows; row++) lengths[row] = below(samples + 2) - !below(40), mask[row] = below(2);
        const int64_t room = speechtok_stream_max_frames(stream, samples) - !below(20);
        const int64_t tail = speechtok_stream_max_frames(stream, 0);
        float *x = malloc(sizeof *x * (size_t)(rows * samples + 1)), *audio;
        int64_t *codes = malloc(sizeof *codes * (size_t)(rows * q_count * (room > tail ? room : tail) + 1));
        int64_t *input = malloc(sizeof *input * (size_t)(rows * q_count * frames + 1));
        audio = malloc(sizeof *audio * (size_t)(rows * (frames + 1) * c.hop_length));
        if (!x || !codes || !input || !audio) exit(3);
        for (int64_t i = 0; i < rows * samples; i++) x[i] = below(5000) ? any_float(false) : (below(2) ? NAN : INFINITY);
        for (int64_t i = 0; i < rows * q_count * frames; i++)
            input[i] = below(500) ? below(c.codebook_size) : (int64_t)next();
        switch (below(6)) {
        case 0:
        case 1: speechtok_stream_encode(stream, x, samples, below(2) ? lengths : NULL, codes, room, given); break;
        case 2: speechtok_stream_flush(stream, below(2) ? mask : NULL, codes, tail, given); break;
        case 3:
            for (int64_t row = 0; row < rows; row++) lengths[row] = below(frames + 1);
            speechtok_stream_decode(stream, input, q_count, frames, below(2) ? lengths : NULL, audio,
                                    frames * c.hop_length, given);
            break;
        case 4: speechtok_stream_drain(stream, below(2) ? mask : NULL, audio, c.hop_length, given); break;
        default: speechtok_stream_reset(stream, below(2) ? mask : NULL);
        }
        free(x);
        free(codes);
        free(input);
        free(audio);
    }
    speechtok_stream_close(stream);
    st_free_model(tokenizer.model);
}

int main(int argc, char **argv) {
    char path[512];
    void *config, *weights, *tokens;
    size_t config_size, weights_size, tokens_size;
    if (argc != 5) return fprintf(stderr, "usage: %s FOLDER TOKENS COUNT SEED\n", argv[0]), 2;
    snprintf(path, sizeof path, "%s/config.json", argv[1]);
    if (st_read_file(path, &config, &config_size)) die("config");
    snprintf(path, sizeof path, "%s/model.safetensors", argv[1]);
    if (st_read_file(path, &weights, &weights_size) || st_read_file(argv[2], &tokens, &tokens_size)) die("files");
    const int64_t count = atoll(argv[3]);
    state = 0x9e3779b97f4a7c15u ^ (uint64_t)atoll(argv[4]);
    for (int64_t i = 0; i < count; i++) {
        if (i % 10 < 5) fuzz_tokens(tokens, tokens_size);
        else if (i % 10 < 9) fuzz_files(config, config_size, weights, weights_size);
        else fuzz_stream();
    }
    printf("%" PRId64 " inputs, no findings\n", count);
    free(config);
    free(weights);
    free(tokens);
    return 0;
}
