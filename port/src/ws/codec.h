/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wslay's frame API: unmasks incoming frames, and writes frames. A context (4 KiB) is needed only while a frame is being read or
 * written, so a socket borrows one until the end of the frame.
 *
 * The event API is not used: it keeps two buffers of 4 KiB for each socket, allocates a frame's announced length at once,
 * queues answers to pings without limit, and stops at some errors without a Close frame.
 */
#ifndef SPARX_WS_CODEC_H
#define SPARX_WS_CODEC_H

#include "base/slice.h"

struct ws_codec;

/* Where frames are written to. False: out of memory. */
typedef bool ws_write_fn(void *ctx, struct slice bytes);

/* *spare is a context that is kept for reuse, or NULL. NULL: out of memory. */
struct ws_codec *ws_codec_take(struct ws_codec **spare);
/* Returns a context, between two frames. broken: it cannot be used again. */
void ws_codec_give(struct ws_codec **spare, struct ws_codec *c, bool broken);
void ws_codec_free(struct ws_codec *c);

/*
 * Reads bytes of one frame, its header first, from the front of *in, and returns a piece of its payload, unmasked, valid until
 * the next call. The piece is empty when *in or the payload is used up. False: wslay refuses it.
 */
bool ws_codec_read(struct ws_codec *c, struct slice *in, struct slice *piece);

/* The flags of a frame that goes out. */
struct ws_out {
	uint8_t type;
	bool fin, compressed; /* FIN and RSV1 */
	bool deflated;        /* the payload is */
};

/* A whole frame. False: the writer is out of memory. */
bool ws_codec_write(struct ws_codec *c, struct ws_out out, struct slice payload, ws_write_fn *write, void *ctx);

#endif
