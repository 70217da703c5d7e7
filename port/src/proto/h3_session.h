/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of HTTP/3 share: h3.c (what the carrier calls), h3_life.c (states, drain, deadlines), h3_read.c (what nghttp3
 * received), h3_act.c (what comes of it), h3_stream.c (one stream), h3_ops.c (its operations), h3_write.c (what is to be sent).
 *
 * As in HTTP/2, callbacks record, and a stream that something was recorded of is in `todo`. Unlike there, sent bytes stay in
 * memory until the client has acknowledged them.
 */
#ifndef SPARX_PROTO_H3_SESSION_H
#define SPARX_PROTO_H3_SESSION_H

#include <nghttp3/nghttp3.h>

#include "base/bucket.h"
#include "base/buf.h"
#include "base/bufq.h"
#include "base/chunk.h"
#include "base/idmap.h"
#include "base/list.h"
#include "base/pace.h"
#include "proto/h3.h"
#include "proto/h3_scan.h"

enum {
	H3_PSEUDO_MAX = 6,
	H3_PAIRS_MAX = SESSION_FIELDS_MAX + H3_PSEUDO_MAX,
	H3_FRAME_MAX = 16 * 1024, /* of a DATA frame of ours: urgent streams wait for no more than this */
	H3_UNI_MAX = 8,           /* streams for one direction that a client may have open */
};

/* A header block as it comes in, by reference into nghttp3's tables. */
struct h3_head {
	struct h3_head *next; /* in the environment's store */
	unsigned count, pseudo;
	uint64_t bytes;      /* of what is kept: names, values, and 32 for each field (RFC 9114 4.2.2) */
	uint64_t all_bytes;  /* the same of all that came, */
	uint64_t all_fields; /* and how many fields came */
	bool too_large;      /* the rest is decoded and dropped */
	bool malformed;      /* nghttp3 has dropped a field */
	bool cookie;         /* there is a cookie field; */
	struct buf cookies;  /* its value, if it came in several (RFC 9114 4.2.1) */
	struct h3_pair {
		nghttp3_rcbuf *name, *value;
	} pairs[H3_PAIRS_MAX];
};

/* What the sessions of one environment share. */
struct h3_env {
	struct h3_head *spare;
	unsigned spares;
	nghttp3_nv nv[SESSION_FIELDS_MAX + 8]; /* a head being submitted */
	uint8_t chunk[CHUNK_MAX];              /* a chunk that lies in several pieces */
};

/* What was recorded for a stream, and how far it was acted on. */
enum h3_heard {
	H3_HEARD_HEAD = 1,
	H3_HEARD_END = 2,   /* the client's side is complete */
	H3_HEARD_CLOSE = 4, /* it is over, both ways */
	H3_HEARD_LEFT = 8,  /* the client wants no answer, or does not complete its request */
};

struct h3_stream {
	struct stream s;
	struct h3 *h3;
	struct list link;                /* h3->streams */
	struct list todo;                /* h3->todo */
	struct h3_head *block;           /* being received */
	struct h3_head *head, *trailers; /* received, and not yet handed on */
	struct h3_trailers *last;        /* the response's, to be sent */
	struct bufq in;                  /* received body that was not delivered; the stream's window bounds it */
	struct bufq out;                 /* body of the response, from the first byte that was not acknowledged; */
	struct bufq_cursor given;        /* up to here it is in frames, */
	size_t framed;                   /* which is so many bytes */
	struct h3_scan scan;             /* of the frames that come */
	struct pace pace;                /* of the response's body */
	struct pace body;                /* of the request's body; stopped while it waits for credit */
	uint64_t held;                   /* deadline (ms) after which an owed stream stops counting; 0 if not owed */
	uint64_t lingers;                /* deadline (ms) for the client to end a finished tunnel; 0 while it is open */
	uint64_t began;                  /* ms: its first byte */
	uint64_t room;                   /* bytes of body that were framed or dropped, and not reported as room */
	uint64_t came;                   /* bytes of body that came, */
	uint64_t around;                 /* and bytes around it: heads of frames, header blocks, frames that are ignored */
	int64_t id;
	uint8_t heard, acted; /* enum h3_heard */
	uint8_t why;          /* enum stream_end, if it is closed early */
	bool bare;            /* the request is complete with its head */
	bool known;           /* the sink has received on_request */
	bool expects;         /* 100 Continue */
	bool deferred;        /* nghttp3 waits for nghttp3_conn_resume_stream */
	bool whole;           /* the response consists of its head: what the host sends after it is dropped */
	bool ended;           /* the end of its response is in a frame */
	bool left;            /* and has left */
	bool spared;          /* nghttp3 was not told of the last byte that arrived */
	bool holds;           /* it may be upgraded: bytes that come before the response are kept */
	bool reset, stopped;  /* our side of it, or the client's, was ended before its time */
	bool waits;           /* there is something in out that is not in a frame, */
	bool cold;            /* which is of a file, and not in memory */
	bool broken;          /* which is of a file that is not what was said */
	bool spent;           /* its allowance is used up, which was not reported */
};

