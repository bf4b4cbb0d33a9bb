/* roundtrip FOLDER IN.f32 RATE OUT.tokens OUT.f32: raw float32 mono audio to tokens, and back. */
#include <speechtok.h>
#include <stdio.h>
#include <stdlib.h>

static void check(speechtok_status status) {
    if (!status) return;
    fprintf(stderr, "%s\n", speechtok_error_message());
    exit(1);
}

int main(int argc, char **argv) {
    static float in[60 * 48000];
    speechtok_tokenizer *tok;
    speechtok_tokens *tokens;
    FILE *file = argc == 6 ? fopen(argv[2], "rb") : NULL;
    if (!file) return fprintf(stderr, "usage: roundtrip FOLDER IN.f32 RATE OUT.tokens OUT.f32\n"), 2;
    const int64_t read = (int64_t)fread(in, sizeof *in, sizeof in / sizeof *in, file), rate = atoll(argv[3]);
    fclose(file);
    check(speechtok_load(argv[1], &tok));
    const int64_t own_rate = speechtok_get_info(tok).sample_rate;
    const int64_t samples = speechtok_resampled_length(read, rate, own_rate);
    float *audio = calloc(samples > 0 ? (size_t)samples : 1, sizeof *audio);
    check(speechtok_resample(in, read, rate, own_rate, audio));
    check(speechtok_encode_tokens(tok, audio, samples, 0, &tokens));
    check(speechtok_tokens_write(tokens, argv[4]));
    check(speechtok_decode_tokens(tok, tokens, 0, audio));
    file = fopen(argv[5], "wb");
    const int whole = file && fwrite(audio, sizeof *audio, (size_t)samples, file) == (size_t)samples && !fclose(file);
    speechtok_tokens_free(tokens);
    speechtok_free(tok);
    free(audio);
    return whole ? 0 : 1;
}
