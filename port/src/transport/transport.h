/* A byte stream to a peer: plain TCP now, TLS beside it later. Nothing to the right of conn knows which. */
#ifndef SPARX_TRANSPORT_TRANSPORT_H
#define SPARX_TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <sys/uio.h>

#include "base/io.h"

enum { TRANSPORT_WANTS_READ = 1, TRANSPORT_WANTS_WRITE = 2 };

struct transport_ops {
	const char *scheme;
	struct io_result (*read)(int fd, void *state, void *bytes, size_t n);
	struct io_result (*writev)(int fd, void *state, const struct iovec *iov, int count);
	/* Says that no more will be written. */
	void (*shutdown)(int fd, void *state);
	/* abort: the peer is to see a reset. Frees the state and closes fd. */
	void (*close)(int fd, void *state, bool abort);
	/* What the transport itself waits for (a handshake), TRANSPORT_WANTS_*. */
	int (*wants)(const void *state);
	/* Bytes that were read from the socket and are not yet handed on: no event will tell of them. */
	bool (*pending)(const void *state);
	/* The protocol that was agreed on ("http/1.1", "h2"), NULL if that was not asked. */
	const char *(*alpn)(const void *state);
};

extern const struct transport_ops transport_tcp;

#endif
