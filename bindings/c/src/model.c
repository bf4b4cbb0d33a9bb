/* The arithmetic becomes part of this file, under names that do not meet those of the public interface. */
#define speechtok_sizes native_sizes
#define speechtok_num_isas native_num_isas
#define speechtok_check_encoder native_check_encoder
#define speechtok_check_decoder native_check_decoder
#define speechtok_encode native_encode
#define speechtok_decode native_decode
#define PyInit__native native_unused
#include "native.c"
#undef speechtok_sizes
#undef speechtok_num_isas
#undef speechtok_check_encoder
#undef speechtok_check_decoder
#undef speechtok_encode
#undef speechtok_decode

#include <stdio.h>

#include "levels.h"
#include "memory.h"
#include "model.h"
#include "tables.h"

struct Model {
    Encoder encoder;
    Decoder decoder;
    void **memory; /* everything that the structures point to */
    int64_t count;
};

/* Fills the structures. After an allocation failed, `failed` is true and results are null. */
typedef struct {
    const Checkpoint *checkpoint;
    Model *model;
    int failed;
} Packer;

static void *keep(Packer *pack, int64_t count, size_t size) {
    Model *model = pack->model;
    if (model->count % 64 == 0) {
        void **memory = realloc(model->memory, sizeof *memory * (size_t)(model->count + 64));
        if (!memory) return pack->failed = 1, NULL;
        model->memory = memory;
    }
    void *array = pack->failed ? NULL : st_array(count, size);
    if (!array) return pack->failed = 1, NULL;
    return model->memory[model->count++] = array;
}

static Floats keep_floats(Packer *pack, const float *values, int64_t count) {
    float *copied = keep(pack, count, sizeof *copied);
    if (copied && values) memcpy(copied, values, sizeof *copied * (size_t)count);
    return (Floats){copied, count};
}

/* Levels, (outputs, inputs), in tiles. */
static Matrix pack_levels(Packer *pack, const int8_t *levels, int64_t outputs, int64_t inputs) {
    const int64_t width = padded(inputs), tiles = (outputs + TILE - 1) / TILE * TILE;
    int8_t *to = keep(pack, st_product(tiles, width), 1);
    int32_t *offset = keep(pack, tiles, sizeof *offset);
    if (!pack->failed)
        for (int64_t n = 0; n < outputs; n++)
            for (int64_t k = 0; k < inputs; k++) {
                const int8_t level = levels[n * inputs + k];
                to[n / TILE * TILE * width + k / 4 * 4 * TILE + n % TILE * 4 + k % 4] = level;
                offset[n] += 128 * level;
            }
    return (Matrix){inputs, outputs, to, offset, tiles * width, tiles};
}

static Linear pack_linear(Packer *pack, const char *name, int64_t outputs, int64_t inputs, int normed, int fine,
                          float lower) {
    char weight_name[MAX_WEIGHT_NAME];
    snprintf(weight_name, sizeof weight_name, "%.56s.weight", name);
    const Weight *weight = st_find_weight(pack->checkpoint, weight_name);
    const float *bias = st_weight(pack->checkpoint, "%s.bias", name);
    Linear linear = {.normed = normed, .fine = fine, .floor = lower};
    int8_t *levels = weight->levels ? NULL : st_array(st_product(outputs, inputs), 1);
    linear.bias = keep_floats(pack, bias, outputs);
    linear.scale = keep_floats(pack, NULL, outputs);
    if (!weight->levels && !levels) pack->failed = 1;
    if (!pack->failed) {
        float *scale = (float *)linear.scale.data;
        if (weight->levels) memcpy(scale, weight->values, sizeof *scale * (size_t)outputs);
        else st_weight_levels(weight->values, outputs, inputs, inputs, false, levels, scale);
        const float norm = (float)sqrt((double)inputs);
        for (int64_t n = 0; normed && n < outputs; n++) scale[n] = scale[n] * norm;
        linear.matrix = pack_levels(pack, weight->levels ? weight->levels : levels, outputs, inputs);
    }
    free(levels);
    return linear;
}

