/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The content codings of a request body, which were applied one after the other, undone. A body that is small and becomes large is
 * noticed as it grows: what comes out is bounded by what has come in.
 */
#ifndef SPARX_CODING_DECODING_H
#define SPARX_CODING_DECODING_H

#include "coding/decoder.h"

/* DECODING_FREE: bytes that any body may become. DECODING_PIECE: what goes from one decoder to the next at once. */
enum { DECODINGS_MAX = 2, DECODING_FREE = 1 << 20, DECODING_PIECE = 16384 };

/* What Content-Encoding says. */
struct decoding_plan {
	uint8_t coding[DECODINGS_MAX]; /* enum coding, in the order in which they were applied */
	uint8_t count;
	bool unknown; /* there is one that cannot be undone, or there are too many */
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
/* What a client may use, as Accept-Encoding says it. */
struct slice decoding_accepted(void);
/* most: bytes that it may become, 0 for any; ratio: bytes for each that came, where it is more than DECODING_FREE. NULL: out of memory. */
struct decoding *decoding_new(const struct decoding_plan *plan, uint64_t most, uint64_t ratio);
void decoding_free(struct decoding *d);
/* Bytes of memory that it holds now. */
size_t decoding_memory(const struct decoding *d);
/* Takes from the front of *in and writes at most `room` bytes, 1 or more, to `out`; *used is how many. */
enum decoding_result decoding_run(struct decoding *d, struct slice *in, uint8_t *out, size_t room, size_t *used);
/* Whether the body may end here. One without a byte may. */
bool decoding_is_whole(const struct decoding *d);

#endif
