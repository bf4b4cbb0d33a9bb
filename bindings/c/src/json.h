/* A reader of JSON that trusts nothing: it goes through the text once, allocates nothing, and is bounded in depth. */
#ifndef SPEECHTOK_JSON_H
#define SPEECHTOK_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *next, *end;
    int depth;
    const char *error; /* the first one; null while there is none, and then all further calls return false */
} Json;

Json st_json(const void *text, size_t size);

/* Report an error of meaning, such as an unknown key. Returns false. */
bool st_json_fail(Json *json, const char *error);

/* Step into an object or array. */
bool st_json_open(Json *json, char bracket);

/* The next key of an object, into `key` of `size` bytes with its final 0; false at the end of the object or after an
 * error. `first` is true before the first key. Longer keys are an error. */
bool st_json_key(Json *json, bool *first, char *key, size_t size);

/* Whether there is another item in an array; as above. */
bool st_json_item(Json *json, bool *first);

/* A text in UTF-8 without zeros, of at most size - 1 bytes. */
bool st_json_string(Json *json, char *text, size_t size);

/* A whole number, without fraction and exponent. */
bool st_json_integer(Json *json, int64_t *value);

/* Whether the next value is `null`, which is then read. */
bool st_json_null(Json *json);

/* Any value. */
bool st_json_skip(Json *json);

/* Whether all of the text was read without an error. */
bool st_json_end(Json *json);

#endif
