/* SPDX-License-Identifier: Apache-2.0 */
/* Incoming header blocks: the fields that are kept, and their memory, some of which is kept for reuse. */
#ifndef SPARX_PROTO_MUX_HEAD_H
#define SPARX_PROTO_MUX_HEAD_H

#include "proto/mux.h"

/* NULL: out of memory. */
struct mux_head *mux_head_new(struct mux *mux, uint64_t max_bytes, uint64_t max_fields);
void mux_head_free(struct mux *mux, struct mux_head *head);

/* What becomes of a field. */
enum mux_took {
	MUX_TOOK,      /* it is the last pair, and the caller gives references to its texts (mux_head_refer) */
	MUX_TOOK_COPY, /* it is copied, or dropped */
	MUX_TOOK_ALL,  /* it is longer than what may be decoded and dropped: the connection ends */
	MUX_TOOK_NONE, /* out of memory */
};

enum mux_took mux_head_take(struct mux *mux, struct mux_head *head, struct slice name, struct slice value);

static inline void mux_head_refer(struct mux_head *head, void *name, void *value)
{
	head->references[2 * head->count - 2] = name;
	head->references[2 * head->count - 1] = value;
}

/*
 * Describes a complete head; fields has room for SESSION_FIELDS_MAX. The slices live as long as the head. Returns 0, or the status to
 * refuse it with: 400 if it is malformed.
 */
unsigned mux_head_examine(struct mux_stream *x, unsigned version, struct field *fields, struct request_head *head);
/* The same for trailers, of which there may be none. */
unsigned mux_head_trailers(const struct mux_head *trailers, struct field *fields, unsigned *count);
/* Whether the method is HEAD; the head may be incomplete. */
bool mux_head_asks_head(const struct mux_head *head);

#endif
