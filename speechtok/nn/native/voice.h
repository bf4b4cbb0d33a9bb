/* The network of a voice model in compiled code: voice/steps.py, operation by operation, so that the results are equal to
 * the bit. A part of native.c, which includes it where the package is built; libspeechtok has no voices. */

enum { MAX_GUIDANCE = 8 };
enum { MAX_PAST = 1024 }; /* frames that one frame attends to: with them, sums of shares and values fit 32 bits */

typedef struct { /* network.Block, with the gain of the queries of each head */
    Linear enter, leave, expand, contract;
    Floats gain;
} VoiceBlock;

typedef struct { /* a layer of network.FlowHead */
    Linear expand, contract;
} VoiceLayer;

typedef struct {
    int64_t dim, depth, heads, window, latent_dim, head_depth;
    const VoiceBlock *blocks;          /* [depth] */
    Floats distance_bias, prompt_bias; /* [H][window], of the frame itself first; [H] */
    Linear modulate, head_enter, head_leave;
    const VoiceLayer *layers; /* [head_depth] */
} Voice;

typedef struct { /* keys and values of `frames` frames: levels [L][R][H][room][C], and factors [L][R][H][room] */
    int8_t *keys, *values;
    float *key_factors, *value_factors;
    int64_t vectors_size, factors_size, room, frames;
} VoicePast;

/* steps.exp2 */
INLINE float exp2_of(float x) {
    static const float coefficients[] = {0.00015404f, 0.00133336f, 0.00961813f, 0.05550411f,
                                         0.24022651f, 0.69314718f, 1.0f};
    x = x > -126.0f ? x : -126.0f; /* NaN, too */
    x = x < 0.0f ? x : 0.0f;
    const float whole = floorf(x), part = x - whole;
    float result = coefficients[0];
    for (int i = 1; i < 7; i++) result = result * part + coefficients[i];
    const int32_t bits = ((int32_t)whole + 127) * (1 << 23);
    float power;
    memcpy(&power, &bits, 4);
    return result * power;
}

/* exact.to_levels with fine levels, which 16 bits hold. Returns their scale. */
INLINE float to_fine_levels(const float *x, int64_t count, int16_t *levels) {
    int32_t peak = bits_of(1e-30f);
    for (int64_t i = 0; i < count; i++) {
        const int32_t bits = bits_of(x[i]) & 0x7fffffff;
        peak = bits > peak ? bits : peak;
    }
    float scale;
    memcpy(&scale, &peak, 4);
    scale = scale * (float)(1.0 / (FINE_FACTOR * MAX_LEVEL));
    for (int64_t i = 0; i < count; i++) levels[i] = (int16_t)(uint16_t)bits_of(x[i] / scale + ROUNDING);
    return scale;
}

/* steps._normed of one row, times (scale + 1), plus shift. */
INLINE void normed(const float *x, int64_t dim, const float *scale, const float *shift, int16_t *levels, float *out) {
    to_fine_levels(x, dim, levels);
    int64_t squares = 0;
    for (int64_t i = 0; i < dim; i++) squares += (int32_t)levels[i] * levels[i];
    const float root = (float)sqrt((double)squares);
    const float factor = 1.0f / (root > 1.0f ? root : 1.0f) * (float)sqrt((double)dim);
    for (int64_t i = 0; i < dim; i++) out[i] = (float)levels[i] * factor * (scale[i] + 1.0f) + shift[i];
}

/* Memory of one call. */
typedef struct {
    float *wide;     /* [R][max(3 * D, 2 * hidden)] */
    float *mixed;    /* [R][max(D, hidden)] */
    float *scores;   /* [MAX_PAST] */
    float *weights;  /* [MAX_PAST] */
    float *factors;  /* [MAX_PAST] of the values */
    int32_t *sums;   /* [C] */
    int16_t *shares; /* [max(MAX_PAST, D)] */
} VoiceMemory;

