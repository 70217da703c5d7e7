/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link: the two pipes to the host. Outgoing messages are gathered in frames and written once per turn; incoming bytes are
 * split into frames and messages and passed on. It never blocks, and never stops reading from the host.
 */
#ifndef SPARX_LINK_LINK_H
#define SPARX_LINK_LINK_H

#include "base/buf.h"
#include "base/list.h"
#include "frames/message.h"
#include "loop.h"

struct link_handler {
	/* The message's bytes stay where they are until the next link_read. A large DATA may be passed on in several parts. */
	void (*on_message)(void *ctx, const struct message *m);
	/* An invalid message or frame. `lost`: the framing is broken, so the port must end. */
	void (*on_fault)(void *ctx, const struct message *m, const struct message_fault *fault, bool lost);
	/* The host has gone. */
	void (*on_eof)(void *ctx);
};

struct link_frame;

struct link {
	struct loop *loop;
	struct loop_io in, out;
	const struct link_handler *handler;
	void *ctx;
	struct buf input;
	size_t max_frame;    /* longest payload accepted from the host */
	size_t frame_left;   /* bytes of the current frame that are still to come; 0: its length comes next */
	struct message part; /* a DATA that is passed on in parts, */
	size_t part_left;    /* and how many of its bytes are still to come; frame_left does not count them */
	size_t part_min;     /* a DATA in a frame of at least this size is passed on as it arrives */
	bool parts;          /* the last message was such a DATA */
	bool in_ready, in_ended, out_broken, out_blocked;
	struct list frames;         /* to be written; messages are still added to the last one */
	struct link_frame *spare;   /* a written frame, kept for reuse */
	struct link_frame *reserve; /* a frame in reserve, for when memory runs out */
	bool starved;               /* memory ran out, and a message is lost */
	size_t queued;              /* bytes in all frames */
	size_t high, low;           /* the two thresholds of link_full */
	bool full;
	bool urgent;            /* a message in the frames is urgent */
	struct wheel_node lazy; /* when messages that are not urgent must be written */
	uint64_t bytes_in, bytes_out;
};

enum {
	LINK_LAZY_MS = 5,         /* how long messages that are not urgent may wait for others */
	LINK_INPUT_CAP = 65536,   /* the input buffer, */
	LINK_STREAM_CAP = 131072, /* its size after a long frame */
	LINK_PART_MIN = 16384     /* link.part_min */
};

void link_init(struct link *k, struct loop *loop, int in_fd, int out_fd, const struct link_handler *handler, void *ctx);
void link_free(struct link *k);
/* Limits from the configuration. */
void link_limits(struct link *k, size_t max_frame, size_t high);

/* Phase 1 of a turn: reads and passes on a bounded amount; true if there may be more. */
bool link_read(struct link *k);
/*
 * Overwrites what remains in the input buffer of bytes that were moved, since they contained secrets. It leaves the messages that
 * were passed on as they are: bytes of a DATA are read until the next link_read.
 */
void link_wipe(struct link *k);
/* Phase 3: one write, if something is urgent. If a message was lost because memory ran out, ends the connection to the host. */
void link_flush(struct link *k);

/* Room for one message of at most n bytes (n <= FRAME_PAYLOAD_MAX); call link_commit with its real length. NULL: out of memory. */
uint8_t *link_reserve(struct link *k, size_t n);
void link_commit(struct link *k, const uint8_t *end);
/* The same for messages that are not urgent. */
void link_commit_lazy(struct link *k, const uint8_t *end);
/* Too many bytes wait for the host: sockets should not be read. With hysteresis. */
bool link_full(struct link *k);

#endif
