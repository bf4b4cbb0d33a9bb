/* The files of a tokenizer: config.json and model.safetensors, checked against each other. */
#ifndef SPEECHTOK_CHECKPOINT_H
#define SPEECHTOK_CHECKPOINT_H

#include "config.h"

enum { MAX_WEIGHT_NAME = 64, NOISE_TAPS = 255 };

typedef struct {
    char name[MAX_WEIGHT_NAME];
    int rank;
    int64_t shape[3];
    int64_t count;
    float *values;        /* owned */
    const int8_t *levels; /* of a matrix that is rounded already, or null; then the values are the scales of its rows */
} Weight;

typedef struct {
    Config config;
    Weight *weights; /* by name */
    int64_t num_weights;
} Checkpoint;

/* Check the weights' names, shapes, types, values and fingerprints, in this order: nothing is allocated for a config
 * whose weights are not there. The result is freed with st_free_checkpoint, whatever the status. */
speechtok_status st_read_checkpoint(const void *config, size_t config_size, const void *weights, size_t weights_size,
                                    Checkpoint *checkpoint);
void st_free_checkpoint(Checkpoint *checkpoint);

/* The list of a config's weights, by name, without values. */
speechtok_status st_list_weights(Checkpoint *checkpoint);

/* A weight that the config asks for. */
const Weight *st_find_weight(const Checkpoint *checkpoint, const char *name);

/* The values of a weight that the config asks for. */
const float *st_weight(const Checkpoint *checkpoint, const char *format, ...) PRINTF(2, 3);

#endif
