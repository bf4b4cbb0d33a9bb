/* The convnext family in compiled code: exact.py, convolution.py, convnext.py and quantizer.py, operation by operation,
 * so that the results are equal to the bit.
 *
 * Sums of integers and maxima do not depend on their order and may run in any. Everything else is a float32 operation
 * that IEEE 754 defines, in the order of the Python modules. Compile without contraction (-ffp-contract=off) and
 * without -ffast-math. The code keeps no data between calls: the caller owns the memory, and library.py mirrors the
 * structures below.
 *
 * Every array comes with its size. Each call first checks that the sizes of the model fit each other and that the
 * caller's memory is large enough, and refuses the call otherwise. Whatever the values are, NaN and infinity included,
 * no memory outside of these arrays is read or written, and nothing is undefined.
 *
 * Shapes: B batch, S samples, T frames, Q codebooks, D width, N codebook size; of a matrix product, M rows, K inputs.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(_MSC_VER)
#define EXPORT __declspec(dllexport)
#define INLINE static __forceinline
#define NOINLINE static __declspec(noinline)
#else
#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline)) /* shared by all callers: six times as fast to compile */
#endif
#define GENERIC
#if defined(__x86_64__) && defined(__GNUC__)
#define X86 1
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))
#if defined(__clang__) /* clang ignores the whole target if it does not know one part */
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#else
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,prefer-vector-width=512")))
#endif
#endif
#if defined(__aarch64__) && defined(__GNUC__) && (defined(__linux__) || defined(__APPLE__))
#define DOT_PRODUCT 1
#include <arm_neon.h>
#if defined(__clang__)
#define DOTPROD __attribute__((target("dotprod")))
#else
#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#endif
#ifdef __wasm_simd128__
#include <wasm_simd128.h>
#endif

enum { MAX_LEVEL = 127, FINE_FACTOR = 128, TILE = 64, ROWS = 4 };
enum { OK = 0, NO_MEMORY = -1, CODE_OUT_OF_RANGE = -2, BAD_MODEL = -3, BAD_CALL = -4 };

/* Largest sizes. With them, sums of products fit 32 bits, and the sizes of arrays fit 64 bits. */
enum { MAX_WIDTH = 1 << 16, MAX_OUTPUTS = 1 << 20, MAX_DEPTH = 1 << 10, MAX_KERNEL_SIZE = 1 << 20 };
enum { MAX_CODEBOOKS = 1 << 10, MAX_CODEBOOK_SIZE = 1 << 20, MAX_BANDS = 1 << 10, MAX_PERIOD = 1 << 20 };

typedef struct { /* `size` counts floats */
    const float *data;
    int64_t size;
} Floats;

typedef struct { /* int8 levels of a matrix, [N / TILE][K / 4][TILE][4], both axes padded with zeros */
    int64_t inputs, outputs;
    const int8_t *levels;
    const int32_t *offset; /* [N] 128 times the sum of each output's levels; padded too */
    int64_t levels_size, offset_size;
} Matrix;

typedef struct { /* exact.ExactLinear */
    Matrix matrix;
    int64_t normed, fine;
    float floor; /* 0 if the input has no lower bound */
    Floats scale, bias; /* [N] */
} Linear;

typedef struct { /* convolution.CausalConvNeXtBlock */
    int64_t dim, kernel_size;
    Floats weight, bias; /* of the convolution: [kernel_size][dim], [dim] */
    Linear expand, contract;
} Block;

typedef struct { /* a codebook, as quantizer.ResidualQuantizer.encode uses it */
    Matrix matrix;
    float scale;          /* two divided by the scale of the levels */
    Floats squared_norms; /* [N] of the levels */
    Floats vectors;       /* [N][D - semantic_dim] subtracted from the residual */
} Codebook;

typedef struct {
    int64_t num_codebooks, codebook_size, dim, semantic_dim;
    const Codebook *codebooks; /* [Q] */
    float hold;                /* of codebook 0; 0 for none */
} Quantizer;

typedef struct { /* its state: the samples before the first frame, the states of the blocks, and with hold HOLD_STATE */
    int64_t state_size, patches_per_frame, patch_length, window_length, patch_depth, frame_depth;
    float gain;
    Linear embed, merge, project;
    const Block *patch_blocks, *frame_blocks; /* [patch_depth], [frame_depth] */
    Quantizer quantizer;
} Encoder;

typedef struct {
    int64_t num_codebooks, codebook_size, dim;
    Floats vectors; /* [Q][N][D] */
} Dequantizer;

typedef struct { /* noise.BandNoise: the noise of each band, [bands][period][patch_length] */
    int64_t bands, period;
    float gain_scale;
    Floats table;
} Noise;

typedef struct { /* its state: half of the last piece, then the states of the blocks, and with noise its position */
    int64_t state_size, patches_per_frame, patch_length, patch_depth, frame_depth;
    Linear project, split, head;
    const Block *patch_blocks, *frame_blocks; /* [patch_depth], [frame_depth] */
    Floats window;                            /* [2 * patch_length] */
    Noise noise;
    Dequantizer dequantizer;
} Decoder;

#define HOLD_FRAMES 32 /* as in quantizer.py */
#define HOLD_STATE 2   /* numbers that a state keeps of a Hold */

/* Products of at most ROWS rows of levels, `stride` apart, with one tile of a matrix: integers [ROWS][TILE]. */
typedef void (*Product)(const int8_t *x, int64_t stride, int64_t rows, int64_t groups, const int8_t *tile,
                        const int32_t *offset, int32_t *sums);

typedef struct Isa Isa;

typedef struct {
    int8_t *coarse, *rest; /* [M][K] levels; fine levels are split into multiples of FINE_FACTOR and the rest */
    float *scales;         /* [M] of the levels of each row */
    float *hidden;         /* [M][N] the hidden layer of a block */
    float *branch;         /* [M][D] the output of a block's convolution, then that of its last layer */
    const Isa *isa;
} Workspace;

#define LINEAR_ARGUMENTS \
    const Linear *l, const float *x, int64_t stride, int64_t rows, int hard_swish, float *out, Workspace *work
#define BLOCKS_ARGUMENTS \
    const Block *block, int64_t depth, float *x, int64_t batch, int64_t frames, const float *state, float *next, \
        int64_t state_size, Workspace *work

struct Isa { /* the functions compiled for one instruction set */
    Product product;
    void (*linear)(LINEAR_ARGUMENTS);
    void (*blocks)(BLOCKS_ARGUMENTS);
};

#ifdef __wasm_simd128__
/* WebAssembly knows when it is compiled what it has. The instruction multiplies pairs of 16-bit numbers. Those of relaxed
 * SIMD would be faster, but their results depend on the machine. */
