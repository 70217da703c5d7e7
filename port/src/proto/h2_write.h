/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 to the client: heads, the bodies that nghttp2 pulls, trailers; and where in the output they lie. */
#ifndef SPARX_PROTO_H2_WRITE_H
#define SPARX_PROTO_H2_WRITE_H

#include "proto/h2_session.h"

void h2_write_callbacks(nghttp2_session_callbacks *callbacks);

/* An interim answer or a promise was handed to nghttp2, which has not made its frame. */
void h2_aside_waits(struct h2_stream *x, const nghttp2_nv *nv, size_t count);

/* All return false when out of memory. */
bool h2_write_info(struct h2_stream *x, unsigned status, const struct field *fields, unsigned count);
/* A head; no body follows it if `whole`. */
bool h2_write_head(struct h2_stream *x, const struct response_head *head, bool whole);
/* The head that turns the stream into bytes both ways. */
bool h2_write_upgrade(struct h2_stream *x, const struct field *fields, unsigned count);
/* More of the body, or its end, is there to be pulled. */
bool h2_write_more(struct h2_stream *x);
/* Kept until the body has gone. */
bool h2_write_trailers(struct h2_stream *x, const struct field *fields, unsigned count);
/* A complete response of the port's own: the status as plain text. */
bool h2_write_error(struct h2_stream *x, unsigned status, unsigned retry_after);

/* A frame, in front of the socket. False: out of memory. */
bool h2_put(struct h2 *h2, const void *bytes, size_t n);
/* Looks again for what was not in memory. False: out of memory. */
bool h2_write_cold(struct h2 *h2);
/* Makes frames until enough of them wait. False: the session is broken. */
bool h2_pump(struct h2 *h2);

#endif