/*
 *   START ──client's SETTINGS──> OPEN ──drain──> NOTICE ──round trip──> LAST
 *   any ──error, nothing left to do──> STOPPED
 */
enum h3_state { H3_START, H3_OPEN, H3_NOTICE, H3_LAST, H3_STOPPED };

/* A stream of the client's for one direction, until its type is known. */
struct h3_uni {
	int64_t id; /* -1: none */
	struct h3_number type;
	bool typed;
};

struct h3 {
	struct session_owner *owner;
	const struct h3_carrier *carrier;
	const struct stream_ops *stream_ops; /* of its streams */
	nghttp3_conn *ng;
	struct idmap map; /* id + 1 to struct h3_stream */
	struct list streams, todo;
	struct h3_uni uni[H3_UNI_MAX];
	int64_t control_id; /* the client's control stream; -1: it has not come */
	struct h3_scan control;
	uint64_t opened;    /* streams that the client has opened, ever */
	uint64_t over;      /* streams that are over, and that the client may not open others for yet */
	uint64_t allowed;   /* streams that the client may have opened, ever */
	uint64_t since;     /* ms: the beginning of this state, or of being idle */
	uint64_t review;    /* deadline (ms) of the stream that waits longest; UINT64_MAX: none waits */
	struct pace framed; /* of all bodies: what the connection's window and the network take */
	uint64_t unacked;   /* bytes of bodies in frames */
	uint64_t requests, progress;
	uint64_t stray; /* bytes on streams for one direction, beyond what requests explain */
	struct bucket resets, own_resets, unis;
	uint64_t fault;     /* NGHTTP3_H3_*: why to give up; 0: it is not */
	uint32_t deferrals; /* how often nghttp3 heard that a stream has nothing to send now */
	uint32_t open;      /* streams */
	uint32_t waiting;   /* of these, those that wait with something in out */
	uint32_t cold;      /* and of these, those for which a disk has to be read first */
	uint8_t state;      /* enum h3_state */
	uint8_t untyped;    /* streams for one direction that ended before their type was known */
	bool greeted;       /* the client's SETTINGS have come */
};

static inline struct session_env *h3_env_of(const struct h3 *h3)
{
	return h3->owner->env;
}

static inline struct h3_env *h3_shared(const struct h3 *h3)
{
	return h3_env_of(h3)->h3;
}

static inline const struct config *h3_config(const struct h3 *h3)
{
	return h3_env_of(h3)->config;
}

static inline uint64_t h3_now(const struct h3 *h3)
{
	return *h3_env_of(h3)->now;
}

static inline uint64_t h3_now_us(const struct h3 *h3)
{
	return *h3_env_of(h3)->now_us;
}

/* The rate at which the client must take responses: each stream that waits adds its own. */
static inline uint64_t h3_write_grace(const struct h3 *h3)
{
	return h3_config(h3)->write_timeout * 1000;
}

static inline uint64_t h3_rate_of_all(const struct h3 *h3)
{
	return h3_config(h3)->response_rate * (h3->waiting ? h3->waiting : 1);
}

static inline const struct stream_sink *h3_sink(const struct h3 *h3)
{
	return h3_env_of(h3)->sink;
}

static inline void h3_wake(struct h3 *h3)
{
	h3->owner->wake(h3->owner);
}

/* Records the deadline of a stream that waits. */
static inline void h3_watch(struct h3 *h3, uint64_t when)
{
	if (when < h3->review)
		h3->review = when;
}

static inline bool h3_is_closed(const struct h3_stream *x)
{
	return x->heard & H3_HEARD_CLOSE;
}

/* Nothing that is sent would reach the client. */
static inline bool h3_is_mute(const struct h3_stream *x)
{
	return x->reset || (x->heard & (H3_HEARD_CLOSE | H3_HEARD_LEFT));
}

static inline void h3_is_cold(struct h3_stream *x, bool cold)
{
	x->h3->cold += cold;
	x->h3->cold -= x->cold;
	x->cold = cold;
}

/* To be called when what is in its out, or in frames, has changed. */
static inline void h3_count_waiting(struct h3_stream *x)
{
	struct h3 *h3 = x->h3;
	bool waits = x->out.len > x->framed && !h3_is_mute(x);

	if (x->waits == waits)
		return;
	x->waits = waits;
	if (!waits)
		h3->waiting--;
	else if (h3->waiting++ == 0)
		pace_start(&h3->framed, h3_now_us(h3), h3_write_grace(h3));
}

static inline struct h3_stream *h3_stream_of(const struct h3 *h3, int64_t id)
{
	return idmap_get(&h3->map, (uint64_t)id + 1);
}

/* Something was recorded of it. */
static inline void h3_note(struct h3_stream *x, unsigned heard)
{
	x->heard |= (uint8_t)heard;
	list_remove(&x->todo);
	list_append(&x->h3->todo, &x->todo);
}

/* Ends the session, soon. The first reason counts. */
static inline void h3_give_up(struct h3 *h3, uint64_t code)
{
	if (!h3->fault)
		h3->fault = code;
}

#endif
