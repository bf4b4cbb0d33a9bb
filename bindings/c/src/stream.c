#include <inttypes.h>
#include <string.h>

#include "memory.h"
#include "resampler.h"
#include "tokenizer.h"

enum { MAX_ROWS = 16384 };

struct speechtok_stream {
    const speechtok_tokenizer *tokenizer;
    int64_t rows, num_codebooks;
    float *encoder_state, *decoder_state; /* [B][state size] */
    float *partial;                       /* [B][hop_length] samples that wait for the rest of their frame */
    int64_t *waiting;                     /* [B] how many */
    bool *begun, *flushed, *drained;      /* [B] */
    Filter *filter;                       /* null at the tokenizer's rate */
    ResamplerRow *resampler_rows;         /* [B] */
    double *pending;                      /* [B][max_pending] */
};

static int64_t hop_of(const speechtok_stream *s) { return s->tokenizer->config.hop_length; }

void speechtok_stream_close(speechtok_stream *s) {
    if (!s) return;
    st_close_filter(s->filter);
    void *arrays[] = {s->encoder_state, s->decoder_state, s->partial,        s->waiting, s->begun,
                      s->flushed,       s->drained,       s->resampler_rows, s->pending};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
    free(s);
}

speechtok_status speechtok_stream_open(const speechtok_tokenizer *tokenizer, int64_t rows, int64_t num_codebooks,
                                       int64_t sample_rate, speechtok_stream **result) {
    const Config *c = &tokenizer->config;
    *result = NULL;
    if (rows < 1 || rows > MAX_ROWS)
        return st_fail(SPEECHTOK_BAD_ARGUMENT, "rows is %" PRId64 "; expected 1 to %d", rows, MAX_ROWS);
    if (num_codebooks < 0 || num_codebooks > c->num_codebooks)
        return st_fail(SPEECHTOK_BAD_ARGUMENT, "num_codebooks is %" PRId64 "; expected 1 to %" PRId64 ", or 0 for all",
                       num_codebooks, c->num_codebooks);
    speechtok_stream *s = st_array(1, sizeof *s);
    if (!s) return st_no_memory();
    s->tokenizer = tokenizer;
    s->rows = rows;
    s->num_codebooks = num_codebooks ? num_codebooks : c->num_codebooks;
    s->encoder_state = st_array(st_product(rows, st_encoder_state_size(tokenizer->model)), sizeof *s->encoder_state);
    s->decoder_state = st_array(st_product(rows, st_decoder_state_size(tokenizer->model)), sizeof *s->decoder_state);
    s->partial = st_array(rows * c->hop_length, sizeof *s->partial);
    s->waiting = st_array(rows, sizeof *s->waiting);
    s->begun = st_array(rows, sizeof *s->begun);
    s->flushed = st_array(rows, sizeof *s->flushed);
    s->drained = st_array(rows, sizeof *s->drained);
    speechtok_status status = SPEECHTOK_OK;
    if (!s->encoder_state || !s->decoder_state || !s->partial || !s->waiting || !s->begun || !s->flushed || !s->drained)
        status = st_no_memory();
    if (!status && sample_rate && sample_rate != c->sample_rate) {
        status = st_open_filter(sample_rate, c->sample_rate, &s->filter);
        if (!status) {
            s->resampler_rows = st_array(rows, sizeof *s->resampler_rows);
            s->pending = st_array(st_product(rows, st_max_pending(s->filter)), sizeof *s->pending);
            if (!s->resampler_rows || !s->pending) status = st_no_memory();
        }
    }
    if (status) speechtok_stream_close(s);
    else *result = s;
    return status;
}

/* Samples at the tokenizer's rate that a row gets for `samples` more samples, or with -1 at its end. */
static int64_t next_samples(const speechtok_stream *s, int64_t row, int64_t samples) {
    if (s->filter) return st_next_outputs(s->filter, s->resampler_rows + row, samples);
    return samples < 0 ? 0 : samples;
}