/* steps._attention of one head: scores of some frames, whose keys are `size` levels each. Returns the largest. */
INLINE float score_frames(const int8_t *query, float factor, const int8_t *keys, const float *key_factors, int64_t frames,
                          int64_t size, const float *bias, int64_t bias_step, float *scores, float largest) {
    for (int64_t t = 0; t < frames; t++) {
        int32_t sum = 0;
        for (int64_t c = 0; c < size; c++) sum += (int32_t)query[c] * keys[t * size + c];
        const float score = (float)sum * factor * key_factors[t] + bias[t * bias_step];
        scores[t] = score;
        largest = score > largest ? score : largest;
    }
    return largest;
}

/* steps.ExactSteps.advance after the embedding: updates x, [R][D], and appends the frame to `past`. `heard`, [R][P], says
 * which frames of the prompt each row hears. */
INLINE void voice_advance(const Voice *v, int64_t rows, float *x, VoicePast *past, const VoicePast *prompt,
                          const uint8_t *heard, VoiceMemory *memory, Workspace *work) {
    const int64_t dim = v->dim, heads = v->heads, size = dim / heads, at = past->frames;
    const int64_t start = at + 1 > v->window ? at + 1 - v->window : 0, own = at + 1 - start;
    const int64_t old = prompt ? prompt->frames : 0, count = old + own;
    for (int64_t l = 0; l < v->depth; l++) {
        const VoiceBlock *block = v->blocks + l;
        work->isa->linear(&block->enter, x, dim, rows, 0, memory->wide, work);
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t h = 0; h < heads; h++) {
                const float *given = memory->wide + 3 * r * dim + h * size;
                const int64_t head = (l * rows + r) * heads + h;
                int8_t *keys = past->keys + head * past->room * size, *values = past->values + head * past->room * size;
                float *key_factors = past->key_factors + head * past->room;
                float *value_factors = past->value_factors + head * past->room;
                int8_t *query = work->coarse;
                const float factor =
                    to_levels(given, size, 1, 0, 0.0f, query, query) * block->gain.data[h];
                int8_t *key = query + padded(size);
                key_factors[at] = to_levels(given + dim, size, 1, 0, 0.0f, key, key);
                memcpy(keys + at * size, key, (size_t)size);
                value_factors[at] = to_levels(given + 2 * dim, size, 0, 0, 0.0f, key, key);
                memcpy(values + at * size, key, (size_t)size);

                float largest = -INFINITY;
                const int64_t prompt_head = head * (prompt ? prompt->room : 0);
                if (old) {
                    largest = score_frames(query, factor, prompt->keys + prompt_head * size,
                                           prompt->key_factors + prompt_head, old, size, v->prompt_bias.data + h, 0,
                                           memory->scores, largest);
                    largest = -INFINITY;
                    for (int64_t t = 0; t < old; t++) {
                        if (!heard[r * old + t]) memory->scores[t] = -INFINITY;
                        largest = memory->scores[t] > largest ? memory->scores[t] : largest;
                    }
                    copy(memory->factors, prompt->value_factors + prompt_head, old);
                }
                largest = score_frames(query, factor, keys + start * size, key_factors + start, own, size,
                                       v->distance_bias.data + h * v->window + own - 1, -1, memory->scores + old, largest);
                copy(memory->factors + old, value_factors + start, own);
                for (int64_t t = 0; t < count; t++)
                    memory->weights[t] = exp2_of((memory->scores[t] - largest) * 1.4426950408889634f);
                to_fine_levels(memory->weights, count, memory->shares);
                int32_t total = 0;
                for (int64_t t = 0; t < count; t++) total += memory->shares[t];
                for (int64_t t = 0; t < count; t++) memory->weights[t] = memory->weights[t] * memory->factors[t];
                const float scale = to_fine_levels(memory->weights, count, memory->shares);
                memset(memory->sums, 0, sizeof(int32_t) * (size_t)size);
                for (int64_t t = 0; t < count; t++) {
                    const int32_t share = memory->shares[t];
                    const int8_t *value = t < old ? prompt->values + (prompt_head + t) * size : values + (start + t - old) * size;
                    for (int64_t c = 0; c < size; c++) memory->sums[c] += share * value[c];
                }
                const float whole = scale * (float)(FINE_FACTOR * MAX_LEVEL) / (float)total;
                float *mixed = memory->mixed + r * dim + h * size;
                for (int64_t c = 0; c < size; c++) mixed[c] = (float)memory->sums[c] * whole;
            }
        }
        work->isa->linear(&block->leave, memory->mixed, dim, rows, 0, memory->wide, work);
        for (int64_t i = 0; i < rows * dim; i++) x[i] = x[i] + memory->wide[i];
        const int64_t hidden = block->contract.matrix.inputs;
        work->isa->linear(&block->expand, x, dim, rows, 0, memory->wide, work);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < hidden; i++)
                memory->mixed[r * hidden + i] =
                    memory->wide[2 * r * hidden + i] * hardswish(memory->wide[(2 * r + 1) * hidden + i]);
        work->isa->linear(&block->contract, memory->mixed, hidden, rows, 0, memory->wide, work);
        for (int64_t i = 0; i < rows * dim; i++) x[i] = x[i] + memory->wide[i];
    }
    past->frames = at + 1;
}

