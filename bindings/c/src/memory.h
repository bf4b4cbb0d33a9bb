/* Allocation of arrays whose sizes come from elsewhere. */
#ifndef SPEECHTOK_MEMORY_H
#define SPEECHTOK_MEMORY_H

#include <stdint.h>
#include <stdlib.h>

/* a * b; -1 if one of them is negative, such as an earlier -1, or the product exceeds PTRDIFF_MAX / 16. */
static inline int64_t st_product(int64_t a, int64_t b) {
    const int64_t most = (int64_t)(PTRDIFF_MAX / 16);
    return a < 0 || b < 0 || (b && a > most / b) ? -1 : a * b;
}

/* An array of zeros, never of 0 bytes; null if there is no memory for it, or if `count` is negative. */
static inline void *st_array(int64_t count, size_t size) {
    const int64_t bytes = st_product(count, (int64_t)size);
    return bytes < 0 ? NULL : calloc(1, bytes ? (size_t)bytes : 1);
}

#endif