static const Block *pack_blocks(Packer *pack, const char *stack, int64_t depth, int64_t dim,
                                const StackConfig *config, int64_t *state_size) {
    const int64_t hidden = config->expansion * dim;
    Block *blocks = keep(pack, depth, sizeof *blocks);
    for (int64_t i = 0; i < depth && !pack->failed; i++) {
        char name[MAX_WEIGHT_NAME], layer[MAX_WEIGHT_NAME];
        const float *weight = st_weight(pack->checkpoint, "%s.blocks.%d.conv.weight", stack, (int)i);
        const float *bias = st_weight(pack->checkpoint, "%s.blocks.%d.conv.bias", stack, (int)i);
        snprintf(name, sizeof name, "%.40s.blocks.%d", stack, (int)i % 10000);
        blocks[i].dim = dim;
        blocks[i].kernel_size = config->kernel_size;
        blocks[i].weight = keep_floats(pack, weight, config->kernel_size * dim);
        blocks[i].bias = keep_floats(pack, bias, dim);
        snprintf(layer, sizeof layer, "%.50s.expand", name);
        blocks[i].expand = pack_linear(pack, layer, hidden, dim, 1, 0, 0.0f);
        snprintf(layer, sizeof layer, "%.50s.contract", name);
        blocks[i].contract = pack_linear(pack, layer, dim, hidden, 0, 0, 0.375f); /* the minimum of hard swish */
        *state_size += (config->kernel_size - 1) * dim;
    }
    return blocks;
}

/* quantizer.ResidualQuantizer.levels */
static Codebook pack_codebook(Packer *pack, const float *vectors, int64_t index) {
    const Config *c = &pack->checkpoint->config;
    const int64_t size = c->codebook_size, dim = c->latent_dim, first = c->semantic_dim, rest = dim - first;
    const int64_t compared = index || !first ? rest : first;
    Codebook codebook = {0};
    int8_t *levels = st_array(size * compared, 1);
    float *scales = st_array(size, sizeof *scales);
    codebook.squared_norms = keep_floats(pack, NULL, size);
    codebook.vectors = keep_floats(pack, NULL, size * rest);
    if (!levels || !scales) pack->failed = 1;
    if (!pack->failed) {
        st_weight_levels(vectors + (index ? first : 0), size, compared, dim, true, levels, scales);
        codebook.scale = 1.0f / scales[0] * 2.0f;
        for (int64_t n = 0; n < size; n++) {
            int32_t squares = 0; /* a sum of levels is bounded, see exact.py, and so is this one */
            for (int64_t k = 0; k < compared; k++) squares += levels[n * compared + k] * levels[n * compared + k];
            ((float *)codebook.squared_norms.data)[n] = (float)squares;
            memcpy((float *)codebook.vectors.data + n * rest, vectors + n * dim + first, sizeof(float) * (size_t)rest);
        }
        codebook.matrix = pack_levels(pack, levels, size, compared);
    }
    free(levels);
    free(scales);
    return codebook;
}

