/* Files, whole. */
#ifndef SPEECHTOK_FILES_H
#define SPEECHTOK_FILES_H

#include "error.h"

/* Read a regular file; the caller frees the data. */
speechtok_status st_read_file(const char *path, void **data, size_t *size);

/* Write a file beside `path`, and give it that name when it is complete. */
speechtok_status st_write_file(const char *path, const void *data, size_t size);

#endif
