#include "packed.h"

#include <math.h>
#include <string.h>

#include "levels.h"
#include "memory.h"
#include "sha256.h"

#define MAGIC "STPACK1\n"

enum { MAGIC_SIZE = 8, DIGEST_SIZE = 32, MAX_LEVEL = 127, MAX_SUM = (1 << 24) / MAX_LEVEL };
enum { HALF = 0, SINGLE = 1 }; /* types of the values of a weight that is not a matrix of levels */

static void digest_of(const uint8_t *data, size_t size, uint8_t digest[DIGEST_SIZE]) {
    char digits[17];
    Sha256 hash;
    st_sha256_start(&hash);
    st_sha256_update(&hash, data, size);
    st_sha256_fingerprint(&hash, digits); /* which is its beginning */
    for (int i = 0; i < DIGEST_SIZE; i++) digest[i] = (uint8_t)(hash.state[i / 4] >> (24 - 8 * (i % 4)));
}

/* Whether a layer multiplies by this weight as whole numbers. */
static bool is_matrix(const Weight *weight) {
    const size_t length = strlen(weight->name);
    return weight->rank == 2 && length > 7 && !strcmp(weight->name + length - 7, ".weight") &&
           !strstr(weight->name, ".conv.");
}

static float from_half(uint16_t half) {
    const int exponent = half >> 10 & 31, fraction = half & 0x3ff;
    const float value = exponent ? ldexpf((float)(fraction + 1024), exponent - 25) : ldexpf((float)fraction, -24);
    return half & 0x8000 ? -value : value;
}

/* The half-precision number that equals a value; false if there is none. */
static bool to_half(float value, uint16_t *half) {
    int exponent;
    const float magnitude = fabsf(value), fraction = frexpf(magnitude, &exponent); /* from 0.5 to 1 */
    if (!(magnitude <= 65504.0f)) return false;
    const float steps = exponent < -13 || !magnitude ? ldexpf(magnitude, 24) : ldexpf(fraction, 11);
    if (steps != floorf(steps)) return false;
    const int whole = (int)steps;
    *half = (uint16_t)((signbit(value) ? 0x8000 : 0) |
                       (exponent < -13 || !magnitude ? whole : (exponent + 14) << 10 | (whole & 0x3ff)));
    return true;
}

static bool fits_halves(const Weight *weight) {
    uint16_t half;
    for (int64_t i = 0; i < weight->count; i++)
        if (!to_half(weight->values[i], &half)) return false;
    return true;
}

/* Bytes of a weight; -1 if they are too many. */
static int64_t packed_size_of(const Weight *weight, int type) {
    if (!is_matrix(weight)) return st_product(weight->count, type == HALF ? 2 : 4);
    const int64_t scales = st_product(weight->shape[0], 4);
    return scales < 0 || weight->count < 0 ? -1 : scales + weight->count;
}

static speechtok_status write_weight(const Weight *weight, int type, uint8_t *to) {
    if (is_matrix(weight)) {
        float *scales = st_array(weight->shape[0], sizeof *scales);
        if (!scales) return st_no_memory();
        st_weight_levels(weight->values, weight->shape[0], weight->shape[1], weight->shape[1], false,
                         (int8_t *)to + 4 * weight->shape[0], scales);
        memcpy(to, scales, 4 * (size_t)weight->shape[0]);
        free(scales);
    } else if (type == SINGLE) {
        memcpy(to, weight->values, 4 * (size_t)weight->count);
    } else {
        for (int64_t i = 0; i < weight->count; i++) {
            uint16_t half = 0;
            to_half(weight->values[i], &half);
            memcpy(to + 2 * i, &half, 2);
        }
    }
    return SPEECHTOK_OK;
}

speechtok_status st_pack(const void *config, size_t config_size, const void *weights, size_t weights_size,
                         uint8_t **packed, size_t *packed_size) {
    Checkpoint checkpoint;
    uint8_t *types = NULL;
    *packed = NULL;
    speechtok_status status = st_read_checkpoint(config, config_size, weights, weights_size, &checkpoint);
    const int64_t count = checkpoint.num_weights;
    if (!status && !(types = st_array(count, 1))) status = st_no_memory();
    size_t size = MAGIC_SIZE + 4 + config_size + DIGEST_SIZE;
    for (int64_t i = 0; i < count && !status; i++) { /* all sizes are those of arrays in memory */
        types[i] = is_matrix(checkpoint.weights + i) || fits_halves(checkpoint.weights + i) ? HALF : SINGLE;
        size += 1 + (size_t)packed_size_of(checkpoint.weights + i, types[i]);
    }
    if (!status && !(*packed = malloc(size))) status = st_no_memory();
    if (!status) {
        const uint32_t length = (uint32_t)config_size;
        uint8_t *to = *packed;
        memcpy(to, MAGIC, MAGIC_SIZE);
        memcpy(to + MAGIC_SIZE, &length, 4);
        memcpy(to + MAGIC_SIZE + 4, config, config_size);
        to += MAGIC_SIZE + 4 + config_size;
        for (int64_t i = 0; i < count && !status; i++) {
            *to++ = types[i];
            status = write_weight(checkpoint.weights + i, types[i], to);
            to += packed_size_of(checkpoint.weights + i, types[i]);
        }
        digest_of(*packed, size - DIGEST_SIZE, to);
        *packed_size = size;
    }
    if (status) {
        free(*packed);
        *packed = NULL;
    }
    free(types);
    st_free_checkpoint(&checkpoint);
    return status;
}

