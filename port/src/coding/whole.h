/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole bodies as gzip or deflate (the zlib format, RFC 9110 8.4.1.2) by libdeflate, which takes about half of zlib's time but
 * cannot encode a stream. If the library was not found at build time, no body is short enough.
 */
#ifndef SPARX_CODING_WHOLE_H
#define SPARX_CODING_WHOLE_H

#include "coding/negotiate.h"

struct libdeflate_compressor;

/* Keeps a compressor for the next body; it has no state between two bodies. Begins as {0}. */
struct whole {
	struct libdeflate_compressor *compressor;
	int level; /* of the compressor */
};

/* The longest body that whole_encode takes; 0: none. */
size_t whole_max(enum coding coding, int level);
/* Returns how many bytes it has written to `out`. 0: they need more room, or memory has run out. */
size_t whole_encode(struct whole *w, enum coding coding, int level, struct slice in, uint8_t *out, size_t room);
void whole_free(struct whole *w);

#endif
