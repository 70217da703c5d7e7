/* SPDX-License-Identifier: Apache-2.0 */
/* The PROXY header in front of a connection: read from the socket, up to its last byte and not beyond. */
#ifndef SPARX_CONN_GREETING_H
#define SPARX_CONN_GREETING_H

#include "base/buf.h"
#include "base/io.h"
#include "peer/proxied.h"
#include "stream/stream.h"

struct greeting {
	struct buf bytes; /* bytes of the header; the slices of `said` point into them */
	struct proxied said;
	const char *why; /* PROXIED_BAD: what is wrong */
};

/* NULL: out of memory. */
struct greeting *greeting_new(void);
void greeting_free(struct greeting *g);

/*
 * Reads more. IO_OK: *step says what was found; until then IO_AGAIN. Bytes that are not a header (PROXIED_NOT) stay in the
 * socket, except those that arrived alone and looked like its beginning: these are in `bytes`. `room` has at least `max` bytes.
 */
struct io_result greeting_read(struct greeting *g, int fd, uint8_t *room, size_t max, enum proxied_step *step);

/* The header is complete: the client that it names replaces the proxy as the peer. */
void greeting_apply(struct greeting *g, struct peer *peer);

#endif
