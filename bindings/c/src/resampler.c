#include "resampler.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "memory.h"
#include "sha256.h"

enum { REACH = 72, STEPS = 512, ENTRIES = 2 * REACH * STEPS + 1, MAX_COEFFICIENTS = 1 << 19, LANES = 8 };
enum { MIN_RATE = 1000, MAX_RATE = 768000 };
#define TABLE_DIGEST "0ebf422c7b6423fe"

struct Filter {
    int64_t up, down, half;
    int32_t *table;       /* [ENTRIES] */
    double *coefficients; /* [up][2 * half]; null if there are too many to keep */
};

/* The modified Bessel function of order 0, from its series. */
static double bessel(double x) {
    double term = 1.0, result = 1.0;
    for (int k = 1; term > 1e-17 * result; k++) {
        term *= x / (2.0 * k) * (x / (2.0 * k));
        result += term;
    }
    return result;
}

static speechtok_status fill_table(int32_t *table) {
    const double cutoff = 22.0 / 23.0, beta = 9.83, pi = 3.141592653589793, scale = 268435456.0 * cutoff / bessel(beta);
    for (int i = 0; i <= REACH * STEPS; i++) { /* both sides are equal */
        const double t = (double)i / STEPS, side = t / REACH, angle = pi * cutoff * t;
        const double value = scale * (i ? sin(angle) / angle : 1.0) * bessel(beta * sqrt(1.0 - side * side));
        table[REACH * STEPS + i] = table[REACH * STEPS - i] = (int32_t)floor(value + 0.5);
    }
    char digits[17];
    Sha256 hash;
    st_sha256_start(&hash);
    st_sha256_update(&hash, table, sizeof *table * ENTRIES);
    st_sha256_fingerprint(&hash, digits);
    if (!strcmp(digits, TABLE_DIGEST)) return SPEECHTOK_OK;
    return st_fail(SPEECHTOK_SELF_TEST, "the resampling filter hashes to %s with this build; expected %s", digits,
                   TABLE_DIGEST);
}

static int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0); }

/* The coefficients of outputs that lie `phase` / up inputs after an input. */
static void fill_coefficients(const Filter *f, int64_t phase, double *coefficients) {
    const int64_t longer = f->up > f->down ? f->up : f->down, one = (int64_t)1 << 20;
    int64_t missing = (int64_t)1 << 28;
    for (int64_t k = 1 - f->half; k <= f->half; k++) {
        const int64_t position = STEPS * (k * f->up - phase) + REACH * STEPS * longer;
        const int64_t entry = floor_divide(position, longer), rest = position - entry * longer;
        int64_t value = 0;
        if (entry >= 0 && entry < ENTRIES) {
            const int64_t slope = entry + 1 < ENTRIES ? f->table[entry + 1] - f->table[entry] : 0;
            value = f->table[entry] + floor_divide(slope * (rest * one / longer) + one / 2, one);
            if (f->down > f->up) value = floor_divide(value * f->up + f->down / 2, f->down);
        }
        missing -= value;
        coefficients[k + f->half - 1] = (double)value;
    }
    coefficients[f->half - (2 * phase <= f->up)] += (double)missing;
}

void st_close_filter(Filter *filter) {
    if (!filter) return;
    free(filter->table);
    free(filter->coefficients);
    free(filter);
}

