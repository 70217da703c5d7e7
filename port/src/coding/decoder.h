/* SPDX-License-Identifier: Apache-2.0 */
/* One content coding of a request body, being decoded: by zlib, libbrotlidec or libzstd. */
#ifndef SPARX_CODING_DECODER_H
#define SPARX_CODING_DECODER_H

#include "coding/negotiate.h"

enum decoder_result {
	DECODER_NEEDS_INPUT, /* all input is used up */
	DECODER_NEEDS_ROOM,  /* there may be more output */
	DECODER_MALFORMED,   /* malformed, also if bytes follow the end of the encoded data */
	DECODER_NO_MEMORY,
};

struct decoder;

/* For a coding for which encoder_exists is true. NULL: out of memory. */
struct decoder *decoder_new(enum coding coding);
void decoder_free(struct decoder *d);
/* Bytes of memory that it uses now. */
size_t decoder_memory(const struct decoder *d);
/* Takes from the front of *in and writes at most `room` bytes, 1 or more, to `out`; *used is how many. */
enum decoder_result decoder_run(struct decoder *d, struct slice *in, uint8_t *out, size_t room, size_t *used);
/* Whether the encoded data so far are complete. */
bool decoder_is_whole(const struct decoder *d);

#endif
