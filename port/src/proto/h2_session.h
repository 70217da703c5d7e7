/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of an HTTP/2 session share: h2.c (its table of functions), h2_life.c (states, drain, deadlines), h2_read.c (what
 * nghttp2 received), h2_act.c (what comes of it), h2_stream.c (one stream), h2_ops.c (its operations), h2_write.c (what is to be sent).
 *
 * nghttp2's callbacks record: in the stream's `heard`, in its queues, in the session's `fault`. A stream that something was
 * recorded of is in `todo`; it is acted on when nghttp2 has returned.
 */
#ifndef SPARX_PROTO_H2_SESSION_H
#define SPARX_PROTO_H2_SESSION_H

#include <nghttp2/nghttp2.h>

#include "base/buf.h"
#include "base/bufq.h"
#include "base/chunk.h"
#include "base/list.h"
#include "base/pace.h"
#include "proto/h2_memory.h"
#include "proto/h2_scan.h"
#include "proto/session.h"

enum {
	H2_PSEUDO_MAX = 6, /* pseudo-header fields of one head, at most */
	H2_PAIRS_MAX = SESSION_FIELDS_MAX + H2_PSEUDO_MAX,
	H2_OUT_HIGH =
		64 *
		1024, /* beyond this many bytes in front of the socket no more frames are made, so that nghttp2 can still reorder the rest */
	H2_MARKS_HIGH = 1024,
	H2_QUEUE_HIGH = 512, /* beyond this many frames for a peer that does not read, the peer is not read either */
};

/* A header block as it comes in, by reference into nghttp2's tables. */
struct h2_head {
	struct h2_head *next; /* in the environment's store */
	unsigned count, pseudo;
	uint64_t bytes;      /* of what is kept: names, values, and 32 for each field (RFC 9113 6.5.2) */
	uint64_t all_bytes;  /* the same of all that came, */
	uint64_t all_fields; /* and how many fields came */
	bool too_large;      /* the rest is decoded and dropped */
	bool cookie;         /* there is a cookie field; */
	struct buf cookies;  /* its value, if it came in several (RFC 9113 8.2.3) */
	struct h2_pair {
		nghttp2_rcbuf *name, *value;
	} pairs[H2_PAIRS_MAX];
};

/* What the sessions of one environment share. */
struct h2_env {
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *option;
	struct h2_head *spare;
	unsigned spares;
	nghttp2_nv nv[SESSION_FIELDS_MAX + 8]; /* a head being submitted */
	uint8_t chunk[CHUNK_MAX];              /* a chunk that lies in several pieces */
	struct h2_memory memory;
};

/* What was recorded for a stream, and how far it was acted on. */
enum h2_heard {
	HEARD_HEAD = 1,
	HEARD_END = 2,   /* the client's side is complete */
	HEARD_CLOSE = 4, /* nghttp2 has closed it, or never opened it */
};

struct h2_stream {
	struct stream s;
	struct h2 *h2;
	struct list link;                /* h2->streams */
	struct list todo;                /* h2->todo */
	struct h2_head *head, *trailers; /* received, and not yet handed on */
	struct h2_trailers *last;        /* the response's, to be sent */
	struct h2_promise *promise;      /* a pushed request, not handed on yet */
	nghttp2_rcbuf *authority;        /* of a request that may push */
	struct bufq in;                  /* received body that was not delivered; the stream's window bounds it */
	struct bufq out;                 /* body of the response, not yet in frames */
	struct pace pace;                /* of the response's body */
	struct pace body;                /* of the request's body; stopped while it waits for credit */
	uint64_t held;                   /* deadline (ms) after which an owed stream stops counting; 0 if not owed */
	uint64_t lingers;                /* deadline (ms) for the client to end a finished tunnel; 0 while it is open */
	uint64_t dropped;                /* dropped bytes of body that were not yet reported (on_room) */
	uint32_t marks;                  /* of it in h2->marks */
	uint32_t asides;                 /* interim responses and promises that are not frames yet */
	int32_t id;
	uint8_t heard, acted; /* enum h2_heard */
	uint8_t why;          /* enum stream_end, if it is closed early */
	bool https;
	bool bare;     /* the request is complete with its head */
	bool known;    /* the sink has received on_request */
	bool expects;  /* 100 Continue */
	bool deferred; /* nghttp2 waits for nghttp2_session_resume_data */
	bool whole;    /* the response consists of its head: what the host sends after it is dropped */
	bool finished; /* the last frame of its response was made */
	bool left;     /* and has left */
	bool holds;    /* it may be upgraded: bytes that come before the response are kept */
	bool ours;     /* the application's failure: not counted against the client */
	bool reset;    /* RST_STREAM was submitted */
	bool waits;    /* there is something in out, */
	bool cold;     /* which is of a file, and not in memory */
};

/* Where in the output something of a stream ends. */
struct h2_mark {
	struct h2_stream *x;
	uint64_t at;    /* h2->sent when it has left */
	uint32_t bytes; /* of body */
	bool end;       /* its response is complete there */
};

/*
 *   START ──client's SETTINGS──> OPEN ──drain──> NOTICE ──round trip──> LAST
 *   any ──error, nothing left to do, end of file──> STOPPED
 */
