#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "json.h"

#define FORMAT "speechtok-tokenizer-2"

typedef struct {
    const char *name;
    size_t offset;
    int64_t minimum, maximum, absent; /* `absent` is the value of a field that is left out */
} Field;

#define FIELD(type, name, ...) {#name, offsetof(type, name), __VA_ARGS__}

static const Field stack_fields[] = {
    FIELD(StackConfig, patch_dim, 1, 65536, 192), FIELD(StackConfig, patch_depth, 1, 1024, 2),
    FIELD(StackConfig, frame_dim, 1, 65536, 384), FIELD(StackConfig, frame_depth, 1, 1024, 4),
    FIELD(StackConfig, kernel_size, 1, 65536, 7), FIELD(StackConfig, expansion, 1, 65536, 3)};
static const Field fields[] = {
    FIELD(Config, sample_rate, 4000, 192000, 16000), FIELD(Config, hop_length, 1, 65536, 320),
    FIELD(Config, patch_length, 1, 65536, 80),       FIELD(Config, window_length, 1, 65536, 320),
    FIELD(Config, latent_dim, 1, 65536, 64),         FIELD(Config, semantic_dim, 0, 65535, 0),
    FIELD(Config, num_codebooks, 1, 1024, 8),        FIELD(Config, codebook_size, 2, 32768, 1024),
    FIELD(Config, noise_bands, 0, 256, 0),           FIELD(Config, hold, 0, 16777216, 0)};
enum { NUM_STACK_FIELDS = sizeof stack_fields / sizeof *stack_fields, NUM_FIELDS = sizeof fields / sizeof *fields };

static int64_t *at(void *values, const Field *field) { return (int64_t *)((char *)values + field->offset); }

static void set_defaults(const Field *field, int count, void *values) {
    for (; count; count--, field++) *at(values, field) = field->absent;
}

/* Read the value of `key` if it is one of the fields. */
static bool read_field(Json *json, const char *key, const Field *field, int count, void *values) {
    for (; count; count--, field++)
        if (!strcmp(key, field->name)) {
            int64_t *value = at(values, field);
            if (!st_json_integer(json, value)) return false;
            return (*value >= field->minimum && *value <= field->maximum) ||
                   st_json_fail(json, "a number in it is out of range");
        }
    return st_json_fail(json, "it has an unknown field");
}

static bool read_stack(Json *json, StackConfig *stack) {
    char key[32];
    bool first = true;
    if (!st_json_open(json, '{')) return false;
    while (st_json_key(json, &first, key, sizeof key)) read_field(json, key, stack_fields, NUM_STACK_FIELDS, stack);
    return !json->error;
}

static bool read_architecture(Json *json, Config *config) {
    char key[32], family[32];
    bool first = true;
    if (!st_json_open(json, '{')) return false;
    while (st_json_key(json, &first, key, sizeof key)) {
        if (!strcmp(key, "encoder")) read_stack(json, &config->encoder);
        else if (!strcmp(key, "decoder")) read_stack(json, &config->decoder);
        else if (strcmp(key, "family")) read_field(json, key, fields, NUM_FIELDS, config);
        else if (st_json_string(json, family, sizeof family) && strcmp(family, "convnext"))
            st_json_fail(json, "its family is not convnext, the one that this library computes");
    }
    return !json->error;
}

