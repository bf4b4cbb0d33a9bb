/* A reader of safetensors files that trusts nothing. */
#ifndef SPEECHTOK_SAFETENSORS_H
#define SPEECHTOK_SAFETENSORS_H

#include "error.h"

enum { MAX_RANK = 4, MAX_NAME = 80 };
typedef enum { F16, BF16, F32, F64, I16, I64, OTHER_DTYPE } Dtype;

typedef struct {
    char name[MAX_NAME];
    Dtype dtype;
    int rank;
    int64_t shape[MAX_RANK];
    int64_t count;       /* of elements */
    const uint8_t *data; /* not aligned */
    int64_t begin, end;  /* in the data of the file */
} Tensor;

typedef struct {
    Tensor *tensors; /* by name */
    int64_t count;
    const char *metadata; /* the JSON object `__metadata__`, or null */
    size_t metadata_size;
} TensorFile;

/* Check that the header is whole, that each tensor has the bytes that its shape needs, and that all tensors together
 * are the data. The result points into `data`; its `tensors` are freed by the caller. */
speechtok_status st_read_safetensors(const void *data, size_t size, TensorFile *file);

/* Null if there is no such tensor. */
const Tensor *st_find_tensor(const TensorFile *file, const char *name);

#endif
