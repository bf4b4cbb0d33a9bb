/* Fuzzer of native.c at its boundary in C: random models, voice models, calls, streams and swaps.
 *
 * Every array is allocated for exactly the size that is claimed, so that a sanitizer notices any access outside of it.
 * All instruction sets must give the same bits; pieces of a signal must give the codes, audio and states of the whole;
 * and a call whose sizes do not fit must be refused. Run as: native_models COUNT SEED.
 */
#define SPEECHTOK_VOICE
#include "../../speechtok/nn/native/native.c"

#include <stdio.h>

static uint64_t random_state;

static uint64_t random_bits(void) { /* splitmix64 */
    uint64_t x = (random_state += 0x9E3779B97F4A7C15u);
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static int64_t between(int64_t minimum, int64_t maximum) {
    return minimum + (int64_t)(random_bits() % (uint64_t)(maximum - minimum + 1));
}

static int chance(int percent) { return between(1, 100) <= percent; }

/* Mostly small, seldom around the sizes of tiles and vectors. */
static int64_t width(void) { return chance(70) ? between(1, 9) : between(10, 140); }

static float normal(void) {
    float sum = -2.0f;
    for (int i = 0; i < 4; i++) sum += (float)(random_bits() >> 40) * 0x1p-24f;
    return 1.7f * sum;
}

/* Values of a model or signal: `wild` ones include whatever a float can be. */
static float value(int wild, float scale) {
    if (wild && chance(20)) {
        const uint32_t bits = (uint32_t)random_bits();
        const float special[] = {NAN, -NAN, INFINITY, -INFINITY, 3.4e38f, -3.4e38f, 1e-45f, -0.0f, 1e-30f, 1e19f};
        float any;
        memcpy(&any, &bits, 4);
        return chance(50) ? any : special[between(0, 9)];
    }
    return scale * normal();
}

static void *owned[4096];
static int num_owned;

static void *own(size_t bytes) {
    void *memory = malloc(bytes);
    if (!memory || num_owned == 4096) abort();
    return owned[num_owned++] = memory;
}

static void release(int from) {
    while (num_owned > from) free(owned[--num_owned]);
}

static float *new_floats(int64_t size, int wild, float scale) {
    float *data = own(sizeof(float) * (size_t)size);
    for (int64_t i = 0; i < size; i++) data[i] = value(wild, scale);
    return data;
}

static Floats floats(int64_t size, int wild, float scale) { return (Floats){new_floats(size, wild, scale), size}; }

static Matrix matrix(int64_t inputs, int64_t outputs) {
    const int64_t tiles = (outputs + TILE - 1) / TILE * TILE, width = padded(inputs);
    int8_t *levels = own((size_t)(tiles * width));
    int32_t *offset = own(sizeof(int32_t) * (size_t)tiles);
    const int extreme = chance(10);
    memset(levels, 0, (size_t)(tiles * width));
    memset(offset, 0, sizeof(int32_t) * (size_t)tiles);
    for (int64_t n = 0; n < outputs; n++)
        for (int64_t k = 0; k < inputs; k++) {
            const int level = (int)(extreme ? MAX_LEVEL * (2 * between(0, 1) - 1) : between(-MAX_LEVEL, MAX_LEVEL));
            levels[n / TILE * TILE * width + k / 4 * 4 * TILE + n % TILE * 4 + k % 4] = (int8_t)level;
            offset[n] += 128 * level;
        }
    return (Matrix){inputs, outputs, levels, offset, tiles * width, tiles};
}

static Linear linear_of(int64_t inputs, int64_t outputs, int normed, int fine, float floor, int wild) {
    const float scale = normed ? 0.01f : 0.01f / sqrtf((float)inputs);
    const Matrix m = matrix(inputs, outputs);
    return (Linear){m, normed, fine, floor, floats(outputs, wild, scale), floats(outputs, wild, 0.1f)};
}

static const Block *new_blocks(int64_t depth, int64_t dim, int wild, int64_t *state_size) {
    if (!depth) return NULL;
    Block *blocks = own(sizeof(Block) * (size_t)depth);
    for (int64_t i = 0; i < depth; i++) {
        const int64_t kernel_size = between(1, 6), hidden = width();
        blocks[i] = (Block){dim,
                            kernel_size,
                            floats(kernel_size * dim, wild, 0.4f),
                            floats(dim, wild, 0.1f),
                            linear_of(dim, hidden, 1, 0, 0.0f, wild),
                            linear_of(hidden, dim, 0, 0, 0.375f, wild)};
        *state_size += (kernel_size - 1) * dim;
    }
    return blocks;
}

typedef struct {
    Encoder encoder;
    Decoder decoder;
    int wild;
} Model;

static Model new_model(void) {
    const int wild = chance(30);
    const int64_t patch_length = between(1, 9), ppf = between(1, 4), window = patch_length + between(0, 20);
    const int64_t patch_dim = width(), frame_dim = width(), latent = chance(20) ? width() : between(2, 12);
    const int64_t semantic = chance(50) ? 0 : between(0, latent - 1), q = between(1, 3);
    const int64_t size = chance(30) ? between(60, 200) : between(1, 20);
    Model m = {.wild = wild};
    Encoder *e = &m.encoder;
    e->state_size = window - patch_length;
    e->patches_per_frame = ppf, e->patch_length = patch_length, e->window_length = window, e->gain = 8.0f;
    e->patch_depth = between(0, 2), e->frame_depth = between(0, 2);
    e->embed = linear_of(window, patch_dim, 0, 1, 0.0f, wild);
    e->merge = linear_of(ppf * patch_dim, frame_dim, 0, 0, 0.0f, wild);
    e->project = linear_of(frame_dim, latent, 1, 0, 0.0f, wild);
    e->patch_blocks = new_blocks(e->patch_depth, patch_dim, wild, &e->state_size);
    e->frame_blocks = new_blocks(e->frame_depth, frame_dim, wild, &e->state_size);
    Codebook *codebooks = own(sizeof(Codebook) * (size_t)q);
    for (int64_t s = 0; s < q; s++)
        codebooks[s] = (Codebook){matrix(s || !semantic ? latent - semantic : semantic, size), value(wild, 0.5f),
                                  floats(size, wild, 100.0f), floats(size * (latent - semantic), wild, 1.0f)};
    e->quantizer = (Quantizer){q, size, latent, semantic, codebooks, chance(50) ? (float)between(1, 1000) : 0.0f};
    e->state_size += e->quantizer.hold > 0.0f ? HOLD_STATE : 0;
    Decoder *d = &m.decoder;
    const int64_t bands = chance(40) ? between(1, 3) : 0, period = between(1, 9);
    d->state_size = patch_length + (bands > 0);
    d->patches_per_frame = ppf, d->patch_length = patch_length;
    d->patch_depth = between(0, 2), d->frame_depth = between(0, 2);
    d->project = linear_of(latent, frame_dim, 0, 0, 0.0f, wild);
    d->split = linear_of(frame_dim, ppf * patch_dim, 0, 0, 0.0f, wild);
    d->head = linear_of(patch_dim, 2 * patch_length + 1 + bands, 1, 1, 0.0f, wild);
    d->patch_blocks = new_blocks(d->patch_depth, patch_dim, wild, &d->state_size);
    d->frame_blocks = new_blocks(d->frame_depth, frame_dim, wild, &d->state_size);
    d->window = floats(2 * patch_length, wild, 1.0f);
    if (bands) d->noise = (Noise){bands, period, 0x1p-21f, floats(bands * period * patch_length, wild, 9999.0f)};
    d->dequantizer = (Dequantizer){q, size, latent, floats(q * size * latent, wild, 1.0f)};
    return m;
}

static const char *failure;

static void expect(int holds, const char *what) {
    if (!holds && !failure) failure = what;
}

static int same(const void *a, const void *b, int64_t bytes) { return !bytes || !memcmp(a, b, (size_t)bytes); }

/* One result of each kind, which may be the same memory for a state in and out. */
typedef struct {
    int64_t *codes;
    float *audio, *encoder_state, *decoder_state;
} Result;

static Result new_result(const Model *m, int64_t batch, int64_t frames, int64_t q, int64_t hop) {
    return (Result){own(8 * (size_t)(batch * frames * q)), own(4 * (size_t)(batch * frames * hop)),
                    own(4 * (size_t)(batch * m->encoder.state_size)), own(4 * (size_t)(batch * m->decoder.state_size))};
}

/* Encode and decode in pieces of at most `piece` frames, one after the other, from given states on. */
static void run(int64_t isa, const Model *m, int64_t batch, int64_t frames, int64_t piece, const float *signal,
                int64_t stride, int64_t q, const float *encoder_state, const float *decoder_state,
                const int64_t *lengths, Result r) {
    const Encoder *e = &m->encoder;
    const Decoder *d = &m->decoder;
    const int64_t hop = e->patch_length * e->patches_per_frame;
    const int64_t strides[] = {frames * q, 1, q}, samples = batch * frames * hop;
    copy(r.encoder_state, encoder_state, batch * e->state_size);
    copy(r.decoder_state, decoder_state, batch * d->state_size);
    for (int64_t t = 0; t < frames || t == 0; t += piece) { /* the states are read and written in place */
        const int64_t count = t + piece < frames ? piece : frames - t;
        const int64_t reach = batch ? (batch - 1) * stride + frames * hop - t * hop : 0;
        const int64_t codes_left = larger(0, batch * frames * q - t * q), audio_left = larger(0, samples - t * hop);
        int status = speechtok_encode(isa, e, batch, 0, 0, count, count ? signal + t * hop : NULL, count ? reach : 0,
                                      stride, q, r.encoder_state, batch * e->state_size, r.encoder_state,
                                      batch * e->state_size, count ? r.codes + t * q : NULL, count ? codes_left : 0,
                                      strides);
        expect(status == OK, "encode failed");
        int64_t left[4] = {0};
        for (int64_t b = 0; lengths && b < batch; b++) left[b] = lengths[b] - t;
        status = speechtok_decode(isa, d, batch, 0, 0, count, count ? r.codes + t * q : NULL,
                                  count ? codes_left : 0, strides, q, count, lengths ? left : NULL, batch,
                                  r.decoder_state, batch * d->state_size, r.decoder_state, batch * d->state_size,
                                  count ? r.audio + t * hop : NULL, count ? audio_left : 0, frames * hop);
        expect(status == OK, "decode failed");
    }
    for (int64_t i = 0; i < batch * frames * q; i++)
        expect(r.codes[i] >= 0 && r.codes[i] < e->quantizer.codebook_size, "a code is out of range");
}

static void compare(const Model *m, Result a, Result b, int64_t batch, int64_t frames, int64_t q, const char *what) {
    const int64_t hop = m->encoder.patch_length * m->encoder.patches_per_frame;
    expect(same(a.codes, b.codes, 8 * batch * frames * q) && same(a.audio, b.audio, 4 * batch * frames * hop) &&
               same(a.encoder_state, b.encoder_state, 4 * batch * m->encoder.state_size) &&
               same(a.decoder_state, b.decoder_state, 4 * batch * m->decoder.state_size),
           what);
}

/* A model that works: the same from all instruction sets and in pieces. */
static void use_model(const Model *m) {
    const int64_t batch = between(0, 3), frames = between(0, 5), q = between(1, m->encoder.quantizer.num_codebooks);
    const int64_t hop = m->encoder.patch_length * m->encoder.patches_per_frame, stride = frames * hop + between(0, 5);
    const float *signal = new_floats(batch && frames ? (batch - 1) * stride + frames * hop : 0, m->wild, 0.1f);
    const float *encoder_state = new_floats(batch * m->encoder.state_size, m->wild, 0.3f);
    float *decoder_state = new_floats(batch * m->decoder.state_size, m->wild, 0.3f);
    if (m->decoder.noise.bands && !m->wild) /* a position of the noise */
        for (int64_t b = 0; b < batch; b++)
            decoder_state[(b + 1) * m->decoder.state_size - 1] = (float)between(0, m->decoder.noise.period - 1);
    int64_t lengths[4];
    for (int b = 0; b < 4; b++)
        lengths[b] = m->wild ? (int64_t)(random_bits() >> between(1, 63)) - 9 : between(0, frames);
    const int64_t *some_lengths = chance(50) ? lengths : NULL;
    Result first = new_result(m, batch, frames, q, hop);
    for (int64_t isa = 0; isa < speechtok_num_isas(); isa++) {
        Result r = isa ? new_result(m, batch, frames, q, hop) : first;
        run(isa, m, batch, frames, frames + 1, signal, stride, q, encoder_state, decoder_state, some_lengths, r);
        Result pieces = new_result(m, batch, frames, q, hop);
        const int64_t piece = between(1, 3);
        run(isa, m, batch, frames, piece, signal, stride, q, encoder_state, decoder_state, some_lengths, pieces);
        if (!m->wild) { /* how NaN is rounded to a level is not defined */
            compare(m, r, first, batch, frames, q, "instruction sets differ");
            compare(m, pieces, first, batch, frames, q, "pieces differ from the whole");
        }
    }
}

static int64_t hostile(int64_t now) {
    const uint64_t n = (uint64_t)now; /* which may wrap */
    const uint64_t values[] = {0,         1,         UINT64_MAX, n + 1,     n - 1,         2 * n,         0 - n,
                               INT64_MAX, 1ull << 63, INT32_MAX,  1u << 31,  INT64_MAX / 4, INT64_MAX - 1, 1 << 16,
                               65537,     n + 64,    3,          4,         1ull << 60,    1ull << 32};
    return (int64_t)values[between(0, (int64_t)(sizeof(values) / sizeof(*values)) - 1)];
}

static void change(int64_t *number) { *number = hostile(*number); }

static int64_t smaller(int64_t size) {
    const int64_t other = hostile(size);
    return other < size ? larger(other, -9) : size - 1;
}

/* An array that is shorter than it should be. */
static void *shrink(const void *data, int64_t *size, int64_t item) {
    *size = smaller(*size);
    const size_t bytes = (size_t)(larger(*size, 0) * item);
    void *shorter = own(bytes);
    if (bytes) data ? memcpy(shorter, data, bytes) : memset(shorter, 0, bytes);
    return shorter;
}

static void shrink_floats(Floats *f) { f->data = shrink(f->data, &f->size, sizeof(float)); }

static void change_matrix(Matrix *m) {
    switch (between(0, 4)) {
    case 0: change(&m->inputs); break;
    case 1: change(&m->outputs); break;
    case 2: m->levels = shrink(m->levels, &m->levels_size, 1); break;
    case 3: m->offset = shrink(m->offset, &m->offset_size, sizeof(int32_t)); break;
    default: m->levels = NULL;
    }
}

static void change_linear(Linear *l) {
    switch (between(0, 4)) {
    case 0: shrink_floats(&l->scale); break;
    case 1: shrink_floats(&l->bias); break;
    case 2: l->fine = !l->fine; break; /* any values of these are fine */
    case 3: l->normed = (int64_t)random_bits(); break;
    default: change_matrix(&l->matrix);
    }
}

static void change_blocks(const Block **blocks, int64_t *depth) {
    if (*depth <= 0) return;
    Block *b = (Block *)*blocks + between(0, *depth - 1);
    switch (between(0, 6)) {
    case 0: change(&b->dim); break;
    case 1: change(&b->kernel_size); break;
    case 2: shrink_floats(&b->weight); break;
    case 3: shrink_floats(&b->bias); break;
    case 4: *depth = between(-1, *depth); break; /* the length of the array: more would be a lie */
    case 5: change_linear(&b->expand); break;
    default: change_linear(&b->contract);
    }
}

/* A model of which one size or address is wrong, or two. */
static void damage(Model *m) {
    Encoder *e = &m->encoder;
    Decoder *d = &m->decoder;
    Codebook *codebook = (Codebook *)e->quantizer.codebooks + between(0, larger(1, e->quantizer.num_codebooks) - 1);
    switch (between(0, 28)) {
    case 0: change(&e->state_size); break;
    case 1: change(&e->patches_per_frame); break;
    case 2: change(&e->patch_length); break;
    case 3: change(&e->window_length); break;
    case 4: change_linear(&e->embed); break;
    case 5: change_linear(&e->merge); break;
    case 6: change_linear(&e->project); break;
    case 7: change_blocks(&e->patch_blocks, &e->patch_depth); break;
    case 8: change_blocks(&e->frame_blocks, &e->frame_depth); break;
    case 9: e->quantizer.num_codebooks = between(-1, e->quantizer.num_codebooks); break;
    case 10: change(&e->quantizer.codebook_size); break;
    case 11: change(&e->quantizer.dim); break;
    case 12: change(&e->quantizer.semantic_dim); break;
    case 13: change_matrix(&codebook->matrix); break;
    case 14: shrink_floats(&codebook->squared_norms); break;
    case 15: shrink_floats(&codebook->vectors); break;
    case 16: change(&d->state_size); break;
    case 17: change(&d->patches_per_frame); break;
    case 18: change(&d->patch_length); break;
    case 19: change_linear(&d->project); break;
    case 20: change_linear(&d->split); break;
    case 21: change_linear(&d->head); break;
    case 22: change_blocks(&d->patch_blocks, &d->patch_depth); break;
    case 23: change_blocks(&d->frame_blocks, &d->frame_depth); break;
    case 24: change(chance(50) ? &d->noise.bands : &d->noise.period); break;
    case 25: shrink_floats(chance(50) ? &d->noise.table : &d->window); break;
    case 26: shrink_floats(&d->dequantizer.vectors); break;
    case 27: e->quantizer.hold = value(1, 1000.0f); break;
    default: change(chance(50) ? &d->dequantizer.codebook_size : &d->dequantizer.num_codebooks);
    }
}

static int64_t num_accepted, num_refused;

/* Calls with one or two wrong arguments, with memory for the model that was there before. No count claims too much. */
static void misuse(const Model *m, const Model *previous, int broken) {
    const Encoder *e = &previous->encoder;
    const Decoder *d = &previous->decoder;
    const int64_t batch = between(0, 3), frames = between(0, 4), q = between(1, e->quantizer.num_codebooks);
    const int64_t hop = e->patch_length * e->patches_per_frame, samples = batch * frames * hop;
    int64_t audio_count = samples, codes_count = batch * frames * q, lengths_count = batch;
    int64_t encoder_counts[] = {batch * e->state_size, batch * e->state_size};
    int64_t decoder_counts[] = {batch * d->state_size, batch * d->state_size};
    int64_t *counts[] = {&audio_count,       &codes_count,       &lengths_count,    encoder_counts,
                         encoder_counts + 1, decoder_counts + 1, decoder_counts};
    int64_t strides[] = {frames * q, frames, 1}, isa = between(0, speechtok_num_isas() - 1);
    int64_t a[] = {batch, 0, 0, frames, frames * hop, q, frames}; /* batch, start, first, stop, stride, Q, num_frames */
    if (chance(30)) a[1] = between(0, frames), a[2] = between(a[1], frames);
    for (int64_t i = broken ? chance(30) : between(1, 2); i; i--) {
        int64_t *count = counts[between(0, 6)];
        switch (between(0, 3)) {
        case 0: change(a + between(0, 6)); break;
        case 1: *count = smaller(*count); break;
        case 2: change(strides + between(0, 2)); break;
        default:
            if (chance(10)) change(&isa);
        }
    }
    float *audio = new_floats(larger(audio_count, 0), 1, 1.0f);
    float *before = new_floats(larger(encoder_counts[0], 0), 1, 1.0f), *after = before;
    float *decoder_before = new_floats(larger(decoder_counts[0], 0), 1, 1.0f), *decoder_after = decoder_before;
    if (chance(20)) { /* overlapping states */
        const int64_t shift = between(0, 2);
        after += larger(0, encoder_counts[0] < shift ? encoder_counts[0] : shift);
        decoder_after += larger(0, decoder_counts[0] < shift ? decoder_counts[0] : shift);
        encoder_counts[1] = encoder_counts[0] - (after - before);
        decoder_counts[1] = decoder_counts[0] - (decoder_after - decoder_before);
    } else {
        after = new_floats(larger(encoder_counts[1], 0), 0, 1.0f);
        decoder_after = new_floats(larger(decoder_counts[1], 0), 0, 1.0f);
    }
    int64_t *codes = own(8 * (size_t)larger(codes_count, 0)), *lengths = own(8 * (size_t)larger(lengths_count, 0));
    for (int64_t b = 0; b < lengths_count; b++) lengths[b] = hostile(frames);
    int status = speechtok_encode(isa, &m->encoder, a[0], a[1], a[2], a[3], audio, audio_count, a[4], a[5], before,
                                  encoder_counts[0], after, encoder_counts[1], codes, codes_count, strides);
    status == OK ? num_accepted++ : num_refused++;
    const int wrong = chance(20);
    for (int64_t i = 0; i < codes_count; i++)
        codes[i] = wrong && chance(20) ? hostile(0) : between(0, e->quantizer.codebook_size - 1);
    status = speechtok_decode(isa, &m->decoder, a[0], a[1], a[2], a[3], codes, codes_count, strides, a[5], a[6],
                              chance(50) ? lengths : NULL, lengths_count, decoder_before, decoder_counts[0],
                              decoder_after, decoder_counts[1], audio, audio_count, a[4]);
    status == OK ? num_accepted++ : num_refused++;
}

/* --- voice models */

static Voice new_voice(int wild) {
    const int64_t heads = between(1, 3), dim = heads * between(1, 12), depth = between(1, 2), head_depth = between(1, 2);
    const int64_t window = chance(80) ? between(1, 9) : between(10, 70), latent = width();
    VoiceBlock *blocks = own(sizeof(VoiceBlock) * (size_t)depth);
    for (int64_t l = 0; l < depth; l++) {
        const int64_t hidden = width();
        blocks[l] = (VoiceBlock){linear_of(dim, 3 * dim, 1, 0, 0.0f, wild), linear_of(dim, dim, 0, 0, 0.0f, wild),
                                 linear_of(dim, 2 * hidden, 1, 0, 0.0f, wild), linear_of(hidden, dim, 0, 0, 0.0f, wild),
                                 floats(heads, wild, 8.0f)};
    }
    VoiceLayer *layers = own(sizeof(VoiceLayer) * (size_t)head_depth);
    for (int64_t l = 0; l < head_depth; l++)
        layers[l] = (VoiceLayer){linear_of(dim, 2 * dim, 0, 0, 0.0f, wild), linear_of(dim, dim, 0, 0, 0.0f, wild)};
    return (Voice){dim,
                   depth,
                   heads,
                   window,
                   latent,
                   head_depth,
                   blocks,
                   floats(heads * window, wild, 1.0f),
                   floats(heads, wild, 1.0f),
                   linear_of(dim, (3 * head_depth + 2) * dim, 1, 0, 0.0f, wild),
                   linear_of(latent, dim, 0, 0, 0.0f, wild),
                   linear_of(dim, latent, 0, 0, 0.0f, wild),
                   layers};
}

static int8_t *new_levels(int64_t size) {
    int8_t *levels = own((size_t)size);
    for (int64_t i = 0; i < size; i++) levels[i] = (int8_t)between(-MAX_LEVEL, MAX_LEVEL);
    return levels;
}

/* Keys and values of `frames` frames, with room for `room`. */
static VoicePast new_past(const Voice *v, int64_t rows, int64_t room, int64_t frames, int wild) {
    const int64_t factors = v->depth * rows * v->heads * room, vectors = factors * (v->dim / v->heads);
    return (VoicePast){new_levels(vectors),
                       new_levels(vectors),
                       new_floats(factors, wild, 0.1f),
                       new_floats(factors, wild, 0.1f),
                       vectors,
                       factors,
                       room,
                       frames};
}

static VoicePast copy_past(const VoicePast *p) {
    VoicePast result = *p;
    result.keys = memcpy(own((size_t)p->vectors_size), p->keys, (size_t)p->vectors_size);
    result.values = memcpy(own((size_t)p->vectors_size), p->values, (size_t)p->vectors_size);
    result.key_factors = memcpy(own(4 * (size_t)p->factors_size), p->key_factors, 4 * (size_t)p->factors_size);
    result.value_factors = memcpy(own(4 * (size_t)p->factors_size), p->value_factors, 4 * (size_t)p->factors_size);
    return result;
}

/* All that a frame takes. */
typedef struct {
    int64_t flows, groups, steps, frames;
    VoicePast past, prompt;
    int has_prompt;
    uint8_t *heard;
    float *x, *noise, *times, *guidance; /* x and noise of all frames */
} VoiceCall;

static VoiceCall new_voice_call(const Voice *v, int wild) {
    VoiceCall c = {.flows = between(1, 2), .groups = between(1, 3), .steps = between(0, 3), .frames = between(1, 12)};
    const int64_t rows = c.flows * c.groups, old = between(0, 9), begun = between(0, 4);
    c.past = new_past(v, rows, begun + c.frames + between(0, 2), begun, wild);
    c.prompt = new_past(v, rows, larger(1, old) + between(0, 2), old, wild);
    c.has_prompt = chance(70);
    c.heard = own((size_t)(rows * old));
    for (int64_t i = 0; i < rows * old; i++) c.heard[i] = (uint8_t)(chance(50) ? chance(50) : between(0, 255));
    c.x = new_floats(c.frames * rows * v->dim, wild, 1.0f);
    c.noise = new_floats(c.frames * c.flows * v->latent_dim, wild, 1.0f);
    c.times = new_floats(c.steps * (3 * v->head_depth + 2) * v->dim, wild, 0.1f);
    c.guidance = new_floats(c.groups - 1, wild, 1.0f);
    return c;
}

/* A voice model that works: the same frames from all instruction sets. */
static void use_voice(const Voice *v, int wild) {
    const VoiceCall c = new_voice_call(v, wild);
    const int64_t rows = c.flows * c.groups, width = (3 * v->head_depth + 2) * v->dim;
    float *x[8], *latent[8];
    VoicePast past[8];
    for (int64_t isa = 0; isa < speechtok_num_isas(); isa++) {
        x[isa] = own(4 * (size_t)(c.frames * rows * v->dim));
        latent[isa] = own(4 * (size_t)(c.frames * c.flows * v->latent_dim));
        copy(x[isa], c.x, c.frames * rows * v->dim);
        copy(latent[isa], c.noise, c.frames * c.flows * v->latent_dim);
        past[isa] = copy_past(&c.past);
        for (int64_t t = 0; t < c.frames; t++) {
            const int status = speechtok_voice(
                isa, v, rows, c.flows, x[isa] + t * rows * v->dim, rows * v->dim, &past[isa], c.has_prompt ? &c.prompt : NULL,
                c.heard, rows * c.prompt.frames, latent[isa] + t * c.flows * v->latent_dim, c.flows * v->latent_dim, c.times,
                c.steps * width, c.steps, c.guidance, c.groups - 1);
            expect(status == OK, "a frame of a voice failed");
        }
        expect(past[isa].frames == c.past.frames + c.frames, "a frame was not counted");
        if (wild || !isa) continue; /* how NaN is rounded to a level is not defined */
        expect(same(x[isa], x[0], 4 * c.frames * rows * v->dim) &&
                   same(latent[isa], latent[0], 4 * c.frames * c.flows * v->latent_dim) &&
                   same(past[isa].keys, past[0].keys, c.past.vectors_size) &&
                   same(past[isa].values, past[0].values, c.past.vectors_size) &&
                   same(past[isa].key_factors, past[0].key_factors, 4 * c.past.factors_size) &&
                   same(past[isa].value_factors, past[0].value_factors, 4 * c.past.factors_size),
               "instruction sets differ in a voice");
    }
}

/* A voice model of which one size or address is wrong. */
static void damage_voice(Voice *v) {
    VoiceBlock *block = (VoiceBlock *)v->blocks + between(0, v->depth - 1);
    VoiceLayer *layer = (VoiceLayer *)v->layers + between(0, v->head_depth - 1);
    switch (between(0, 14)) {
    case 0: change(&v->dim); break;
    case 1: v->depth = between(-1, v->depth); break; /* the length of the array: more would be a lie */
    case 2: change(&v->heads); break;
    case 3: change(&v->window); break;
    case 4: change(&v->latent_dim); break;
    case 5: v->head_depth = between(-1, v->head_depth); break;
    case 6: shrink_floats(chance(50) ? &v->distance_bias : &v->prompt_bias); break;
    case 7: change_linear(&v->modulate); break;
    case 8: change_linear(&v->head_enter); break;
    case 9: change_linear(&v->head_leave); break;
    case 10: change_linear(chance(50) ? &layer->expand : &layer->contract); break;
    case 11: change_linear(&block->enter); break;
    case 12: change_linear(&block->leave); break;
    case 13: change_linear(chance(50) ? &block->expand : &block->contract); break;
    default: shrink_floats(&block->gain);
    }
}

static void shrink_past(VoicePast *p) {
    switch (between(0, 4)) {
    case 0: p->keys = shrink(p->keys, &p->vectors_size, 1); p->values = shrink(p->values, &p->vectors_size, 1); break;
    case 1:
        p->key_factors = shrink(p->key_factors, &p->factors_size, 4);
        p->value_factors = shrink(p->value_factors, &p->factors_size, 4);
        break;
    case 2: change(&p->room); break;
    case 3: change(&p->frames); break;
    default: p->keys = NULL;
    }
}

/* A frame with a wrong argument or two, with memory for the voice model that was there before. */
static void misuse_voice(const Voice *v, const Voice *previous, int broken) {
    VoiceCall c = new_voice_call(previous, 1);
    const int64_t rows = c.flows * c.groups;
    int64_t counts[] = {rows * previous->dim, rows * c.prompt.frames, c.flows * previous->latent_dim,
                        c.steps * (3 * previous->head_depth + 2) * previous->dim, c.groups - 1};
    void *arrays[] = {c.x, c.heard, c.noise, c.times, c.guidance};
    const int64_t items[] = {4, 1, 4, 4, 4};
    int64_t a[] = {rows, c.flows, c.steps}, isa = between(0, speechtok_num_isas() - 1);
    for (int64_t i = broken ? chance(30) : between(1, 2); i; i--) {
        const int64_t which = between(0, 4);
        switch (between(0, 3)) {
        case 0: change(a + between(0, 2)); break;
        case 1: arrays[which] = shrink(arrays[which], counts + which, items[which]); break;
        case 2: shrink_past(chance(50) ? &c.past : &c.prompt); break;
        default:
            if (chance(10)) change(&isa);
        }
    }
    const int status = speechtok_voice(isa, v, a[0], a[1], arrays[0], counts[0], &c.past, c.has_prompt ? &c.prompt : NULL,
                                       arrays[1], counts[1], arrays[2], counts[2], arrays[3], counts[3], a[2], arrays[4],
                                       counts[4]);
    status == OK ? num_accepted++ : num_refused++;
}

static void use_voices(void) {
    const int wild = chance(30);
    Voice v = new_voice(wild);
    expect(speechtok_check_voice(&v) == OK, "a voice model is refused");
    use_voice(&v, wild);
    misuse_voice(&v, &v, 0);
    const Voice other = new_voice(wild);
    misuse_voice(&other, &v, 0);
    Voice broken = v;
    damage_voice(&broken);
    misuse_voice(&broken, chance(80) ? &v : &other, 1);
}

int main(int argc, char **argv) {
    const int64_t count = argc > 1 ? atoll(argv[1]) : 1000, seed = argc > 2 ? atoll(argv[2]) : 0;
    expect(speechtok_check_encoder(NULL) == BAD_MODEL && speechtok_check_decoder(NULL) == BAD_MODEL, "NULL is a model");
    expect(speechtok_check_voice(NULL) == BAD_MODEL, "NULL is a voice model");
    for (int64_t i = 0; i < count && !failure; i++) {
        random_state = (uint64_t)seed * 0x2545F4914F6CDD1Du + (uint64_t)i * 0x9E3779B97F4A7C15u;
        Model m = new_model();
        expect(speechtok_check_encoder(&m.encoder) == OK, "an encoder is refused");
        expect(speechtok_check_decoder(&m.decoder) == OK, "a decoder is refused");
        use_model(&m);
        misuse(&m, &m, 0);
        Model other = new_model(); /* a swap of all layers, while the caller keeps the memory for the old ones */
        misuse(&other, &m, 0);
        if (chance(50)) { /* of some layers */
            Model mixed = m;
            switch (between(0, 5)) {
            case 0: mixed.encoder.patch_blocks = other.encoder.patch_blocks; break;
            case 1: mixed.encoder.quantizer = other.encoder.quantizer; break;
            case 2: mixed.decoder.dequantizer = other.decoder.dequantizer; break;
            case 3: mixed.decoder.noise = other.decoder.noise; break;
            case 4: mixed.decoder.head = other.decoder.head; break;
            default: mixed.encoder.merge = other.encoder.merge;
            }
            const int64_t depth = other.encoder.patch_depth;
            mixed.encoder.patch_depth = mixed.encoder.patch_depth < depth ? mixed.encoder.patch_depth : depth;
            misuse(&mixed, &m, 1);
        }
        Model broken = m;
        for (int64_t n = between(1, 2); n; n--) damage(&broken);
        misuse(&broken, chance(80) ? &m : &other, 1);
        release(0);
        use_voices();
        release(0);
        if (failure) printf("model %lld of seed %lld: %s\n", (long long)i, (long long)seed, failure);
    }
    if (failure) return 1;
    printf("%lld models on %lld instruction sets; calls of wrong sizes or swapped layers: %lld accepted, %lld refused\n",
           (long long)count, (long long)speechtok_num_isas(), (long long)num_accepted, (long long)num_refused);
    return 0;
}
