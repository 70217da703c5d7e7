/* SPDX-License-Identifier: Apache-2.0 */
/* A byte stream to a peer: plain TCP, or TLS. Nothing to the right of conn knows which. */
#ifndef SPARX_TRANSPORT_TRANSPORT_H
#define SPARX_TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <sys/uio.h>

#include "base/io.h"
#include "base/secure.h"

/* Bytes that wait in the kernel beyond the peer's window: of what was written; and of files. */
enum { TRANSPORT_UNSENT = 128 * 1024, TRANSPORT_UNSENT_FILES = 1024 * 1024 };

struct transport_ops {
	/* What comes before the first byte of a protocol. IO_OK: it is done. NULL: there is nothing to be done. */
	struct io_result (*handshake)(int fd, void *state);
	/* more: there are bytes for which no event will come, or the socket has probably some. */
	struct io_result (*read)(int fd, void *state, void *bytes, size_t n);
	/* more: all was taken. After IO_AGAIN the next call begins with the same bytes. */
	struct io_result (*writev)(int fd, void *state, const struct iovec *iov, int count);
	/* The same for n bytes of a file, all of which are in memory. EINVAL, EOPNOTSUPP, ENOSYS: not of this file. NULL: of none. */
	struct io_result (*send_file)(int fd, void *state, int file, uint64_t offset, size_t n);
	/* Whether much may wait in the kernel: what waits is of files, whose bytes are in memory anyway. NULL where send_file is. */
	void (*widen)(int fd, bool on);
	/* Says that no more will be written. To be called again after IO_AGAIN. */
	struct io_result (*shutdown)(int fd, void *state);
	/* abort: the peer is to see a reset. Frees the state and closes fd. */
	void (*close)(int fd, void *state, bool abort);
	/* What is known of it once the handshake is done; it lives as long as the state. NULL: it is not secure. */
	const struct secure *(*secure)(const void *state);
	/* A text for people: why the last call failed. NULL where `secure` is. */
	const char *(*why)(const void *state);
	/* Whether the peer may take us for this host too. NULL where `secure` is. */
	bool (*covers)(const void *state, struct slice host);
	/* Bytes that were written and that the peer's system has not taken. SIZE_MAX: that is not known. A NULL function: it never is. */
	size_t (*unsent)(int fd, void *state);
};

extern const struct transport_ops transport_tcp;

#endif