static void pack_encoder(Packer *pack) {
    const Config *c = &pack->checkpoint->config;
    const StackConfig *s = &c->encoder;
    const int64_t patches = c->hop_length / c->patch_length;
    Encoder *e = &pack->model->encoder;
    e->state_size = c->window_length - c->patch_length;
    e->patches_per_frame = patches;
    e->patch_length = c->patch_length;
    e->window_length = c->window_length;
    e->patch_depth = s->patch_depth;
    e->frame_depth = s->frame_depth;
    e->gain = 8.0f;
    e->embed = pack_linear(pack, "encoder.embed", s->patch_dim, c->window_length, 0, 1, 0.0f);
    e->merge = pack_linear(pack, "encoder.merge", s->frame_dim, patches * s->patch_dim, 0, 0, 0.0f);
    e->project = pack_linear(pack, "encoder.project", c->latent_dim, s->frame_dim, 1, 0, 0.0f);
    e->patch_blocks = pack_blocks(pack, "encoder.patch_blocks", s->patch_depth, s->patch_dim, s, &e->state_size);
    e->frame_blocks = pack_blocks(pack, "encoder.frame_blocks", s->frame_depth, s->frame_dim, s, &e->state_size);
    Codebook *codebooks = keep(pack, c->num_codebooks, sizeof *codebooks);
    const float *vectors = st_weight(pack->checkpoint, "quantizer.codebooks");
    for (int64_t q = 0; q < c->num_codebooks && !pack->failed; q++)
        codebooks[q] = pack_codebook(pack, vectors + q * c->codebook_size * c->latent_dim, q);
    e->quantizer = (Quantizer){c->num_codebooks, c->codebook_size, c->latent_dim, c->semantic_dim, codebooks,
                               (float)c->hold};
    e->state_size += c->hold ? HOLD_STATE : 0;
}

static speechtok_status pack_noise(Packer *pack) {
    const Config *c = &pack->checkpoint->config;
    if (!c->noise_bands || pack->failed) return SPEECHTOK_OK;
    const int64_t period = NOISE_PERIOD * c->patch_length;
    float *signs = st_array(period + NOISE_TAPS, sizeof *signs);
    const Floats table = keep_floats(pack, NULL, c->noise_bands * period);
    const int whole = !signs || pack->failed ||
                      st_noise_table(st_weight(pack->checkpoint, "decoder.noise.filters"), c->noise_bands, NOISE_TAPS,
                                     c->patch_length, signs, (float *)table.data);
    if (!signs) pack->failed = 1;
    free(signs);
    pack->model->decoder.noise = (Noise){c->noise_bands, NOISE_PERIOD, 1.0f / 2097152.0f, table};
    if (whole) return SPEECHTOK_OK;
    return st_fail(SPEECHTOK_BAD_FILE, "the filters of the noise are not whole numbers, or add up to more than 2**24");
}

static void pack_decoder(Packer *pack) {
    const Config *c = &pack->checkpoint->config;
    const StackConfig *s = &c->decoder;
    const int64_t patches = c->hop_length / c->patch_length, outputs = 2 * c->patch_length + 1 + c->noise_bands;
    Decoder *d = &pack->model->decoder;
    d->state_size = c->patch_length + (c->noise_bands > 0);
    d->patches_per_frame = patches;
    d->patch_length = c->patch_length;
    d->patch_depth = s->patch_depth;
    d->frame_depth = s->frame_depth;
    d->project = pack_linear(pack, "decoder.project", s->frame_dim, c->latent_dim, 0, 0, 0.0f);
    d->split = pack_linear(pack, "decoder.split", patches * s->patch_dim, s->frame_dim, 0, 0, 0.0f);
    d->head = pack_linear(pack, "decoder.head", outputs, s->patch_dim, 1, 1, 0.0f);
    d->frame_blocks = pack_blocks(pack, "decoder.frame_blocks", s->frame_depth, s->frame_dim, s, &d->state_size);
    d->patch_blocks = pack_blocks(pack, "decoder.patch_blocks", s->patch_depth, s->patch_dim, s, &d->state_size);
    d->window = keep_floats(pack, NULL, 2 * c->patch_length);
    if (!pack->failed) st_hann_window(d->window.size, (float *)d->window.data);
    const int64_t count = c->num_codebooks * c->codebook_size * c->latent_dim;
    d->dequantizer = (Dequantizer){c->num_codebooks, c->codebook_size, c->latent_dim,
                                   keep_floats(pack, st_weight(pack->checkpoint, "quantizer.codebooks"), count)};
}

