/* SPDX-License-Identifier: Apache-2.0 */
/* The PROXY header in front of a connection: read from the socket, up to its last byte and not beyond. */
#ifndef SPARX_CONN_GREETING_H
#define SPARX_CONN_GREETING_H

#include "base/buf.h"
#include "base/io.h"
#include "peer/proxied.h"
#include "stream/stream.h"

struct greeting {
	struct buf bytes; /* of the header, which the slices of `said` point into */
	struct proxied said;
	const char *why; /* PROXIED_BAD: what is wrong */
};

/* NULL: out of memory. */
struct greeting *greeting_new(void);
void greeting_free(struct greeting *g);

/*
 * Reads on. IO_OK: *step says what it is; until then IO_AGAIN. What is no header (PROXIED_NOT) is left in the socket, but for what
 * came alone and looked like the beginning of one: that is in `bytes`. `room` is for `max` bytes at least.
 */
struct io_result greeting_read(struct greeting *g, int fd, uint8_t *room, size_t max, enum proxied_step *step);

/* The header is whole: who it names takes the place of the proxy. */
void greeting_apply(struct greeting *g, struct peer *peer);

#endif
