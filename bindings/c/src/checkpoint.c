#include "checkpoint.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "safetensors.h"
#include "sha256.h"

static void add(Checkpoint *checkpoint, int64_t rows, int64_t columns, const char *format, ...) PRINTF(4, 5);

/* Add a matrix to the list, or a vector if `columns` is 0. */
static void add(Checkpoint *checkpoint, int64_t rows, int64_t columns, const char *format, ...) {
    Weight *weight = checkpoint->weights + checkpoint->num_weights++;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(weight->name, sizeof weight->name, format, arguments);
    va_end(arguments);
    weight->rank = columns ? 2 : 1;
    weight->shape[0] = rows;
    weight->shape[1] = columns;
    weight->count = st_product(rows, columns ? columns : 1);
}

static void add_linear(Checkpoint *checkpoint, const char *half, const char *name, int64_t outputs, int64_t inputs) {
    add(checkpoint, outputs, inputs, "%s.%s.weight", half, name);
    add(checkpoint, outputs, 0, "%s.%s.bias", half, name);
}

static void add_blocks(Checkpoint *checkpoint, const char *half, const char *stack, int64_t depth, int64_t dim,
                       const StackConfig *config) {
    const int64_t hidden = config->expansion * dim;
    for (int64_t i = 0; i < depth; i++) {
        char block[32];
        snprintf(block, sizeof block, "%s.blocks.%d", stack, (int)i);
        add(checkpoint, config->kernel_size, dim, "%s.%s.conv.weight", half, block);
        add(checkpoint, dim, 0, "%s.%s.conv.bias", half, block);
        add(checkpoint, hidden, dim, "%s.%s.expand.weight", half, block);
        add(checkpoint, hidden, 0, "%s.%s.expand.bias", half, block);
        add(checkpoint, dim, hidden, "%s.%s.contract.weight", half, block);
        add(checkpoint, dim, 0, "%s.%s.contract.bias", half, block);
    }
}

static int by_name(const void *a, const void *b) { return strcmp(((const Weight *)a)->name, ((const Weight *)b)->name); }

static int64_t number_of_weights(const Config *c) {
    const int64_t blocks = c->encoder.patch_depth + c->encoder.frame_depth + c->decoder.patch_depth +
                           c->decoder.frame_depth;
    return 6 * blocks + 13 + (c->noise_bands > 0);
}

speechtok_status st_list_weights(Checkpoint *checkpoint) {
    const Config *c = &checkpoint->config;
    const int64_t patches = c->hop_length / c->patch_length, count = number_of_weights(c);
    checkpoint->weights = st_array(count, sizeof *checkpoint->weights);
    checkpoint->num_weights = 0;
    if (!checkpoint->weights) return st_no_memory();
    const StackConfig *e = &c->encoder, *d = &c->decoder;
    add_linear(checkpoint, "encoder", "embed", e->patch_dim, c->window_length);
    add_blocks(checkpoint, "encoder", "patch_blocks", e->patch_depth, e->patch_dim, e);
    add_linear(checkpoint, "encoder", "merge", e->frame_dim, patches * e->patch_dim);
    add_blocks(checkpoint, "encoder", "frame_blocks", e->frame_depth, e->frame_dim, e);
    add_linear(checkpoint, "encoder", "project", c->latent_dim, e->frame_dim);
    add_linear(checkpoint, "decoder", "project", d->frame_dim, c->latent_dim);
    add_blocks(checkpoint, "decoder", "frame_blocks", d->frame_depth, d->frame_dim, d);
    add_linear(checkpoint, "decoder", "split", patches * d->patch_dim, d->frame_dim);
    add_blocks(checkpoint, "decoder", "patch_blocks", d->patch_depth, d->patch_dim, d);
    add_linear(checkpoint, "decoder", "head", 2 * c->patch_length + 1 + c->noise_bands, d->patch_dim);
    if (c->noise_bands) add(checkpoint, c->noise_bands, NOISE_TAPS, "decoder.noise.filters");
    add(checkpoint, c->num_codebooks, c->codebook_size, "quantizer.codebooks");
    Weight *codebooks = checkpoint->weights + checkpoint->num_weights - 1;
    codebooks->rank = 3;
    codebooks->shape[2] = c->latent_dim;
    codebooks->count = st_product(codebooks->count, c->latent_dim);
    qsort(checkpoint->weights, (size_t)count, sizeof *checkpoint->weights, by_name);
    return SPEECHTOK_OK;
}

static uint32_t from_half(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31;
    uint32_t fraction = half & 0x3ff;
    if (exponent == 31) return sign | 0x7f800000 | fraction << 13;
    if (exponent) return sign | (exponent + 112) << 23 | fraction << 13;
    if (!fraction) return sign;
    uint32_t shift = 0; /* a denormal number */
    for (; !(fraction & 0x400); fraction <<= 1) shift++;
    return sign | (113 - shift) << 23 | (fraction & 0x3ff) << 13;
}