/* steps.ExactSteps.velocity: x, [R][A], to the velocity, [R][A]; `hidden` is [R][D]. */
INLINE void voice_velocity(const Voice *v, int64_t rows, const float *x, const float *modulation, float *hidden,
                           float *velocity, VoiceMemory *memory, Workspace *work) {
    const int64_t dim = v->dim, width = (3 * v->head_depth + 2) * dim;
    work->isa->linear(&v->head_enter, x, v->latent_dim, rows, 0, hidden, work);
    for (int64_t l = 0; l < v->head_depth; l++) {
        const float *parts = modulation + 3 * l * dim;
        for (int64_t r = 0; r < rows; r++)
            normed(hidden + r * dim, dim, parts + r * width + dim, parts + r * width, memory->shares,
                   memory->mixed + r * dim);
        work->isa->linear(&v->layers[l].expand, memory->mixed, dim, rows, 0, memory->wide, work);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < dim; i++)
                memory->mixed[r * dim + i] = memory->wide[2 * r * dim + i] * hardswish(memory->wide[(2 * r + 1) * dim + i]);
        work->isa->linear(&v->layers[l].contract, memory->mixed, dim, rows, 0, memory->wide, work);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < dim; i++)
                hidden[r * dim + i] =
                    hidden[r * dim + i] + parts[r * width + 2 * dim + i] * memory->wide[r * dim + i];
    }
    for (int64_t r = 0; r < rows; r++) {
        const float *last = modulation + r * width + 3 * v->head_depth * dim;
        normed(hidden + r * dim, dim, last + dim, last, memory->shares, memory->mixed + r * dim);
    }
    work->isa->linear(&v->head_leave, memory->mixed, dim, rows, 0, velocity, work);
}

static int past_fits(const VoicePast *p, const Voice *v, int64_t rows) {
    const int64_t factors = multiply_add(multiply_add(multiply_add(v->depth, rows, 0), v->heads, 0), p->room, 0);
    return in_range(p->room, 1, 2 * MAX_PAST) && in_range(p->frames, 0, p->room) && p->keys && p->values &&
           p->key_factors && p->value_factors && factors >= 0 && p->factors_size >= factors &&
           p->vectors_size >= multiply_add(factors, v->dim / v->heads, 0);
}

