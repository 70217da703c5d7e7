/* SPDX-License-Identifier: Apache-2.0 */
/* One stream of HTTP/2. */
#ifndef SPARX_PROTO_H2_STREAM_H
#define SPARX_PROTO_H2_STREAM_H

#include "proto/h2_session.h"

/* Makes a stream for a request that begins. NULL: out of memory. */
struct h2_stream *h2_stream_new(struct h2 *h2, int32_t id);
void h2_stream_free(struct h2_stream *x);

/* Sends RST_STREAM if the stream is still open. */
void h2_stream_reset(struct h2_stream *x, uint32_t code);
/* Cuts the stream because the application failed or the client was too slow, which is not a protocol error. */
void h2_stream_cut(struct h2_stream *x, uint32_t code);

#endif
