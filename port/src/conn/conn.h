/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection owns a descriptor, its transport and its session, and moves bytes between them. Events only mark it dirty; its work
 * is done once per turn, in conn_run, and the readiness that it waits for is set in one place, at the end of conn_run.
 */
#ifndef SPARX_CONN_CONN_H
#define SPARX_CONN_CONN_H

#include "base/buf.h"
#include "base/chunk.h"
#include "conn/pool.h"
#include "transport/transport.h"

/* One read fits one BODY message. */
enum { CONN_READ_SIZE = CHUNK_MAX, CONN_PEEK_SIZE = 16 * 1024, CONN_TURN_BUDGET = 256 * 1024, CONN_TURN_STEPS = 256 };
/* Bytes that one connection may write in a turn, since files always have more. */
enum { CONN_TURN_OUTPUT = 512 * 1024 };
/* A connection that moves fewer bytes than this, in both directions together, counts as waiting for its client. */
enum { CONN_MOVES = 4096 };

/*
 *   GREETS ──the PROXY header is there──> HANDSHAKE, OPEN
 *   HANDSHAKE ──it is done──> OPEN ──session is done──> LINGER ──peer closed, or time is up──> CLOSED
 *     │  └──the peer broke its rules──────────────────────^                                    ^
 *     └──time is up, peer is gone──────GREETS, OPEN──the same──────────────────────────────────┘
 *
 * A connection without a PROXY header begins with its HANDSHAKE, without TLS it begins OPEN. It has a session only while it is
 * OPEN.
 */
enum conn_state { CONN_GREETS, CONN_HANDSHAKE, CONN_OPEN, CONN_LINGER, CONN_CLOSED };

struct conn {
	struct member member;
	struct session_owner owner;
	struct loop_io io;
	const struct transport_ops *transport;
	void *transport_state;
	struct session *session;
	struct conn_record *record; /* NULL: it is not reported */
	struct greeting *greeting;  /* a PROXY header, which the peer's slices point into; NULL: none */
	struct buf tail;            /* bytes that were read and that the session has not used */
	struct wheel_node timer;
	uint64_t written, taken;   /* bytes written; how many of them the peer had taken at the last check */
	uint64_t looked;           /* ms: when */
	size_t moved;              /* bytes moved since it began to wait for its client */
	uint8_t state;             /* enum conn_state */
	uint8_t read_on, write_on; /* enum io_direction: which readiness a read, or a write, waits for */
	bool readable, writable, eof;
	bool due;     /* its timer has fired in this turn */
	bool drains;  /* a drain has begun, of which the session does not know yet */
	bool settled; /* the protocol is known from the first bytes */
	bool shut;    /* our side is closed */
	bool hup_watched;
	bool wide; /* transport_ops.widen */
};

/* Takes over the descriptor and the transport's state, also on failure. NULL: out of memory. */
struct conn *conn_open(struct conn_pool *pool, int fd, const struct transport_ops *transport, void *state, const struct peer *peer);
/* Ends it at once: the peer sees a reset if abort. */
void conn_close(struct conn *c, bool abort, enum stream_end why);

#endif
