/* SPDX-License-Identifier: Apache-2.0 */
/* One listening socket. */
#ifndef SPARX_SERVER_LISTENER_H
#define SPARX_SERVER_LISTENER_H

#include "config.h"
#include "control.h"
#include "loop.h"
#include "stream/stream.h"

struct listener {
	struct loop_io io; /* fd -1: closed. for a socket that others also have open, another one: platform_watchable */
	int fd;            /* the socket */
	uint8_t index;
	unsigned batch; /* connections that it accepts in one turn */
	bool unix_socket;
	bool ready;
	char path[ADDRESS_MAX]; /* path of a unix socket to remove; empty: there is none, or the host removes it */
};

/* Binds and listens, or listens on the socket that the host has handed over. False: *rule says why not. */
bool listener_open(struct listener *l, const struct listener_config *config, char *rule, size_t size);
void listener_close(struct listener *l, struct loop *loop);
void listener_name(const struct listener *l, struct listener_name *name);
/* Whether there is a connection to be accepted. */
bool listener_waiting(const struct listener *l);
/* The next connection's descriptor; -1 with errno if there is none. */
int listener_accept(struct listener *l, struct peer *peer);

#endif