enum h2_state { H2_START, H2_OPEN, H2_NOTICE, H2_LAST, H2_STOPPED };

struct h2 {
	struct session session;
	const struct stream_ops *stream_ops; /* of its streams */
	nghttp2_session *ng;
	void *table; /* nghttp2's, of streams; NULL if it is not known */
	struct list streams, todo;
	struct bufq out;       /* frames, in front of the socket */
	struct buf marks;      /* struct h2_mark, in the order of out */
	uint64_t queued, sent; /* bytes that went into out, and left it, ever */
	struct h2_head *block; /* the header block being received */
	struct buf updates;    /* priorities of streams to come */
	uint8_t update[36];    /* a PRIORITY_UPDATE being received, as far as it is of use: a stream and a field value */
	uint8_t update_len;
	int32_t newest;     /* of the client's streams */
	int32_t widest;     /* window of a stream, when a SETTINGS began to come, */
	uint32_t opened;    /* and what the client said then of new ones */
	uint64_t since;     /* ms: the beginning of this state, or of being idle */
	uint64_t unacked;   /* ms: since when our SETTINGS wait for their acknowledgement; 0: they do not */
	struct pace pace;   /* of out */
	struct pace framed; /* of all bodies: what the connection's window lets into frames */
	uint64_t review;    /* deadline (ms) of the stream that waits longest; UINT64_MAX: none waits */
	uint64_t requests;
	size_t arrived; /* bytes of DATA received in this call, for the connection's window */
	struct h2_scan scan;
	struct bucket own_resets;
	uint32_t fault;   /* NGHTTP2_*: why to give up, once nghttp2 has returned */
	uint32_t open;    /* streams */
	uint32_t waiting; /* of these, those that wait with something in out, */
	uint32_t cold;    /* and of these, those for which a disk has to be read first */
	uint8_t state;    /* enum h2_state */
	uint8_t closing;  /* enum session_close: how, when STOPPED and all is written */
	bool broken;      /* nghttp2 ran out of memory while writing: it must not be called again */
	bool eof;         /* the client has closed its side */
	bool borrows;     /* streams may hold lent bytes */
	bool trimmed;     /* memory of an idle session was given back */
	bool greeted;     /* the client's SETTINGS have come */
	bool ponged;      /* the PING of a drain has come back */
};

static inline struct session_env *h2_env_of(const struct h2 *h2)
{
	return h2->session.owner->env;
}

static inline struct h2_env *h2_shared(const struct h2 *h2)
{
	return h2_env_of(h2)->h2;
}

static inline const struct config *h2_config(const struct h2 *h2)
{
	return h2_env_of(h2)->config;
}

static inline uint64_t h2_now(const struct h2 *h2)
{
	return *h2_env_of(h2)->now;
}

static inline uint64_t h2_now_us(const struct h2 *h2)
{
	return *h2_env_of(h2)->now_us;
}

/* The rate at which the client must take responses: each stream that waits adds its own. */
static inline uint64_t h2_write_grace(const struct h2 *h2)
{
	return h2_config(h2)->write_timeout * 1000;
}

static inline uint64_t h2_rate_of_all(const struct h2 *h2)
{
	return h2_config(h2)->response_rate * (h2->waiting ? h2->waiting : 1);
}

static inline void h2_out_moved(struct h2 *h2, uint64_t n)
{
	pace_moved(&h2->pace, h2_now_us(h2), n, h2_rate_of_all(h2), h2_write_grace(h2));
}

/* To be called when the length of its out has changed. */
static inline void h2_count_waiting(struct h2_stream *x)
{
	struct h2 *h2 = x->h2;

	if (x->waits == (x->out.len > 0))
		return;
	x->waits = !x->waits;
	if (!x->waits) {
		h2->waiting--;
		return;
	}
	if (h2->waiting++ == 0)
		pace_start(&h2->framed, h2_now_us(h2), h2_write_grace(h2));
}

static inline const struct stream_sink *h2_sink(const struct h2 *h2)
{
	return h2_env_of(h2)->sink;
}

static inline void h2_wake(struct h2 *h2)
{
	h2->session.owner->wake(h2->session.owner);
}

static inline void h2_is_cold(struct h2_stream *x, bool cold)
{
	x->h2->cold += cold;
	x->h2->cold -= x->cold;
	x->cold = cold;
}

/* Records the deadline of a stream that waits. */
static inline void h2_watch(struct h2 *h2, uint64_t when)
{
	if (when < h2->review)
		h2->review = when;
}

static inline bool h2_is_closed(const struct h2_stream *x)
{
	return x->heard & HEARD_CLOSE;
}

static inline struct h2_stream *h2_stream_of(nghttp2_session *ng, int32_t id)
{
	return nghttp2_session_get_stream_user_data(ng, id);
}

/* Something was recorded for it: puts it on the list `todo`. */
static inline void h2_note(struct h2_stream *x, unsigned heard)
{
	x->heard |= (uint8_t)heard;
	list_remove(&x->todo);
	list_append(&x->h2->todo, &x->todo);
}

#endif
