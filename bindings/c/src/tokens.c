/* `.tokens` files: docs/formats.md, to the byte. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "memory.h"
#include "safetensors.h"
#include "sha256.h"
#include "tokenizer.h"

#define FORMAT "speechtok-tokens-1"

enum { MAX_CODEBOOKS = 1024, MAX_CODEBOOK_SIZE = 32768, MAX_HOP = 1 << 20 };

/* Other fingerprints of the same codes. */
static const char *const aliases[][2] = {{"18d457da55bebdd2", "6e0f5f766c426279"}};

static const char *canonical(const char *fingerprint) {
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (!strcmp(fingerprint, aliases[i][0])) return aliases[i][1];
    return fingerprint;
}

/* A text that grows; `data` is null after an allocation failed. */
typedef struct {
    char *data;
    size_t size, room;
} Text;

static void append(Text *text, const void *data, size_t size) {
    if (!text->data) return;
    if (text->size + size + 1 > text->room) {
        const size_t room = 2 * (text->size + size + 1);
        char *grown = realloc(text->data, room);
        if (!grown) free(text->data);
        text->data = grown;
        text->room = room;
        if (!grown) return;
    }
    memcpy(text->data + text->size, data, size);
    text->size += size;
    text->data[text->size] = 0;
}

static void append_text(Text *text, const char *format, ...) PRINTF(2, 3);

static void append_text(Text *text, const char *format, ...) {
    char part[256];
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(part, sizeof part, format, arguments);
    va_end(arguments);
    append(text, part, (size_t)size);
}

static Text new_text(void) { return (Text){calloc(1, 64), 0, 64}; }

/* One character of UTF-8, which is known to be valid. */
static uint32_t decode_utf8(const uint8_t **text) {
    const uint8_t *s = *text;
    const int more = s[0] < 0x80 ? 0 : s[0] < 0xe0 ? 1 : s[0] < 0xf0 ? 2 : 3;
    uint32_t code = more ? s[0] & (0x3f >> more) : s[0];
    for (int i = 1; i <= more; i++) code = code << 6 | (s[i] & 0x3f);
    *text += more + 1;
    return code;
}

/* A JSON text as Python writes it: in ASCII, or else with only what JSON asks for escaped. */
static void append_json(Text *text, const char *value, bool ascii) {
    static const char names[] = "\"\\\b\f\n\r\t", escapes[] = "\"\\bfnrt";
    append(text, "\"", 1);
    for (const uint8_t *c = (const uint8_t *)value; *c;) {
        const uint8_t *start = c;
        const uint32_t code = decode_utf8(&c);
        const char *place = code < 0x80 ? strchr(names, (int)code) : NULL;
        if (place) append_text(text, "\\%c", escapes[place - names]);
        else if (code >= 0x10000 && ascii)
            append_text(text, "\\u%04x\\u%04x", 0xd7c0 + (code >> 10), 0xdc00 + (code & 0x3ff));
        else if (code < 0x20 || (code > 0x7e && ascii)) append_text(text, "\\u%04x", code);
        else append(text, start, (size_t)(c - start));
    }
    append(text, "\"", 1);
}

/* The object `tokens` of the metadata, in the order of the format, or sorted for the digest. */
static Text describe(const speechtok_tokens *t, const char *fingerprint, bool sorted) {
    Text text = new_text();
    append_text(&text, "{");
    if (!sorted)
        append_text(&text, "\"sample_rate\": %" PRId64 ", \"hop_length\": %" PRId64 ", ", t->sample_rate, t->hop_length);
    append_text(&text, "\"codebook_size\": %" PRId64 ", \"fingerprint\": ", t->codebook_size);
    append_json(&text, fingerprint, true);
    if (sorted)
        append_text(&text, ", \"hop_length\": %" PRId64 ", \"sample_rate\": %" PRId64, t->hop_length, t->sample_rate);
    append_text(&text, "}");
    return text;
}

