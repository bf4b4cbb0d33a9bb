/* A few frames of the convnext family in one call: the arithmetic of exact.py, convolution.py, convnext.py and
 * quantizer.py, operation by operation, so that the results are equal to the bit.
 *
 * What has no order (sums of whole numbers, largest values) may run in any; all else is a float32 operation that
 * IEEE 754 defines, in the order of the Python modules. Compile without contraction (-ffp-contract=off) and without
 * -ffast-math. Nothing is kept between calls: native.py owns the memory, and its structures mirror those below.
 *
 * Letters: B utterances, T frames, M rows of a matrix product, K its inputs, N its outputs.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(_MSC_VER)
#define EXPORT __declspec(dllexport)
#define INLINE static __forceinline
#define APART static __declspec(noinline)
#else
#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define APART static __attribute__((noinline)) /* one for all places: six times as quick to compile */
#endif
#define ANYWHERE
#if defined(__x86_64__) && defined(__GNUC__)
#define X86 1
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))
#if defined(__clang__) /* which ignores all of a target if it does not know a part */
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#else
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,prefer-vector-width=512")))
#endif
#endif

enum { TOP = 127, FINE = 128, TILE = 64, ROWS = 4 };

typedef struct { /* levels of a matrix, int8 [N / TILE][K / 4][TILE][4], both ends filled up with zeros */
    int64_t inputs, outputs;
    const int8_t *levels;
    const int32_t *offset; /* 128 times the sum of each output's levels */
} Matrix;

typedef struct {
    Matrix matrix;
    int64_t normed, fine;
    float floor; /* 0 where signals have no least value */
    const float *size, *bias;
} Linear;

typedef struct {
    int64_t dim, kernel_size;
    const float *weight, *bias; /* of the convolution */
    Linear expand, contract;
} Block;

typedef struct {
    Matrix matrix;
    float per_size;
    const float *squared, *usual;
} Stage;

typedef struct {
    int64_t num_codebooks, codebook_size, dim, semantic_dim;
    const Stage *stages;
    const float *codebooks;
} Quantizer;

typedef struct {
    int64_t patches, patch_length, window_length, patch_depth, frame_depth;
    float gain;
    Linear embed, merge, project;
    const Block *patch_blocks, *frame_blocks;
} Encoder;

typedef struct {
    int64_t patches, patch_length, patch_depth, frame_depth;
    Linear project, split, head;
    const Block *patch_blocks, *frame_blocks;
    const float *window;
} Decoder;

/* Products of up to ROWS rows of levels, `stride` apart, and one tile of a matrix: whole numbers [ROWS][TILE]. */
typedef void (*Product)(const int8_t *x, int64_t stride, int64_t rows, int64_t groups, const int8_t *tile,
                        const int32_t *offset, int32_t *sums);

typedef struct Way Way;

typedef struct {
    int8_t *coarse, *rest; /* [M][K] levels; of fine signals, the levels divided by 128, and what is left over */
    float *sizes;          /* [M] */
    float *wide;           /* [M][N] the inside of a block */
    float *narrow;         /* [M][N] its convolution, or what its last layer gives */
    const Way *way;
} Work;

#define LINEAR_ARGUMENTS \
    const Linear *l, const float *x, int64_t stride, int64_t rows, int swish, float *out, Work *work
#define BLOCKS_ARGUMENTS \
    const Block *block, int64_t depth, float *x, int64_t batch, int64_t frames, const float *const *state, \
        float *const *next, Work *work

struct Way { /* to compute, on processors that have certain instructions */
    Product product;
    void (*linear)(LINEAR_ARGUMENTS);
    void (*blocks)(BLOCKS_ARGUMENTS);
};

static void product_anywhere(const int8_t *x, int64_t stride, int64_t rows, int64_t groups, const int8_t *tile,
                             const int32_t *offset, int32_t *sums) {
    (void)offset;
    memset(sums, 0, sizeof(int32_t) * ROWS * TILE);
    for (int64_t m = 0; m < rows; m++) {
        int32_t *sum = sums + m * TILE;
        for (int64_t g = 0; g < groups; g++) {
            const int8_t *w = tile + g * 4 * TILE, *v = x + m * stride + 4 * g;
            for (int n = 0; n < TILE; n++)
                sum[n] += v[0] * w[4 * n] + v[1] * w[4 * n + 1] + v[2] * w[4 * n + 2] + v[3] * w[4 * n + 3];
        }
    }
}

