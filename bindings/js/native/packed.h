/* Packed weights: a tokenizer in one file, with a byte for each weight of a layer. docs/js.md specifies the format. */
#ifndef SPEECHTOK_PACKED_H
#define SPEECHTOK_PACKED_H

#include "tokenizer.h"

/* Pack a tokenizer that was saved as config.json and model.safetensors. The caller frees the result. */
speechtok_status st_pack(const void *config, size_t config_size, const void *weights, size_t weights_size,
                         uint8_t **packed, size_t *packed_size);

/* Load packed weights, which may come from anywhere. They may be freed afterwards. */
speechtok_status st_load_packed(const uint8_t *packed, size_t packed_size, speechtok_tokenizer **tokenizer);

#endif