int64_t speechtok_stream_max_frames(const speechtok_stream *s, int64_t samples) {
    int64_t most = 0;
    for (int64_t row = 0; row < s->rows; row++) {
        const int64_t ready = s->waiting[row] + next_samples(s, row, samples > 0 ? samples : -1);
        const int64_t frames = samples > 0 ? ready / hop_of(s) : (ready + hop_of(s) - 1) / hop_of(s);
        most = frames > most ? frames : most;
    }
    return most;
}

/* A group of rows that get as many frames: their numbers, and how many. */
static int64_t collect_group(const speechtok_stream *s, int64_t first, const int64_t *frames, int64_t *members) {
    int64_t count = 0;
    for (int64_t row = 0; row < s->rows; row++)
        if (frames[row] == frames[first]) {
            if (row < first) return 0; /* a group that was done before */
            members[count++] = row;
        }
    return count;
}

static void gather(float *to, const float *from, const int64_t *members, int64_t count, int64_t size) {
    for (int64_t m = 0; m < count; m++) memcpy(to + m * size, from + members[m] * size, sizeof *to * (size_t)size);
}

static void scatter(float *to, const float *from, const int64_t *members, int64_t count, int64_t size) {
    for (int64_t m = 0; m < count; m++) memcpy(to + members[m] * size, from + m * size, sizeof *to * (size_t)size);
}

/* Memory of a call. */
typedef struct {
    int64_t *members;  /* [B] */
    float *new_states; /* [B][state size], of the whole call: the stream changes when nothing can fail any more */
    float *state;      /* the same, of a group */
    float *signal;     /* of a piece */
    int64_t *codes;    /* of a piece */
} Scratch;

static bool allocate_scratch(Scratch *scratch, const speechtok_stream *s, int64_t state_size, int64_t frames,
                             int64_t num_codebooks) {
    /* a group of n rows computes pieces of at most max(1, PIECE_FRAMES / n) frames */
    const int64_t piece = st_product(s->rows, frames) < PIECE_FRAMES ? s->rows * frames
                          : s->rows > PIECE_FRAMES                   ? s->rows
                                                                     : PIECE_FRAMES;
    scratch->members = st_array(s->rows, sizeof *scratch->members);
    scratch->new_states = st_array(st_product(s->rows, state_size), sizeof *scratch->new_states);
    scratch->state = st_array(st_product(s->rows, state_size), sizeof *scratch->state);
    scratch->signal = st_array(st_product(piece, hop_of(s)), sizeof *scratch->signal);
    scratch->codes = st_array(st_product(piece, num_codebooks), sizeof *scratch->codes);
    return scratch->members && scratch->new_states && scratch->state && scratch->signal && scratch->codes;
}

static void free_scratch(Scratch *scratch) {
    free(scratch->members);
    free(scratch->new_states);
    free(scratch->state);
    free(scratch->signal);
    free(scratch->codes);
}

/* Samples `start` to `start + count` of those that wait and those of a chunk. */
static void copy_samples(const speechtok_stream *s, int64_t row, const float *chunk, int64_t start, int64_t count,
                         float *to) {
    const int64_t waiting = s->waiting[row], old = start >= waiting ? 0 : waiting - start < count ? waiting - start : count;
    memmove(to, s->partial + row * hop_of(s) + (old ? start : 0), sizeof *to * (size_t)old);
    if (count > old) memcpy(to + old, chunk + start + old - waiting, sizeof *to * (size_t)(count - old));
}