#ifdef X86
/* The instruction multiplies unsigned by signed bytes and adds pairs in 16 bits: of sizes and signed levels, at most
 * 2 * TOP * TOP, which they hold. The size of a weight times the signal with the weight's sign is their product. */
AVX2 INLINE void product_avx2_rows(const int8_t *x, int64_t stride, const int rows, int64_t groups, const int8_t *tile,
                                   int32_t *sums) {
    const int parts = rows == 1 ? 8 : rows == 2 ? 4 : 2; /* of 8 outputs, whose sums the registers hold for all rows */
    const __m256i ones = _mm256_set1_epi16(1);
    for (int first = 0; first < TILE; first += 8 * parts) {
        __m256i sum[ROWS][8];
        for (int m = 0; m < rows; m++)
            for (int part = 0; part < parts; part++) sum[m][part] = _mm256_setzero_si256();
        const int8_t *w = tile + 4 * first;
        for (int64_t g = 0; g < groups; g++, w += 4 * TILE) {
            __m256i v[ROWS];
            for (int m = 0; m < rows; m++) {
                int32_t four;
                memcpy(&four, x + m * stride + 4 * g, 4);
                v[m] = _mm256_set1_epi32(four);
            }
            for (int part = 0; part < parts; part++) {
                const __m256i signs = _mm256_loadu_si256((const __m256i *)w + part), sizes = _mm256_abs_epi8(signs);
                for (int m = 0; m < rows; m++) {
                    const __m256i pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(v[m], signs));
                    sum[m][part] = _mm256_add_epi32(sum[m][part], _mm256_madd_epi16(pairs, ones));
                }
            }
        }
        for (int m = 0; m < rows; m++)
            for (int part = 0; part < parts; part++)
                _mm256_storeu_si256((__m256i *)(sums + m * TILE + first + 8 * part), sum[m][part]);
    }
}

AVX2 static void product_avx2(const int8_t *x, int64_t stride, int64_t rows, int64_t groups, const int8_t *tile,
                              const int32_t *offset, int32_t *sums) {
    (void)offset;
    switch (rows) {
    case 1: product_avx2_rows(x, stride, 1, groups, tile, sums); break;
    case 2: product_avx2_rows(x, stride, 2, groups, tile, sums); break;
    case 3: product_avx2_rows(x, stride, 3, groups, tile, sums); break;
    default: product_avx2_rows(x, stride, 4, groups, tile, sums);
    }
}

/* The instruction multiplies unsigned by signed bytes: levels go in 128 higher, and the sums start that much lower. */
VNNI INLINE void product_vnni_rows(const int8_t *x, int64_t stride, const int rows, int64_t groups,
                                   const int8_t *tile, const int32_t *offset, int32_t *sums) {
    __m512i sum[ROWS][4];
    for (int part = 0; part < 4; part++) {
        const __m512i start = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_loadu_si512(offset + 16 * part));
        for (int m = 0; m < rows; m++) sum[m][part] = start;
    }
    for (int64_t g = 0; g < groups; g++) {
        __m512i w[4];
        for (int part = 0; part < 4; part++) w[part] = _mm512_loadu_si512(tile + (g * TILE + 16 * part) * 4);
        for (int m = 0; m < rows; m++) {
            uint32_t four;
            memcpy(&four, x + m * stride + 4 * g, 4);
            const __m512i v = _mm512_set1_epi32((int32_t)(four ^ 0x80808080u));
            for (int part = 0; part < 4; part++) sum[m][part] = _mm512_dpbusd_epi32(sum[m][part], v, w[part]);
        }
    }
    for (int m = 0; m < rows; m++)
        for (int part = 0; part < 4; part++) _mm512_storeu_si512(sums + m * TILE + 16 * part, sum[m][part]);
}

