/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a session of HTTP/3: states, the drain, deadlines. */
#ifndef SPARX_PROTO_H3_LIFE_H
#define SPARX_PROTO_H3_LIFE_H

#include "proto/h3_session.h"

/* No new requests: RFC 9114 5.2, in two steps. */
void h3_begin_drain(struct h3 *h3);
/* Acts on what was recorded for the session. */
void h3_look_around(struct h3 *h3);
/* A stream is closed: the client may open another. */
void h3_allow_one_more(struct h3 *h3);
/* The client has opened a stream. */
void h3_allow_more(struct h3 *h3);
/* When to call h3_overdue, in ms; UINT64_MAX: never. */
uint64_t h3_deadline(const struct h3 *h3);
/* A deadline has passed. */
void h3_overdue(struct h3 *h3);
/* When a stream has waited too long, ms; UINT64_MAX: never. And what follows. */
uint64_t h3_stream_deadline(const struct mux_stream *x);
void h3_stream_timed_out(struct mux_stream *x);

#endif
