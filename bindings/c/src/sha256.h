/* SHA-256, FIPS 180-4. */
#ifndef SPEECHTOK_SHA256_H
#define SPEECHTOK_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t state[8];
    uint64_t length;
    uint8_t block[64];
} Sha256;

void st_sha256_start(Sha256 *hash);
void st_sha256_update(Sha256 *hash, const void *data, size_t size);

/* The first 8 bytes of the digest as 16 hexadecimal digits: the fingerprints of speechtok. */
void st_sha256_fingerprint(Sha256 *hash, char digits[17]);

#endif
