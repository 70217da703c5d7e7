/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nghttp2's memory, arranged so that an idle connection needs little of it. A session of nghttp2 has a buffer of 16 KiB, in which
 * it makes each frame. In the known versions nothing stays in it between two calls of nghttp2_session_mem_send, and h2_pump
 * copies each frame before the next call, so all sessions share one buffer. And a session's table of streams lies on a page of
 * its own, whose memory is returned to the system while there are no streams.
 * nghttp2 does not survive every failed allocation (a failed submit can leave an item that is freed twice): when malloc fails,
 * small allocations come from such pages too, and the session that made them ends soon.
 * A request costs nghttp2 about ten small allocations, so some freed ones are kept for the next, by their size.
 */
#ifndef SPARX_PROTO_H2_MEMORY_H
#define SPARX_PROTO_H2_MEMORY_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/pool.h"
#include "platform/pages.h"

enum { H2_FRAME_BUFFER_MIN = 16384, H2_FRAME_BUFFER_MAX = 16384 + 64 };
enum {
	H2_SMALL = 512,             /* bytes of the largest allocation that is kept; */
	H2_STEP = 16,               /* each size is kept for itself, in steps of malloc's, */
	H2_STEP_HEAD = 8,           /* which include its head: */
	H2_KEPT_MAX = 1024,         /* at most this many of one size, */
	H2_KEPT_BYTES = 512 * 1024, /* and this many bytes in all */
};

struct h2_memory {
	nghttp2_mem mem;
	struct pages pages;
	struct pool small[H2_SMALL / H2_STEP + 1]; /* at i: freed allocations of at least i * H2_STEP - H2_STEP_HEAD bytes */
	size_t kept;                               /* bytes in them */
	void *table;                               /* table of the session that is being made */
	bool sharing; /* the next buffer must be the shared one, since this version of nghttp2 is known to allow that */
	bool making;  /* a session is being made */
	bool starved; /* an allocation failed */
	bool known;
	_Alignas(16) uint8_t frame[H2_FRAME_BUFFER_MAX];
};

void h2_memory_init(struct h2_memory *m);
void h2_memory_free(struct h2_memory *m);
/* Whether an allocation has failed since the last call. */
bool h2_memory_starved(struct h2_memory *m);
/* Like nghttp2_session_server_new3. *table is a page to trim when the session has no stream, or NULL. */
int h2_memory_session(struct h2_memory *m, nghttp2_session **ng, void **table, const nghttp2_session_callbacks *callbacks,
		      void *ctx, const nghttp2_option *option);

#endif