VNNI static void product_vnni(const int8_t *x, int64_t stride, int64_t rows, int64_t groups, const int8_t *tile,
                              const int32_t *offset, int32_t *sums) {
    switch (rows) {
    case 1: product_vnni_rows(x, stride, 1, groups, tile, offset, sums); break;
    case 2: product_vnni_rows(x, stride, 2, groups, tile, offset, sums); break;
    case 3: product_vnni_rows(x, stride, 3, groups, tile, offset, sums); break;
    default: product_vnni_rows(x, stride, 4, groups, tile, offset, sums);
    }
}
#endif

/* An array of nothing, as the state of a convolution over one frame is, may have no address. */
INLINE void copy(float *to, const float *from, int64_t count) {
    if (count) memcpy(to, from, sizeof(float) * (size_t)count);
}

INLINE int64_t padded(int64_t inputs) { return (inputs + 3) / 4 * 4; }

/* To the nearest whole number, halves to even, if |x| < 2**22. */
INLINE float rounded(float x) { return (x + 12582912.0f) - 12582912.0f; }

/* exact.to_levels, of one row; `size` may be the inverse of the row's root mean square instead. */
INLINE float to_levels(const float *x, int64_t inputs, int normed, int fine, float floor, int8_t *coarse,
                       int8_t *rest) {
    const int top = fine ? FINE * TOP : TOP;
    const float least = floor > 0.0f ? floor : 1e-30f;
    /* as integers, non-negative floats have the same order, and negative ones are less than all of them */
    const int32_t mask = floor > 0.0f ? -1 : 0x7fffffff;
    int32_t bits;
    memcpy(&bits, &least, 4);
    for (int64_t k = 0; k < inputs; k++) {
        int32_t other;
        memcpy(&other, x + k, 4);
        other &= mask;
        bits = other > bits ? other : bits;
    }
    float size;
    memcpy(&size, &bits, 4);
    size = size * (float)(1.0 / top);
    int64_t squares = 0;
    if (fine) {
        for (int64_t k = 0; k < inputs; k++) {
            const float level = rounded(x[k] / size), high = rounded(level / FINE);
            coarse[k] = (int8_t)(int32_t)high;
            rest[k] = (int8_t)(int32_t)(level - FINE * high);
            squares += (int64_t)level * (int64_t)level;
        }
        memset(rest + inputs, 0, (size_t)(padded(inputs) - inputs));
    } else {
        for (int64_t k = 0; k < inputs; k++) coarse[k] = (int8_t)(int32_t)rounded(x[k] / size);
    }
    memset(coarse + inputs, 0, (size_t)(padded(inputs) - inputs));
    if (!normed) return size;
    if (!fine)
        for (int64_t k = 0; k < inputs; k++) squares += coarse[k] * coarse[k];
    size = (float)sqrt((double)squares);
    return 1.0f / (size > 1.0f ? size : 1.0f);
}

INLINE float hardswish(float x) {
    float gate = x + 3.0f;
    gate = gate > 0.0f ? gate : 0.0f;
    gate = gate < 6.0f ? gate : 6.0f;
    return x * gate / 6.0f;
}

