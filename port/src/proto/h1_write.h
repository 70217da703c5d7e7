/* SPDX-License-Identifier: Apache-2.0 */
/* Writing HTTP/1 messages (RFC 9112) into a queue. Fields were checked before (stream/rules). */
#ifndef SPARX_PROTO_H1_WRITE_H
#define SPARX_PROTO_H1_WRITE_H

#include "base/bufq.h"
#include "proto/session.h"

/* How the body of a response is delimited (RFC 9112 section 6.3). */
enum h1_framing { FRAMING_NONE, FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_CLOSE };

struct h1_frame_plan {
	enum h1_framing framing;
	int64_t length; /* FRAMING_LENGTH: the length; FRAMING_NONE: the length to state, or LENGTH_UNKNOWN to state none */
	bool close;     /* say so */
	bool keep;      /* say so, to an HTTP/1.0 client that asked */
};

/* All return false when out of memory. */
bool h1_write_head(struct bufq *out, const struct session_env *env, const struct response_head *head,
		   const struct h1_frame_plan *plan);
bool h1_write_info(struct bufq *out, unsigned status, const struct field *fields, unsigned count);
/* protocol: absent for CONNECT, which is answered with 200. */
bool h1_write_upgrade(struct bufq *out, struct slice protocol, const struct field *fields, unsigned count);
/* The data is lent (bufq_lend). */
bool h1_write_chunk(struct bufq *out, struct slice data);
/* One chunk of n bytes of a file. */
bool h1_write_file_chunk(struct bufq *out, struct file *f, uint64_t offset, size_t n);
bool h1_write_last_chunk(struct bufq *out, const struct field *trailers, unsigned count);
/* A complete response of the port's own: the status as plain text. */
struct h1_error {
	unsigned status;
	unsigned retry_after; /* seconds; 0: no such field */
	bool no_body;         /* the request was HEAD */
	bool close, keep;     /* as in the plan */
};
bool h1_write_error(struct bufq *out, const struct session_env *env, const struct h1_error *error);

#endif
