/* SPDX-License-Identifier: Apache-2.0 */
/* A byte stream to a peer: plain TCP, or TLS. Only conn knows which. */
#ifndef SPARX_TRANSPORT_TRANSPORT_H
#define SPARX_TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <sys/uio.h>

#include "base/io.h"
#include "base/secure.h"

/* Unsent bytes that the kernel may buffer for a peer: of memory, and of files. */
enum { TRANSPORT_UNSENT = 128 * 1024, TRANSPORT_UNSENT_FILES = 1024 * 1024 };

struct transport_ops {
	/* The handshake before the first byte of the protocol. IO_OK: it is complete. NULL: there is none. */
	struct io_result (*handshake)(int fd, void *state);
	/* more: there are buffered bytes, for which no event will come, or the socket probably has some. */
	struct io_result (*read)(int fd, void *state, void *bytes, size_t n);
	/* more: everything was accepted. After IO_AGAIN the next call begins with the same bytes. */
	struct io_result (*writev)(int fd, void *state, const struct iovec *iov, int count);
	/* The same for n bytes of a file, all of which are in memory. EINVAL, EOPNOTSUPP, ENOSYS: not possible with this file.
	 * NULL: with no file. */
	struct io_result (*send_file)(int fd, void *state, int file, uint64_t offset, size_t n);
	/* Lets the kernel buffer more, since bytes of files are in memory anyway; or less again. NULL if send_file is. */
	void (*widen)(int fd, bool on);
	/* Says that no more will be written. Must be called again after IO_AGAIN. */
	struct io_result (*shutdown)(int fd, void *state);
	/* abort: the peer gets a reset. Frees the state and closes fd. */
	void (*close)(int fd, void *state, bool abort);
	/* The results of the handshake; they live as long as the state. NULL: it is not TLS. */
	const struct secure *(*secure)(const void *state);
	/* A text for people: why the last call failed. NULL if `secure` is. */
	const char *(*why)(const void *state);
	/* Whether the peer may request this host too. NULL if `secure` is. */
	bool (*covers)(const void *state, struct slice host);
	/* Bytes that were written and that the peer's system has not acknowledged. SIZE_MAX: unknown. A NULL function: always
	 * unknown. */
	size_t (*unsent)(int fd, void *state);
};

extern const struct transport_ops transport_tcp;

#endif