INLINE void product_simd128_rows(const int8_t *x, int64_t stride, const int rows, int64_t groups, const int8_t *tile,
                                 int32_t *sums) {
    enum { PART = 256 }; /* groups whose inputs, as 16-bit numbers, stay in the cache */
    int16_t wide[ROWS * 4 * PART];
    const int parts = rows > 2 ? 1 : rows > 1 ? 2 : 4; /* of 4 outputs: more sums than registers would be slow */
    for (int64_t start = 0; start < groups; start += PART) {
        const int64_t some = groups - start < PART ? groups - start : PART;
        for (int m = 0; m < rows; m++)
            for (int64_t k = 0; k < 4 * some; k++) wide[m * 4 * PART + k] = x[m * stride + 4 * start + k];
        for (int first = 0; first < TILE; first += 4 * parts) {
            v128_t sum[ROWS][8];
            for (int m = 0; m < rows; m++)
                for (int half = 0; half < 2 * parts; half++) sum[m][half] = wasm_i32x4_const_splat(0);
            const int8_t *w = tile + 4 * (start * TILE + first);
            for (int64_t g = 0; g < some; g++, w += 4 * TILE) {
                v128_t v[ROWS];
                for (int m = 0; m < rows; m++) v[m] = wasm_v128_load64_splat(wide + m * 4 * PART + 4 * g);
                for (int half = 0; half < 2 * parts; half++) { /* 2 outputs */
                    const v128_t weights = wasm_i16x8_load8x8(w + 8 * half);
                    for (int m = 0; m < rows; m++)
                        sum[m][half] = wasm_i32x4_add(sum[m][half], wasm_i32x4_dot_i16x8(weights, v[m]));
                }
            }
            for (int m = 0; m < rows; m++)
                for (int part = 0; part < parts; part++) { /* of each output there are two sums */
                    const v128_t a = sum[m][2 * part], b = sum[m][2 * part + 1];
                    v128_t four = wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), wasm_i32x4_shuffle(a, b, 1, 3, 5, 7));
                    int32_t *to = sums + m * TILE + first + 4 * part;
                    if (start) four = wasm_i32x4_add(four, wasm_v128_load(to));
                    wasm_v128_store(to, four);
                }
        }
    }
}

static void product_generic(const int8_t *x, int64_t stride, int64_t rows, int64_t groups, const int8_t *tile,
                            const int32_t *offset, int32_t *sums) {
    (void)offset;
    switch (rows) {
    case 1: product_simd128_rows(x, stride, 1, groups, tile, sums); break;
    case 2: product_simd128_rows(x, stride, 2, groups, tile, sums); break;
    case 3: product_simd128_rows(x, stride, 3, groups, tile, sums); break;
    default: product_simd128_rows(x, stride, 4, groups, tile, sums);
    }
}
#elif defined(__wasm__)
/* Without vectors, one product of 64 bits is that of a weight with two rows. Their sums are less than 2**31: the upper
 * one is found by subtracting the lower one. */
