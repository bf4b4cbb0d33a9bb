/* The conformance suite: conformance FOLDER GOLDEN [CHUNK…]
 *
 * Encodes and decodes the stress input of bindings/conformance with the tokenizer in FOLDER, whole and in chunks of the
 * given numbers of samples, with every kernel, and compares codes and audio with the golden file. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "speechtok.h"

enum { SAMPLES = 519323, FULL_SCALE = 1 << 23 };

static uint32_t generator;

static int32_t next_signed(void) {
    generator = 1664525u * generator + 1013904223u;
    return (int32_t)(generator >> 8) - FULL_SCALE;
}

static int64_t shift(int64_t x, int n) { return x >= 0 ? x >> n : ~(~x >> n); }

static int64_t clip(int64_t x) { return x > FULL_SCALE ? FULL_SCALE : x < -FULL_SCALE ? -FULL_SCALE : x; }

static void make_input(float *x) {
    const float scale = FULL_SCALE;
    for (int i = 0; i < 3200 + 800 + 3200; i++) {
        uint32_t bits = i < 3200 ? 0 : i < 4000 ? 0x80000000u : ((uint32_t)(i - 4000) & 1) << 31 | (1 + ((uint32_t)(i - 4000) * 2654435761u & 0x7ffffe));
        memcpy(x++, &bits, 4);
    }
    generator = 1;
    for (int level = 0; level < 12; level++)
        for (int i = 0; i < 24000; i++) *x++ = (float)next_signed() / ((float)FULL_SCALE * (float)(1 << level));
    generator = 2;
    for (int i = 0; i < 16000; i++) *x++ = (float)clip(4 * (int64_t)next_signed()) / scale;
    uint32_t phase = 0, step = 0;
    for (int i = 0; i < 80000; i++) {
        step += 26843;
        phase += step;
        const int64_t arc = phase >> 16 & 0x7fff, value = arc * (0x8000 - arc) >> 5;
        *x++ = (float)(phase >> 31 ? -value : value) / scale;
    }
    for (int i = 0; i < 8000; i++) *x++ = 0.5f;
    for (int i = 0; i < 8000; i++) *x++ = (float)(1 - FULL_SCALE) / scale;
    for (int i = 0; i < 16000; i++) *x++ = i % 997 ? 0.0f : 1.0f;
    for (int i = 0; i < 16000; i++) *x++ = (i / 40 % 2 ? -5872025.0f : 5872025.0f) / scale;
    int64_t first = 0, second = 0, third = 0, fourth = 0;
    generator = 3;
    for (int i = 0, countdown = 0; i < 80000; i++, countdown--) {
        int64_t pulse = shift(next_signed(), 9), past = first;
        if (!countdown) countdown = 80 + i / 400 % 120, pulse = FULL_SCALE / 4;
        first = pulse + shift(31000 * first - 15600 * second, 14);
        second = past;
        past = third;
        third = shift(first, 3) + shift(24500 * third - 15200 * fourth, 14);
        fourth = past;
        *x++ = (float)clip(third) / scale;
    }
    generator = 4;
    for (int i = 0; i < 123; i++) *x++ = (float)next_signed() / scale;
}

static uint32_t hash(uint32_t value, const void *data, size_t size) {
    for (const uint8_t *byte = data; size; size--, byte++) value = (value ^ *byte) * 16777619u;
    return value;
}

typedef struct {
    int64_t frames, codebooks, hop, start, length; /* the known answer's part */
    int64_t *codes;                                /* [Q][T] */
    uint32_t *hashes;                              /* [T] */
    char fingerprint[32], decoder_fingerprint[32];
} Golden;

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, speechtok_error_message());
    exit(2);
}

static void read_golden(const char *path, Golden *golden) {
    char name[64], value[128];
    FILE *file = fopen(path, "r");
    if (!file) die(path);
    while (fscanf(file, "%63s %127s", name, value) == 2) {
        if (!strcmp(name, "fingerprint")) snprintf(golden->fingerprint, 32, "%.31s", value);
        if (!strcmp(name, "decoder_fingerprint")) snprintf(golden->decoder_fingerprint, 32, "%.31s", value);
        if (!strcmp(name, "num_codebooks")) golden->codebooks = atoll(value);
        if (!strcmp(name, "hop_length")) golden->hop = atoll(value);
        if (!strcmp(name, "frames")) {
            golden->frames = atoll(value);
            break;
        }
    }
    golden->codes = calloc((size_t)(golden->codebooks * golden->frames), sizeof *golden->codes);
    golden->hashes = calloc((size_t)golden->frames, sizeof *golden->hashes);
    for (int64_t t = 0; t < golden->frames; t++) {
        long long code;
        unsigned value32;
        for (int64_t q = 0; q < golden->codebooks; q++) {
            if (fscanf(file, "%lld", &code) != 1) die("the golden file ends too early");
            golden->codes[q * golden->frames + t] = code;
        }
        if (fscanf(file, "%x", &value32) != 1) die("the golden file ends too early");
        golden->hashes[t] = value32;
    }
    fclose(file);
}