static int voice_fits(const Voice *v) {
    if (!v || !in_range(v->dim, 1, 1 << 12) || !in_range(v->depth, 1, MAX_DEPTH) || !in_range(v->heads, 1, v->dim) ||
        v->dim % v->heads || v->dim / v->heads > MAX_PAST || !in_range(v->window, 1, MAX_PAST) ||
        !in_range(v->latent_dim, 1, MAX_WIDTH) || !in_range(v->head_depth, 1, MAX_DEPTH) || !v->blocks || !v->layers ||
        !floats_fit(&v->distance_bias, v->heads * v->window) || !floats_fit(&v->prompt_bias, v->heads) ||
        !linear_fits(&v->modulate, v->dim, (3 * v->head_depth + 2) * v->dim) ||
        !linear_fits(&v->head_enter, v->latent_dim, v->dim) || !linear_fits(&v->head_leave, v->dim, v->latent_dim))
        return 0;
    for (int64_t l = 0; l < v->depth; l++) {
        const VoiceBlock *b = v->blocks + l;
        const int64_t hidden = b->contract.matrix.inputs;
        if (!in_range(hidden, 1, 1 << 14) || !linear_fits(&b->enter, v->dim, 3 * v->dim) ||
            !linear_fits(&b->leave, v->dim, v->dim) || !linear_fits(&b->expand, v->dim, 2 * hidden) ||
            !linear_fits(&b->contract, hidden, v->dim) || !floats_fit(&b->gain, v->heads))
            return 0;
    }
    for (int64_t l = 0; l < v->head_depth; l++)
        if (!linear_fits(&v->layers[l].expand, v->dim, 2 * v->dim) ||
            !linear_fits(&v->layers[l].contract, v->dim, v->dim))
            return 0;
    return 1;
}

/* Generate one frame: the condition of the head, and the flow. */
#define VOICE_ARGUMENTS \
    const Voice *v, int64_t rows, int64_t flows, float *x, int64_t x_count, VoicePast *past, const VoicePast *prompt, \
        const uint8_t *heard, int64_t heard_count, float *latent, int64_t latent_count, const float *times, \
        int64_t times_count, int64_t steps, const float *guidance, int64_t guidance_count
#define VOICE_VALUES \
    v, rows, flows, x, x_count, past, prompt, heard, heard_count, latent, latent_count, times, times_count, steps, \
        guidance, guidance_count

static int check_voice(VOICE_ARGUMENTS) {
    if (!voice_fits(v)) return BAD_MODEL;
    const int64_t width = (3 * v->head_depth + 2) * v->dim;
    const int fits = in_range(rows, 1, 1 << 14) && in_range(flows, 0, rows) && in_range(guidance_count, 0, MAX_GUIDANCE) &&
                     (flows == 0 || (flows * (guidance_count + 1) == rows && (guidance || !guidance_count))) &&
                     has_room(x, x_count, multiply_add(rows, v->dim, 0)) && past && past_fits(past, v, rows) &&
                     past->frames < past->room && (!prompt || past_fits(prompt, v, rows)) &&
                     (!prompt || (prompt->frames <= MAX_PAST - v->window &&
                                  has_room(heard, heard_count, multiply_add(rows, prompt->frames, 0)))) &&
                     in_range(steps, 0, 1 << 10) && has_room(latent, latent_count, multiply_add(flows, v->latent_dim, 0)) &&
                     has_room(times, times_count, multiply_add(steps, width, 0));
    return fits ? OK : BAD_CALL;
}

/* `x`, [R][D], is the input of a frame, and becomes the condition. `latent`, [F][A], is noise, and becomes the latent; rows
 * F to 2 F - 1 are the same flows and are told less, and so on: `guidance`, [R / F - 1], says how far each F rows are
 * followed beyond the next ones. 0 flows only read a prompt. `times`, [S][M], is the modulation by the time of each step. */