/* Sums of the products of any input with a row of levels are exact in float32. */
static bool are_levels(const int8_t *levels, int64_t outputs, int64_t inputs) {
    for (int64_t n = 0; n < outputs; n++, levels += inputs) {
        int64_t sum = 0;
        for (int64_t k = 0; k < inputs; k++) {
            if (levels[k] < -MAX_LEVEL) return false;
            sum += levels[k] < 0 ? -levels[k] : levels[k];
        }
        if (sum > MAX_SUM) return false;
    }
    return true;
}

static bool are_finite(const float *values, int64_t count, float above) {
    bool finite = true;
    for (int64_t i = 0; i < count; i++) finite &= values[i] > above && values[i] < INFINITY;
    return finite;
}

static speechtok_status read_weight(Weight *weight, int type, const uint8_t *from) {
    const int64_t count = is_matrix(weight) ? weight->shape[0] : weight->count;
    weight->values = st_array(count, sizeof *weight->values);
    if (!weight->values) return st_no_memory();
    if (is_matrix(weight) || type == SINGLE) {
        memcpy(weight->values, from, 4 * (size_t)count);
    } else {
        for (int64_t i = 0; i < count; i++) {
            uint16_t half;
            memcpy(&half, from + 2 * i, 2);
            weight->values[i] = (half & 0x7c00) == 0x7c00 ? INFINITY : from_half(half);
        }
    }
    bool usable = are_finite(weight->values, count, is_matrix(weight) ? 0.0f : -INFINITY);
    if (is_matrix(weight)) {
        weight->levels = (const int8_t *)from + 4 * count;
        usable = usable && are_levels(weight->levels, weight->shape[0], weight->shape[1]);
    }
    return usable ? SPEECHTOK_OK : st_fail(SPEECHTOK_BAD_FILE, "%s holds values that cannot be used", weight->name);
}

static speechtok_status read_weights(Checkpoint *checkpoint, const uint8_t *from, const uint8_t *end) {
    speechtok_status status = SPEECHTOK_OK;
    for (int64_t i = 0; i < checkpoint->num_weights && !status; i++) {
        Weight *weight = checkpoint->weights + i;
        const int type = from < end ? *from++ : -1;
        const int64_t size = packed_size_of(weight, type);
        if (type < HALF || type > SINGLE || size < 0 || size > end - from)
            return st_fail(SPEECHTOK_BAD_FILE, "%s is not there, or not of the size that the config asks for",
                           weight->name);
        status = read_weight(weight, type, from);
        from += size;
    }
    if (!status && from != end) return st_fail(SPEECHTOK_BAD_FILE, "it holds more weights than its config asks for");
    return status;
}

static speechtok_status read_packed(const uint8_t *packed, size_t size, Checkpoint *checkpoint) {
    uint32_t length;
    uint8_t digest[DIGEST_SIZE];
    if (size < MAGIC_SIZE + 4 + DIGEST_SIZE || memcmp(packed, MAGIC, MAGIC_SIZE))
        return st_fail(SPEECHTOK_BAD_FILE, "it does not begin as packed weights do");
    size -= DIGEST_SIZE;
    digest_of(packed, size, digest);
    if (memcmp(digest, packed + size, DIGEST_SIZE))
        return st_fail(SPEECHTOK_BAD_FILE, "its digest is wrong: it was damaged or cut; fetch it again");
    memcpy(&length, packed + MAGIC_SIZE, 4);
    if (length > size - MAGIC_SIZE - 4) return st_fail(SPEECHTOK_BAD_FILE, "its config is longer than the file");
    const uint8_t *config = packed + MAGIC_SIZE + 4;
    speechtok_status status = st_read_config(config, length, &checkpoint->config);
    if (!status) status = st_list_weights(checkpoint);
    return status ? status : read_weights(checkpoint, config + length, packed + size);
}

speechtok_status st_load_packed(const uint8_t *packed, size_t packed_size, speechtok_tokenizer **tokenizer) {
    Checkpoint checkpoint = {0};
    *tokenizer = NULL;
    speechtok_status status = st_prefix(read_packed(packed, packed_size, &checkpoint), "packed weights");
    if (!status) status = st_make_tokenizer(&checkpoint, tokenizer);
    st_free_checkpoint(&checkpoint);
    return status;
}
