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
	CONN_SHAKES,  /* with a handshake that is not complete; these go first */
	CONN_STALLED, /* all its requests wait for the client (known only when crowded); these go last */
	CONN_WAITS,
	CONN_WORKS = CONN_WAITS
};

/* A handshake has this long (ms) before it goes first; otherwise no newcomer could complete one in a crowd of idle connections. */
enum { HANDSHAKE_GRACE = 1000 };
/* A client that its requests wait for has this long (ms) to go on. */
enum { STALL_GRACE = 250 };
/* Steps of handshakes in one turn of the loop: about 16 ms of CPU time. */
enum { HANDSHAKES_A_TURN = 64 };

struct member;

struct member_ops {
	/* Its share of a turn. True if it has more to do in the next one. */
	bool (*run)(struct member *m);
	/* Ends it at once: the peer sees a reset if abort. */
	void (*close)(struct member *m, bool abort, enum stream_end why);
	/* Finish what is there, and then end. */
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

/* Of a connection that somebody watches. */
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
	struct list paused; /* would read, but the host is behind */
	struct list closed; /* to be released at the end of the turn */
	struct list later;  /* to run when a disk has had some time, at `later_at` µs */
	uint64_t later_at;
	bool read_paused; /* sockets are not to be read */
	unsigned open;
	unsigned max_handshakes; /* not complete at once; 0: any */
	unsigned handshakes;     /* steps of handshakes in this turn */
	struct conn_waiting waiting[CONN_WAITS];
	uint64_t bytes_in, bytes_out;
	uint64_t misproxied;           /* connections that were closed for their PROXY header */
	uint64_t misproxied_second;    /* in which that was logged last */
	struct connection_watch watch; /* wanted is NULL: nobody */
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
/* What it has to do must wait for a disk, for FILE_RETRY_MS. */
void conn_pool_later(struct conn_pool *pool, struct member *m);
/* Records what it waits for; the time begins when that changes. */
void member_waits(struct member *m, enum conn_wait wait);
/* A handshake begins; where there are too many, the oldest ends. */
void member_shakes(struct member *m);
/* Counts one step of a handshake; false if this turn has no time for it. */
bool conn_pool_may_shake(struct conn_pool *pool);

/* Tells who watches of a new connection. NULL: nobody does. */
struct conn_record *conn_record_begin(struct conn_pool *pool, const struct peer *peer);
/* Of what TLS has agreed on; or, if `fault` is not empty, of the error that ends it. The record may be NULL. */
void conn_record_secured(struct conn_pool *pool, const struct conn_record *record, const struct secure *s, const char *fault);
/* And of its end; the record, which may be NULL, is freed. */
void conn_record_end(struct conn_pool *pool, struct conn_record *record, enum stream_end why);
/* Whether what it says of its clients is believed. */
bool conn_pool_trusts(const struct conn_pool *pool, const struct ip *ip);
/* Gives a peer its share, counts the connection, and takes both back. False: it is to be closed, for its limits or out of memory. */
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
/* Whether sockets are to be read at all. */
void conn_pool_pause(struct conn_pool *pool, bool pause);
/* Whether new requests are to be begun. */
void conn_pool_hold(struct conn_pool *pool, bool hold);
/* Phase 5: releases what was closed. */
void conn_pool_reap(struct conn_pool *pool);

#endif
