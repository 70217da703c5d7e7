/* SPDX-License-Identifier: Apache-2.0 */
/* How long a stream of many waits for its client. Times are in ms; UINT64_MAX: for ever. */
#ifndef SPARX_PROTO_MUX_WAIT_H
#define SPARX_PROTO_MUX_WAIT_H

#include "proto/mux.h"

static inline uint64_t mux_earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Which window is closed while the body waits. */
enum mux_blocked { MUX_BLOCKED_NOT, MUX_BLOCKED_STREAM, MUX_BLOCKED_CONNECTION };

enum mux_blocked mux_blocked(const struct mux_stream *x);
/* Whether every stream waits for its client; closed streams that are not released yet do not count. */
bool mux_all_wait(const struct mux *mux);

/* When the client will have been too slow: to take the response, or to send more of the body; either, or the stream is not
 * released. */
uint64_t mux_stall_deadline(const struct mux_stream *x);
uint64_t mux_deadline(const struct mux_stream *x);
/* It was. */
void mux_timed_out(struct mux_stream *x);
/* Looks at all streams; the deadline of the one that waits longest is mux->review. */
void mux_review(struct mux *mux);

#endif
