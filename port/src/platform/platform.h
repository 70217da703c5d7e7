/*
 * What the port asks of the system beyond POSIX and libev. linux.c answers with what Linux has; portable.c, its twin, with POSIX
 * alone, so that people can develop on other systems, and slower. `make PORTABLE=1` builds the twin on Linux too.
 */
#ifndef SPARX_PLATFORM_PLATFORM_H
#define SPARX_PLATFORM_PLATFORM_H

#include <sys/socket.h>
#include <sys/types.h>

#include "base/idmap.h"

/* ---- descriptors: not blocking, and closed when another program is started ---- */

int platform_socket(int family);
/* The next connection of a listening socket. -1: errno says why. */
int platform_accept(int listener, struct sockaddr *from, socklen_t *len);
/* A descriptor that stands for nothing, to be had without opening a file; it may block. */
int platform_spare_descriptor(void);

/* ---- descriptors that the host hands over ---- */

/* Connects to the host's socket of packets, whose other end must be of the same user. -1: errno says why. */
int platform_channel(const char *path);

struct received {
	size_t len;     /* of the packet */
	int *fds;       /* what came with it */
	unsigned count; /* how many */
	bool cut;       /* there was more of either */
};

/* Receives one packet, and as many as max descriptors with it. False: errno says why; len and count are 0 at the end. */
bool platform_receive(int fd, void *bytes, size_t size, unsigned max, struct received *r);
/* Whether it is a file that can be read at any offset, and cannot be written. */
bool platform_is_file(int fd);

/* ---- buffers of the kernel ---- */

/* Asks for pipes of this many bytes. */
void platform_pipe_size(int fd, int bytes);
/* Of what is written to a TCP socket, at most this many bytes are kept beyond the peer's window, where the system can do that. */
void platform_unsent_limit(int fd, int bytes);

/* ---- chance ---- */

/* So many bytes that nobody can guess. False: errno says why. */
bool platform_random(void *bytes, size_t n);

/* ---- memory ---- */

/* How many bytes there are at memory that malloc gave; 0: the system does not say. */
size_t platform_memory_size(void *at);
/* Makes whole pages zero, by giving them back where that can be done. */
void platform_zero_pages(void *at, size_t size);
/* Lets malloc keep this many free bytes, where that can be said, so that bursts do not give memory back and ask for it again. */
void platform_keep_memory(int bytes);

/* ---- peers that leave while their descriptor is not read ---- */

/* What is told of such a descriptor: its peer has closed its side, or (gone) both are closed, or it was reset. */
struct hup {
	void *who;
	bool gone;
};

struct hups {
	int fd; /* becomes readable when there is something to tell; -1: ask every HUPS_MS */
	struct idmap open, half;
};

enum { HUPS_MS = 50 };

/* False: errno says why. */
bool hups_open(struct hups *h);
void hups_close(struct hups *h);
/* Looks after a descriptor: tells one thing of it. The twin sees a peer that closed its side when nothing before that is left to be read. */
void hups_watch(struct hups *h, int fd, void *who);
/* When it was told that the peer has closed its side: `gone` may still be told. */
void hups_watch_on(struct hups *h, int fd, void *who);
/* Before the descriptor is closed, and when it is read again. */
void hups_forget(struct hups *h, int fd);
/* At most max of what there is to tell; how many. */
int hups_take(struct hups *h, struct hup *told, int max);

#endif