speechtok_status st_read_config(const void *text, size_t size, Config *config) {
    char key[64], format[64] = "";
    bool first = true, has_config = false;
    memset(config, 0, sizeof *config);
    set_defaults(fields, NUM_FIELDS, config);
    set_defaults(stack_fields, NUM_STACK_FIELDS, &config->encoder);
    set_defaults(stack_fields, NUM_STACK_FIELDS, &config->decoder);
    Json json = st_json(text, size);
    st_json_open(&json, '{');
    while (st_json_key(&json, &first, key, sizeof key)) {
        if (!strcmp(key, "format")) st_json_string(&json, format, sizeof format);
        else if (!strcmp(key, "fingerprint"))
            st_json_string(&json, config->fingerprint, sizeof config->fingerprint);
        else if (!strcmp(key, "decoder_fingerprint"))
            st_json_string(&json, config->decoder_fingerprint, sizeof config->decoder_fingerprint);
        else if (!strcmp(key, "config")) has_config = read_architecture(&json, config);
        else st_json_skip(&json);
    }
    const Config *c = config;
    if (!st_json_end(&json)) return st_fail(SPEECHTOK_BAD_CONFIG, "it cannot be used: %s", json.error);
    if (strcmp(format, FORMAT))
        return st_fail(SPEECHTOK_BAD_CONFIG, "it has the format '%s'; expected '%s': save the tokenizer again", format,
                       FORMAT);
    if (!has_config || !*c->fingerprint || !*c->decoder_fingerprint)
        return st_fail(SPEECHTOK_BAD_CONFIG, "it lacks config, fingerprint or decoder_fingerprint; save it again");
    if (c->patch_length % 2 || c->hop_length % c->patch_length || c->window_length % c->patch_length)
        return st_fail(SPEECHTOK_BAD_CONFIG,
                       "patch_length is %" PRId64 "; expected an even number that divides hop_length %" PRId64
                       " and window_length %" PRId64,
                       c->patch_length, c->hop_length, c->window_length);
    if (c->semantic_dim >= c->latent_dim)
        return st_fail(SPEECHTOK_BAD_CONFIG, "semantic_dim is %" PRId64 "; expected less than latent_dim %" PRId64,
                       c->semantic_dim, c->latent_dim);
    if (c->noise_bands * c->patch_length > 32768 || (c->noise_bands && c->sample_rate <= 5000))
        return st_fail(SPEECHTOK_BAD_CONFIG,
                       "noise_bands is %" PRId64 "; expected at most 32768 / patch_length, and 0 up to 5 kHz",
                       c->noise_bands);
    return SPEECHTOK_OK;
}

static void describe_stack(const StackConfig *s, char text[MAX_DESCRIPTION / 2]) {
    snprintf(text, MAX_DESCRIPTION / 2,
             "{\"expansion\": %" PRId64 ", \"frame_depth\": %" PRId64 ", \"frame_dim\": %" PRId64
             ", \"kernel_size\": %" PRId64 ", \"patch_depth\": %" PRId64 ", \"patch_dim\": %" PRId64 "}",
             s->expansion, s->frame_depth, s->frame_dim, s->kernel_size, s->patch_depth, s->patch_dim);
}

void st_describe_codes(const Config *c, char text[MAX_DESCRIPTION]) {
    char stack[MAX_DESCRIPTION / 2], hold[32] = "";
    describe_stack(&c->encoder, stack);
    if (c->hold) snprintf(hold, sizeof hold, "\"hold\": %" PRId64 ", ", c->hold);
    snprintf(text, MAX_DESCRIPTION,
             "{\"codes\": {\"codebook_size\": %" PRId64
             ", \"encoder\": %s, \"family\": \"convnext\", %s\"hop_length\": %" PRId64 ", \"latent_dim\": %" PRId64
             ", \"num_codebooks\": %" PRId64 ", \"patch_length\": %" PRId64 ", \"sample_rate\": %" PRId64
             ", \"semantic_dim\": %" PRId64 ", \"window_length\": %" PRId64 "}}",
             c->codebook_size, stack, hold, c->hop_length, c->latent_dim, c->num_codebooks, c->patch_length, c->sample_rate,
             c->semantic_dim, c->window_length);
}

void st_describe_decoder(const Config *c, char text[MAX_DESCRIPTION]) {
    char stack[MAX_DESCRIPTION / 2];
    describe_stack(&c->decoder, stack);
    snprintf(text, MAX_DESCRIPTION,
             "{\"decoder\": {\"decoder\": %s, \"family\": \"convnext\", \"hop_length\": %" PRId64
             ", \"latent_dim\": %" PRId64 ", \"noise_bands\": %" PRId64 ", \"patch_length\": %" PRId64
             ", \"sample_rate\": %" PRId64 "}}",
             stack, c->hop_length, c->latent_dim, c->noise_bands, c->patch_length, c->sample_rate);
}
