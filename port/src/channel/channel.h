/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel: a unix socket over which the host hands open descriptors to the port, which opens none itself. Each packet brings
 * one descriptor and says what it is for (PROTOCOL.md, section 3.6). Nothing is ever written to it.
 */
#ifndef SPARX_CHANNEL_CHANNEL_H
#define SPARX_CHANNEL_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"

/* What a descriptor is for: the first field of its packet. */
enum descriptor_use { DESCRIPTOR_FILE, DESCRIPTOR_LISTENER, DESCRIPTOR_REGION, DESCRIPTOR_OPEN_FILE, DESCRIPTOR_USES };

struct descriptor {
	int fd;
	enum descriptor_use use;
	uint64_t token;  /* by which messages name it; at least 1 */
	uint64_t stream; /* the stream of a file; 0 for other uses */
};

enum channel_result { CHANNEL_EMPTY, CHANNEL_GOT, CHANNEL_WRONG, CHANNEL_OVER };

struct channel {
	struct loop_io io;
	bool open, ready; /* ready: there may be a packet */
};

void channel_init(struct channel *c);
/* Connects to the host, which must run as the same user. False: errno says why. */
bool channel_open(struct channel *c, struct loop *loop, const char *path);
/* Takes over a connected socket. */
void channel_use(struct channel *c, struct loop *loop, int fd);
void channel_close(struct channel *c, struct loop *loop);
/*
 * The next packet. GOT: the descriptor belongs to the caller. WRONG: *rule says which rule was broken, d->stream is the stream
 * that it names, or 0; its descriptors are closed. OVER: the host has closed the channel. EMPTY: there is nothing now.
 */
enum channel_result channel_take(struct channel *c, struct descriptor *d, const char **rule);
/* Waits for a packet, at most `ms`: only used while there is nothing else to wait for. False: none has come. */
bool channel_wait(struct channel *c, int ms);

#endif