/* Take samples at the tokenizer's rate, (B, `stride`), of which `lengths` count. */
static speechtok_status encode_rows(speechtok_stream *s, const float *x, int64_t stride, const int64_t *lengths,
                                    int64_t *codes, int64_t capacity, int64_t *frames) {
    const int64_t hop = hop_of(s), q_count = s->num_codebooks, size = st_encoder_state_size(s->tokenizer->model);
    int64_t longest = 0;
    for (int64_t row = 0; row < s->rows; row++) {
        frames[row] = (s->waiting[row] + lengths[row]) / hop;
        longest = frames[row] > longest ? frames[row] : longest;
    }
    if (longest > capacity)
        return st_fail(SPEECHTOK_BAD_ARGUMENT, "capacity is %" PRId64 " frames; expected at least %" PRId64, capacity,
                       longest);
    Scratch scratch = {0};
    speechtok_status status = allocate_scratch(&scratch, s, size, longest, q_count) ? SPEECHTOK_OK : st_no_memory();
    for (int64_t first = 0; first < s->rows && !status; first++) {
        const int64_t count = collect_group(s, first, frames, scratch.members);
        if (!count || !frames[first]) continue;
        gather(scratch.state, s->encoder_state, scratch.members, count, size);
        const int64_t piece = count > PIECE_FRAMES ? 1 : PIECE_FRAMES / count;
        for (int64_t start = 0; start < frames[first] && !status; start += piece) {
            const int64_t some = frames[first] - start < piece ? frames[first] - start : piece;
            const int64_t strides[3] = {q_count * some, some, 1};
            for (int64_t m = 0; m < count; m++) {
                const int64_t row = scratch.members[m];
                copy_samples(s, row, x + row * stride, start * hop, some * hop, scratch.signal + m * some * hop);
            }
            status = st_model_encode(s->tokenizer->model, s->tokenizer->kernel, count, some, scratch.signal, some * hop,
                                     q_count, scratch.state, scratch.codes, strides);
            for (int64_t i = 0; i < count * q_count && !status; i++)
                memcpy(codes + (scratch.members[i / q_count] * q_count + i % q_count) * capacity + start,
                       scratch.codes + i * some, sizeof *codes * (size_t)some);
        }
        scatter(scratch.new_states, scratch.state, scratch.members, count, size);
    }
    for (int64_t row = 0; row < s->rows && !status; row++) {
        if (frames[row])
            memcpy(s->encoder_state + row * size, scratch.new_states + row * size, sizeof(float) * (size_t)size);
        const int64_t used = frames[row] * hop, left = s->waiting[row] + lengths[row] - used;
        copy_samples(s, row, x + row * stride, used, left, s->partial + row * hop);
        s->waiting[row] = left;
        for (int64_t q = 0; q < q_count; q++)
            for (int64_t t = frames[row]; t < longest; t++) codes[(row * q_count + q) * capacity + t] = SPEECHTOK_NO_CODE;
    }
    free_scratch(&scratch);
    return status;
}

static bool is_chosen(const bool *rows, int64_t row) { return !rows || rows[row]; }

/* Encode with or without a change of the sample rate. With `ending`, rows end, and `chunk` is null. */
static speechtok_status take(speechtok_stream *s, const float *chunk, int64_t samples, const int64_t *lengths,
                             bool ending, const bool *rows, int64_t *codes, int64_t capacity, int64_t *frames) {
    const int64_t hop = hop_of(s), pending_size = s->filter ? st_max_pending(s->filter) : 0;
    int64_t stride = samples;
    for (int64_t row = 0; row < s->rows; row++) {
        const int64_t n = ending ? (is_chosen(rows, row) ? -1 : 0) : lengths ? lengths[row] : samples;
        const int64_t count = next_samples(s, row, n) + (n < 0 ? hop : 0);
        stride = count > stride ? count : stride;
    }
    int64_t *counts = st_array(s->rows, sizeof *counts);
    float *x = st_array(st_product(s->rows, stride), sizeof *x); /* zeros, which complete last frames */
    ResamplerRow *kept = st_array(s->rows, sizeof *kept);
    double *pending = st_array(st_product(s->rows, pending_size), sizeof *pending);
    speechtok_status status = counts && x && kept && pending ? SPEECHTOK_OK : st_no_memory();
    if (!status && s->filter) {
        memcpy(kept, s->resampler_rows, sizeof *kept * (size_t)s->rows);
        memcpy(pending, s->pending, sizeof *pending * (size_t)(s->rows * pending_size));
    }
    for (int64_t row = 0; row < s->rows && !status; row++) {
        const int64_t n = ending ? (is_chosen(rows, row) ? -1 : 0) : lengths ? lengths[row] : samples;
        counts[row] = next_samples(s, row, n);
        if (n > 0) st_clip(x + row * stride, chunk + row * samples, s->filter ? 0 : n);
        if (s->filter && n)
            status = st_resample_row(s->filter, kept + row, pending + row * pending_size,
                                     n > 0 ? chunk + row * samples : NULL, n, x + row * stride);
        if (n < 0) counts[row] += (hop - (s->waiting[row] + counts[row]) % hop) % hop;
    }
    if (!status) status = encode_rows(s, x, stride, counts, codes, capacity, frames);
    if (!status && s->filter) {
        memcpy(s->resampler_rows, kept, sizeof *kept * (size_t)s->rows);
        memcpy(s->pending, pending, sizeof *pending * (size_t)(s->rows * pending_size));
    }
    free(counts);
    free(x);
    free(kept);
    free(pending);
    return status;
}

