/*
 * The pool: what the connections of one server share, and the limits on them. A member is a connection of any make: the pool
 * knows when it is to run, for what it waits, and how to end it, and nothing of how its bytes move.
 */
#ifndef SPARX_CONN_POOL_H
#define SPARX_CONN_POOL_H

#include "control.h"
#include "loop.h"
#include "proto/session.h"

/* Members with which nothing is in progress: the one that has been so for longest goes when there is no room. */
enum conn_wait {
	CONN_IDLE,    /* without a request */
	CONN_LINGERS, /* answered to the end */
	CONN_BEGUN,   /* with a head that is not complete */
	CONN_SHAKES,  /* with a handshake that is not complete; these go first */
	CONN_STALLED, /* all its requests wait for the client, as far as that is known: in a crowd; these go last */
	CONN_WAITS,
	CONN_WORKS = CONN_WAITS
};

/* A handshake has this long (ms) before it goes first: or in a crowd of idle connections no newcomer would complete one. */
enum { HANDSHAKE_GRACE = 1000 };
/* And a client this long (ms) to go on. */
enum { STALL_GRACE = 250 };
/* Handshakes that one turn of the loop goes on with: some 16 ms of CPU time. */
enum { HANDSHAKES_A_TURN = 64 };

struct member;

struct member_ops {
	/* Its share of a turn. True if it has more to do in the next one. */
	bool (*run)(struct member *m);
	/* Ends it at once: the peer sees a reset if abort. */
	void (*close)(struct member *m, bool abort, enum stream_end why);
	/* Finish what is there, and then end. */
	void (*drain)(struct member *m);
	/* Frees it: the turn in which it left is over. */
	void (*release)(struct member *m);
};

struct member {
	const struct member_ops *ops;
	struct conn_pool *pool;
	struct list link;       /* dirty, paused or closed */
	struct list all, waits; /* pool->all, pool->waiting */
	uint64_t waits_since;   /* ms; while it is in pool->waiting */
	uint8_t wait;           /* enum conn_wait: in which list */
	bool left;              /* the pool: it is to be released */
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
	bool read_paused;   /* sockets are not to be read */
	unsigned open;
	unsigned max_handshakes; /* not complete at once; 0: any */
	unsigned handshakes;     /* that were gone on with in this turn */
	struct conn_waiting waiting[CONN_WAITS];
	uint64_t bytes_in, bytes_out;
	struct connection_watch watch; /* wanted is NULL: nobody */
	uint64_t last_id;
	uint8_t *scratch; /* CONN_READ_SIZE bytes to read into */
};

bool conn_pool_init(struct conn_pool *pool, struct loop *loop, const struct config *config, const struct stream_sink *sink);
void conn_pool_free(struct conn_pool *pool);

/* A member comes, works, and leaves: the last is what its close does. */
void member_join(struct member *m, struct conn_pool *pool, const struct member_ops *ops);
void member_leave(struct member *m);
/* It has something to do in this turn, or in the next one if it runs already. */
void member_is_dirty(struct member *m);
/* What it waits for, from now on if that is new. */
void member_waits(struct member *m, enum conn_wait wait);
/* A handshake begins; where there are too many, the oldest ends. */
void member_shakes(struct member *m);
/* Whether this turn has time for a step of a handshake, which is counted. */
bool conn_pool_may_shake(struct conn_pool *pool);

/* Tells who watches of a new connection. NULL: nobody does. */
struct conn_record *conn_record_begin(struct conn_pool *pool, const struct peer *peer);
/* And of its end; the record, which may be NULL, is freed. */
void conn_record_end(struct conn_pool *pool, struct conn_record *record, enum stream_end why);
/* Gives a peer its share, and takes it back. False: out of memory. */
bool conn_pool_share(struct conn_pool *pool, struct peer *peer);
void conn_pool_unshare(struct conn_pool *pool, struct peer *peer);

/* Closes the one that has waited for longest. False: something is in progress with each. */
bool conn_pool_spare(struct conn_pool *pool);
/* Closes those that have been idle for so many ms. */
void conn_pool_thin_out(struct conn_pool *pool, uint64_t idle_ms);
/* Runs all of them in this turn, since something that they do not know has changed. */
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
