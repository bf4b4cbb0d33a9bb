#include "files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#ifndef S_ISREG
#define S_ISREG(mode) (((mode) & S_IFMT) == S_IFREG)
#endif

static speechtok_status fail(const char *path, const char *what) {
    return st_fail(SPEECHTOK_BAD_FILE, "%.160s %s (%s)", path, what, strerror(errno));
}

speechtok_status st_read_file(const char *path, void **data, size_t *size) {
    struct stat facts;
    *data = NULL;
    if (stat(path, &facts)) return fail(path, "cannot be read");
    if (!S_ISREG(facts.st_mode)) /* a pipe would block, and a device may have no end */
        return st_fail(SPEECHTOK_BAD_FILE, "%.160s is not a file", path);
    FILE *file = fopen(path, "rb");
    if (!file) return fail(path, "cannot be read");
    const size_t expected = (size_t)facts.st_size;
    speechtok_status status = SPEECHTOK_OK;
    if (!(*data = malloc(expected ? expected : 1))) status = st_no_memory();
    else if ((*size = fread(*data, 1, expected, file)) != expected) status = fail(path, "cannot be read whole");
    fclose(file);
    if (status) {
        free(*data);
        *data = NULL;
    }
    return status;
}

speechtok_status st_write_file(const char *path, const void *data, size_t size) {
    const size_t length = strlen(path);
    char *part = malloc(length + 6);
    if (!part) return st_no_memory();
    memcpy(part, path, length);
    memcpy(part + length, ".part", 6);
    speechtok_status status = SPEECHTOK_OK;
    FILE *file = fopen(part, "wb");
    if (!file) {
        status = fail(path, "cannot be written");
    } else {
        const int whole = fwrite(data, 1, size, file) == size;
        if (fclose(file) || !whole) status = fail(path, "cannot be written");
#ifdef _WIN32
        if (!status) remove(path); /* rename does not replace there */
#endif
        if (!status && rename(part, path)) status = fail(path, "cannot be written");
        if (status) remove(part);
    }
    free(part);
    return status;
}
