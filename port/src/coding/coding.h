/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Response compression: a step between the bridge and a session. Bytes that the bridge sends are kept, encoded in slices by `codings_run`
 * once per turn of the loop, and handed to the session. A stream is flushed when the host has sent nothing more.
 *
 *   bridge ──stream_ops──> coding ──stream_ops──> session
 *
 * A coding takes the place of a stream's operations, so that the bridge sends as it does without. The host's window counts bytes before
 * they are encoded: `coding_sent` says how many of these have left.
 */
#ifndef SPARX_CODING_CODING_H
#define SPARX_CODING_CODING_H

#include "base/bufq.h"
#include "base/list.h"
#include "coding/encoder.h"
#include "stream/stream.h"

enum { CODING_FIELDS_MAX = 260, CODING_ETAG_MAX = 1024 };

struct coding_options {
	const uint8_t *offered; /* enum coding, the preferred ones first */
	unsigned offers;        /* 0: nothing is compressed */
	const char *types;      /* media types between spaces; `text` and a slash and a star is all texts */
	uint64_t least;         /* bytes of a body that is worth it, where its length is known */
	uint64_t memory;        /* bytes that all encoders together may hold */
	size_t left;            /* bytes that may still be encoded in this turn */
	int levels[CODINGS];
};

struct codings {
	struct coding_options options;
	struct list active;             /* codings that have something to encode, to flush or to end */
	struct list later;              /* those that wait for a disk */
	uint64_t memory;                /* that encoders of responses in progress hold */
	size_t left;                    /* bytes that may still be encoded in this turn */
	struct encoder *spare[CODINGS]; /* one that has finished, for the next response */
	void *ctx;
	void (*room)(void *ctx, struct stream *s);   /* all bytes of the host are encoded, and none waits */
	void (*failed)(void *ctx, struct stream *s); /* out of memory, or it is broken */
	struct encoder_blocks blocks;
	struct field fields[CODING_FIELDS_MAX]; /* scratch */
	uint8_t etag[CODING_ETAG_MAX];
};

struct response_coding;

void codings_init(struct codings *all, void *ctx, void (*room)(void *, struct stream *), void (*failed)(void *, struct stream *));
void codings_free(struct codings *all);
/* What the client of a request takes, for coding_begin. */
enum coding codings_note(const struct codings *all, const struct field *fields, unsigned count);
/*
 * The head of a response that was checked. If it is one that may be compressed, its fields are changed to say so, and if the client takes
 * it, so is the stream. False: out of memory.
 */
bool coding_begin(struct codings *all, struct stream *s, enum coding accepts, struct response_head *head);
/* Encoded bytes have left: returns how many of the host's bytes they stand for. */
uint64_t coding_sent(struct stream *s, uint64_t bytes);
/* Whether the host has ended a response that is still being encoded. */
bool coding_ends(const struct stream *s);
/* Whether a file that the host has sent is not what was said. */
bool coding_is_broken(const struct stream *s);
/* The stream is the session's alone again. */
void coding_forget(struct stream *s);
/* Encodes for a while. True: there is more. */
bool codings_run(struct codings *all);
/* Whether some wait for a disk: they are looked at again in each turn. */
bool codings_wait(const struct codings *all);

#endif
