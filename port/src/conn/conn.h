/*
 * A connection: owns a descriptor, its transport and its session, and moves bytes between them. Whatever happens to it only
 * marks it dirty; its work is done once a turn, in conn_run; and what it waits for is set in one place, at the end of that.
 */
#ifndef SPARX_CONN_CONN_H
#define SPARX_CONN_CONN_H

#include "base/buf.h"
#include "control.h"
#include "loop.h"
#include "proto/session.h"
#include "transport/transport.h"

/* A read is what one BODY message holds. */
enum { CONN_READ_SIZE = 65000, CONN_PEEK_SIZE = 16 * 1024, CONN_TURN_BUDGET = 256 * 1024 };

/* Connections with which nothing is in work: the one that has been so for longest goes when there is no room. */
enum conn_wait {
	CONN_IDLE,    /* without a request */
	CONN_LINGERS, /* answered to the end */
	CONN_BEGUN,   /* with a head that is not complete */
	CONN_WAITS,
	CONN_WORKS = CONN_WAITS
};

struct conn_waiting {
	struct list list; /* longest first */
	unsigned count;
};

/* What the connections of one server share. */
struct conn_pool {
	struct loop *loop;
	struct session_env env;
	struct list all;
	struct list dirty;  /* to run in this turn */
	struct list paused; /* would read, but the host is behind */
	struct list closed; /* to be freed at the end of the turn */
	bool read_paused;   /* sockets are not to be read */
	unsigned open;
	struct conn_waiting waiting[CONN_WAITS];
	uint64_t bytes_in, bytes_out;
	struct connection_watch watch; /* wanted is NULL: nobody */
	uint64_t last_id;
	uint8_t *scratch; /* CONN_READ_SIZE bytes to read into */
};

/*
 *   OPEN ──session is done──> LINGER ──peer closed, or time is up──> CLOSED
 *     └──────────────────────────────────────────────────────────────^
 */
enum conn_state { CONN_OPEN, CONN_LINGER, CONN_CLOSED };

/* Of a connection that somebody watches. */
struct conn_record {
	uint64_t id, opened_us, bytes_in, bytes_out;
};

struct conn {
	struct session_owner owner;
	struct loop_io io;
	struct conn_pool *pool;
	const struct transport_ops *transport;
	void *transport_state;
	struct session *session;
	struct conn_record *record; /* NULL: nobody watches */
	struct buf tail;            /* read, and not yet used by the session */
	struct list link;           /* dirty, paused or closed */
	struct list all, waits;     /* pool->all, pool->waiting */
	struct wheel_node timer;
	uint64_t waits_since; /* ms; while it is in pool->waiting */
	uint8_t wait;         /* enum conn_wait: in which list */
	uint8_t state;        /* enum conn_state */
	bool readable, writable, eof;
	bool settled; /* the first bytes told the protocol */
	bool hup_watched;
};

bool conn_pool_init(struct conn_pool *pool, struct loop *loop, const struct config *config, const struct stream_sink *sink);
void conn_pool_free(struct conn_pool *pool);

/* Takes the descriptor, whatever comes of it. NULL: out of memory. */
struct conn *conn_open(struct conn_pool *pool, int fd, const struct transport_ops *transport, const struct peer *peer);
/* Ends it at once: the peer sees a reset if abort. */
void conn_close(struct conn *c, bool abort, enum stream_end why);
/* Closes the one that has waited for longest. False: something is in work with each. */
bool conn_pool_spare(struct conn_pool *pool);
/* Asks the session to finish. */
void conn_drain(struct conn *c);

/* Phase 2 of a turn: runs each dirty connection; true if some have more to do. */
bool conn_pool_run(struct conn_pool *pool);
/* Whether sockets are to be read at all. */
void conn_pool_pause(struct conn_pool *pool, bool pause);
/* Whether new requests are to be begun. */
void conn_pool_hold(struct conn_pool *pool, bool hold);
/* Phase 5: frees what was closed. */
void conn_pool_reap(struct conn_pool *pool);

#endif
