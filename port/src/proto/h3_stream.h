/* SPDX-License-Identifier: Apache-2.0 */
/* One stream of HTTP/3. */
#ifndef SPARX_PROTO_H3_STREAM_H
#define SPARX_PROTO_H3_STREAM_H

#include "proto/h3_session.h"

/* NULL: out of memory. */
struct h3_stream *h3_stream_new(struct h3 *h3, int64_t id);
void h3_stream_free(struct h3_stream *x);

/* Resets both sides with an error of RFC 9114 8.1. */
void h3_stream_cut(struct h3_stream *x, uint64_t code);
/* The same for an error of the client, which is counted. */
void h3_stream_abort(struct h3_stream *x, uint64_t code);
/* Refuses the rest of the request. */
void h3_stream_stop(struct h3_stream *x, uint64_t code);

/* The client has acknowledged n bytes of its body. */
void h3_stream_acked(struct h3_stream *x, size_t n);
/* Drops all bytes that are still to be sent. */
void h3_stream_drop(struct h3_stream *x);

#endif
