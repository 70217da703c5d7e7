/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bridge: the only place that knows both streams and messages. Events become messages, against the host's credit;
 * messages become operations. Every message of the host is checked here, before it reaches a stream.
 */
#ifndef SPARX_BRIDGE_BRIDGE_H
#define SPARX_BRIDGE_BRIDGE_H

#include "base/chunk.h"
#include "base/idmap.h"
#include "base/log.h"
#include "base/pool.h"
#include "channel/channel.h"
#include "coding/coding.h"
#include "coding/decoding.h"
#include "config.h"
#include "control.h"
#include "link/link.h"
#include "peer/forwarded.h"
#include "peer/shares.h"
#include "sandbox/sandbox.h"
#include "stream/stream.h"
#include "ws/ws.h"

enum bridge_state { BRIDGE_NEW, BRIDGE_SERVING, BRIDGE_DRAINING, BRIDGE_OVER };

enum { BRIDGE_FIELDS = 256 };

struct bridge {
	struct loop *loop;
	struct link *link;
	struct config *config; /* filled from the hello */
	struct control control;
	/* Enters the sandbox when the listeners are bound. NULL (in tests): there is no sandbox. */
	bool (*shut_in)(struct sandbox *s, const struct config *config, struct config_fault *fault);
	struct sandbox sandbox;
	struct idmap exchanges;
	struct idmap owed;  /* ended exchanges whose handlers are still running */
	struct pool spares; /* freed exchanges, */
	struct pool heads;  /* and short heads of those that waited */
	uint8_t state;      /* enum bridge_state */
	bool host_gone;
	bool pressed;     /* requests were turned away in this second */
	bool handing_out; /* at this moment */
	uint64_t last_id;
	uint64_t demand;
	struct shares shares;
	struct list queue; /* exchanges that wait for demand, longest first */
	uint64_t queued;
	void (*hand_out)(struct bridge *b); /* hands out what may be handed out now: queue.c */
	struct idmap absent;                /* requests whose client has left, but whose handler is still running */
	struct list absents;                /* the same, longest first */
	struct wheel_node forgets;          /* the first of them */
	struct channel channel;             /* the channel for descriptors from the host */
	struct idmap handed;                /* descriptors that are kept: struct handed by its token */
	struct list open_files;             /* those of them that every response may use, until CLOSE_FILE: struct handed */
	uint64_t shed_second, shed_count;   /* turned away in this second */
	struct wheel_node relief;           /* when it is over */
	char policies[LIMITS][80];          /* RateLimit-Policy of each limit, for responses */
	struct forwarded named;             /* scratch: the client of the current request, as its proxies name it */
	struct stream_sink sink;
	struct field fields[BRIDGE_FIELDS]; /* scratch */
	struct ws_env ws;
	struct codings codings;
	struct {
		struct list active;       /* bodies that may have something to decode */
		uint64_t memory;          /* memory of all decoders */
		uint64_t left;            /* bytes that may still be decoded in this turn */
		uint8_t chunk[CHUNK_MAX]; /* scratch */
	} decode;
	struct {
		uint64_t requests, responses, shed, timeouts, refused, dropped, errors, logs_dropped;
		uint64_t body_queued, read_credit;
	} n;
};

/* secret: random bytes, so that nobody can choose which peers meet in the table of shares. */
void bridge_init(struct bridge *b, struct loop *loop, struct link *link, struct config *config,
		 const uint8_t secret[SHARES_SECRET]);
void bridge_free(struct bridge *b);
void bridge_control(struct bridge *b, struct control control);

extern const struct link_handler bridge_link_handler;

void bridge_moves(struct bridge *b, enum bridge_state to);
/* Stops the server, and with it the process. */
void bridge_over(struct bridge *b, int status);
/* The host or a signal has asked for a drain; deadline in ms. */
void bridge_drain(struct bridge *b, uint64_t deadline);
/* The host is gone: complete responses may still go out. */
void bridge_host_gone(struct bridge *b);
/* At the end of a turn: returns slots of shared memory to the host when their bytes have been written. */
void bridge_return_slots(struct bridge *b);
/* Receives descriptors from the host. True: there may be more. */
bool bridge_receive(struct bridge *b);
/* Compresses and decodes bodies for a while. */
void bridge_run(struct bridge *b);
/* Whether there is more to do, since connections may have delivered more. */
bool bridge_has_work(struct bridge *b);
/* The server has no connection left. */
void bridge_drained(void *ctx, unsigned cut);
/* Reports connections, if the host asked for that. */
struct connection_watch bridge_watch(struct bridge *b);
/* Sends a log line to the host; it is dropped if the link is full. */
void bridge_log(void *ctx, enum log_level level, const char *text);

#endif
