#include <stdlib.h>

#include "files.h"

speechtok_status speechtok_tokens_read(const char *path, speechtok_tokens **tokens) {
    void *data;
    size_t size = 0;
    *tokens = NULL;
    speechtok_status status = st_read_file(path, &data, &size);
    if (!status) status = st_prefix(speechtok_tokens_parse(data, size, tokens), path);
    free(data);
    return status;
}

speechtok_status speechtok_tokens_write(const speechtok_tokens *tokens, const char *path) {
    void *data;
    size_t size = 0;
    speechtok_status status = speechtok_tokens_to_bytes(tokens, &data, &size);
    if (!status) status = st_write_file(path, data, size);
    free(data);
    return status;
}
