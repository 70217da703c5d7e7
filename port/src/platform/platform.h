/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System features that the port needs beyond POSIX and libev. linux.c uses those of Linux; portable.c replaces it with POSIX
 * only, for development on other systems, and is slower. `make PORTABLE=1` builds portable.c on Linux too.
 */
#ifndef SPARX_PLATFORM_PLATFORM_H
#define SPARX_PLATFORM_PLATFORM_H

#include <sys/socket.h>
#include <sys/types.h>

#include "base/idmap.h"

/* ---- descriptors: non-blocking and close-on-exec ---- */

int platform_socket(int family);
/* The next connection of a listening socket. -1: errno says why. */
int platform_accept(int listener, struct sockaddr *from, socklen_t *len);
/*
 * The descriptor that the loop must watch instead of one whose file other processes also have open: after a close here, the
 * kernel would continue to report that file. Another descriptor, or the same. -1 with errno: failed.
 */
int platform_watchable(int fd);
/* A descriptor that refers to no file, made without opening one; it may block. */
int platform_spare_descriptor(void);

/* ---- descriptors that the host hands over ---- */

/* Connects to the host's packet socket, whose other end must belong to the same user. -1: errno says why. */
int platform_channel(const char *path);

struct received {
	size_t len;     /* of the packet */
	int *fds;       /* what came with it */
	unsigned count; /* how many */
	bool cut;       /* bytes or descriptors were cut off */
};

/* CMSG_NXTHDR. The macro of musl converts a negative number to an unsigned one, and the compiler warns about that. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"
static inline struct cmsghdr *platform_next_control(struct msghdr *m, struct cmsghdr *c)
{
	return CMSG_NXTHDR(m, c);
}
#pragma GCC diagnostic pop

/* Receives one packet, and as many as max descriptors with it. False: errno says why; len and count are 0 at the end. */
bool platform_receive(int fd, void *bytes, size_t size, unsigned max, struct received *r);
/* Whether it is a file that can be read at any offset and not written. */
bool platform_is_file(int fd);
/* Reads a file without waiting for a disk. -1: EAGAIN, none of these bytes is in memory; EOPNOTSUPP or ENOSYS, the system cannot
 * say. */
ssize_t platform_read_cached(int fd, void *to, size_t n, uint64_t offset);
/* Asks the system to read bytes of a file into memory. */
void platform_fetch(int fd, uint64_t offset, uint64_t n);
/* Sends bytes of a file to a socket, like write. -1 with EINVAL, EOPNOTSUPP or ENOSYS: not possible with this file. */
ssize_t platform_sendfile(int socket, int fd, uint64_t offset, size_t n);

/* Maps a regular file that is open for reading only. NULL: it cannot be mapped, or is not such a file. */
const void *platform_map(int fd, size_t *size);

/* ---- buffers of the kernel ---- */

/* Asks the system to enlarge the pipes to this many bytes. */
void platform_pipe_size(int fd, int bytes);
/* Limits the unsent bytes of a TCP socket that the kernel keeps beyond the peer's window, if the system can. */
void platform_unsent_limit(int fd, int bytes);

/* Bytes that were written to a socket and that its peer has not acknowledged. SIZE_MAX: the system does not say. */
size_t platform_unsent(int fd);

/* ---- chance ---- */

/* n random bytes for secrets. False: errno says why. */
bool platform_random(void *bytes, size_t n);

/* ---- memory ---- */

/* The usable size of memory from malloc; 0: the system does not say. */
size_t platform_memory_size(void *at);
/* Makes whole pages zero, by giving them back to the system if it can take them. */
void platform_zero_pages(void *at, size_t size);
/* Lets malloc keep this many free bytes, if it supports that, to save system calls in bursts. */
void platform_keep_memory(int bytes);

/* ---- peers that hang up while their descriptor is not read ---- */

/* An event of such a descriptor: its peer closed its side, or (gone) both sides are closed, or it was reset. */
struct hup {
	void *who;
	bool gone;
};

struct hups {
	int fd; /* readable when there are events; -1: poll every HUPS_MS */
	struct idmap open, half;
};

enum { HUPS_MS = 50 };

/* False: errno says why. */
bool hups_open(struct hups *h);
void hups_close(struct hups *h);
/* Watches a descriptor for one event. portable.c sees a peer's close only after everything before it was read. */
void hups_watch(struct hups *h, int fd, void *who);
/* After the event of a peer that closed its side: `gone` may still follow. */
void hups_watch_on(struct hups *h, int fd, void *who);
/* Stops watching: before the descriptor is closed, and when it is read again. */
void hups_forget(struct hups *h, int fd);
/* Fills in at most max events; returns how many. */
int hups_take(struct hups *h, struct hup *told, int max);

#endif