/* exact.ExactLinear: rows of x, `stride` apart, to [M][N]. */
INLINE void linear(LINEAR_ARGUMENTS) {
    const int64_t inputs = l->matrix.inputs, outputs = l->matrix.outputs, width = padded(inputs);
    for (int64_t m = 0; m < rows; m++) {
        int8_t *coarse = work->coarse + m * width, *rest = work->rest + m * width;
        if (l->fine) work->sizes[m] = to_levels(x + m * stride, inputs, (int)l->normed, 1, l->floor, coarse, rest);
        else work->sizes[m] = to_levels(x + m * stride, inputs, (int)l->normed, 0, l->floor, coarse, rest);
    }
    int32_t sums[ROWS * TILE], sums_of_rest[ROWS * TILE];
    for (int64_t first = 0; first < outputs; first += TILE) {
        const int count = (int)(outputs - first < TILE ? outputs - first : TILE);
        const int8_t *tile = l->matrix.levels + first * width;
        const int32_t *offset = l->matrix.offset + first;
        const float *size = l->size + first, *bias = l->bias + first;
        for (int64_t m = 0; m < rows; m += ROWS) {
            const int64_t some = rows - m < ROWS ? rows - m : ROWS;
            work->way->product(work->coarse + m * width, width, some, width / 4, tile, offset, sums);
            if (l->fine) work->way->product(work->rest + m * width, width, some, width / 4, tile, offset, sums_of_rest);
            for (int64_t i = 0; i < some; i++) {
                float *y = out + (m + i) * outputs + first;
                const float row = work->sizes[m + i];
                if (l->fine)
                    for (int n = 0; n < count; n++)
                        y[n] = ((float)FINE * (float)sums[i * TILE + n] + (float)sums_of_rest[i * TILE + n]) * row *
                                   size[n] + bias[n];
                else
                    for (int n = 0; n < count; n++) y[n] = (float)sums[i * TILE + n] * row * size[n] + bias[n];
                if (swish)
                    for (int n = 0; n < count; n++) y[n] = hardswish(y[n]);
            }
        }
    }
}

/* convolution.CausalDepthwiseConv, of the frames of one utterance; the state, [kernel_size - 1][D], changes in place. */
INLINE void convolve(const Block *b, const float *x, int64_t frames, float *state, float *out) {
    const int64_t dim = b->dim, last = b->kernel_size - 1;
    for (int64_t t = 0; t < frames; t++, x += dim, out += dim) {
        if (last == 0)
            for (int64_t d = 0; d < dim; d++) out[d] = (0.0f + x[d] * b->weight[d]) + b->bias[d];
        else
            for (int64_t d = 0; d < dim; d++) out[d] = (state[d] + x[d] * b->weight[d]) + b->bias[d];
        for (int64_t lag = 1; lag < last; lag++) {
            float *kept = state + (lag - 1) * dim;
            const float *weight = b->weight + lag * dim;
            for (int64_t d = 0; d < dim; d++) kept[d] = kept[dim + d] + x[d] * weight[d];
        }
        if (last) {
            float *kept = state + (last - 1) * dim;
            const float *weight = b->weight + last * dim;
            for (int64_t d = 0; d < dim; d++) kept[d] = 0.0f + x[d] * weight[d];
        }
    }
}

/* convnext.BlockStack: x, (B, T, D), changes in place; of each block's state, (B, kernel_size - 1, D), the next is written. */
INLINE void blocks(BLOCKS_ARGUMENTS) {
    const int64_t rows = batch * frames;
    for (; depth; depth--, block++, state++, next++) {
        const int64_t dim = block->dim, kept = (block->kernel_size - 1) * dim;
        copy(*next, *state, batch * kept);
        for (int64_t b = 0; b < batch; b++)
            convolve(block, x + b * frames * dim, frames, *next + b * kept, work->narrow + b * frames * dim);
        work->way->linear(&block->expand, work->narrow, dim, rows, 1, work->wide, work);
        work->way->linear(&block->contract, work->wide, block->expand.matrix.outputs, rows, 0, work->narrow, work);
        for (int64_t i = 0; i < rows * dim; i++) x[i] = x[i] + work->narrow[i];
    }
}

