/* SPDX-License-Identifier: Apache-2.0 */
/* One content coding of a request body, being decoded: by zlib, libbrotlidec or libzstd. */
#ifndef SPARX_CODING_DECODER_H
#define SPARX_CODING_DECODER_H

#include "coding/negotiate.h"

enum decoder_result {
	DECODER_NEEDS_INPUT, /* all that was given is used up */
	DECODER_NEEDS_ROOM,  /* there may be more to write */
	DECODER_MALFORMED,   /* also where bytes follow the end of what was coded */
	DECODER_NO_MEMORY,
};

struct decoder;

/* One of those that encoder_exists says are there. NULL: out of memory. */
struct decoder *decoder_new(enum coding coding);
void decoder_free(struct decoder *d);
/* Bytes of memory that it holds now. */
size_t decoder_memory(const struct decoder *d);
/* Takes from the front of *in and writes at most `room` bytes, 1 or more, to `out`; *used is how many. */
enum decoder_result decoder_run(struct decoder *d, struct slice *in, uint8_t *out, size_t room, size_t *used);
/* Whether what was coded is complete, as far as it was given. */
bool decoder_is_whole(const struct decoder *d);

#endif
