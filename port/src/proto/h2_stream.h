/* SPDX-License-Identifier: Apache-2.0 */
/* One stream of HTTP/2: its beginning and its end, and answers of the port's own. */
#ifndef SPARX_PROTO_H2_STREAM_H
#define SPARX_PROTO_H2_STREAM_H

#include "proto/h2_session.h"

/* For the request that begins. NULL: out of memory. */
struct h2_stream *h2_stream_new(struct h2 *h2, int32_t id);
void h2_stream_free(struct h2_stream *x);

/* A response has made progress, or begins to wait for the client. */
void h2_pace_begins(struct h2_stream *x);

/* Reports the end of the stream to the sink, unless it has detached. */
void h2_stream_ends(struct h2_stream *x, enum stream_end why);
/* The same if the client ended it, or was too slow: it keeps counting until the sink releases it. */
void h2_stream_lost(struct h2_stream *x, enum stream_end why);
/* RST_STREAM, if it is still open. */
void h2_stream_reset(struct h2_stream *x, uint32_t code);
/* Cuts the stream because the application failed or the client was too slow, which is no protocol error. */
void h2_stream_cut(struct h2_stream *x, uint32_t code);
/* A complete response of the port's own. */
void h2_stream_answer(struct h2_stream *x, unsigned status, unsigned retry_after);
/* Refuses a head. */
void h2_stream_refuse(struct h2_stream *x, unsigned status);
/* The body of a request is malformed, too long or too slow. */
void h2_stream_refuse_body(struct h2_stream *x, unsigned status, enum stream_end why);

#endif