/* The stages of quantizer.ResidualQuantizer.encode: latent (M, D), codes (M, Q). */
INLINE void quantize(const Quantizer *q, const float *latent, int64_t rows, int64_t stages, int64_t *codes,
                     float *residual, Work *work) {
    const int64_t dim = q->dim - q->semantic_dim, size = q->codebook_size;
    for (int64_t m = 0; m < rows; m++)
        copy(residual + m * dim, latent + m * q->dim + q->semantic_dim, dim);
    int32_t sums[ROWS * TILE];
    for (int64_t s = 0; s < stages; s++) {
        const Stage *stage = q->stages + s;
        const int64_t inputs = stage->matrix.inputs, width = padded(inputs);
        const float *looked_at = s ? residual : latent;
        const int64_t stride = s ? dim : q->dim;
        for (int64_t m = 0; m < rows; m++) {
            int8_t *levels = work->coarse + m * width;
            const float level = to_levels(looked_at + m * stride, inputs, 0, 0, 0.0f, levels, levels);
            work->sizes[m] = level * stage->per_size;
        }
        for (int64_t m = 0; m < rows; m += ROWS) {
            const int64_t some = rows - m < ROWS ? rows - m : ROWS;
            float best[ROWS][TILE];
            int32_t where[ROWS][TILE]; /* the tile in which each column of tiles is largest */
            for (int64_t first = 0; first < size; first += TILE) {
                const int count = (int)(size - first < TILE ? size - first : TILE);
                work->way->product(work->coarse + m * width, width, some, width / 4, stage->matrix.levels + first * width,
                              stage->matrix.offset + first, sums);
                for (int64_t i = 0; i < some; i++) {
                    const float row = work->sizes[m + i];
                    const int32_t *sum = sums + i * TILE;
                    const float *squared = stage->squared + first;
                    if (first == 0) {
                        for (int n = 0; n < TILE; n++) best[i][n] = -INFINITY, where[i][n] = 0;
                    }
                    for (int n = 0; n < count; n++) {
                        const float score = (float)sum[n] * row - squared[n];
                        where[i][n] = score > best[i][n] ? (int32_t)first : where[i][n];
                        best[i][n] = score > best[i][n] ? score : best[i][n];
                    }
                }
            }
            for (int64_t i = 0; i < some; i++) { /* the largest, and the first of equals */
                int64_t code = where[i][0];
                float most = best[i][0];
                for (int n = 1; n < (size < TILE ? size : TILE); n++) {
                    const int64_t other = where[i][n] + n;
                    if (best[i][n] > most || (best[i][n] == most && other < code)) code = other, most = best[i][n];
                }
                codes[(m + i) * stages + s] = code;
                const float *usual = stage->usual + code * dim;
                float *left = residual + (m + i) * dim;
                for (int64_t d = 0; d < dim; d++) left[d] = left[d] - usual[d];
            }
        }
    }
}

INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

INLINE int64_t widest(const Block *block, int64_t depth, int64_t *dim) {
    int64_t hidden = 0;
    for (; depth; depth--, block++) {
        hidden = larger(hidden, block->expand.matrix.outputs);
        *dim = larger(*dim, block->dim);
    }
    return hidden;
}

/* Room for `rows` rows of at most `inputs` inputs. */
static int reserve(Work *work, int64_t rows, int64_t inputs, int64_t dim, int64_t hidden) {
    const size_t m = (size_t)rows, levels = m * (size_t)padded(inputs);
    char *all = malloc(sizeof(float) * m * (size_t)(dim + hidden + 1) + 2 * levels);
    if (!all) return -1;
    work->wide = (float *)all;
    work->narrow = work->wide + m * (size_t)hidden;
    work->sizes = work->narrow + m * (size_t)dim;
    work->coarse = (int8_t *)(work->sizes + m);
    work->rest = work->coarse + levels;
    return 0;
}

