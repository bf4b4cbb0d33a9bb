#include "safetensors.h"

#include <string.h>

#include "json.h"
#include "memory.h"

enum { MAX_HEADER = 100000000 };

static const struct {
    const char *name;
    int64_t size;
} dtypes[] = {{"F16", 2}, {"BF16", 2}, {"F32", 4}, {"F64", 8}, {"I16", 2}, {"I64", 8}};

static bool read_dtype(Json *json, Dtype *dtype) {
    char name[16];
    if (!st_json_string(json, name, sizeof name)) return false;
    for (int i = 0; i < OTHER_DTYPE; i++)
        if (!strcmp(name, dtypes[i].name)) return *dtype = (Dtype)i, true;
    return st_json_fail(json, "a tensor is of a type that speechtok does not use");
}

static bool read_integers(Json *json, int64_t *values, int most, int *count) {
    bool first = true;
    if (!st_json_open(json, '[')) return false;
    for (*count = 0; st_json_item(json, &first); ++*count) {
        if (*count == most) return st_json_fail(json, "a list has too many numbers");
        if (!st_json_integer(json, values + *count)) return false;
        if (values[*count] < 0) return st_json_fail(json, "a size is negative");
    }
    return !json->error;
}

static bool read_tensor(Json *json, Tensor *tensor) {
    bool first = true, has_dtype = false, has_shape = false;
    char key[16];
    int64_t offsets[2];
    int num_offsets = 0;
    if (!st_json_open(json, '{')) return false;
    while (st_json_key(json, &first, key, sizeof key)) {
        if (!strcmp(key, "dtype")) has_dtype = read_dtype(json, &tensor->dtype);
        else if (!strcmp(key, "shape")) has_shape = read_integers(json, tensor->shape, MAX_RANK, &tensor->rank);
        else if (!strcmp(key, "data_offsets")) read_integers(json, offsets, 2, &num_offsets);
        else st_json_fail(json, "a tensor has an unknown field");
    }
    if (json->error) return false;
    if (!has_dtype || !has_shape || num_offsets != 2) return st_json_fail(json, "a tensor lacks a field");
    tensor->count = 1;
    for (int i = 0; i < tensor->rank; i++) tensor->count = st_product(tensor->count, tensor->shape[i]);
    tensor->begin = offsets[0];
    tensor->end = offsets[1];
    if (st_product(tensor->count, dtypes[tensor->dtype].size) != tensor->end - tensor->begin || tensor->count < 0)
        return st_json_fail(json, "a tensor's bytes do not fit its shape");
    return true;
}

/* Count the tensors if `tensors` is null, else read them. */
static bool read_header(Json *json, TensorFile *file, Tensor *tensors) {
    bool first = true;
    char name[MAX_NAME];
    int64_t count = 0;
    if (!st_json_open(json, '{')) return false;
    while (st_json_key(json, &first, name, sizeof name)) {
        if (!strcmp(name, "__metadata__")) {
            file->metadata = json->next;
            if (!st_json_skip(json)) return false;
            file->metadata_size = (size_t)(json->next - file->metadata);
        } else if (!tensors) {
            if (!st_json_skip(json)) return false;
            count++;
        } else {
            memcpy(tensors[count].name, name, sizeof name);
            if (!read_tensor(json, tensors + count++)) return false;
        }
    }
    file->count = count;
    return st_json_end(json);
}

static int by_place(const void *a, const void *b) {
    const Tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b) { return strcmp(((const Tensor *)a)->name, ((const Tensor *)b)->name); }

speechtok_status st_read_safetensors(const void *data, size_t size, TensorFile *file) {
    memset(file, 0, sizeof *file);
    uint64_t length;
    if (size < 8 || size > PTRDIFF_MAX) return st_fail(SPEECHTOK_BAD_FILE, "it has %zu bytes and is damaged", size);
    memcpy(&length, data, 8);
    if (length > size - 8 || length > MAX_HEADER)
        return st_fail(SPEECHTOK_BAD_FILE, "it is damaged: its header is longer than the file");
    const uint8_t *values = (const uint8_t *)data + 8 + length;
    const int64_t num_values = (int64_t)(size - 8 - (size_t)length);
    Json json = st_json((const char *)data + 8, (size_t)length);
    if (!read_header(&json, file, NULL)) goto damaged;
    Tensor *tensors = st_array(file->count, sizeof *tensors);
    if (!tensors) return st_no_memory();
    file->tensors = tensors;
    json = st_json((const char *)data + 8, (size_t)length);
    if (!read_header(&json, file, tensors)) goto damaged;
    qsort(tensors, (size_t)file->count, sizeof *tensors, by_place);
    int64_t place = 0;
    for (int64_t i = 0; i < file->count; i++) {
        if (tensors[i].begin != place || tensors[i].end > num_values) break;
        tensors[i].data = values + place;
        place = tensors[i].end;
    }
    if (place != num_values || (file->count && tensors[file->count - 1].end != place)) {
        json.error = "its tensors are not its data";
        goto damaged;
    }
    qsort(tensors, (size_t)file->count, sizeof *tensors, by_name);
    for (int64_t i = 0; i < file->count; i++)
        if (!tensors[i].data || (i && !by_name(tensors + i - 1, tensors + i))) {
            json.error = "a tensor's name is repeated, or its place is wrong";
            goto damaged;
        }
    return SPEECHTOK_OK;
damaged:
    free(file->tensors);
    file->tensors = NULL;
    return st_fail(SPEECHTOK_BAD_FILE, "it is damaged: %s", json.error ? json.error : "its header is not JSON");
}

const Tensor *st_find_tensor(const TensorFile *file, const char *name) {
    Tensor key;
    strncpy(key.name, name, sizeof key.name - 1);
    key.name[sizeof key.name - 1] = 0;
    return bsearch(&key, file->tensors, (size_t)file->count, sizeof key, by_name);
}
