/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nghttp2's memory, arranged so that an idle connection has little of it. A session of nghttp2 keeps a buffer of 16 KiB, in which it makes a frame before it hands it out. In the
 * versions known here nothing stays in it between two calls of nghttp2_session_mem_send, and h2_pump copies a frame out before
 * the next call; so all sessions use the same one.
 * And a session's table of streams lies on a page of its own, whose memory is given back while there are none.
 * nghttp2 does not survive every failed allocation (a failed submit can leave an item that is freed twice): when malloc fails,
 * small things are put on such pages too, and the session that asked ends soon.
 */
#ifndef SPARX_PROTO_H2_MEMORY_H
#define SPARX_PROTO_H2_MEMORY_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdint.h>

#include "platform/pages.h"

enum { H2_FRAME_BUFFER_MIN = 16384, H2_FRAME_BUFFER_MAX = 16384 + 64 };

struct h2_memory {
	nghttp2_mem mem;
	struct pages pages;
	void *table;  /* of the session being made */
	bool sharing; /* the next buffer is to be the one of all, since this nghttp2 is known to allow it */
	bool making;  /* a session is being made */
	bool starved; /* an allocation failed */
	bool known;
	_Alignas(16) uint8_t frame[H2_FRAME_BUFFER_MAX];
};

void h2_memory_init(struct h2_memory *m);
void h2_memory_free(struct h2_memory *m);
/* Whether an allocation has failed since the last call. */
bool h2_memory_starved(struct h2_memory *m);
/* As nghttp2_session_server_new3. *table is a page to trim when the session has no stream, or NULL. */
int h2_memory_session(struct h2_memory *m, nghttp2_session **ng, void **table, const nghttp2_session_callbacks *callbacks,
		      void *ctx, const nghttp2_option *option);

#endif