static int64_t compare(const Golden *golden, const int64_t *codes, const float *audio, const char *name, double seconds) {
    int64_t wrong = 0, wrong_frames = 0;
    for (int64_t i = 0; i < golden->frames * golden->codebooks; i++) wrong += codes[i] != golden->codes[i];
    for (int64_t t = 0; t < golden->frames; t++) {
        uint32_t value = 2166136261u;
        for (int64_t i = t * golden->hop; i < (t + 1) * golden->hop && i < SAMPLES; i++) {
            const float sample = audio[i] + 0.0f;
            value = hash(value, &sample, 4);
        }
        wrong_frames += value != golden->hashes[t];
    }
    printf("%-24s %lld of %lld codes differ, %lld of %lld frames of audio; %.0f times real time both ways\n", name,
           (long long)wrong, (long long)(golden->frames * golden->codebooks), (long long)wrong_frames,
           (long long)golden->frames, SAMPLES / 16000.0 / seconds);
    return wrong + wrong_frames;
}

/* Through a stream, piece by piece. */
static void pass_through(const speechtok_tokenizer *tokenizer, const Golden *golden, const float *x, int64_t chunk,
                         int64_t *codes, float *audio) {
    speechtok_stream *stream;
    const int64_t q_count = golden->codebooks;
    if (speechtok_stream_open(tokenizer, 1, 0, 0, &stream)) die("open");
    int64_t place = 0, heard = 0, frames = 0, samples = 0, start = 0;
    float *tail = calloc((size_t)(golden->frames + 8) * (size_t)golden->hop, sizeof *tail);
    for (int ended = 0; !ended; start += chunk) {
        const int64_t some = SAMPLES - start < chunk ? SAMPLES - start : chunk;
        ended = some <= 0;
        const int64_t room = speechtok_stream_max_frames(stream, ended ? 0 : some);
        int64_t *part = calloc((size_t)(room * q_count) + 1, sizeof *part);
        if (ended ? speechtok_stream_flush(stream, NULL, part, room, &frames)
                  : speechtok_stream_encode(stream, x + start, some, NULL, part, room, &frames))
            die("stream");
        for (int64_t q = 0; q < q_count; q++)
            for (int64_t t = 0; t < frames; t++) codes[q * golden->frames + place + t] = part[q * room + t];
        place += frames;
        if (speechtok_stream_decode(stream, part, q_count, room, &frames, tail + heard, frames * golden->hop, &samples))
            die("stream");
        heard += samples;
        free(part);
    }
    if (speechtok_stream_drain(stream, NULL, tail + heard, golden->hop, &samples)) die("drain");
    heard += samples;
    if (place != golden->frames || heard != golden->frames * golden->hop) die("a stream gives other lengths");
    memcpy(audio, tail, sizeof *audio * SAMPLES);
    free(tail);
    speechtok_stream_close(stream);
}

static double now(void) { return (double)clock() / CLOCKS_PER_SEC; }

int main(int argc, char **argv) {
    Golden golden = {0};
    speechtok_tokenizer *tokenizer;
    int64_t wrong = 0;
    if (argc < 3) return fprintf(stderr, "usage: %s FOLDER GOLDEN [CHUNK...]\n", argv[0]), 2;
    read_golden(argv[2], &golden);
    if (speechtok_load(argv[1], &tokenizer)) die("load");
    const speechtok_info info = speechtok_get_info(tokenizer);
    if (strcmp(info.fingerprint, golden.fingerprint) || strcmp(info.decoder_fingerprint, golden.decoder_fingerprint))
        die("the golden file belongs to another tokenizer");
    float *x = calloc(SAMPLES, sizeof *x), *audio = calloc(SAMPLES, sizeof *audio);
    int64_t *codes = calloc((size_t)(golden.frames * golden.codebooks), sizeof *codes);
    make_input(x);
    for (int64_t kernel = speechtok_num_kernels() - 1; kernel >= 0; kernel--) {
        char name[64];
        if (speechtok_use_kernel(tokenizer, kernel)) die("kernel");
        double encoding = 1e9, decoding = 1e9, start; /* the least of several: the first pays for its memory */
        for (int i = 0; i < (kernel ? 4 : 1); i++) {
            start = now();
            if (speechtok_encode(tokenizer, x, SAMPLES, 0, codes)) die("encode");
            const double encoded = now();
            if (speechtok_decode(tokenizer, codes, golden.codebooks, golden.frames, SAMPLES, audio)) die("decode");
            const double decoded = now() - encoded;
            encoding = encoded - start < encoding ? encoded - start : encoding;
            decoding = decoded < decoding ? decoded : decoding;
        }
        snprintf(name, sizeof name, "kernel %d, whole", (int)kernel);
        wrong += compare(&golden, codes, audio, name, encoding + decoding);
        printf("    encode %.0f, decode %.0f times real time\n", SAMPLES / 16000.0 / encoding,
               SAMPLES / 16000.0 / decoding);
        for (int i = 3; i < argc && kernel == speechtok_num_kernels() - 1; i++) {
            memset(codes, 0, sizeof *codes * (size_t)(golden.frames * golden.codebooks));
            memset(audio, 0, sizeof *audio * SAMPLES);
            start = now();
            pass_through(tokenizer, &golden, x, atoll(argv[i]), codes, audio);
            snprintf(name, sizeof name, "kernel %d, chunks of %s", (int)kernel, argv[i]);
            wrong += compare(&golden, codes, audio, name, now() - start);
        }
    }
    speechtok_free(tokenizer);
    free(x);
    free(audio);
    free(codes);
    free(golden.codes);
    free(golden.hashes);
    return wrong != 0;
}