INLINE int encode(const Encoder *e, const Quantizer *q, const float *waveform, int64_t batch, int64_t frames,
                  int64_t num_codebooks, const float *const *state, float *const *next, int64_t *codes,
                  const Way *way) {
    const int64_t patches = frames * e->patches, samples = patches * e->patch_length;
    const int64_t past = e->window_length - e->patch_length, heard = past + samples;
    const int64_t rows = batch * patches, patch_dim = e->embed.matrix.outputs, frame_dim = e->merge.matrix.outputs;
    int64_t dim = larger(patch_dim, frame_dim);
    const int64_t hidden = larger(widest(e->patch_blocks, e->patch_depth, &dim), widest(e->frame_blocks, e->frame_depth, &dim));
    const int64_t inputs = larger(larger(e->window_length, larger(dim, hidden)), larger(e->patches * patch_dim, q->dim));
    Work work = {.way = way};
    if (reserve(&work, rows, inputs, dim, hidden)) return -1;
    float *signal = malloc(sizeof(float) * (size_t)(batch * heard + rows * (patch_dim + frame_dim + 2 * q->dim)));
    if (!signal) {
        free(work.wide);
        return -1;
    }
    float *patch = signal + batch * heard, *frame = patch + rows * patch_dim, *latent = frame + rows * frame_dim;
    for (int64_t b = 0; b < batch; b++) {
        float *x = signal + b * heard;
        copy(x, state[0] + b * past, past);
        for (int64_t s = 0; s < samples; s++) x[past + s] = waveform[b * samples + s] * e->gain;
        copy(next[0] + b * past, x + samples, past);
        way->linear(&e->embed, x, e->patch_length, patches, 0, patch + b * patches * patch_dim, &work);
    }
    way->blocks(e->patch_blocks, e->patch_depth, patch, batch, patches, state + 1, next + 1, &work);
    way->linear(&e->merge, patch, e->patches * patch_dim, batch * frames, 0, frame, &work);
    way->blocks(e->frame_blocks, e->frame_depth, frame, batch, frames, state + 1 + e->patch_depth,
           next + 1 + e->patch_depth, &work);
    way->linear(&e->project, frame, frame_dim, batch * frames, 0, latent, &work);
    quantize(q, latent, batch * frames, num_codebooks, codes, latent + batch * frames * q->dim, &work);
    free(signal);
    free(work.wide);
    return 0;
}

INLINE int decode(const Decoder *d, const Quantizer *q, const int64_t *codes, const int64_t *lengths, int64_t batch,
                  int64_t frames, int64_t num_codebooks, const float *const *state, float *const *next,
                  float *waveform, const Way *way) {
    const int64_t patches = frames * d->patches, rows = batch * patches, length = d->patch_length;
    const int64_t frame_dim = d->project.matrix.outputs, patch_dim = d->split.matrix.outputs / d->patches;
    int64_t dim = larger(frame_dim, patch_dim);
    const int64_t hidden = larger(widest(d->frame_blocks, d->frame_depth, &dim), widest(d->patch_blocks, d->patch_depth, &dim));
    const int64_t inputs = larger(larger(dim, hidden), q->dim), wide = d->head.matrix.outputs;
    for (int64_t i = 0; i < batch * frames * num_codebooks; i++)
        if (codes[i] < 0 || codes[i] >= q->codebook_size) return -2;
    Work work = {.way = way};
    if (reserve(&work, rows, inputs, dim, hidden)) return -1;
    float *latent = malloc(sizeof(float) * (size_t)(batch * frames * q->dim + rows * (frame_dim + patch_dim + wide)));
    if (!latent) {
        free(work.wide);
        return -1;
    }
    float *frame = latent + batch * frames * q->dim, *patch = frame + rows * frame_dim;
    float *pieces = patch + rows * patch_dim;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t t = 0; t < frames; t++) {
            float *sum = latent + (b * frames + t) * q->dim;
            const int64_t *code = codes + (b * frames + t) * num_codebooks;
            memset(sum, 0, sizeof(float) * (size_t)q->dim);
            for (int64_t s = 0; t < lengths[b] && s < num_codebooks; s++) {
                const float *vector = q->codebooks + (s * q->codebook_size + code[s]) * q->dim;
                for (int64_t i = 0; i < q->dim; i++) sum[i] = s ? sum[i] + vector[i] : vector[i];
            }
        }
    way->linear(&d->project, latent, q->dim, batch * frames, 0, frame, &work);
    way->blocks(d->frame_blocks, d->frame_depth, frame, batch, frames, state + 1, next + 1, &work);
    way->linear(&d->split, frame, frame_dim, batch * frames, 0, patch, &work);
    way->blocks(d->patch_blocks, d->patch_depth, patch, batch, patches, state + 1 + d->frame_depth,
           next + 1 + d->frame_depth, &work);
    way->linear(&d->head, patch, patch_dim, rows, 0, pieces, &work);
    for (int64_t b = 0; b < batch; b++) {
        const float *tail = state[0] + b * length;
        float *piece = pieces + b * patches * wide;
        for (int64_t p = 0; p < patches; p++, piece += wide) {
            float *y = waveform + (b * patches + p) * length;
            const float gain = piece[2 * length] * piece[2 * length];
            for (int64_t i = 0; i < 2 * length; i++) piece[i] = piece[i] * gain * d->window[i];
            for (int64_t i = 0; i < length; i++) y[i] = piece[i] + tail[i];
            tail = piece + length;
        }
        copy(next[0] + b * length, tail, length);
    }
    free(latent);
    free(work.wide);
    return 0;
}

