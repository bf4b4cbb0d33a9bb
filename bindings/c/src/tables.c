#include "tables.h"

#include <math.h>
#include <string.h>

#include "platform.h"

/* A number as a sum of two: about 106 bits (Dekker 1971). */
typedef struct {
    double high, low;
} Double2;

static Double2 sum(double a, double b) {
    const double high = a + b, part = high - a;
    return (Double2){high, (a - (high - part)) + (b - part)};
}

static Double2 split(double a) {
    const double scaled = 134217729.0 * a, high = scaled - (scaled - a);
    return (Double2){high, a - high};
}

static Double2 multiply(Double2 a, Double2 b) {
    const double high = a.high * b.high;
    const Double2 x = split(a.high), y = split(b.high);
    const double low = ((x.high * y.high - high) + x.high * y.low + x.low * y.high) + x.low * y.low;
    return sum(high, low + (a.high * b.low + a.low * b.high));
}

static Double2 add(Double2 a, Double2 b) {
    const Double2 s = sum(a.high, b.high);
    return sum(s.high, s.low + (a.low + b.low));
}

static Double2 divide(Double2 a, double b) {
    const double high = a.high / b;
    const Double2 product = multiply((Double2){high, 0.0}, (Double2){b, 0.0});
    return sum(high, ((a.high - product.high) - product.low + a.low) / b);
}

/* The series of the cosine, or of the sine, for 0 <= x <= pi / 4. */
static Double2 series(Double2 x, bool sine) {
    const Double2 square = multiply(x, x), negative = {-square.high, -square.low};
    Double2 term = sine ? x : (Double2){1.0, 0.0}, result = term;
    for (int n = sine ? 2 : 1; n < 28; n += 2) {
        term = divide(multiply(term, negative), (double)(n * (n + 1)));
        result = add(result, term);
    }
    return result;
}

static const Double2 half_pi = {1.5707963267948966, 6.123233995736766e-17};

static Double2 minus(Double2 a, Double2 b) { return add(a, (Double2){-b.high, -b.low}); }

/* The cosine of a double from 0 to 2 pi. */
static double cosine(double angle) {
    const Double2 pi = {2 * half_pi.high, 2 * half_pi.low};
    Double2 x = {angle, 0.0};
    if (x.high > pi.high) x = minus((Double2){2 * pi.high, 2 * pi.low}, x);
    if (x.high <= 0.5 * half_pi.high) return series(x, false).high;
    if (x.high <= half_pi.high) return series(minus(half_pi, x), true).high;
    x = minus(pi, x);
    if (x.high <= 0.5 * half_pi.high) return -series(x, false).high;
    return -series(minus(half_pi, x), true).high;
}

void st_hann_window(int64_t length, float *window) {
    const double step = 3.141592653589793 * 2.0 / (double)length;
    for (int64_t n = 0; n < length; n++) window[n] = (float)(cosine((double)n * step) * -0.5 + 0.5);
}

static float sign_at(uint32_t position) {
    uint32_t x = (position + 1) * 0x9E3779B9u;
    x = (x ^ x >> 16) * 0x21F0AAADu;
    x = (x ^ x >> 15) * 0x735A2D97u;
    return (x ^ x >> 15) & 1 ? 1.0f : -1.0f;
}

bool st_noise_table(const float *filters, int64_t bands, int64_t taps, int64_t patch_length, float *signs,
                    float *table) {
    enum { PART = 1024 }; /* stays in the cache */
    const int64_t period = NOISE_PERIOD * patch_length;
    for (int64_t n = 0; n < period; n++) signs[taps - 1 + n] = sign_at((uint32_t)n);
    for (int64_t n = 0; n < taps - 1; n++) signs[n] = sign_at((uint32_t)(period - (taps - 1) % period + n) % (uint32_t)period);
    for (int64_t band = 0; band < bands; band++, filters += taps) {
        double total = 0.0;
        for (int64_t k = 0; k < taps; k++) {
            if (filters[k] != floorf(filters[k])) return false;
            total += fabs((double)filters[k]);
        }
        if (total > 16777216.0) return false;
        for (int64_t first = 0; first < period; first += PART) {
            const int64_t count = period - first < PART ? period - first : PART;
            float *sums = table + band * period + first;
            memset(sums, 0, sizeof *sums * (size_t)count);
            for (int64_t k = 0; k < taps; k++) {
                const float factor = filters[k], *x = signs + first + k;
                for (int64_t n = 0; n < count; n++) sums[n] = sums[n] + factor * x[n]; /* whole numbers: exact */
            }
        }
    }
    return true;
}