speechtok_status st_open_filter(int64_t from_rate, int64_t to_rate, Filter **result) {
    *result = NULL;
    const int64_t rates[2] = {from_rate, to_rate};
    for (int i = 0; i < 2; i++)
        if (rates[i] < MIN_RATE || rates[i] > MAX_RATE)
            return st_fail(SPEECHTOK_BAD_ARGUMENT, "the sample rate is %" PRId64 "; expected %d to %d hertz", rates[i],
                           MIN_RATE, MAX_RATE);
    int64_t a = from_rate, b = to_rate;
    while (b) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    Filter *f = st_array(1, sizeof *f);
    if (!f) return st_no_memory();
    f->up = to_rate / a;
    f->down = from_rate / a;
    if (f->up == f->down) return *result = f, SPEECHTOK_OK;
    const int64_t longer = f->up > f->down ? f->up : f->down;
    f->half = (REACH * longer + f->up - 1) / f->up;
    f->table = st_array(ENTRIES, sizeof *f->table);
    speechtok_status status = f->table ? fill_table(f->table) : st_no_memory();
    if (!status && f->up <= MAX_COEFFICIENTS / (2 * f->half)) {
        f->coefficients = st_array(2 * f->half * f->up, sizeof *f->coefficients);
        if (!f->coefficients) status = st_no_memory();
        for (int64_t phase = 0; phase < f->up && !status; phase++)
            fill_coefficients(f, phase, f->coefficients + 2 * f->half * phase);
    }
    if (status) st_close_filter(f);
    else *result = f;
    return status;
}

int64_t st_max_pending(const Filter *f) { return 2 * f->half; }

/* Outputs that depend on none but the first `inputs` inputs. */
static int64_t count_outputs(const Filter *f, int64_t inputs) {
    return inputs <= f->half ? 0 : ((inputs - f->half) * f->up + f->down - 1) / f->down;
}

int64_t st_next_outputs(const Filter *f, const ResamplerRow *row, int64_t samples) {
    const int64_t count = count_outputs(f, row->taken + (samples < 0 ? f->half : samples));
    return count > row->given ? count - row->given : 0;
}

/* The whole number of 2**-23 that is nearest to a sample, halves to even. */
static double as_level(float sample) {
    const double scale = 8388608.0, rounding = 6755399441055744.0; /* 1.5 * 2**52 */
    const double level = (double)sample * scale + rounding - rounding;
    return level > scale ? scale : level < -scale ? -scale : level;
}

/* Sums stay below 2**53: exact in any order. */
static double dot(const double *x, const double *y, int64_t count) {
    double sums[LANES] = {0}, sum = 0.0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++) sums[lane] += x[i + lane] * y[i + lane];
    for (; i < count; i++) sum += x[i] * y[i];
    for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
    return sum;
}

speechtok_status st_resample_row(const Filter *f, ResamplerRow *row, double *pending, const float *chunk,
                                 int64_t samples, float *outputs) {
    const bool ending = samples < 0;
    if (row->flushed) return st_fail(SPEECHTOK_BAD_STATE, "the utterance was flushed before; reset it first");
    if (f->up == f->down) {
        if (!ending) memmove(outputs, chunk, sizeof *chunk * (size_t)samples);
        row->taken = row->given += ending ? 0 : samples;
        row->flushed = ending;
        return SPEECHTOK_OK;
    }
    const int64_t start = row->given * f->down / f->up - (f->half - 1), before = row->taken - start;
    const int64_t added = ending ? f->half : samples, stop = row->given + st_next_outputs(f, row, samples);
    double *signal = st_array(before + added, sizeof *signal), *own = NULL;
    if (signal && !f->coefficients) own = st_array(2 * f->half, sizeof *own);
    if (!signal || (!f->coefficients && !own)) {
        free(signal);
        return st_no_memory();
    }
    memcpy(signal, pending, sizeof *signal * (size_t)before);
    for (int64_t i = 0; !ending && i < samples; i++) signal[before + i] = as_level(chunk[i]);
    for (int64_t n = row->given; n < stop; n++) {
        const int64_t base = n * f->down / f->up, phase = n * f->down % f->up;
        if (own) fill_coefficients(f, phase, own);
        const double *coefficients = own ? own : f->coefficients + 2 * f->half * phase;
        const double sum = dot(signal + base - (f->half - 1) - start, coefficients, 2 * f->half);
        const double value = sum * (1.0 / 2251799813685248.0); /* 2**-51 */
        *outputs++ = (float)(value > 1.0 ? 1.0 : value < -1.0 ? -1.0 : value);
    }
    row->taken += added;
    row->given = stop;
    row->flushed = ending;
    const int64_t unneeded = stop * f->down / f->up - (f->half - 1) - start;
    memcpy(pending, signal + unneeded, sizeof *signal * (size_t)(before + added - unneeded));
    free(signal);
    free(own);
    return SPEECHTOK_OK;
}

