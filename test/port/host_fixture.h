/* SPDX-License-Identifier: Apache-2.0 */
/* A host, written as text, at the other end of two real pipes: its messages pass through the link, and what it receives is
 * recorded. */
#ifndef SPARX_TEST_HOST_FIXTURE_H
#define SPARX_TEST_HOST_FIXTURE_H

#include "link/link.h"
#include "support.h"

struct host {
	struct loop loop; /* never run: its clock is moved by hand */
	struct link link;
	int to_port[2], from_port[2];
	struct buf input;  /* from the port, not yet a whole frame */
	struct text heard; /* a line for each message */
	unsigned frames;   /* heard */
};

/* Neither end blocks. */
void host_start(struct host *h, const struct link_handler *handler, void *ctx);
void host_stop(struct host *h);
/* Bytes for the port, which reads until none remain. NULL: the end. */
void host_writes(struct host *h, const void *bytes, size_t n);
/* One frame with the messages in the notation, read by the port. */
void host_says(struct host *h, const char *messages);
void host_closes(struct host *h);
/* Adds what has arrived through the pipe to `heard`. */
void host_listens(struct host *h);
void host_pass_time(struct host *h, uint64_t ms);

/* The port sends everything, urgent or not, which is then compared. */
void expect_heard_at(struct host *h, const char *wanted, const char *file, int line);
#define EXPECT_HEARD(h, wanted) expect_heard_at(h, wanted, __FILE__, __LINE__)

#endif
