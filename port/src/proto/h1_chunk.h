/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The framing of a chunked body (RFC 9112 7.1): sizes and extensions, read by the grammar, byte by byte. It reads the bytes
 * between the pieces of data, and stores none of them. Pure: bytes in, verdict out.
 */
#ifndef SPARX_PROTO_H1_CHUNK_H
#define SPARX_PROTO_H1_CHUNK_H

#include "base/slice.h"

enum h1_chunk_result {
	CHUNK_MORE, /* the line is not complete */
	CHUNK_DATA, /* `left` bytes of data follow */
	CHUNK_LAST, /* the last chunk: trailers follow, or the empty line */
	CHUNK_BAD,
};

struct h1_chunk {
	uint64_t left;       /* bytes of the chunk's data that are still to come */
	uint64_t chunks;     /* complete lines so far */
	uint64_t framing;    /* bytes of lines so far */
	uint64_t extensions; /* of these, bytes of extensions */
	uint8_t state;
	const char *fault; /* CHUNK_BAD: why, for people */
};

/*
 * Reads at most len bytes of framing; *used says how many. extensions_max: bytes of extensions in one body; beyond the first 256,
 * also at most 16 per chunk on average.
 */
enum h1_chunk_result h1_chunk_read(struct h1_chunk *c, const uint8_t *data, size_t len, uint64_t extensions_max, size_t *used);

/* n bytes of data, at most `left`, were read. */
void h1_chunk_took(struct h1_chunk *c, uint64_t n);

#endif
