/*
 * The link: the two pipes to the host. Outgoing messages are gathered in frames, and written once a turn; incoming bytes are
 * cut into frames and messages, and handed on. It never blocks, and never stops reading the host.
 */
#ifndef SPARX_LINK_LINK_H
#define SPARX_LINK_LINK_H

#include "base/buf.h"
#include "base/list.h"
#include "frames/message.h"
#include "loop.h"

struct link_handler {
	/* The message's bytes stay where they are until the next link_read. A large DATA may be handed on as several. */
	void (*on_message)(void *ctx, const struct message *m);
	/* A message, or a frame, that cannot be used; `lost`: the framing is broken, the port must end. */
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
	size_t max_frame;    /* longest payload taken from the host */
	size_t frame_left;   /* of the frame that is being read; 0: its head is to come */
	struct message part; /* the DATA of which more is to come, */
	size_t part_left;    /* so many bytes, which frame_left does not count */
	size_t part_min;     /* a DATA in a frame at least as long is handed on as it comes */
	bool parts;          /* the last message was one of that kind */
	bool in_ready, in_ended, out_broken, out_blocked;
	struct list frames;         /* to be written; the last one is still open for messages */
	struct link_frame *spare;   /* one that was written, kept */
	struct link_frame *reserve; /* for when there is no memory */
	bool starved;               /* there was none: a message is lost */
	size_t queued;              /* bytes in frames */
	size_t high, low;           /* marks of link_full */
	bool full;
	bool urgent;            /* something in frames must not wait for company */
	struct wheel_node lazy; /* when it must go anyway */
	uint64_t bytes_in, bytes_out;
};

enum {
	LINK_LAZY_MS = 5,         /* how long messages that nobody waits for may wait for company */
	LINK_INPUT_CAP = 65536,   /* the input buffer, */
	LINK_STREAM_CAP = 131072, /* when long frames come */
	LINK_PART_MIN = 16384     /* link.part_min */
};

void link_init(struct link *k, struct loop *loop, int in_fd, int out_fd, const struct link_handler *handler, void *ctx);
void link_free(struct link *k);
/* Limits from the configuration. */
void link_limits(struct link *k, size_t max_frame, size_t high);

/* Phase 1 of a turn: reads and hands on at most a bounded amount; true if there may be more. */
bool link_read(struct link *k);
/* What is left in the input buffer of messages that were handed on is overwritten: there were secrets among them. */
void link_wipe(struct link *k);
/* Phase 3: one write, if something is urgent. If a message was lost for want of memory, the host is given up. */
void link_flush(struct link *k);

/* Room for one message of at most n bytes (n <= FRAME_PAYLOAD_MAX); link_commit says how long it became. NULL: no memory. */
uint8_t *link_reserve(struct link *k, size_t n);
void link_commit(struct link *k, const uint8_t *end);
/* The same for messages that may wait a little for company. */
void link_commit_lazy(struct link *k, const uint8_t *end);
/* More is queued than the host has taken: sockets should not be read. With hysteresis. */
bool link_full(struct link *k);

#endif
