/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Response compression: a step between the bridge and a session. Bytes that the bridge sends are kept, encoded in slices by
 * `codings_run` once per turn of the loop, and handed to the session. A stream is flushed when the host has sent nothing more.
 * The head is kept too: a short response that has ended by then is encoded in one call, and its head says its length.
 *
 *   bridge ──stream_ops──> coding ──stream_ops──> session
 *
 * A coding replaces a stream's operations, so that the bridge sends in the same way as without compression. The host's window
 * counts bytes before they are encoded: `coding_sent` says how many of these have left.
 */
#ifndef SPARX_CODING_CODING_H
#define SPARX_CODING_CODING_H

#include "base/bufq.h"
#include "base/list.h"
#include "coding/encoder.h"
#include "coding/whole.h"
#include "stream/stream.h"

enum { CODING_FIELDS_MAX = 260, CODING_ETAG_MAX = 1024 };

struct coding_options {
	const uint8_t *offered; /* enum coding, the preferred ones first */
	unsigned offers;        /* 0: nothing is compressed */
	const char *types;      /* media types between spaces; `text` and a slash and a star is all texts */
	uint64_t least;         /* shortest body that is compressed, if its length is known */
	uint64_t memory;        /* memory that all encoders together may use */
	size_t left;            /* bytes that may still be encoded in this turn */
	int levels[CODINGS];
};

struct codings {
	struct coding_options options;
	struct list active;             /* codings with something to encode, flush or end */
	struct list later;              /* codings that wait for a disk */
	uint64_t memory;                /* memory of the encoders in progress */
	size_t left;                    /* bytes that may still be encoded in this turn */
	struct encoder *spare[CODINGS]; /* a finished encoder, kept for the next response */
	void *ctx;
	void (*room)(void *ctx, struct stream *s);   /* all bytes of the host are encoded, and none waits */
	void (*failed)(void *ctx, struct stream *s); /* out of memory, or the file is broken */
	struct encoder_blocks blocks;
	struct whole whole;
	uint8_t *once;                          /* for the output of one call; NULL before the first */
	struct field fields[CODING_FIELDS_MAX]; /* scratch */
	uint8_t etag[CODING_ETAG_MAX];
};

struct response_coding;

void codings_init(struct codings *all, void *ctx, void (*room)(void *, struct stream *), void (*failed)(void *, struct stream *));
void codings_free(struct codings *all);
/* The coding that the client of a request accepts, for coding_begin. */
enum coding codings_note(const struct codings *all, const struct field *fields, unsigned count);
/*
 * Looks at the checked head of a response. If the response may be compressed, changes its fields; if the client also accepts a
 * coding, the stream is compressed from now on. False: out of memory.
 */
bool coding_begin(struct codings *all, struct stream *s, enum coding accepts, struct response_head *head);
/* Encoded bytes have left: returns how many of the host's bytes they encode. */
uint64_t coding_sent(struct stream *s, uint64_t bytes);
/* Whether the host has ended a response that is still being encoded. */
bool coding_ends(const struct stream *s);
/* Whether a file that the host has sent is shorter than FILE said, or cannot be read. */
bool coding_is_broken(const struct stream *s);
/* Ends the coding: the stream's operations are the session's again. */
void coding_forget(struct stream *s);
/* Encodes for a while. True: there is more. */
bool codings_run(struct codings *all);
/* Whether some wait for a disk: they are tried again in each turn. */
bool codings_wait(const struct codings *all);

#endif