static speechtok_status check_lengths(const speechtok_stream *s, const int64_t *lengths, int64_t most) {
    if (most < 0 || most > (int64_t)(PTRDIFF_MAX / 64) / s->rows / hop_of(s))
        return st_fail(SPEECHTOK_BAD_ARGUMENT, "the length is %" PRId64 "; expected 0 or more, and less", most);
    for (int64_t row = 0; lengths && row < s->rows; row++)
        if (lengths[row] < 0 || lengths[row] > most)
            return st_fail(SPEECHTOK_BAD_ARGUMENT, "the length of row %" PRId64 " is %" PRId64 "; expected 0 to %" PRId64,
                           row, lengths[row], most);
    return SPEECHTOK_OK;
}

static speechtok_status has_ended(int64_t row, const char *end) {
    return st_fail(SPEECHTOK_BAD_STATE, "row %" PRId64 " of the stream has ended with its %s; reset it first", row, end);
}

speechtok_status speechtok_stream_encode(speechtok_stream *s, const float *chunk, int64_t samples,
                                         const int64_t *lengths, int64_t *codes, int64_t capacity, int64_t *frames) {
    speechtok_status status = check_lengths(s, lengths, samples);
    for (int64_t row = 0; row < s->rows && !status; row++) {
        const int64_t n = lengths ? lengths[row] : samples;
        if (n && s->flushed[row]) return has_ended(row, "flush");
        status = st_check_waveform(chunk + row * samples, n);
    }
    return status ? status : take(s, chunk, samples, lengths, false, NULL, codes, capacity, frames);
}

speechtok_status speechtok_stream_flush(speechtok_stream *s, const bool *rows, int64_t *codes, int64_t capacity,
                                        int64_t *frames) {
    for (int64_t row = 0; row < s->rows; row++)
        if (is_chosen(rows, row) && s->flushed[row]) return has_ended(row, "flush");
    const speechtok_status status = take(s, NULL, 0, NULL, true, rows, codes, capacity, frames);
    for (int64_t row = 0; row < s->rows && !status; row++) s->flushed[row] = s->flushed[row] || is_chosen(rows, row);
    return status;
}

/* Decode frames, silent ones if `codes` is null. */
static speechtok_status decode_rows(speechtok_stream *s, const int64_t *codes, int64_t num_codebooks, int64_t num_frames,
                                    const int64_t *frames, float *audio, int64_t capacity, int64_t *samples) {
    const int64_t hop = hop_of(s), size = st_decoder_state_size(s->tokenizer->model);
    int64_t longest = 0, room = 0;
    for (int64_t row = 0; row < s->rows; row++) {
        samples[row] = hop * (frames[row] && !s->begun[row] ? frames[row] - 1 : frames[row]);
        longest = frames[row] > longest ? frames[row] : longest;
        room = samples[row] > room ? samples[row] : room;
    }
    if (room > capacity)
        return st_fail(SPEECHTOK_BAD_ARGUMENT, "capacity is %" PRId64 " samples; expected at least %" PRId64, capacity,
                       room);
    Scratch scratch = {0};
    speechtok_status status =
        allocate_scratch(&scratch, s, size, longest, num_codebooks) ? SPEECHTOK_OK : st_no_memory();
    for (int64_t first = 0; first < s->rows && !status; first++) {
        const int64_t count = collect_group(s, first, frames, scratch.members);
        if (!count || !frames[first]) continue;
        gather(scratch.state, s->decoder_state, scratch.members, count, size);
        const int64_t piece = count > PIECE_FRAMES ? 1 : PIECE_FRAMES / count;
        for (int64_t start = 0; start < frames[first] && !status; start += piece) {
            const int64_t some = frames[first] - start < piece ? frames[first] - start : piece;
            const int64_t strides[3] = {num_codebooks * some, some, 1};
            for (int64_t i = 0; codes && i < count * num_codebooks; i++) {
                const int64_t row = scratch.members[i / num_codebooks];
                memcpy(scratch.codes + i * some,
                       codes + (row * num_codebooks + i % num_codebooks) * num_frames + start,
                       sizeof *codes * (size_t)some);
            }
            status = st_model_decode(s->tokenizer->model, s->tokenizer->kernel, count, some,
                                     codes ? scratch.codes : NULL, strides, num_codebooks, scratch.state,
                                     scratch.signal, some * hop);
            for (int64_t m = 0; m < count && !status; m++) {
                const int64_t row = scratch.members[m], late = s->begun[row] ? 0 : hop;
                const int64_t skipped = start ? 0 : late, wanted = some * hop - skipped;
                memcpy(audio + row * capacity + start * hop + skipped - late, scratch.signal + m * some * hop + skipped,
                       sizeof *audio * (size_t)wanted);
            }
        }
        scatter(scratch.new_states, scratch.state, scratch.members, count, size);
    }
    for (int64_t row = 0; row < s->rows && !status; row++) {
        if (frames[row]) {
            memcpy(s->decoder_state + row * size, scratch.new_states + row * size, sizeof(float) * (size_t)size);
            s->begun[row] = true;
        }
        for (int64_t i = samples[row]; i < room; i++) audio[row * capacity + i] = 0.0f;
    }
    free_scratch(&scratch);
    return status;
}