static void product_generic(const int8_t *x, int64_t stride, int64_t rows, int64_t groups, const int8_t *tile,
                            const int32_t *offset, int32_t *sums) {
    (void)offset;
    enum { PART = 64 }; /* groups whose levels stay in the cache */
    uint64_t pairs[ROWS / 2][4 * PART];
    for (int64_t start = 0; start < groups; start += PART) {
        const int some = (int)(groups - start < PART ? groups - start : PART);
        for (int m = 0; m < rows; m += 2)
            for (int k = 0; k < 4 * some; k++) {
                const int8_t *v = x + m * stride + 4 * start + k;
                const int64_t upper = m + 1 < rows ? v[stride] : 0;
                pairs[m / 2][k] = (uint64_t)(int64_t)*v + ((uint64_t)upper << 32);
            }
        for (int m = 0; m < rows; m += 2)
            for (int n = 0; n < TILE; n += 2) {
                const int8_t *w = tile + 4 * (start * TILE + n);
                uint64_t sum[2] = {0, 0};
                for (int g = 0; g < some; g++, w += 4 * TILE)
                    for (int i = 0; i < 4; i++) {
                        const uint64_t pair = pairs[m / 2][4 * g + i];
                        sum[0] += (uint64_t)(int64_t)w[i] * pair;
                        sum[1] += (uint64_t)(int64_t)w[4 + i] * pair;
                    }
                for (int i = 0; i < 2; i++) {
                    const int32_t lower = (int32_t)(uint32_t)sum[i];
                    const int32_t upper = (int32_t)(uint32_t)((sum[i] - (uint64_t)(int64_t)lower) >> 32);
                    int32_t *to = sums + m * TILE + n + i;
                    to[0] = (start ? to[0] : 0) + lower;
                    if (m + 1 < rows) to[TILE] = (start ? to[TILE] : 0) + upper;
                }
            }
    }
}
#else
static void product_generic(const int8_t *x, int64_t stride, int64_t rows, int64_t groups, const int8_t *tile,
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
#endif

#ifdef X86
/* The instruction multiplies unsigned by signed bytes and adds pairs of products in 16 bits. Magnitudes of the weights
 * times inputs with the weights' signs are the products wanted; a pair is at most 2 * MAX_LEVEL**2, which fits. */
AVX2 INLINE void product_avx2_rows(const int8_t *x, int64_t stride, const int rows, int64_t groups, const int8_t *tile,
                                   int32_t *sums) {
    const int parts = rows == 1 ? 8 : rows == 2 ? 4 : 2; /* of 8 outputs: the registers hold their sums for all rows */
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
                const __m256i weights = _mm256_loadu_si256((const __m256i *)w + part);
                const __m256i magnitudes = _mm256_abs_epi8(weights);
                for (int m = 0; m < rows; m++) {
                    const __m256i pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(v[m], weights));
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

/* The instruction multiplies unsigned by signed bytes: inputs are raised by 128, and the sums start at -offset. */
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

#ifdef DOT_PRODUCT
/* The instruction multiplies signed bytes, and adds four products to each sum. */
DOTPROD INLINE void product_dotprod_rows(const int8_t *x, int64_t stride, const int rows, int64_t groups,
                                         const int8_t *tile, int32_t *sums) {
    const int parts = rows > 2 ? 4 : 8; /* of 4 outputs: the registers hold their sums for all rows */
    for (int first = 0; first < TILE; first += 4 * parts) {
        int32x4_t sum[ROWS][8];
        for (int m = 0; m < rows; m++)
            for (int part = 0; part < parts; part++) sum[m][part] = vdupq_n_s32(0);
        const int8_t *w = tile + 4 * first;
        for (int64_t g = 0; g < groups; g++, w += 4 * TILE) {
            int8x16_t v[ROWS];
            for (int m = 0; m < rows; m++) {
                int32_t four;
                memcpy(&four, x + m * stride + 4 * g, 4);
                v[m] = vreinterpretq_s8_s32(vdupq_n_s32(four));
            }
            for (int part = 0; part < parts; part++) {
                const int8x16_t weights = vld1q_s8(w + 16 * part);
                for (int m = 0; m < rows; m++) sum[m][part] = vdotq_s32(sum[m][part], weights, v[m]);
            }
        }
        for (int m = 0; m < rows; m++)
            for (int part = 0; part < parts; part++)
                vst1q_s32(sums + m * TILE + first + 4 * part, sum[m][part]);
    }
}

DOTPROD static void product_dotprod(const int8_t *x, int64_t stride, int64_t rows, int64_t groups, const int8_t *tile,
                                    const int32_t *offset, int32_t *sums) {
    (void)offset;
    switch (rows) {
    case 1: product_dotprod_rows(x, stride, 1, groups, tile, sums); break;
    case 2: product_dotprod_rows(x, stride, 2, groups, tile, sums); break;
    case 3: product_dotprod_rows(x, stride, 3, groups, tile, sums); break;
    default: product_dotprod_rows(x, stride, 4, groups, tile, sums);
    }
}
#endif

/* An empty array may have a null address: the state of a convolution with kernel size 1 is one. */
INLINE void copy(float *to, const float *from, int64_t count) {
    if (count && to != from) memcpy(to, from, sizeof(float) * (size_t)count);
}

INLINE void copy_or_zero(float *to, const float *from, int64_t count) {
    if (from) copy(to, from, count);
    else if (count) memset(to, 0, sizeof(float) * (size_t)count);
}

INLINE int64_t padded(int64_t inputs) { return (inputs + 3) / 4 * 4; }

/* 1.5 * 2**23. A sum with it, for |x| < 2**22, is rounded to the nearest integer, ties to even, which then stands in
 * its lowest bits. Unlike a conversion, reading these bits is defined for NaN and infinity. */
#define ROUNDING 12582912.0f

INLINE int32_t bits_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

/* The rounded number in a sum with ROUNDING, if int8 holds it. */
INLINE int8_t low_byte(float sum) { return (int8_t)(uint8_t)bits_of(sum); }

/* exact.to_levels of one row. Returns the scale of its levels; if `normed`, one divided by their norm. */
INLINE float to_levels(const float *x, int64_t inputs, int normed, int fine, float floor, int8_t *coarse,
                       int8_t *rest) {
    const int max_level = fine ? FINE_FACTOR * MAX_LEVEL : MAX_LEVEL;
    const float min_peak = floor > 0.0f ? floor : 1e-30f;
    /* as integers, non-negative floats keep their order, and negative ones are less than all of them */
    const int32_t mask = floor > 0.0f ? -1 : 0x7fffffff;
    int32_t peak = bits_of(min_peak);
    for (int64_t k = 0; k < inputs; k++) {
        const int32_t bits = bits_of(x[k]) & mask;
        peak = bits > peak ? bits : peak;
    }
    float scale;
    memcpy(&scale, &peak, 4);
    scale = scale * (float)(1.0 / max_level);
    uint64_t squares = 0;
    if (fine) {
        for (int64_t k = 0; k < inputs; k++) {
            const float sum = x[k] / scale + ROUNDING, level = sum - ROUNDING;
            const float high_sum = level / FINE_FACTOR + ROUNDING, high = high_sum - ROUNDING;
            coarse[k] = low_byte(high_sum);
            rest[k] = low_byte(level - FINE_FACTOR * high + ROUNDING);
            const int32_t whole = (int32_t)((uint32_t)bits_of(sum) - (uint32_t)bits_of(ROUNDING));
            squares += (uint64_t)((int64_t)whole * whole);
        }
        memset(rest + inputs, 0, (size_t)(padded(inputs) - inputs));
    } else {
        for (int64_t k = 0; k < inputs; k++) coarse[k] = low_byte(x[k] / scale + ROUNDING);
    }
    memset(coarse + inputs, 0, (size_t)(padded(inputs) - inputs));
    if (!normed) return scale;
    if (!fine) {
        int32_t sum = 0; /* at most 2**30 */
        for (int64_t k = 0; k < inputs; k++) sum += coarse[k] * coarse[k];
        squares = (uint64_t)sum;
    }
    const float root = (float)sqrt((double)(int64_t)squares);
    return 1.0f / (root > 1.0f ? root : 1.0f);
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
        if (l->fine) work->scales[m] = to_levels(x + m * stride, inputs, (int)l->normed, 1, l->floor, coarse, rest);
        else work->scales[m] = to_levels(x + m * stride, inputs, (int)l->normed, 0, l->floor, coarse, rest);
    }
    int32_t sums[ROWS * TILE], rest_sums[ROWS * TILE];
    for (int64_t first = 0; first < outputs; first += TILE) {
        const int count = (int)(outputs - first < TILE ? outputs - first : TILE);
        const int8_t *tile = l->matrix.levels + first * width;
        const int32_t *offset = l->matrix.offset + first;
        const float *scale = l->scale.data + first, *bias = l->bias.data + first;
        for (int64_t m = 0; m < rows; m += ROWS) {
            const int64_t some = rows - m < ROWS ? rows - m : ROWS;
            work->isa->product(work->coarse + m * width, width, some, width / 4, tile, offset, sums);
            if (l->fine) work->isa->product(work->rest + m * width, width, some, width / 4, tile, offset, rest_sums);
            for (int64_t i = 0; i < some; i++) {
                float *y = out + (m + i) * outputs + first;
                const float row = work->scales[m + i];
                if (l->fine)
                    for (int n = 0; n < count; n++)
                        y[n] = ((float)FINE_FACTOR * (float)sums[i * TILE + n] + (float)rest_sums[i * TILE + n]) * row *
                                   scale[n] + bias[n];
                else
                    for (int n = 0; n < count; n++) y[n] = (float)sums[i * TILE + n] * row * scale[n] + bias[n];
                if (hard_swish)
                    for (int n = 0; n < count; n++) y[n] = hardswish(y[n]);
            }
        }
    }
}

/* convolution.CausalDepthwiseConv over the frames of one utterance; updates the state, [kernel_size - 1][D]. */
INLINE void convolve(const Block *b, const float *x, int64_t frames, float *state, float *out) {
    const int64_t dim = b->dim, last = b->kernel_size - 1;
    const float *weights = b->weight.data, *bias = b->bias.data;
    for (int64_t t = 0; t < frames; t++, x += dim, out += dim) {
        if (last == 0)
            for (int64_t d = 0; d < dim; d++) out[d] = (0.0f + x[d] * weights[d]) + bias[d];
        else
            for (int64_t d = 0; d < dim; d++) out[d] = (state[d] + x[d] * weights[d]) + bias[d];
        for (int64_t lag = 1; lag < last; lag++) {
            float *sum = state + (lag - 1) * dim;
            const float *weight = weights + lag * dim;
            for (int64_t d = 0; d < dim; d++) sum[d] = sum[dim + d] + x[d] * weight[d];
        }
        if (last) {
            float *sum = state + (last - 1) * dim;
            const float *weight = weights + last * dim;
            for (int64_t d = 0; d < dim; d++) sum[d] = 0.0f + x[d] * weight[d];
        }
    }
}

/* convnext.BlockStack: updates x, (B, T, D), and writes the next state. The state of a block, [kernel_size - 1][D],
 * follows that of the block before it, and the rows of the batch are `state_size` apart. A null state is zero. */
INLINE void blocks(BLOCKS_ARGUMENTS) {
    const int64_t rows = batch * frames;
    for (; depth; depth--, block++) {
        const int64_t dim = block->dim, size = (block->kernel_size - 1) * dim;
        for (int64_t b = 0; b < batch; b++) {
            float *sums = next + b * state_size;
            copy_or_zero(sums, state ? state + b * state_size : NULL, size);
            convolve(block, x + b * frames * dim, frames, sums, work->branch + b * frames * dim);
        }
        work->isa->linear(&block->expand, work->branch, dim, rows, 1, work->hidden, work);
        work->isa->linear(&block->contract, work->hidden, block->expand.matrix.outputs, rows, 0, work->branch, work);
        for (int64_t i = 0; i < rows * dim; i++) x[i] = x[i] + work->branch[i];
        state = state ? state + size : NULL;
        next += size;
    }
}

/* Where quantizer.hold_codes is in a row of a batch. */
typedef struct {
    int64_t number; /* of the frame, counted from the last one that was free to choose */
    int64_t before; /* code of the frame before */
} Hold;

/* A whole number of a state from 0 to size - 1. What is out of range counts as 0. */
INLINE int64_t hold_number(const float *state, int64_t size) {
    const float value = *(const volatile float *)state;
    return value >= 0.0f && value < (float)size ? (int64_t)value : 0;
}

/* quantizer.hold_codes of one frame: its best code, or the code of the frame before. */
INLINE int64_t hold_code(Hold *hold, float threshold, const float *scores, int64_t best) {
    const int held = hold->number && !(scores[best] - scores[hold->before] > threshold);
    hold->number = (hold->number + 1) % HOLD_FRAMES;
    return hold->before = held ? hold->before : best;
}

/* quantizer.ResidualQuantizer.encode_frames: latent (B, T, D) to codes [B * T][Q]. `holds`, [B], and `scores`,
 * [ROWS][N], belong to q->hold. */
INLINE void quantize(const Quantizer *q, const float *latent, int64_t batch, int64_t frames, int64_t num_codebooks,
                     int64_t *codes, float *residual, Hold *holds, float *scores, Workspace *work) {
    const int64_t dim = q->dim - q->semantic_dim, size = q->codebook_size, rows = batch * frames;
    for (int64_t m = 0; m < rows; m++)
        copy(residual + m * dim, latent + m * q->dim + q->semantic_dim, dim);
    int32_t sums[ROWS * TILE];
    for (int64_t s = 0; s < num_codebooks; s++) {
        const Codebook *codebook = q->codebooks + s;
        const int64_t inputs = codebook->matrix.inputs, width = padded(inputs);
        const float *query = s ? residual : latent;
        const int64_t stride = s ? dim : q->dim;
        for (int64_t m = 0; m < rows; m++) {
            int8_t *levels = work->coarse + m * width;
            const float scale = to_levels(query + m * stride, inputs, 0, 0, 0.0f, levels, levels);
            work->scales[m] = scale * codebook->scale;
        }
        for (int64_t m = 0; m < rows; m += ROWS) {
            const int64_t some = rows - m < ROWS ? rows - m : ROWS;
            float best[ROWS][TILE];
            int32_t best_tile[ROWS][TILE]; /* first code of the tile in which each column is largest */
            for (int64_t first = 0; first < size; first += TILE) {
                const int count = (int)(size - first < TILE ? size - first : TILE);
                work->isa->product(work->coarse + m * width, width, some, width / 4,
                                   codebook->matrix.levels + first * width, codebook->matrix.offset + first, sums);
                for (int64_t i = 0; i < some; i++) {
                    const float row = work->scales[m + i];
                    const int32_t *sum = sums + i * TILE;
                    const float *squared_norms = codebook->squared_norms.data + first;
                    if (first == 0) {
                        for (int n = 0; n < TILE; n++) best[i][n] = -INFINITY, best_tile[i][n] = 0;
                    }
                    for (int n = 0; n < count; n++) {
                        const float score = (float)sum[n] * row - squared_norms[n];
                        best_tile[i][n] = score > best[i][n] ? (int32_t)first : best_tile[i][n];
                        best[i][n] = score > best[i][n] ? score : best[i][n];
                    }
                    if (q->hold > 0.0f && s == 0)
                        for (int n = 0; n < count; n++)
                            scores[i * size + first + n] = (float)sum[n] * row - squared_norms[n];
                }
            }
            for (int64_t i = 0; i < some; i++) { /* the largest score; the first of equals */
                int64_t code = best_tile[i][0];
                float maximum = best[i][0];
                for (int n = 1; n < (size < TILE ? size : TILE); n++) {
                    const int64_t other = best_tile[i][n] + n;
                    if (best[i][n] > maximum || (best[i][n] == maximum && other < code))
                        code = other, maximum = best[i][n];
                }
                if (q->hold > 0.0f && s == 0)
                    code = hold_code(holds + (m + i) / frames, q->hold, scores + i * size, code);
                codes[(m + i) * num_codebooks + s] = code;
                const float *vector = codebook->vectors.data + code * dim;
                float *rest = residual + (m + i) * dim;
                for (int64_t d = 0; d < dim; d++) rest[d] = rest[d] - vector[d];
            }
        }
    }
}

INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

#define MAX_SIZE ((int64_t)(PTRDIFF_MAX / 16))

/* a * b + c; -1 if that is more than MAX_SIZE, or if one of them is negative, such as an earlier -1. */
static int64_t multiply_add(int64_t a, int64_t b, int64_t c) {
    if (a < 0 || b < 0 || c < 0 || c > MAX_SIZE || (b && a > (MAX_SIZE - c) / b)) return -1;
    return a * b + c;
}

/* Elements from the first to the last of `count` parts of `size` elements each, `stride` apart. */
static int64_t extent(int64_t count, int64_t stride, int64_t size) {
    return count && size ? multiply_add(count - 1, stride, size) : 0;
}

static int has_room(const void *memory, int64_t count, int64_t needed) {
    return needed >= 0 && count >= needed && (memory || !needed);
}

static int in_range(int64_t value, int64_t minimum, int64_t maximum) { return value >= minimum && value <= maximum; }

static int floats_fit(const Floats *floats, int64_t size) { return floats->data && floats->size == size; }

static int matrix_fits(const Matrix *m, int64_t inputs, int64_t outputs) {
    const int64_t tiles = (outputs + TILE - 1) / TILE * TILE;
    return m->inputs == inputs && m->outputs == outputs && m->levels && m->levels_size == tiles * padded(inputs) &&
           m->offset && m->offset_size == tiles;
}

static int linear_fits(const Linear *l, int64_t inputs, int64_t outputs) {
    return in_range(inputs, 1, MAX_WIDTH) && in_range(outputs, 1, MAX_OUTPUTS) &&
           matrix_fits(&l->matrix, inputs, outputs) && floats_fit(&l->scale, outputs) && floats_fit(&l->bias, outputs);
}

/* Whether blocks of width `dim` fit; adds their states to `state_size`. */
static int blocks_fit(const Block *block, int64_t depth, int64_t dim, int64_t *state_size) {
    if (!in_range(depth, 0, MAX_DEPTH) || !in_range(dim, 1, MAX_WIDTH) || (depth && !block)) return 0;
    for (; depth; depth--, block++) {
        const int64_t hidden = block->expand.matrix.outputs;
        if (block->dim != dim || !in_range(block->kernel_size, 1, MAX_KERNEL_SIZE) ||
            !floats_fit(&block->weight, block->kernel_size * dim) || !floats_fit(&block->bias, dim) ||
            !linear_fits(&block->expand, dim, hidden) || !linear_fits(&block->contract, hidden, dim))
            return 0;
        *state_size += (block->kernel_size - 1) * dim;
    }
    return 1;
}

static int quantizer_fits(const Quantizer *q) {
    const int64_t size = q->codebook_size;
    if (!in_range(q->num_codebooks, 1, MAX_CODEBOOKS) || !in_range(size, 1, MAX_CODEBOOK_SIZE) ||
        !in_range(q->dim, 1, MAX_WIDTH) || !in_range(q->semantic_dim, 0, q->dim - 1) || !q->codebooks)
        return 0;
    for (int64_t s = 0; s < q->num_codebooks; s++) {
        const Codebook *codebook = q->codebooks + s;
        const int64_t acoustic_dim = q->dim - q->semantic_dim;
        const int64_t inputs = s || !q->semantic_dim ? acoustic_dim : q->semantic_dim;
        if (!matrix_fits(&codebook->matrix, inputs, size) || !floats_fit(&codebook->squared_norms, size) ||
            !floats_fit(&codebook->vectors, size * acoustic_dim))
            return 0;
    }
    return 1;
}

static int encoder_fits(const Encoder *e) {
    if (!e || !in_range(e->patch_length, 1, MAX_WIDTH) || !in_range(e->window_length, e->patch_length, MAX_WIDTH) ||
        !in_range(e->patches_per_frame, 1, MAX_WIDTH) || !quantizer_fits(&e->quantizer))
        return 0;
    const int64_t patch_dim = e->embed.matrix.outputs, frame_dim = e->merge.matrix.outputs;
    int64_t state_size = e->window_length - e->patch_length;
    return blocks_fit(e->patch_blocks, e->patch_depth, patch_dim, &state_size) &&
           blocks_fit(e->frame_blocks, e->frame_depth, frame_dim, &state_size) &&
           linear_fits(&e->embed, e->window_length, patch_dim) &&
           linear_fits(&e->merge, e->patches_per_frame * patch_dim, frame_dim) &&
           linear_fits(&e->project, frame_dim, e->quantizer.dim) && e->quantizer.hold >= 0.0f &&
           e->state_size == state_size + (e->quantizer.hold > 0.0f ? HOLD_STATE : 0);
}

static int decoder_fits(const Decoder *d) {
    if (!d || !in_range(d->patch_length, 1, MAX_WIDTH) || !in_range(d->patches_per_frame, 1, MAX_WIDTH)) return 0;
    const Dequantizer *c = &d->dequantizer;
    const Noise *noise = &d->noise;
    const int64_t frame_dim = d->project.matrix.outputs, patch_dim = d->head.matrix.inputs;
    int64_t state_size = d->patch_length + (noise->bands ? 1 : 0);
    return in_range(c->num_codebooks, 1, MAX_CODEBOOKS) && in_range(c->codebook_size, 1, MAX_CODEBOOK_SIZE) &&
           in_range(c->dim, 1, MAX_WIDTH) &&
           floats_fit(&c->vectors, c->num_codebooks * c->codebook_size * c->dim) &&
           in_range(noise->bands, 0, MAX_BANDS) &&
           (!noise->bands || (in_range(noise->period, 1, MAX_PERIOD) &&
                              floats_fit(&noise->table, noise->bands * noise->period * d->patch_length))) &&
           floats_fit(&d->window, 2 * d->patch_length) &&
           blocks_fit(d->frame_blocks, d->frame_depth, frame_dim, &state_size) &&
           blocks_fit(d->patch_blocks, d->patch_depth, patch_dim, &state_size) &&
           linear_fits(&d->project, c->dim, frame_dim) &&
           linear_fits(&d->split, frame_dim, d->patches_per_frame * patch_dim) &&
           linear_fits(&d->head, patch_dim, 2 * d->patch_length + 1 + noise->bands) && d->state_size == state_size;
}

/* The largest hidden width of some blocks; raises `dim` to their largest width. */
INLINE int64_t max_hidden(const Block *block, int64_t depth, int64_t *dim) {
    int64_t hidden = 0;
    for (; depth; depth--, block++) {
        hidden = larger(hidden, block->expand.matrix.outputs);
        *dim = larger(*dim, block->dim);
    }
    return hidden;
}

INLINE int64_t stack_state_size(const Block *block, int64_t depth) {
    int64_t size = 0;
    for (; depth; depth--, block++) size += (block->kernel_size - 1) * block->dim;
    return size;
}

/* Allocate for `rows` rows of at most `inputs` inputs; free(work->hidden) releases it. */
static int allocate(Workspace *work, int64_t rows, int64_t inputs, int64_t dim, int64_t hidden) {
    const int64_t bytes = multiply_add(rows, 4 * (dim + hidden + 1) + 2 * padded(inputs), 1);
    char *memory = bytes < 0 ? NULL : malloc((size_t)bytes);
    if (!memory) return NO_MEMORY;
    work->hidden = (float *)memory;
    work->branch = work->hidden + rows * hidden;
    work->scales = work->branch + rows * dim;
    work->coarse = (int8_t *)(work->scales + rows);
    work->rest = work->coarse + rows * padded(inputs);
    return OK;
}

/* The caller may change its memory meanwhile: what decides on an address is read once. */
INLINE int64_t read_once(const int64_t *value) { return *(const volatile int64_t *)value; }

#define ENCODE_ARGUMENTS \
    const Encoder *e, int64_t batch, int64_t start, int64_t first, int64_t stop, const float *waveform, \
        int64_t waveform_count, int64_t waveform_stride, int64_t num_codebooks, const float *state, \
        int64_t state_count, float *next, int64_t next_count, int64_t *codes, int64_t codes_count, \
        const int64_t *codes_strides
#define DECODE_ARGUMENTS \
    const Decoder *d, int64_t batch, int64_t start, int64_t first, int64_t stop, const int64_t *codes, \
        int64_t codes_count, const int64_t *codes_strides, int64_t num_codebooks, int64_t num_frames, \
        const int64_t *lengths, int64_t lengths_count, const float *state, int64_t state_count, float *next, \
        int64_t next_count, float *waveform, int64_t waveform_count, int64_t waveform_stride
#define ENCODE_VALUES \
    e, batch, start, first, stop, waveform, waveform_count, waveform_stride, num_codebooks, state, state_count, next, \
        next_count, codes, codes_count, codes_strides
#define DECODE_VALUES \
    d, batch, start, first, stop, codes, codes_count, codes_strides, num_codebooks, num_frames, lengths, \
        lengths_count, state, state_count, next, next_count, waveform, waveform_count, waveform_stride

static int frames_fit(int64_t batch, int64_t start, int64_t first, int64_t stop) {
    return batch >= 0 && start >= 0 && first >= start && stop >= first;
}

/* Whether there is room for both states. They are the same memory, or apart. */
static int states_fit(const float *state, int64_t state_count, const float *next, int64_t next_count, int64_t batch,
                      int64_t state_size) {
    const int64_t needed = multiply_add(batch, state_size, 0);
    if (!has_room(state, state_count, needed) || !has_room(next, next_count, needed)) return 0;
    const uintptr_t a = (uintptr_t)state, b = (uintptr_t)next, bytes = sizeof(float) * (size_t)needed;
    return a == b || (a < b ? b - a : a - b) >= bytes;
}

static int codes_fit(const int64_t *codes, int64_t count, const int64_t *strides, int64_t batch, int64_t num_codebooks,
                     int64_t frames) {
    if (!strides) return 0;
    const int64_t row = extent(num_codebooks, strides[1], extent(frames, strides[2], 1));
    return has_room(codes, count, extent(batch, strides[0], row));
}

static int check_encode(ENCODE_ARGUMENTS) {
    if (!encoder_fits(e)) return BAD_MODEL;
    const int64_t samples = multiply_add(stop, e->patches_per_frame * e->patch_length, 0);
    const int fits = frames_fit(batch, start, first, stop) && in_range(num_codebooks, 1, e->quantizer.num_codebooks) &&
                     has_room(waveform, waveform_count, extent(batch, waveform_stride, samples)) &&
                     states_fit(state, state_count, next, next_count, batch, e->state_size) &&
                     codes_fit(codes, codes_count, codes_strides, batch, num_codebooks, stop);
    return fits ? OK : BAD_CALL;
}

static int check_decode(DECODE_ARGUMENTS) {
    if (!decoder_fits(d)) return BAD_MODEL;
    const int64_t samples = multiply_add(stop, d->patches_per_frame * d->patch_length, 0);
    const int64_t read = num_frames < stop ? num_frames : stop;
    const int fits = frames_fit(batch, start, first, stop) && num_frames >= 0 &&
                     in_range(num_codebooks, 0, d->dequantizer.num_codebooks) &&
                     codes_fit(codes, codes_count, codes_strides, batch, num_codebooks, read) &&
                     (!lengths || lengths_count >= batch) &&
                     states_fit(state, state_count, next, next_count, batch, d->state_size) &&
                     has_room(waveform, waveform_count, extent(batch, waveform_stride, samples));
    return fits ? OK : BAD_CALL;
}

INLINE int encode(ENCODE_ARGUMENTS, const Isa *isa) {
    const int status = check_encode(ENCODE_VALUES);
    /* rows without frames and state take no memory: their number has no bound */
    if (status || !batch || (stop == start && !e->state_size)) return status;
    const Quantizer *q = &e->quantizer;
    const int64_t frames = stop - start, patches = frames * e->patches_per_frame;
    const int64_t hop = e->patches_per_frame * e->patch_length, samples = frames * hop;
    const int64_t past = e->window_length - e->patch_length, length = past + samples;
    const int64_t rows = multiply_add(batch, patches, 0), frame_rows = multiply_add(batch, frames, 0);
    const int64_t patch_dim = e->embed.matrix.outputs, frame_dim = e->merge.matrix.outputs;
    int64_t dim = larger(patch_dim, frame_dim);
    const int64_t hidden =
        larger(max_hidden(e->patch_blocks, e->patch_depth, &dim), max_hidden(e->frame_blocks, e->frame_depth, &dim));
    const int64_t inputs =
        larger(larger(e->window_length, larger(dim, hidden)), larger(e->patches_per_frame * patch_dim, q->dim));
    Workspace work = {.isa = isa};
    if (allocate(&work, rows, inputs, dim, hidden)) return NO_MEMORY;
    const int holding = q->hold > 0.0f;
    const int64_t values = multiply_add(batch, length, multiply_add(rows, patch_dim + frame_dim + 2 * q->dim, 0));
    const int64_t floats = multiply_add(1, values, holding ? ROWS * q->codebook_size : 0);
    const int64_t whole = multiply_add(frame_rows, num_codebooks, multiply_add(2, holding ? batch : 0, 1));
    const int64_t bytes = multiply_add(8, whole, multiply_add(4, floats, 0));
    float *signal = bytes < 0 ? NULL : malloc((size_t)bytes);
    if (!signal) {
        free(work.hidden);
        return NO_MEMORY;
    }
    float *patch = signal + batch * length, *frame = patch + rows * patch_dim, *latent = frame + rows * frame_dim;
    float *residual = latent + frame_rows * q->dim, *scores = residual + frame_rows * q->dim;
    float *end = scores + (holding ? ROWS * q->codebook_size : 0);
    int64_t *found = (int64_t *)(end + (end - signal) % 2); /* aligned as malloc is */
    Hold *holds = (Hold *)(found + frame_rows * num_codebooks);
    if (!e->state_size) state = next = signal;              /* their addresses may be null */
    for (int64_t b = 0; b < batch; b++) {
        float *x = signal + b * length;
        const float *given = samples ? waveform + b * waveform_stride + start * hop : NULL;
        copy_or_zero(x, start ? NULL : state + b * e->state_size, past);
        for (int64_t s = 0; s < samples; s++) x[past + s] = given[s] * e->gain;
        copy(next + b * e->state_size, x + samples, past);
        isa->linear(&e->embed, x, e->patch_length, patches, 0, patch + b * patches * patch_dim, &work);
    }
    const int64_t patch_state = past, frame_state = past + stack_state_size(e->patch_blocks, e->patch_depth);
    isa->blocks(e->patch_blocks, e->patch_depth, patch, batch, patches, start ? NULL : state + patch_state,
                next + patch_state, e->state_size, &work);
    isa->linear(&e->merge, patch, e->patches_per_frame * patch_dim, frame_rows, 0, frame, &work);
    isa->blocks(e->frame_blocks, e->frame_depth, frame, batch, frames, start ? NULL : state + frame_state,
                next + frame_state, e->state_size, &work);
    isa->linear(&e->project, frame, frame_dim, frame_rows, 0, latent, &work);
    const int64_t hold_state = e->state_size - HOLD_STATE;
    for (int64_t b = 0; holding && b < batch; b++) { /* a warm-up is free to choose at least once */
        const float *past = state + b * e->state_size + hold_state;
        holds[b].number = (hold_number(past, HOLD_FRAMES) + start) % HOLD_FRAMES;
        holds[b].before = hold_number(past + 1, q->codebook_size);
    }
    quantize(q, latent, batch, frames, num_codebooks, found, residual, holds, scores, &work);
    for (int64_t b = 0; holding && b < batch; b++) {
        next[b * e->state_size + hold_state] = (float)holds[b].number;
        next[b * e->state_size + hold_state + 1] = (float)holds[b].before;
    }
    for (int64_t b = 0; b < batch; b++)
        for (int64_t t = first; t < stop; t++)
            for (int64_t s = 0; s < num_codebooks; s++)
                codes[b * codes_strides[0] + s * codes_strides[1] + t * codes_strides[2]] =
                    found[(b * frames + t - start) * num_codebooks + s];
    free(signal);
    free(work.hidden);
    return OK;
}

/* quantizer.ResidualQuantizer.decode: codes to the latent, (B, T, D), which is zero where a row has no codes. */
INLINE int dequantize(const Dequantizer *c, int64_t batch, int64_t start, int64_t stop, const int64_t *codes,
                      const int64_t *strides, int64_t num_codebooks, int64_t num_frames, const int64_t *lengths,
                      float *latent) {
    for (int64_t b = 0; b < batch; b++)
        for (int64_t t = start; t < stop; t++, latent += c->dim) {
            memset(latent, 0, sizeof(float) * (size_t)c->dim);
            for (int64_t s = 0; t < num_frames && s < num_codebooks; s++) {
                const int64_t code = read_once(codes + b * strides[0] + s * strides[1] + t * strides[2]);
                if (code < 0 || code >= c->codebook_size) return CODE_OUT_OF_RANGE;
                if (lengths && t >= lengths[b]) continue;
                const float *vector = c->vectors.data + (s * c->codebook_size + code) * c->dim;
                for (int64_t i = 0; i < c->dim; i++) latent[i] = s ? latent[i] + vector[i] : vector[i];
            }
        }
    return OK;
}

/* The position, in patches, that is `patches` after the one in a state. */
INLINE int64_t noise_position(const Noise *noise, const float *state, int64_t patches) {
    const float position = *(const volatile float *)state;
    const int valid = position >= 0.0f && position < (float)noise->period;
    return ((valid ? (int64_t)position : 0) + patches) % noise->period;
}

/* noise.BandNoise.forward of one piece, [2 * length], at a position. Returns the next position. */
INLINE int64_t add_noise(const Noise *noise, const float *roots, int64_t position, int64_t length, float *piece) {
    const int64_t next = (position + 1) % noise->period;
    for (int64_t band = 0; band < noise->bands; band++) {
        const float *values = noise->table.data + band * noise->period * length;
        const float *first = values + position * length, *second = values + next * length;
        const float gain = roots[band] * roots[band] * noise->gain_scale;
        for (int64_t i = 0; i < length; i++) piece[i] = piece[i] + gain * first[i];
        for (int64_t i = 0; i < length; i++) piece[length + i] = piece[length + i] + gain * second[i];
    }
    return next;
}

INLINE int decode(DECODE_ARGUMENTS, const Isa *isa) {
    int status = check_decode(DECODE_VALUES);
    if (status || !batch) return status;
    const int64_t frames = stop - start, patches = frames * d->patches_per_frame;
    const int64_t rows = multiply_add(batch, patches, 0), frame_rows = multiply_add(batch, frames, 0);
    const int64_t length = d->patch_length, latent_dim = d->dequantizer.dim, frame_dim = d->project.matrix.outputs;
    const int64_t patch_dim = d->head.matrix.inputs, head_dim = d->head.matrix.outputs;
    const float *window = d->window.data;
    int64_t dim = larger(frame_dim, patch_dim);
    const int64_t hidden =
        larger(max_hidden(d->frame_blocks, d->frame_depth, &dim), max_hidden(d->patch_blocks, d->patch_depth, &dim));
    const int64_t inputs = larger(larger(dim, hidden), latent_dim);
    Workspace work = {.isa = isa};
    if (allocate(&work, rows, inputs, dim, hidden)) return NO_MEMORY;
    const int64_t values =
        multiply_add(frame_rows, latent_dim, multiply_add(rows, frame_dim + patch_dim + head_dim, 1));
    const int64_t bytes = multiply_add(4, values, 0);
    float *latent = bytes < 0 ? NULL : malloc((size_t)bytes);
    if (!latent) {
        free(work.hidden);
        return NO_MEMORY;
    }
    float *frame = latent + frame_rows * latent_dim, *patch = frame + rows * frame_dim;
    float *pieces = patch + rows * patch_dim;
    status = dequantize(&d->dequantizer, batch, start, stop, codes, codes_strides, num_codebooks, num_frames,
                            lengths, latent);
    if (status) goto end;
    isa->linear(&d->project, latent, latent_dim, frame_rows, 0, frame, &work);
    const int64_t frame_state = length, patch_state = length + stack_state_size(d->frame_blocks, d->frame_depth);
    isa->blocks(d->frame_blocks, d->frame_depth, frame, batch, frames, start ? NULL : state + frame_state,
                next + frame_state, d->state_size, &work);
    isa->linear(&d->split, frame, frame_dim, frame_rows, 0, patch, &work);
    isa->blocks(d->patch_blocks, d->patch_depth, patch, batch, patches, start ? NULL : state + patch_state,
                next + patch_state, d->state_size, &work);
    isa->linear(&d->head, patch, patch_dim, rows, 0, pieces, &work);
    const int64_t first_patch = (first - start) * d->patches_per_frame;
    for (int64_t b = 0; b < batch; b++) { /* overlap and add */
        float *piece = pieces + b * patches * head_dim, *tail = next + b * d->state_size;
        float *y = stop ? waveform + b * waveform_stride + first * d->patches_per_frame * length : NULL;
        const float *last = state + (b + 1) * d->state_size - 1;
        int64_t position = d->noise.bands ? noise_position(&d->noise, last, start * d->patches_per_frame) : 0;
        copy_or_zero(tail, start ? NULL : state + b * d->state_size, length);
        for (int64_t p = 0; p < patches; p++, piece += head_dim) {
            const float gain = piece[2 * length] * piece[2 * length];
            for (int64_t i = 0; i < 2 * length; i++) piece[i] = piece[i] * gain;
            if (d->noise.bands) position = add_noise(&d->noise, piece + 2 * length + 1, position, length, piece);
            for (int64_t i = 0; i < 2 * length; i++) piece[i] = piece[i] * window[i];
            if (p >= first_patch) {
                for (int64_t i = 0; i < length; i++) y[i] = piece[i] + tail[i];
                y += length;
            }
            copy(tail, piece + length, length);
        }
        if (d->noise.bands) next[(b + 1) * d->state_size - 1] = (float)position;
    }
end:
    free(latent);
    free(work.hidden);
    return status;
}

#define COMPILE_FOR(ISA, TARGET) \
    TARGET NOINLINE void linear_##ISA(LINEAR_ARGUMENTS) { linear(l, x, stride, rows, hard_swish, out, work); } \
    TARGET NOINLINE void blocks_##ISA(BLOCKS_ARGUMENTS) { \
        blocks(block, depth, x, batch, frames, state, next, state_size, work); \
    } \
    static const Isa ISA = {product_##ISA, linear_##ISA, blocks_##ISA}; \
    TARGET static int encode_##ISA(ENCODE_ARGUMENTS) { \
        return encode(ENCODE_VALUES, &ISA); \
    } \
    TARGET static int decode_##ISA(DECODE_ARGUMENTS) { \
        return decode(DECODE_VALUES, &ISA); \
    }

