/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bridge: the only place that knows both streams and messages. Events become messages, against the host's credit;
 * messages become operations. Everything that the host says is checked here, before it reaches a stream.
 */
#ifndef SPARX_BRIDGE_BRIDGE_H
#define SPARX_BRIDGE_BRIDGE_H

#include "base/chunk.h"
#include "base/idmap.h"
#include "base/log.h"
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
	/* Shuts the process in when the listeners are bound. NULL, in tests: it stays as it is. */
	bool (*shut_in)(struct sandbox *s, const struct config *config, struct config_fault *fault);
	struct sandbox sandbox;
	struct idmap exchanges;
	struct idmap owed;  /* those that have ended, but for the host's work on them */
	struct list spares; /* memory for exchanges to come */
	unsigned spare_count;
	uint8_t state; /* enum bridge_state */
	bool host_gone;
	bool pressed;     /* requests were turned away in this second */
	bool handing_out; /* at this moment */
	uint64_t last_id;
	uint64_t demand;
	struct shares shares;
	struct list queue; /* exchanges that wait for demand, longest first */
	uint64_t queued;
	void (*hand_out)(struct bridge *b); /* looks for what may be handed out now: queue.c */
	struct idmap absent;                /* requests whose client has gone, but not the host's work on them */
	struct list absents;                /* the same, longest first */
	struct wheel_node forgets;          /* the first of them */
	struct channel channel;             /* of descriptors that the host hands over */
	struct idmap handed;                /* those that are held: struct handed by its token */
	uint64_t shed_second, shed_count;   /* turned away in this second */
	struct wheel_node relief;           /* when it is over */
	char policies[LIMITS][80];          /* what the answers to those beyond a limit say of it */
	struct forwarded named;             /* scratch: what the request that comes now says of its client */
	struct stream_sink sink;
	struct field fields[BRIDGE_FIELDS]; /* scratch */
	struct ws_env ws;
	struct codings codings;
	struct {
		struct list active;       /* bodies of which something may be decoded */
		uint64_t memory;          /* that all decoders hold */
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
/* The host, or a signal, asked for a drain; deadline in ms. */
void bridge_drain(struct bridge *b, uint64_t deadline);
/* The host has gone: what was answered whole may go out. */
void bridge_host_gone(struct bridge *b);
/* At the end of a turn: gives slots of shared memory back to the host whose bytes have left. */
void bridge_return_slots(struct bridge *b);
/* Takes what the host has handed over. True: there may be more. */
bool bridge_receive(struct bridge *b);
/* Compresses and decodes for a while what there is of bodies. */
void bridge_run(struct bridge *b);
/* Whether there is more of it, which connections may have given since. */
bool bridge_has_work(struct bridge *b);
/* The server has nothing left. */
void bridge_drained(void *ctx, unsigned cut);
/* Tells of connections, if the host asked for reports. */
struct connection_watch bridge_watch(struct bridge *b);
/* A line for the host; what does not fit the link is dropped. */
void bridge_log(void *ctx, enum log_level level, const char *text);

#endif
