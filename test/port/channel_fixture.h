/* SPDX-License-Identifier: Apache-2.0 */
/* The host's end of a channel for descriptors. */
#ifndef SPARX_TEST_CHANNEL_FIXTURE_H
#define SPARX_TEST_CHANNEL_FIXTURE_H

#include "support.h"

struct channel_host {
	char folder[32], path[48];
	int listener, socket;
};

/* Listens at `path`. Ends the test where the port has no channels. */
void channel_host_start(struct channel_host *ch);
/* The port has connected: the socket's file is removed. */
void channel_host_accept(struct channel_host *ch);
void channel_host_stop(struct channel_host *ch);
/* One packet: msgpack in the notation of support.h, and descriptors, which the caller keeps. */
void channel_host_sends(struct channel_host *ch, const char *text, const int *fds, unsigned count);
/* The same with one descriptor, which is closed afterwards. */
void channel_host_hands(struct channel_host *ch, const char *text, int fd);

/* An unnamed file with these bytes, open only for reading. */
int file_with(const char *bytes, size_t n);
/* How many descriptors the process has. */
unsigned descriptors_open(void);

#endif