/* Copy values as float32. Returns false if one is not finite. */
static bool convert(const Tensor *tensor, float *values) {
    uint32_t worst = 0;
    for (int64_t i = 0; i < tensor->count; i++) {
        uint32_t bits;
        uint16_t half;
        double wide;
        switch (tensor->dtype) {
        case F32: memcpy(&bits, tensor->data + 4 * i, 4); break;
        case F64: {
            memcpy(&wide, tensor->data + 8 * i, 8);
            const float narrow = wide >= -FLT_MAX && wide <= FLT_MAX ? (float)wide : (float)NAN;
            memcpy(&bits, &narrow, 4);
            break;
        }
        default:
            memcpy(&half, tensor->data + 2 * i, 2);
            bits = tensor->dtype == F16 ? from_half(half) : (uint32_t)half << 16;
        }
        const uint32_t exponent = bits & 0x7f800000;
        worst = exponent > worst ? exponent : worst;
        memcpy(values + i, &bits, 4);
    }
    return worst != 0x7f800000;
}

/* Compare the tensors of a file with the list of weights. */
static speechtok_status check_shapes(const Checkpoint *checkpoint, const TensorFile *file) {
    for (int64_t i = 0; i < checkpoint->num_weights; i++) {
        const Weight *weight = checkpoint->weights + i;
        const Tensor *tensor = st_find_tensor(file, weight->name);
        if (!tensor) return st_fail(SPEECHTOK_BAD_FILE, "it lacks %s, which its config asks for", weight->name);
        if (tensor->dtype > F64)
            return st_fail(SPEECHTOK_BAD_FILE, "%s does not hold floating-point numbers", weight->name);
        bool fits = tensor->rank == weight->rank && tensor->count == weight->count;
        for (int axis = 0; fits && axis < weight->rank; axis++) fits = tensor->shape[axis] == weight->shape[axis];
        if (!fits)
            return st_fail(SPEECHTOK_BAD_FILE, "the shape of %s is not that which its config asks for", weight->name);
    }
    return SPEECHTOK_OK;
}

/* Hash the weights whose names begin with `decoder.`, or the others. */
static speechtok_status check_fingerprint(const Checkpoint *checkpoint, bool decoder) {
    char text[MAX_DESCRIPTION], digits[17];
    Sha256 hash;
    st_sha256_start(&hash);
    (decoder ? st_describe_decoder : st_describe_codes)(&checkpoint->config, text);
    st_sha256_update(&hash, text, strlen(text));
    for (int64_t i = 0; i < checkpoint->num_weights; i++) {
        const Weight *weight = checkpoint->weights + i;
        if (!strncmp(weight->name, "decoder.", 8) != decoder) continue;
        st_sha256_update(&hash, weight->name, strlen(weight->name));
        st_sha256_update(&hash, weight->values, 4 * (size_t)weight->count);
    }
    st_sha256_fingerprint(&hash, digits);
    const char *expected = decoder ? checkpoint->config.decoder_fingerprint : checkpoint->config.fingerprint;
    if (!strcmp(digits, expected)) return SPEECHTOK_OK;
    return st_fail(SPEECHTOK_FINGERPRINT,
                   "the %s hashes to %s, and its config says %.*s: one of them was changed; fetch or save both again",
                   decoder ? "decoder" : "encoder with its codebooks", digits, MAX_QUOTED, expected);
}

static speechtok_status read_weights(Checkpoint *checkpoint, const TensorFile *file) {
    if (file->count != number_of_weights(&checkpoint->config))
        return st_fail(SPEECHTOK_BAD_FILE, "it holds %" PRId64 " tensors, and its config asks for %" PRId64,
                       file->count, number_of_weights(&checkpoint->config));
    speechtok_status status = st_list_weights(checkpoint);
    if (!status) status = check_shapes(checkpoint, file);
    for (int64_t i = 0; !status && i < checkpoint->num_weights; i++) {
        Weight *weight = checkpoint->weights + i;
        weight->values = st_array(weight->count, sizeof *weight->values);
        if (!weight->values) status = st_no_memory();
        else if (!convert(st_find_tensor(file, weight->name), weight->values))
            status = st_fail(SPEECHTOK_BAD_FILE, "%s holds values that are not finite", weight->name);
    }
    if (!status) status = check_fingerprint(checkpoint, false);
    return status ? status : check_fingerprint(checkpoint, true);
}

speechtok_status st_read_checkpoint(const void *config, size_t config_size, const void *weights, size_t weights_size,
                                    Checkpoint *checkpoint) {
    TensorFile file;
    memset(checkpoint, 0, sizeof *checkpoint);
    speechtok_status status = st_prefix(st_read_config(config, config_size, &checkpoint->config), "config.json");
    if (status) return status;
    status = st_read_safetensors(weights, weights_size, &file);
    if (!status) {
        status = read_weights(checkpoint, &file);
        free(file.tensors);
    }
    return st_prefix(status, "model.safetensors");
}

void st_free_checkpoint(Checkpoint *checkpoint) {
    for (int64_t i = 0; i < checkpoint->num_weights; i++) free(checkpoint->weights[i].values);
    free(checkpoint->weights);
    checkpoint->weights = NULL;
    checkpoint->num_weights = 0;
}

const Weight *st_find_weight(const Checkpoint *checkpoint, const char *name) {
    Weight key;
    snprintf(key.name, sizeof key.name, "%s", name);
    return bsearch(&key, checkpoint->weights, (size_t)checkpoint->num_weights, sizeof key, by_name);
}

const float *st_weight(const Checkpoint *checkpoint, const char *format, ...) {
    char name[MAX_WEIGHT_NAME];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    const Weight *weight = st_find_weight(checkpoint, name);
    return weight ? weight->values : NULL;
}