#define ENCODE_ARGUMENTS \
    const Encoder *e, const Quantizer *q, const float *x, int64_t batch, int64_t frames, int64_t num_codebooks, \
        const float *const *state, float *const *next, int64_t *codes
#define DECODE_ARGUMENTS \
    const Decoder *d, const Quantizer *q, const int64_t *codes, const int64_t *lengths, int64_t batch, int64_t frames, \
        int64_t num_codebooks, const float *const *state, float *const *next, float *x

#define WAY(NAME, INSTRUCTIONS) \
    INSTRUCTIONS APART void linear_##NAME(LINEAR_ARGUMENTS) { linear(l, x, stride, rows, swish, out, work); } \
    INSTRUCTIONS APART void blocks_##NAME(BLOCKS_ARGUMENTS) { \
        blocks(block, depth, x, batch, frames, state, next, work); \
    } \
    static const Way NAME = {product_##NAME, linear_##NAME, blocks_##NAME}; \
    INSTRUCTIONS static int encode_##NAME(ENCODE_ARGUMENTS) { \
        return encode(e, q, x, batch, frames, num_codebooks, state, next, codes, &NAME); \
    } \
    INSTRUCTIONS static int decode_##NAME(DECODE_ARGUMENTS) { \
        return decode(d, q, codes, lengths, batch, frames, num_codebooks, state, next, x, &NAME); \
    }

WAY(anywhere, ANYWHERE)
#ifdef X86
WAY(avx2, AVX2)
WAY(vnni, VNNI)
#endif

/* What the structures take, for a caller that has its own idea of them: one of another version, perhaps. */
EXPORT void speechtok_sizes(int64_t *sizes) {
    sizes[0] = sizeof(Linear);
    sizes[1] = sizeof(Block);
    sizes[2] = sizeof(Stage);
    sizes[3] = sizeof(Quantizer);
    sizes[4] = sizeof(Encoder);
    sizes[5] = sizeof(Decoder);
}

/* How many ways there are to compute on this processor, each faster than the one before; all give the same. */
EXPORT int64_t speechtok_ways(void) {
#ifdef X86
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2")) return 1;
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl")
               ? 3
               : 2;
#else
    return 1;
#endif
}

/* Waveform (B, T * hop_length) to codes (B, T, Q). 0, or -1 if there is no memory. */
EXPORT int speechtok_encode(int64_t way, ENCODE_ARGUMENTS) {
#ifdef X86
    if (way == 2) return encode_vnni(e, q, x, batch, frames, num_codebooks, state, next, codes);
    if (way == 1) return encode_avx2(e, q, x, batch, frames, num_codebooks, state, next, codes);
#endif
    (void)way;
    return encode_anywhere(e, q, x, batch, frames, num_codebooks, state, next, codes);
}

/* Codes (B, T, Q), of which lengths (B,) frames count, to the waveform of the frames before them, (B, T * hop_length).
 * What follows the lengths is a latent of zeros. 0, or -1 if there is no memory, or -2 if a code is out of range. */
EXPORT int speechtok_decode(int64_t way, DECODE_ARGUMENTS) {
#ifdef X86
    if (way == 2) return decode_vnni(d, q, codes, lengths, batch, frames, num_codebooks, state, next, x);
    if (way == 1) return decode_avx2(d, q, codes, lengths, batch, frames, num_codebooks, state, next, x);
#endif
    (void)way;
    return decode_anywhere(d, q, codes, lengths, batch, frames, num_codebooks, state, next, x);
}

/* A shared library that setuptools builds as a Python extension has to have this on some systems; ctypes loads it. */
EXPORT void *PyInit__native(void) { return 0; }