speechtok_status speechtok_stream_decode(speechtok_stream *s, const int64_t *codes, int64_t num_codebooks,
                                         int64_t num_frames, const int64_t *lengths, float *audio, int64_t capacity,
                                         int64_t *samples) {
    speechtok_status status = check_lengths(s, lengths, num_frames);
    if (status) return status;
    int64_t *frames = st_array(s->rows, sizeof *frames);
    if (!frames) return st_no_memory();
    for (int64_t row = 0; row < s->rows && !status; row++) {
        frames[row] = lengths ? lengths[row] : num_frames;
        if (frames[row] && s->drained[row]) status = has_ended(row, "drain");
        else
            status = st_check_codes(s->tokenizer, codes + row * num_codebooks * num_frames, num_codebooks, frames[row],
                                    num_frames);
    }
    if (!status) status = decode_rows(s, codes, num_codebooks, num_frames, frames, audio, capacity, samples);
    free(frames);
    return status;
}

speechtok_status speechtok_stream_drain(speechtok_stream *s, const bool *rows, float *audio, int64_t capacity,
                                        int64_t *samples) {
    int64_t *frames = st_array(s->rows, sizeof *frames);
    speechtok_status status = frames ? SPEECHTOK_OK : st_no_memory();
    for (int64_t row = 0; row < s->rows && !status; row++) {
        frames[row] = is_chosen(rows, row) && s->begun[row];
        if (is_chosen(rows, row) && s->drained[row]) status = has_ended(row, "drain");
    }
    if (!status) status = decode_rows(s, NULL, 1, 0, frames, audio, capacity, samples);
    for (int64_t row = 0; row < s->rows && !status; row++) s->drained[row] = s->drained[row] || is_chosen(rows, row);
    free(frames);
    return status;
}

void speechtok_stream_reset(speechtok_stream *s, const bool *rows) {
    const int64_t sizes[2] = {st_encoder_state_size(s->tokenizer->model), st_decoder_state_size(s->tokenizer->model)};
    for (int64_t row = 0; row < s->rows; row++) {
        if (!is_chosen(rows, row)) continue;
        memset(s->encoder_state + row * sizes[0], 0, sizeof(float) * (size_t)sizes[0]);
        memset(s->decoder_state + row * sizes[1], 0, sizeof(float) * (size_t)sizes[1]);
        s->waiting[row] = 0;
        s->begun[row] = s->flushed[row] = s->drained[row] = false;
        if (!s->filter) continue;
        memset(s->resampler_rows + row, 0, sizeof *s->resampler_rows);
        memset(s->pending + row * st_max_pending(s->filter), 0, sizeof(double) * (size_t)st_max_pending(s->filter));
    }
}