COMPILE_FOR(generic, GENERIC)
#ifdef X86
COMPILE_FOR(avx2, AVX2)
COMPILE_FOR(vnni, VNNI)
#endif
#ifdef DOT_PRODUCT
COMPILE_FOR(dotprod, DOTPROD)
#endif

/* Sizes of the structures, by which a caller notices that it was written for another version. */
EXPORT void speechtok_sizes(int64_t *sizes) {
    sizes[0] = sizeof(Linear);
    sizes[1] = sizeof(Block);
    sizes[2] = sizeof(Codebook);
    sizes[3] = sizeof(Encoder);
    sizes[4] = sizeof(Decoder);
}

#if defined(DOT_PRODUCT) && defined(__linux__) && !defined(HWCAP_ASIMDDP)
#define HWCAP_ASIMDDP (1 << 20)
#endif

/* Number of instruction sets that this processor has, from the slowest to the fastest: the first ones of generic, AVX2,
 * AVX-512 with VNNI on x86-64, and of generic, dot products on ARM. All give equal results. */
EXPORT int64_t speechtok_num_isas(void) {
#ifdef X86
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2")) return 1;
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl")
               ? 3
               : 2;
#elif defined(DOT_PRODUCT) && defined(__linux__)
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? 2 : 1;
#elif defined(DOT_PRODUCT) /* all of Apple's processors for computers have them, and compilers say so for phones */
#if defined(__ARM_FEATURE_DOTPROD)
    return 2;
#else
    return 1;
#endif
#else
    return 1;
#endif
}

