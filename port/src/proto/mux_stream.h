/* SPDX-License-Identifier: Apache-2.0 */
/* One stream of many: its beginning and its end, and the port's own answers. */
#ifndef SPARX_PROTO_MUX_STREAM_H
#define SPARX_PROTO_MUX_STREAM_H

#include "proto/mux.h"

/* `memory` is the session's own kind of stream. */
void mux_stream_begin(struct mux_stream *x, struct mux *mux);
/* All but the memory itself. */
void mux_stream_free(struct mux_stream *x);
/* Forgets the output: what all sessions do for `drop`. */
void mux_stream_drop(struct mux_stream *x);

/* A response has made progress, or begins to wait for the client. */
void mux_pace_begins(struct mux_stream *x);

/* Reports the end of the stream to the sink, unless it has detached. */
void mux_stream_ends(struct mux_stream *x, enum stream_end why);
/* The same if the client ended it, or was too slow: it still counts as open until the sink releases it. */
void mux_stream_lost(struct mux_stream *x, enum stream_end why);
/* A complete response of the port's own. */
void mux_stream_answer(struct mux_stream *x, unsigned status, unsigned retry_after);
/* Refuses a head. */
void mux_stream_refuse(struct mux_stream *x, unsigned status);
/* The body of a request is malformed, too long or too slow. */
void mux_stream_refuse_body(struct mux_stream *x, unsigned status, enum stream_end why);

#endif