/* `codes` are int16, the lengths follow `tokens`. */
static void digest(const speechtok_tokens *t, const char *facts, const int16_t *codes, char digits[17]) {
    char text[128];
    Sha256 hash;
    st_sha256_start(&hash);
    st_sha256_update(&hash, facts, strlen(facts));
    snprintf(text, sizeof text, "codes torch.int16 (%" PRId64 ", %" PRId64 ", %" PRId64 ")", t->batch, t->num_codebooks,
             t->num_frames);
    st_sha256_update(&hash, text, strlen(text));
    st_sha256_update(&hash, codes, 2 * (size_t)(t->batch * t->num_codebooks * t->num_frames));
    snprintf(text, sizeof text, "lengths torch.int64 (%" PRId64 ",)", t->batch);
    st_sha256_update(&hash, text, strlen(text));
    st_sha256_update(&hash, t->lengths, 8 * (size_t)t->batch);
    snprintf(text, sizeof text, "num_samples torch.int64 (%" PRId64 ",)", t->batch);
    st_sha256_update(&hash, text, strlen(text));
    st_sha256_update(&hash, t->num_samples, 8 * (size_t)t->batch);
    st_sha256_fingerprint(&hash, digits);
}

static bool in_range(int64_t value, int64_t minimum, int64_t maximum) { return value >= minimum && value <= maximum; }

static speechtok_status check(const speechtok_tokens *t) {
    if (!in_range(t->sample_rate, 1, INT32_MAX) || !in_range(t->hop_length, 1, MAX_HOP) ||
        !in_range(t->codebook_size, 1, MAX_CODEBOOK_SIZE) || !in_range(t->num_codebooks, 1, MAX_CODEBOOKS))
        return st_fail(SPEECHTOK_BAD_FILE, "sample_rate, hop_length, codebook_size or num_codebooks is out of range");
    if (t->batch < 0 || t->num_frames < 0 || st_product(t->num_frames, t->hop_length) < 0 ||
        st_product(st_product(t->batch, t->num_codebooks), t->num_frames) < 0)
        return st_fail(SPEECHTOK_BAD_FILE, "the shape of codes is out of range");
    if (!t->fingerprint || strlen(t->fingerprint) > 4 * MAX_FINGERPRINT)
        return st_fail(SPEECHTOK_BAD_FILE, "the fingerprint is missing or too long");
    for (int64_t i = 0; i < t->batch * t->num_codebooks * t->num_frames; i++)
        if (!in_range(t->codes[i], 0, t->codebook_size - 1))
            return st_fail(SPEECHTOK_BAD_FILE, "a code is %" PRId64 "; expected 0 to %" PRId64, t->codes[i],
                           t->codebook_size - 1);
    for (int64_t row = 0; row < t->batch; row++) {
        const int64_t samples = t->num_samples[row], hop = t->hop_length;
        if (!in_range(samples, 0, t->num_frames * hop) || t->lengths[row] != (samples + hop - 1) / hop)
            return st_fail(SPEECHTOK_BAD_FILE, "lengths and num_samples of utterance %" PRId64 " do not fit each other",
                           row);
    }
    return SPEECHTOK_OK;
}

void speechtok_tokens_free(speechtok_tokens *t) {
    if (!t) return;
    free(t->codes);
    free(t->lengths);
    free(t->num_samples);
    free(t->fingerprint);
    free(t);
}

void speechtok_free_bytes(void *data) { free(data); }

static speechtok_tokens *allocate(int64_t batch, int64_t num_codebooks, int64_t num_frames, const char *fingerprint) {
    speechtok_tokens *t = st_array(1, sizeof *t);
    if (!t) return NULL;
    t->batch = batch;
    t->num_codebooks = num_codebooks;
    t->num_frames = num_frames;
    t->codes = st_array(st_product(st_product(batch, num_codebooks), num_frames), sizeof *t->codes);
    t->lengths = st_array(batch, sizeof *t->lengths);
    t->num_samples = st_array(batch, sizeof *t->num_samples);
    t->fingerprint = malloc(strlen(fingerprint) + 1);
    if (t->fingerprint) strcpy(t->fingerprint, fingerprint);
    if (t->codes && t->lengths && t->num_samples && t->fingerprint) return t;
    speechtok_tokens_free(t);
    return NULL;
}

