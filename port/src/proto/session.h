/* SPDX-License-Identifier: Apache-2.0 */
/* A connection's protocol. conn drives it through session_ops; it never sees a descriptor. */
#ifndef SPARX_PROTO_SESSION_H
#define SPARX_PROTO_SESSION_H

#include <sys/uio.h>

#include "base/bufq.h"
#include "base/pool.h"
#include "base/secure.h"
#include "config.h"

#include "stream/stream.h"

enum { SESSION_FIELDS_MAX = 256, DATE_LEN = 29 };

struct shares;

/* What all sessions of a server share. */
struct session_env {
	const struct config *config;
	const struct stream_sink *sink;
	const uint64_t *now, *now_us;            /* ms, µs; the loop's */
	char date[DATE_LEN + 1];                 /* RFC 9110 5.6.7, of this second */
	bool draining;                           /* responses close their connections */
	bool crowded;                            /* busy_idle_timeout applies */
	bool paused;                             /* no new requests may begin */
	bool read_paused;                        /* sockets must not be read, so no peer is late with its bytes */
	struct shares *shares;                   /* the peers' shares; NULL: they are not counted */
	uint64_t rejected;                       /* requests that the port itself answered with 4xx, 5xx */
	struct field fields[SESSION_FIELDS_MAX]; /* scratch for on_request and on_end */
	struct pool h1_streams;                  /* h1's: freed streams, */
	void *spare_parse;                       /* and a parser that is kept for reuse */
	void *mux;                               /* mux's: what sessions of HTTP/2 and HTTP/3 share */
	void *h2;                                /* h2's, the same */
};

/* The session's owner (conn): what a session knows of its connection. */
struct session_owner {
	struct session_env *env;
	/* There is something to do outside of input, sent and tick: call session_ops soon. */
	void (*wake)(struct session_owner *owner);
	struct peer peer;
	unsigned steps, max_steps; /* frames, heads, chunks: how many were read in this turn, and how many may be; 0: any number */
	bool sends_files;          /* parts of files need not be in memory to be written (session_ops.file) */
	const struct secure *secure; /* its requests count as https, whatever they say; NULL: the connection is plain */
	/* Whether the client may request this host on this connection. Only with `secure`. */
	bool (*covers)(struct session_owner *owner, struct slice host);
};

/* Whether one more may be read in this turn; it is counted. */
static inline bool session_may_step(struct session_owner *owner)
{
	return owner->max_steps == 0 || owner->steps++ < owner->max_steps;
}

/* The rest of the input waits for the next turn. */
static inline bool session_is_tired(const struct session_owner *owner)
{
	return owner->max_steps && owner->steps >= owner->max_steps;
}

enum session_close {
	CLOSE_NOT,
	CLOSE_NOW,    /* nothing can be lost: the peer has closed, or was idle */
	CLOSE_LINGER, /* written bytes must still reach the peer, which may be sending */
	CLOSE_CUT,    /* the peer must notice that something is missing */
};

/* A pure function of the session's state. */
struct session_wants {
	bool read;                /* the session can use input now */
	bool peek;                /* reading a little more shows whether the peer is still there */
	bool alert;               /* the sink wants to be notified when the peer leaves */
	bool write;               /* there is output */
	bool later;               /* the output is not in memory yet: ask for it again in FILE_RETRY_MS */
	bool idle;                /* no request is in progress, and none has begun */
	bool begun;               /* only an incomplete head */
	enum session_close close; /* close once everything is written */
	uint64_t deadline;        /* ms; when tick is to be called; 0: never */
};

struct session {
	const struct session_ops *ops;
	struct session_owner *owner;
};

struct session_ops {
	/* Parses and delivers. Returns how many bytes were used; the rest is offered again together with later bytes, at the same
	   address or another. It may change the bytes. eof: no bytes follow these. */
	size_t (*input)(struct session *s, uint8_t *data, size_t len, bool eof);
	/* Acts on earlier operations, without input. NULL: there is never anything to do. */
	void (*deliver)(struct session *s);
	/* The peer closed its side, after bytes that were not read yet. */
	void (*hangup)(struct session *s);
	/* Fills vectors with what is to be written; returns how many. */
	int (*output)(struct session *s, struct iovec *iov, int max);
	/* If output returns nothing: the next bytes to write, as a part of a file. False: there are none. NULL: never. */
	bool (*file)(struct session *s, struct bufq_file *f);
	/* n bytes of it were written. False: there are certainly no more. */
	bool (*sent)(struct session *s, size_t n);
	/* The peer has taken n of the written bytes, although the kernel has no room for more yet. */
	void (*taken)(struct session *s, uint64_t n);
	/* The end of the connection's share of a turn: bytes that operations lent (send_data) will not be there after it. */
	void (*own)(struct session *s);
	struct session_wants (*wants)(const struct session *s);
	/* The same as `read` of these, for which nothing else is looked at. */
	bool (*reads)(const struct session *s);
	/* Whether all its requests wait for the client: for room, or for more of their bodies. Only called when crowded. */
	bool (*stalled)(const struct session *s);
	/* The deadline has passed. */
	void (*tick)(struct session *s);
	/* Accept no new requests, and finish those in progress. */
	void (*drain)(struct session *s);
	/* The connection is over, for this reason: ends all streams, and frees the session. */
	void (*close)(struct session *s, enum stream_end why);
};

#endif
