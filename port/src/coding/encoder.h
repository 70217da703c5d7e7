/* SPDX-License-Identifier: Apache-2.0 */
/* One content coding in progress: gzip and deflate by zlib, br by libbrotli, zstd by libzstd, as far as they were found at build
 * time. */
#ifndef SPARX_CODING_ENCODER_H
#define SPARX_CODING_ENCODER_H

#include "coding/negotiate.h"

enum encoder_op {
	ENCODER_TAKE,   /* consumes bytes, and may keep them */
	ENCODER_FLUSH,  /* outputs everything so far, so that the client can decode it */
	ENCODER_FINISH, /* ends */
};

struct encoder;

/* Large blocks of memory, kept for the next encoder, since getting them from the system takes longer than a short response. Begins
 * as {0}. */
struct encoder_blocks {
	void *kept[8];
	size_t bytes; /* in them: no more than one encoder uses */
};

void encoder_blocks_free(struct encoder_blocks *blocks);

/* Whether the program was built with it. */
bool encoder_exists(enum coding coding);
/* The most memory that an encoder of this level uses; coding_test measures it. */
size_t encoder_memory(enum coding coding, int level);
/* The longest body that one call of encoder_run may encode from its first to its last byte: that takes 1.5 to 3 ms for JSON. */
size_t encoder_whole_max(enum coding coding, int level);
/* level: of the coding's own scale, 1 to 9 for gzip and deflate, 0 to 5 for br, 1 to 5 for zstd. NULL: out of memory. */
struct encoder *encoder_new(enum coding coding, int level, struct encoder_blocks *blocks);
/* Called before the first byte: how many bytes there will be, so that less memory is touched. */
void encoder_expect(struct encoder *e, uint64_t size);
void encoder_free(struct encoder *e);
/* Resets an encoder that has finished. False: that failed, and it must be freed. */
bool encoder_reset(struct encoder *e);
/*
 * Takes from the front of *in and writes at most `room` bytes to `out`; *used is how many. Returns 1 if the operation is
 * complete, 0 if it must be called again with more room, -1 if memory has run out: the encoder must not be used any more.
 */
int encoder_run(struct encoder *e, enum encoder_op op, struct slice *in, uint8_t *out, size_t room, size_t *used);

#endif