speechtok_status speechtok_encode_tokens(const speechtok_tokenizer *tokenizer, const float *waveform, int64_t samples,
                                         int64_t num_codebooks, speechtok_tokens **result) {
    const Config *c = &tokenizer->config;
    *result = NULL;
    if (samples < 1 || num_codebooks < 0 || num_codebooks > c->num_codebooks)
        return speechtok_encode(tokenizer, waveform, samples, num_codebooks, NULL); /* which says what is wrong */
    const int64_t frames = speechtok_num_frames(tokenizer, samples);
    speechtok_tokens *t = allocate(1, num_codebooks ? num_codebooks : c->num_codebooks, frames, c->fingerprint);
    if (!t) return st_no_memory();
    t->sample_rate = c->sample_rate;
    t->hop_length = c->hop_length;
    t->codebook_size = c->codebook_size;
    t->lengths[0] = frames;
    t->num_samples[0] = samples;
    const speechtok_status status = speechtok_encode(tokenizer, waveform, samples, num_codebooks, t->codes);
    if (status) speechtok_tokens_free(t);
    else *result = t;
    return status;
}

speechtok_status speechtok_decode_tokens(const speechtok_tokenizer *tokenizer, const speechtok_tokens *t, int64_t row,
                                         float *waveform) {
    speechtok_status status = check(t);
    if (status) return status;
    if (strcmp(canonical(t->fingerprint), canonical(tokenizer->config.fingerprint)))
        return st_fail(SPEECHTOK_FINGERPRINT, "the tokens were made by tokenizer %.*s, and this is %.*s", MAX_QUOTED,
                       t->fingerprint, MAX_QUOTED, tokenizer->config.fingerprint);
    if (row < 0 || row >= t->batch)
        return st_fail(SPEECHTOK_BAD_ARGUMENT, "row is %" PRId64 " of %" PRId64 " utterances", row, t->batch);
    const int64_t frames = t->lengths[row];
    int64_t *codes = st_array(t->num_codebooks * frames, sizeof *codes);
    if (!codes) return st_no_memory();
    for (int64_t q = 0; q < t->num_codebooks; q++)
        memcpy(codes + q * frames, t->codes + (row * t->num_codebooks + q) * t->num_frames,
               sizeof *codes * (size_t)frames);
    status = speechtok_decode(tokenizer, codes, t->num_codebooks, frames, t->num_samples[row], waveform);
    free(codes);
    return status;
}

speechtok_status speechtok_tokens_to_bytes(const speechtok_tokens *t, void **data, size_t *size) {
    *data = NULL;
    const speechtok_status status = check(t);
    if (status) return status;
    const int64_t count = t->batch * t->num_codebooks * t->num_frames, rows = 8 * t->batch;
    int16_t *codes = st_array(count, sizeof *codes);
    Text facts = describe(t, canonical(t->fingerprint), false), sorted = describe(t, canonical(t->fingerprint), true);
    Text header = new_text(), file = new_text();
    if (codes && facts.data && sorted.data) {
        char digits[17];
        for (int64_t i = 0; i < count; i++) codes[i] = (int16_t)t->codes[i];
        digest(t, sorted.data, codes, digits);
        append_text(&header, "{\"__metadata__\":{\"digest\":\"%s\",\"format\":\"" FORMAT "\",\"tokens\":", digits);
        append_json(&header, facts.data, false);
        append_text(&header, "},\"lengths\":{\"dtype\":\"I64\",\"shape\":[%" PRId64 "],\"data_offsets\":[0,%" PRId64 "]},",
                    t->batch, rows);
        append_text(&header,
                    "\"num_samples\":{\"dtype\":\"I64\",\"shape\":[%" PRId64 "],\"data_offsets\":[%" PRId64 ",%" PRId64
                    "]},",
                    t->batch, rows, 2 * rows);
        append_text(&header,
                    "\"codes\":{\"dtype\":\"I16\",\"shape\":[%" PRId64 ",%" PRId64 ",%" PRId64
                    "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}}",
                    t->batch, t->num_codebooks, t->num_frames, 2 * rows, 2 * rows + 2 * count);
        append(&header, "        ", (8 - header.size % 8) % 8);
        const uint64_t length = header.size;
        append(&file, &length, 8);
        if (header.data) append(&file, header.data, header.size);
        append(&file, t->lengths, (size_t)rows);
        append(&file, t->num_samples, (size_t)rows);
        append(&file, codes, 2 * (size_t)count);
    }
    const bool whole = codes && facts.data && sorted.data && header.data && file.data;
    free(codes);
    free(facts.data);
    free(sorted.data);
    free(header.data);
    if (!whole) {
        free(file.data);
        return st_no_memory();
    }
    *data = file.data;
    *size = file.size;
    return SPEECHTOK_OK;
}