INLINE int voice_frame(VOICE_ARGUMENTS, const Isa *isa) {
    const int status = check_voice(VOICE_VALUES);
    if (status) return status;
    const int64_t dim = v->dim, size = dim / v->heads, latent_dim = v->latent_dim;
    const int64_t width = (3 * v->head_depth + 2) * dim;
    int64_t hidden = dim;
    for (int64_t l = 0; l < v->depth; l++) hidden = larger(hidden, v->blocks[l].contract.matrix.inputs);
    Workspace work = {.isa = isa};
    const int64_t inputs = larger(larger(hidden, latent_dim), 2 * padded(size));
    if (allocate(&work, rows, inputs, 0, 0)) return NO_MEMORY;
    const int64_t row_floats = larger(3 * dim, 2 * hidden) + hidden + 2 * width + dim + 2 * latent_dim;
    const int64_t floats = multiply_add(rows, row_floats, 3 * MAX_PAST);
    const int64_t bytes = 4 * floats + 4 * size + 2 * larger(MAX_PAST, dim);
    float *room = malloc((size_t)bytes);
    if (!room) {
        free(work.hidden);
        return NO_MEMORY;
    }
    VoiceMemory memory;
    memory.wide = room;
    memory.mixed = memory.wide + rows * larger(3 * dim, 2 * hidden);
    float *modulation = memory.mixed + rows * hidden, *both = modulation + rows * width;
    float *state = both + rows * width, *twice = state + rows * dim, *velocity = twice + rows * latent_dim;
    memory.scores = velocity + rows * latent_dim;
    memory.weights = memory.scores + MAX_PAST;
    memory.factors = memory.weights + MAX_PAST;
    memory.sums = (int32_t *)(memory.factors + MAX_PAST);
    memory.shares = (int16_t *)(memory.sums + size);
    voice_advance(v, rows, x, past, prompt, heard, &memory, &work);
    if (flows) work.isa->linear(&v->modulate, x, dim, rows, 0, modulation, &work);
    for (int64_t s = 0; s < steps && flows; s++) {
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t i = 0; i < width; i++) both[r * width + i] = modulation[r * width + i] + times[s * width + i];
            copy(twice + r * latent_dim, latent + r % flows * latent_dim, latent_dim);
        }
        voice_velocity(v, rows, twice, both, state, velocity, &memory, &work);
        for (int64_t i = 0; i < flows * latent_dim; i++) {
            float speed = velocity[guidance_count * flows * latent_dim + i];
            for (int64_t g = guidance_count - 1; g >= 0; g--) {
                const float told = velocity[g * flows * latent_dim + i], untold = velocity[(g + 1) * flows * latent_dim + i];
                speed = speed + (told - untold) * guidance[g];
            }
            latent[i] = latent[i] + speed * (1.0f / (float)steps);
        }
    }
    free(room);
    free(work.hidden);
    return OK;
}

#define COMPILE_VOICE_FOR(ISA, TARGET) \
    TARGET static int voice_##ISA(VOICE_ARGUMENTS) { return voice_frame(VOICE_VALUES, &ISA); }

COMPILE_VOICE_FOR(generic, GENERIC)
#ifdef X86
COMPILE_VOICE_FOR(avx2, AVX2)
COMPILE_VOICE_FOR(vnni, VNNI)
#endif
#ifdef DOT_PRODUCT
COMPILE_VOICE_FOR(dotprod, DOTPROD)
#endif

EXPORT void speechtok_voice_sizes(int64_t *sizes) {
    sizes[0] = sizeof(VoiceBlock);
    sizes[1] = sizeof(VoiceLayer);
    sizes[2] = sizeof(Voice);
    sizes[3] = sizeof(VoicePast);
}

/* Whether the sizes of a voice model fit each other: OK or BAD_MODEL. */
EXPORT int speechtok_check_voice(const Voice *v) { return voice_fits(v) ? OK : BAD_MODEL; }

/* See voice_frame. Returns OK, NO_MEMORY, or before anything is written BAD_MODEL or BAD_CALL. */
EXPORT int speechtok_voice(int64_t isa, VOICE_ARGUMENTS) {
    if (!in_range(isa, 0, speechtok_num_isas() - 1)) return BAD_CALL;
#ifdef X86
    if (isa == 2) return voice_vnni(VOICE_VALUES);
    if (isa == 1) return voice_avx2(VOICE_VALUES);
#endif
#ifdef DOT_PRODUCT
    if (isa == 1) return voice_dotprod(VOICE_VALUES);
#endif
    return voice_generic(VOICE_VALUES);
}
