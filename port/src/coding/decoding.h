/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Undoes the content codings of a request body, which were applied one after the other. The output is bounded by the input so
 * far, so a small body that becomes large is noticed while it grows.
 */
#ifndef SPARX_CODING_DECODING_H
#define SPARX_CODING_DECODING_H

#include "coding/decoder.h"

/* DECODING_FREE: bytes of output that are always allowed. DECODING_PIECE: bytes that go from one decoder to the next at a time. */
enum { DECODINGS_MAX = 2, DECODING_FREE = 1 << 20, DECODING_PIECE = 16384 };

/* The codings in Content-Encoding. */
struct decoding_plan {
	uint8_t coding[DECODINGS_MAX]; /* enum coding, in the order in which they were applied */
	uint8_t count;
	bool unknown; /* one of them is unknown, or there are too many */
};

enum decoding_result {
	DECODING_NEEDS_INPUT,
	DECODING_NEEDS_ROOM,
	DECODING_MALFORMED,
	DECODING_TOO_LARGE,
	DECODING_NO_MEMORY,
};

struct decoding;

struct decoding_plan decoding_plan(const struct field *fields, unsigned count);
/* The codings that a client may use, as a value of Accept-Encoding. */
struct slice decoding_accepted(void);
/* most: bytes of output, 0 for any number; ratio: bytes of output per byte of input, beyond DECODING_FREE. NULL: out of memory. */
struct decoding *decoding_new(const struct decoding_plan *plan, uint64_t most, uint64_t ratio);
void decoding_free(struct decoding *d);
/* Bytes of memory that it holds now. */
size_t decoding_memory(const struct decoding *d);
/* Takes from the front of *in and writes at most `room` bytes, 1 or more, to `out`; *used is how many. */
enum decoding_result decoding_run(struct decoding *d, struct slice *in, uint8_t *out, size_t room, size_t *used);
/* Whether the body may end here. An empty body may. */
bool decoding_is_whole(const struct decoding *d);

#endif