/* The text `tokens` of the metadata. */
static bool read_facts(const char *text, speechtok_tokens *facts, char *fingerprint, size_t size) {
    char key[16];
    bool first = true;
    int found = 0;
    Json json = st_json(text, strlen(text));
    st_json_open(&json, '{');
    while (st_json_key(&json, &first, key, sizeof key)) {
        if (!strcmp(key, "sample_rate")) found |= st_json_integer(&json, &facts->sample_rate);
        else if (!strcmp(key, "hop_length")) found |= 2 * st_json_integer(&json, &facts->hop_length);
        else if (!strcmp(key, "codebook_size")) found |= 4 * st_json_integer(&json, &facts->codebook_size);
        else if (!strcmp(key, "fingerprint")) found |= 8 * st_json_string(&json, fingerprint, size);
        else st_json_fail(&json, "an unknown field");
    }
    return st_json_end(&json) && found == 15;
}

static bool has_shape(const Tensor *tensor, Dtype dtype, int rank) {
    return tensor && tensor->dtype == dtype && tensor->rank == rank;
}

speechtok_status speechtok_tokens_parse(const void *data, size_t size, speechtok_tokens **result) {
    enum { MAX_FACTS = 8 * MAX_FINGERPRINT };
    TensorFile file;
    *result = NULL;
    speechtok_status status = st_read_safetensors(data, size, &file);
    if (status) return status;
    char key[16], format[32] = "", expected[32] = "", digits[17];
    char fingerprint[4 * MAX_FINGERPRINT + 1], *facts = st_array(MAX_FACTS, 1);
    speechtok_tokens read = {0}, *t = NULL;
    bool first = true;
    Json json = st_json(file.metadata ? file.metadata : "{}", file.metadata ? file.metadata_size : 2);
    st_json_open(&json, '{');
    while (facts && st_json_key(&json, &first, key, sizeof key)) {
        if (!strcmp(key, "format")) st_json_string(&json, format, sizeof format);
        else if (!strcmp(key, "digest")) st_json_string(&json, expected, sizeof expected);
        else if (!strcmp(key, "tokens")) st_json_string(&json, facts, MAX_FACTS);
        else st_json_skip(&json);
    }
    const Tensor *codes = st_find_tensor(&file, "codes"), *lengths = st_find_tensor(&file, "lengths");
    const Tensor *samples = st_find_tensor(&file, "num_samples");
    status = st_fail(SPEECHTOK_BAD_FILE, "it is damaged, or is not a file of tokens; make it again with encode");
    if (!facts) {
        status = st_no_memory();
        goto end;
    }
    if (json.error || strcmp(format, FORMAT) || file.count != 3 || !has_shape(codes, I16, 3) ||
        !has_shape(lengths, I64, 1) || !has_shape(samples, I64, 1) || lengths->count != codes->shape[0] ||
        samples->count != codes->shape[0] || !read_facts(facts, &read, fingerprint, sizeof fingerprint))
        goto end;
    for (int axis = 0; axis < 3; axis++) /* beside a 0, any number takes no bytes */
        if (codes->shape[axis] > (int64_t)size) goto end;
    t = allocate(codes->shape[0], codes->shape[1], codes->shape[2], fingerprint);
    int16_t *narrow = st_array(codes->count, sizeof *narrow);
    if (!t || !narrow) {
        free(narrow);
        status = st_no_memory();
        goto end;
    }
    t->sample_rate = read.sample_rate;
    t->hop_length = read.hop_length;
    t->codebook_size = read.codebook_size;
    memcpy(narrow, codes->data, 2 * (size_t)codes->count);
    memcpy(t->lengths, lengths->data, 8 * (size_t)lengths->count);
    memcpy(t->num_samples, samples->data, 8 * (size_t)samples->count);
    for (int64_t i = 0; i < codes->count; i++) t->codes[i] = narrow[i];
    Text sorted = describe(t, fingerprint, true);
    if (sorted.data) digest(t, sorted.data, narrow, digits);
    free(narrow);
    if (!sorted.data) status = st_no_memory();
    else if (!strcmp(digits, expected)) status = check(t);
    else status = st_fail(SPEECHTOK_BAD_FILE, "it is damaged: its digest is not %s; make it again with encode", expected);
    free(sorted.data);
    if (!status) memcpy(t->fingerprint, canonical(fingerprint), strlen(canonical(fingerprint)) + 1);
end:
    free(facts);
    free(file.tensors);
    if (status) speechtok_tokens_free(t);
    else *result = t;
    return status;
}
