/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool: what the connections of one server share, and the limits on them. A member is a connection of any kind: the pool
 * knows when to run it, what it waits for, and how to end it, but not how its bytes move.
 */
#ifndef SPARX_CONN_POOL_H
#define SPARX_CONN_POOL_H

#include "control.h"
#include "loop.h"
#include "peer/cidr.h"
#include "proto/session.h"

/* Members with nothing in progress, by kind. When there is no room, the one that has waited longest is closed. */
enum conn_wait {
	CONN_IDLE,    /* without a request */
	CONN_LINGERS, /* answered to the end */
	CONN_BEGUN,   /* with a head that is not complete */
	CONN_SHAKES,  /* with an incomplete handshake; these are closed first */
	CONN_STALLED, /* all its requests wait for the client (known only when crowded); these are closed last */
	CONN_WAITS,
	CONN_WORKS = CONN_WAITS
};

/* A handshake may take this long (ms) before it is closed first; otherwise no newcomer could complete one in a crowd of idle
 * connections. */
enum { HANDSHAKE_GRACE = 1000 };
/* How long (ms) requests may wait for their client before the connection may be closed. */
enum { STALL_GRACE = 250 };
/* A connection that began to wait less than NEW_GRACE ms ago goes after stalled ones, so that a newcomer's request has time to arrive;
 * unless more than one in NEW_SHARE connections waits, since many new ones must not displace those with requests. */
enum { NEW_GRACE = 1000, NEW_SHARE = 8 };
/* Steps of handshakes in one turn of the loop: about 16 ms of CPU time. */
enum { HANDSHAKES_A_TURN = 64 };

struct member;

struct member_ops {
	/* Does its share of a turn. True if it has more to do in the next one. */
	bool (*run)(struct member *m);
	/* Ends it at once: the peer sees a reset if abort. */
	void (*close)(struct member *m, bool abort, enum stream_end why);
	/* Finishes what is in progress, then ends. */
	void (*drain)(struct member *m);
	/* Frees it, at the end of the turn in which it was closed. */
	void (*release)(struct member *m);
};

struct member {
	const struct member_ops *ops;
	struct conn_pool *pool;
	struct list link;       /* dirty, paused, later or closed */
	struct list all, waits; /* pool->all, pool->waiting */
	uint64_t waits_since;   /* ms; while it is in pool->waiting */
	uint8_t wait;           /* enum conn_wait: in which list */
	bool left;              /* it will be released at the end of the turn */
};

/* The record of a watched connection. */
struct conn_record {
	uint64_t id, opened_us, bytes_in, bytes_out;
};

struct conn_waiting {
	struct list list; /* longest first */
	unsigned count;
};

struct conn_pool {
	struct loop *loop;
	struct session_env env;
	struct list all;
	struct list dirty;  /* to run in this turn */
	struct list paused; /* it would read, but the host does not keep up */
	struct list closed; /* to be released at the end of the turn */
	struct list later;  /* to run at `later_at` µs, after waiting for a disk */
	uint64_t later_at;
	unsigned open;
	unsigned max_handshakes; /* the most incomplete handshakes; 0: any number */
	unsigned handshakes;     /* steps of handshakes in this turn */
	struct conn_waiting waiting[CONN_WAITS];
	uint64_t bytes_in, bytes_out;
	uint64_t misproxied;           /* connections that were closed for their PROXY header */
	uint64_t misproxied_second;    /* in which that was logged last */
	struct connection_watch watch; /* wanted is NULL: nobody watches */
	uint64_t last_id;
	uint8_t *scratch; /* CONN_READ_SIZE bytes to read into */
};

bool conn_pool_init(struct conn_pool *pool, struct loop *loop, const struct config *config, const struct stream_sink *sink);
void conn_pool_free(struct conn_pool *pool);

/* Adds a member; runs it; removes it (its close calls that). */
void member_join(struct member *m, struct conn_pool *pool, const struct member_ops *ops);
void member_leave(struct member *m);
/* It has something to do in this turn, or in the next one if it runs already. */
void member_is_dirty(struct member *m);
/* It waits FILE_RETRY_MS for a disk. */
void conn_pool_later(struct conn_pool *pool, struct member *m);
/* Records what it waits for; the waiting time starts again when that changes. */
void member_waits(struct member *m, enum conn_wait wait);
/* A handshake begins; if there are too many, the oldest is closed. */
void member_shakes(struct member *m);
/* Counts one step of a handshake; false if this turn has no time for it. */
bool conn_pool_may_shake(struct conn_pool *pool);

/* Reports a new connection to the watcher. NULL: there is none. */
struct conn_record *conn_record_begin(struct conn_pool *pool, const struct peer *peer);
/* Reports what TLS has negotiated, or, if `fault` is not empty, the error that ends the connection. The record may be NULL. */
void conn_record_secured(struct conn_pool *pool, const struct conn_record *record, const struct secure *s, const char *fault);
/* Reports its end, and frees the record, which may be NULL. */
void conn_record_end(struct conn_pool *pool, struct conn_record *record, enum stream_end why);
/* Whether the peer is a trusted proxy. */
bool conn_pool_trusts(const struct conn_pool *pool, const struct ip *ip);
/* The first gives a peer its share and counts the connection; the second takes both back. False: the connection must be closed,
 * because of a limit or out of memory. */
bool conn_pool_share(struct conn_pool *pool, struct peer *peer);
void conn_pool_unshare(struct conn_pool *pool, struct peer *peer);

/* Closes the member that has waited longest. False: each has something in progress. */
bool conn_pool_spare(struct conn_pool *pool);
/* Closes members that have been idle for this many ms. */
void conn_pool_thin_out(struct conn_pool *pool, uint64_t idle_ms);
/* Runs all members in this turn, because something outside of them has changed. */
void conn_pool_wake(struct conn_pool *pool);
/* Cuts all; returns how many. */
unsigned conn_pool_cut(struct conn_pool *pool);
void conn_pool_drain(struct conn_pool *pool);

/* Phase 2 of a turn: runs each dirty member; true if some have more to do. */
bool conn_pool_run(struct conn_pool *pool);
/* Turns the reading of all sockets on or off. */
void conn_pool_pause(struct conn_pool *pool, bool pause);
/* Turns new requests on or off. */
void conn_pool_hold(struct conn_pool *pool, bool hold);
/* Phase 5: releases what was closed. */
void conn_pool_reap(struct conn_pool *pool);

#endif