/* What the modules of Python refuse, too, and what would make sizes overflow before they are checked. */
static int has_usable_widths(const Config *c) {
    const int64_t patches = c->hop_length / c->patch_length;
    const StackConfig *stacks[2] = {&c->encoder, &c->decoder};
    for (int i = 0; i < 2; i++) {
        const StackConfig *s = stacks[i];
        const int64_t widest = s->patch_dim > s->frame_dim ? s->patch_dim : s->frame_dim;
        if (s->expansion * widest > MAX_WIDTH || patches * s->patch_dim > MAX_WIDTH) return 0;
    }
    return 1;
}

speechtok_status st_make_model(const Checkpoint *checkpoint, Model **result) {
    *result = NULL;
    if (!has_usable_widths(&checkpoint->config))
        return st_fail(SPEECHTOK_BAD_CONFIG, "a layer is wider than %d, the most that exact sums allow", MAX_WIDTH);
    Packer pack = {checkpoint, st_array(1, sizeof *pack.model), 0};
    if (!pack.model) return st_no_memory();
    pack_encoder(&pack);
    pack_decoder(&pack);
    speechtok_status status = pack_noise(&pack);
    if (!status && pack.failed) status = st_no_memory();
    if (!status && (native_check_encoder(&pack.model->encoder) || native_check_decoder(&pack.model->decoder)))
        status = st_fail(SPEECHTOK_BAD_CONFIG, "its sizes are beyond those that this library computes");
    if (status) st_free_model(pack.model);
    else *result = pack.model;
    return status;
}

void st_free_model(Model *model) {
    if (!model) return;
    for (int64_t i = 0; i < model->count; i++) free(model->memory[i]);
    free(model->memory);
    free(model);
}

int64_t st_num_kernels(void) { return native_num_isas(); }

int64_t st_encoder_state_size(const Model *model) { return model->encoder.state_size; }

int64_t st_decoder_state_size(const Model *model) { return model->decoder.state_size; }

static speechtok_status as_status(int status, int64_t size) {
    if (!status) return SPEECHTOK_OK;
    if (status == NO_MEMORY) return st_no_memory();
    if (status == CODE_OUT_OF_RANGE)
        return st_fail(SPEECHTOK_BAD_ARGUMENT, "a code is out of range; expected 0 to %d", (int)size - 1);
    return st_fail(SPEECHTOK_BAD_ARGUMENT, "the arrays are too large for this machine");
}

speechtok_status st_model_encode(const Model *model, int64_t kernel, int64_t rows, int64_t frames,
                                 const float *waveform, int64_t waveform_stride, int64_t num_codebooks, float *state,
                                 int64_t *codes, const int64_t strides[3]) {
    const Encoder *e = &model->encoder;
    const int64_t states = rows * e->state_size, hop = e->patches_per_frame * e->patch_length;
    const int64_t samples = extent(rows, waveform_stride, frames * hop);
    const int64_t count = extent(rows, strides[0], extent(num_codebooks, strides[1], extent(frames, strides[2], 1)));
    return as_status(native_encode(kernel, e, rows, 0, 0, frames, waveform, samples, waveform_stride, num_codebooks,
                                   state, states, state, states, codes, count, strides),
                     e->quantizer.codebook_size);
}

speechtok_status st_model_decode(const Model *model, int64_t kernel, int64_t rows, int64_t frames,
                                 const int64_t *codes, const int64_t strides[3], int64_t num_codebooks, float *state,
                                 float *waveform, int64_t waveform_stride) {
    static const int64_t none[3] = {0};
    const Decoder *d = &model->decoder;
    const int64_t states = rows * d->state_size, hop = d->patches_per_frame * d->patch_length;
    const int64_t samples = extent(rows, waveform_stride, frames * hop);
    const int64_t *steps = codes ? strides : none, given = codes ? frames : 0;
    const int64_t count = extent(rows, steps[0], extent(num_codebooks, steps[1], extent(given, steps[2], 1)));
    return as_status(native_decode(kernel, d, rows, 0, 0, frames, codes, codes ? count : 0, steps,
                                   codes ? num_codebooks : 0, given, NULL, 0, state, states, state, states, waveform,
                                   samples, waveform_stride),
                     d->dequantizer.codebook_size);
}