static int has_isa(int64_t isa) { return in_range(isa, 0, speechtok_num_isas() - 1); }

/* Whether the sizes of an encoder fit each other: OK or BAD_MODEL. */
EXPORT int speechtok_check_encoder(const Encoder *e) { return encoder_fits(e) ? OK : BAD_MODEL; }

/* Whether the sizes of a decoder fit each other: OK or BAD_MODEL. */
EXPORT int speechtok_check_decoder(const Decoder *d) { return decoder_fits(d) ? OK : BAD_MODEL; }

/* Encode frames start ≤ t < stop of a waveform, (B, S), whose rows are `waveform_stride` apart. Codes are written from
 * frame `first` on, at the given strides of row, codebook and frame. The states have the shape [B][state_size]; `state`
 * precedes frame 0; a later `start` begins with a state of zeros. `state` and `next` may be the same; no other arrays
 * overlap. Each count is that of the elements from the address before it on.
 *
 * Returns OK, NO_MEMORY, or before anything is written BAD_MODEL or BAD_CALL: a count is too small, a frame, row,
 * codebook or stride is out of range, or this processor does not have the instruction set. */
EXPORT int speechtok_encode(int64_t isa, ENCODE_ARGUMENTS) {
    if (!has_isa(isa)) return BAD_CALL;
#ifdef X86
    if (isa == 2) return encode_vnni(ENCODE_VALUES);
    if (isa == 1) return encode_avx2(ENCODE_VALUES);
#endif
#ifdef DOT_PRODUCT
    if (isa == 1) return encode_dotprod(ENCODE_VALUES);
#endif
    return encode_generic(ENCODE_VALUES);
}

/* Decode frames start ≤ t < stop to a waveform, (B, S), which is late by one frame and written from frame `first` on.
 * `codes` has `num_frames` frames, of which the first lengths[b] of row b count; all count if `lengths` is null. The
 * latent of other frames is zero. States, counts and results are those of speechtok_encode; the position of the noise
 * is used from any `start` on. Also returns CODE_OUT_OF_RANGE, before anything is written. */
EXPORT int speechtok_decode(int64_t isa, DECODE_ARGUMENTS) {
    if (!has_isa(isa)) return BAD_CALL;
#ifdef X86
    if (isa == 2) return decode_vnni(DECODE_VALUES);
    if (isa == 1) return decode_avx2(DECODE_VALUES);
#endif
#ifdef DOT_PRODUCT
    if (isa == 1) return decode_dotprod(DECODE_VALUES);
#endif
    return decode_generic(DECODE_VALUES);
}

#ifdef SPEECHTOK_VOICE
#include "voice.h"
#endif

/* setuptools builds the library as a Python extension, for which some linkers require this symbol; ctypes loads it. */
EXPORT void *PyInit__native(void) { return 0; }
