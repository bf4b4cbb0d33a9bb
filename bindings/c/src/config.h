/* config.json: the architecture of a tokenizer of the convnext family, and its fingerprints. */
#ifndef SPEECHTOK_CONFIG_H
#define SPEECHTOK_CONFIG_H

#include "error.h"

enum { MAX_FINGERPRINT = 1024, MAX_DESCRIPTION = 1024 };

typedef struct {
    int64_t patch_dim, patch_depth, frame_dim, frame_depth, kernel_size, expansion;
} StackConfig;

typedef struct {
    int64_t sample_rate, hop_length, patch_length, window_length, latent_dim, semantic_dim, num_codebooks,
        codebook_size, noise_bands, hold;
    StackConfig encoder, decoder;
    char fingerprint[MAX_FINGERPRINT + 1], decoder_fingerprint[MAX_FINGERPRINT + 1];
} Config;

/* Read config.json, and check each number and what they mean together. */
speechtok_status st_read_config(const void *text, size_t size, Config *config);

/* The texts that fingerprints begin with: JSON with sorted keys, as Python writes it. */
void st_describe_codes(const Config *config, char text[MAX_DESCRIPTION]);
void st_describe_decoder(const Config *config, char text[MAX_DESCRIPTION]);

#endif
