/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a response that are passed to the libraries: heads and trailers. */
#ifndef SPARX_PROTO_MUX_WRITE_H
#define SPARX_PROTO_MUX_WRITE_H

#include "proto/mux.h"

/* What a field costs besides its bytes, and a frame that the library keeps. */
enum { MUX_FIELD_COST = 32, MUX_ASIDE_COST = 256 };

/* Kept until the body has been sent. */
struct mux_trailers {
	size_t count;
	struct mux_nv nv[];
};

/* All return false when out of memory. */
bool mux_write_info(struct mux_stream *x, unsigned status, const struct field *fields, unsigned count);
/* A head; no body follows it if `whole`. */
bool mux_write_head(struct mux_stream *x, const struct response_head *head, bool whole);
/* The head that turns the stream into bytes both ways. */
bool mux_write_upgrade(struct mux_stream *x, const struct field *fields, unsigned count);
bool mux_write_trailers(struct mux_stream *x, const struct field *fields, unsigned count);
/* A complete response of the port's own: the status as plain text. */
bool mux_write_error(struct mux_stream *x, unsigned status, unsigned retry_after);
/* More of the body, or its end, can be pulled. */
bool mux_write_more(struct mux_stream *x);
/* Tries again to read bytes that were not in memory. */
bool mux_write_cold(struct mux *mux);

/* A head that the library keeps for a while is charged to the stream. */
void mux_charge_aside(struct mux_stream *x, const struct mux_nv *nv, size_t count);

#endif