struct speechtok_resampler {
    Filter *filter;
    ResamplerRow row;
    double *pending;
};

speechtok_status speechtok_resampler_open(int64_t from_rate, int64_t to_rate, speechtok_resampler **result) {
    *result = NULL;
    speechtok_resampler *resampler = st_array(1, sizeof *resampler);
    if (!resampler) return st_no_memory();
    speechtok_status status = st_open_filter(from_rate, to_rate, &resampler->filter);
    if (!status && !(resampler->pending = st_array(st_max_pending(resampler->filter), sizeof(double))))
        status = st_no_memory();
    if (status) speechtok_resampler_close(resampler);
    else *result = resampler;
    return status;
}

void speechtok_resampler_close(speechtok_resampler *resampler) {
    if (!resampler) return;
    st_close_filter(resampler->filter);
    free(resampler->pending);
    free(resampler);
}

int64_t speechtok_resampler_next(const speechtok_resampler *resampler, int64_t samples) {
    return st_next_outputs(resampler->filter, &resampler->row, samples);
}

speechtok_status speechtok_resampler_push(speechtok_resampler *resampler, const float *chunk, int64_t samples,
                                          float *resampled) {
    if (samples < 0) return st_fail(SPEECHTOK_BAD_ARGUMENT, "samples is %" PRId64 "; expected 0 or more", samples);
    for (int64_t i = 0; i < samples; i++)
        if (!(fabsf(chunk[i]) <= 2.0f))
            return st_fail(SPEECHTOK_BAD_ARGUMENT, "sample %" PRId64 " is %g; expected finite samples in [-1, 1]", i,
                           (double)chunk[i]);
    return st_resample_row(resampler->filter, &resampler->row, resampler->pending, chunk, samples, resampled);
}

speechtok_status speechtok_resampler_flush(speechtok_resampler *resampler, float *resampled) {
    return st_resample_row(resampler->filter, &resampler->row, resampler->pending, NULL, -1, resampled);
}

void speechtok_resampler_reset(speechtok_resampler *resampler) {
    memset(&resampler->row, 0, sizeof resampler->row);
    memset(resampler->pending, 0, sizeof(double) * (size_t)st_max_pending(resampler->filter));
}

int64_t speechtok_resampled_length(int64_t samples, int64_t from_rate, int64_t to_rate) {
    const bool usable = from_rate >= MIN_RATE && from_rate <= MAX_RATE && to_rate >= MIN_RATE && to_rate <= MAX_RATE;
    if (!usable || samples < 0 || samples > INT64_MAX / MAX_RATE - 1) return -1;
    return (samples * to_rate + from_rate - 1) / from_rate;
}

speechtok_status speechtok_resample(const float *waveform, int64_t samples, int64_t from_rate, int64_t to_rate,
                                    float *resampled) {
    enum { PIECE = 1 << 16 };
    speechtok_resampler *resampler;
    if (samples < 0 || samples > INT64_MAX / MAX_RATE - 1)
        return st_fail(SPEECHTOK_BAD_ARGUMENT, "samples is %" PRId64 "; expected 0 or more", samples);
    speechtok_status status = speechtok_resampler_open(from_rate, to_rate, &resampler);
    if (status) return status;
    for (int64_t start = 0; start < samples && !status; start += PIECE) {
        const int64_t some = samples - start < PIECE ? samples - start : PIECE;
        const int64_t count = speechtok_resampler_next(resampler, some);
        status = speechtok_resampler_push(resampler, waveform + start, some, resampled);
        resampled += count;
    }
    if (!status) status = speechtok_resampler_flush(resampler, resampled);
    speechtok_resampler_close(resampler);
    return status;
}
