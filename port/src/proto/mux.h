/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What HTTP/2 and HTTP/3 have in common: many streams on one connection, which a library turns into frames: mux_head.c (header
 * blocks), mux_stream.c (one stream), mux_ops.c (its operations), mux_act.c (acts on what was recorded), mux_write.c (heads and
 * trailers), mux_wait.c (how long it waits for its client). What the library does, and how, is in a table (struct mux_kind).
 *
 * The library's callbacks record: in the stream's `heard`, in its queues, in the session's `fault`. A stream for which something
 * was recorded is in `pending`, and is handled when the library has returned.
 */
#ifndef SPARX_PROTO_MUX_H
#define SPARX_PROTO_MUX_H

#include "base/bucket.h"
#include "base/buf.h"
#include "base/bufq.h"
#include "base/chunk.h"
#include "base/list.h"
#include "base/pace.h"
#include "proto/http_fields.h"
#include "proto/session.h"

enum {
	MUX_PSEUDO_MAX = 6, /* most pseudo-header fields of one head */
	MUX_PAIRS_MAX = SESSION_FIELDS_MAX + MUX_PSEUDO_MAX,
};

/* A field of a response. The libraries' own structs and flags have the same layout and values; MUX_SAME_NV and its users check
 * that. */
struct mux_nv {
	const uint8_t *name, *value;
	size_t name_len, value_len;
	uint8_t flags;
};

/* The field is kept out of the compression's table; its name, or value, stays in place, so that the library need not copy it. */
enum { MUX_NO_INDEX = 1, MUX_NO_COPY_NAME = 2, MUX_NO_COPY_VALUE = 4 };

/* Fails the build if a library's struct for a field differs from ours. */
#define MUX_SAME_NV(nv) \
	_Static_assert(sizeof(struct mux_nv) == sizeof(nv) && offsetof(struct mux_nv, name) == offsetof(nv, name) && \
			       offsetof(struct mux_nv, value) == offsetof(nv, value) && \
			       offsetof(struct mux_nv, name_len) == offsetof(nv, namelen) && \
			       offsetof(struct mux_nv, value_len) == offsetof(nv, valuelen) && \
			       offsetof(struct mux_nv, flags) == offsetof(nv, flags), \
		       "another struct")

/* A header block as it comes in. The library owns its texts, and keeps them while they are referenced. */
struct mux_head {
	unsigned count, pseudo;
	uint64_t bytes;                 /* kept bytes: names, values, and 32 per field (RFC 9113 6.5.2, RFC 9114 4.2.2) */
	uint64_t all_bytes;             /* the same for all received fields, */
	uint64_t all_fields;            /* and how many fields came; */
	uint64_t max_bytes, max_fields; /* beyond this number the connection ends, since dropped ones must be decoded too */
	bool too_large;                 /* the rest is decoded and dropped */
	bool malformed;                 /* the library has dropped a field */
	bool cookie;                    /* there is a cookie field; */
	struct buf cookies;             /* its value, if it came in several (RFC 9113 8.2.3, RFC 9114 4.2.1) */
	struct http_pair pairs[MUX_PAIRS_MAX];
	void *references[2 * MUX_PAIRS_MAX]; /* the texts of each pair's name and value */
};

/* What the sessions of one environment share. */
struct mux_env {
	struct pool heads;                        /* freed ones */
	char status[4], length[24];               /* of a head being submitted, */
	struct mux_nv nv[SESSION_FIELDS_MAX + 8]; /* and all of it */
	uint8_t chunk[CHUNK_MAX];                 /* a chunk that lies in several pieces */
};

struct mux;
struct mux_stream;

/* Reasons to reset a stream that are not errors of the client. */
enum mux_cut { MUX_CANCELLED, MUX_FAILED };

/* What a session of either protocol does for its streams. Only `over` may call an event (on_lapse), and only mux_act calls it. */
struct mux_kind {
	const struct stream_ops *streams; /* of its streams: mux_stream_ops */
	uint64_t failed;                  /* the code with which the session ends if memory runs out or the library fails */
	bool indexes;                     /* sent fields enter a table, unless they are marked */
	bool keeps;                       /* sent bytes stay in memory until they are acknowledged, so nothing is lent */
	/* Examines the complete head. Returns 0, or the status that refuses it; 400: it is malformed. */
	unsigned (*examine)(struct mux_stream *x, struct field *fields, struct request_head *head);
	void (*unreference)(void *text);
	/* Gives the library a head, with or without a body; an interim one. False: out of memory. */
	bool (*put_head)(struct mux_stream *x, const struct mux_nv *nv, size_t n, bool body);
	bool (*put_info)(struct mux_stream *x, const struct mux_nv *nv, size_t n);
	/* There are bytes again that the library may pull. False: out of memory. */
	bool (*resume)(struct mux_stream *x);
	/* The client may send n more bytes. */
	void (*credit)(struct mux_stream *x, size_t n);
	/* The rest of the request is not needed, which is no error. */
	void (*stop)(struct mux_stream *x);
	/* Resets it; the same for a client's error, which is counted. */
	void (*cut)(struct mux_stream *x, enum mux_cut why);
	void (*malformed)(struct mux_stream *x);
	/* Forgets what is to be sent. */
	void (*drop)(struct mux_stream *x);
	/* Neither the library nor the sink refers to it any more: frees it. */
	void (*over)(struct mux_stream *x);
	/* Begins the drain. */
	void (*drain)(struct mux *mux);
	/* As stream_ops.push. NULL: no client takes it. */
	bool (*push)(struct mux_stream *x, struct slice target, const struct field *fields, unsigned count);
	/* Whether the client's window for it is closed; whether nothing may be sent on any stream. */
	bool (*is_shut)(const struct mux_stream *x);
	bool (*is_full)(const struct mux *mux);
	/* Whether its output waits for the client alone: not for a disk, and not for more urgent streams. */
	bool (*is_stuck)(const struct mux_stream *x);
	/* When it has waited too long; UINT64_MAX: never. And what follows. */
	uint64_t (*deadline)(const struct mux_stream *x);
	void (*timed_out)(struct mux_stream *x);
};

/* What was recorded for a stream, and how far it was acted on. */
enum mux_heard {
	HEARD_HEAD = 1,
	HEARD_END = 2,   /* the client's side is complete */
	HEARD_CLOSE = 4, /* it is over, both ways, for the library; or never was */
	HEARD_LEFT = 8,  /* the client cancelled the request, or does not complete it */
};

struct mux_stream {
	struct stream s;
	struct mux *mux;
	struct list link;                 /* mux->streams */
	struct list pending;              /* mux->pending */
	struct mux_head *head, *trailers; /* received, and not yet handed on */
	struct mux_trailers *last;        /* the response's, to be sent */
	struct bufq in;                   /* received body that was not delivered; the stream's window bounds it */
	struct bufq out;                  /* the response's body that is not yet in frames, */
	size_t framed;                    /* except this many bytes, which must stay until they are acknowledged */
	struct pace pace;                 /* of the response's body */
	struct pace body;                 /* of the request's body; stopped while it waits for credit */
	uint64_t held;                    /* deadline (ms) after which an owed stream stops counting; 0 if not owed */
	uint64_t lingers;                 /* deadline (ms) for the client to end a finished tunnel; 0 while it is open */
	uint64_t room;                    /* bytes of body to report as room (on_room) */
	uint32_t marks;                   /* places in the output where something of it ends */
	uint8_t heard, acted;             /* enum mux_heard */
	uint8_t why;                      /* enum stream_end, if it is closed early */
	bool bare;                        /* the request is complete with its head */
	bool known;                       /* the sink has received on_request */
	bool expects;                     /* 100 Continue */
	bool deferred;                    /* the library waits for `resume` */
	bool whole;                       /* the response consists of its head: what the host sends after it is dropped */
	bool finished;                    /* the last frame of its response is made, and will not be taken back */
	bool left;                        /* and has left */
	bool holds;                       /* it may be upgraded: bytes that come before the response are kept */
	bool reset, stopped;              /* our side of it, or the client's, was ended early */
	bool waits;                       /* there are bytes in `out` that are not in a frame, */
	bool cold;                        /* which are in a file, and not in memory */
	bool broken;                      /* which are in a file that is shorter than FILE said */
	bool spent;                       /* its allowance is used up, and this was not reported yet */
};

struct mux {
	struct session_owner *owner;
	const struct mux_kind *kind;
	struct list streams, pending;
	struct pace framed; /* of all bodies: what the connection's window, or the network, lets into frames */
	uint64_t since;     /* ms: the beginning of the session's state, or of being idle */
	uint64_t review;    /* deadline (ms) of the stream that waits longest; UINT64_MAX: none waits */
	uint64_t requests;
	uint64_t dated; /* s: when a response was dated last, */
	uint32_t dates; /* and how many were in that second */
	struct bucket own_resets;
	uint64_t fault;   /* a code of its protocol: why the session must end once the library has returned; 0: it need not */
	uint32_t open;    /* streams */
	uint32_t waiting; /* of these, those that wait with bytes in `out`, */
	uint32_t cold;    /* and of these, those that wait for a disk */
	bool eof;         /* the client has closed its side */
	bool borrows;     /* streams may hold lent bytes */
};

/* False: out of memory. */
bool mux_init(struct mux *mux, struct session_owner *owner, const struct mux_kind *kind);
/* Frees the memory that the environment keeps for its sessions. */
void mux_env_free(struct session_env *env);

static inline struct session_env *mux_env_of(const struct mux *mux)
{
	return mux->owner->env;
}

static inline struct mux_env *mux_shared(const struct mux *mux)
{
	return mux_env_of(mux)->mux;
}

static inline const struct config *mux_config(const struct mux *mux)
{
	return mux_env_of(mux)->config;
}

static inline const struct stream_sink *mux_sink(const struct mux *mux)
{
	return mux_env_of(mux)->sink;
}

static inline uint64_t mux_now(const struct mux *mux)
{
	return *mux_env_of(mux)->now;
}

static inline uint64_t mux_now_us(const struct mux *mux)
{
	return *mux_env_of(mux)->now_us;
}

static inline void mux_wake(struct mux *mux)
{
	mux->owner->wake(mux->owner);
}

/* Ends the session, soon. The first reason counts. */
static inline void mux_give_up(struct mux *mux, uint64_t code)
{
	if (!mux->fault)
		mux->fault = code;
}

static inline void mux_fails(struct mux *mux)
{
	mux_give_up(mux, mux->kind->failed);
}

/* How long (µs) a client may take nothing; and the rate at which it must take responses: each stream that waits adds its own. */
static inline uint64_t mux_write_grace(const struct mux *mux)
{
	return mux_config(mux)->write_timeout * 1000;
}

static inline uint64_t mux_rate_of_all(const struct mux *mux)
{
	return mux_config(mux)->response_rate * (mux->waiting ? mux->waiting : 1);
}

/* Records the deadline of a stream that waits. */
static inline void mux_watch(struct mux *mux, uint64_t when)
{
	if (when < mux->review)
		mux->review = when;
}

static inline struct mux_stream *mux_stream_of(struct stream *s)
{
	return container_of(s, struct mux_stream, s);
}

/* n bytes of its response have made progress; and the same for all streams of the session. */
static inline void mux_pace_moved(struct mux_stream *x, uint64_t n)
{
	struct mux *mux = x->mux;

	pace_moved(&x->pace, mux_now_us(mux), n, mux_config(mux)->response_rate, mux_write_grace(mux));
}

static inline void mux_framed_moved(struct mux *mux, uint64_t n)
{
	pace_moved(&mux->framed, mux_now_us(mux), n, mux_rate_of_all(mux), mux_write_grace(mux));
}

/* Something was recorded for it: puts it on the list `pending`. */
static inline void mux_note(struct mux_stream *x, unsigned heard)
{
	x->heard |= (uint8_t)heard;
	list_remove(&x->pending);
	list_append(&x->mux->pending, &x->pending);
}

static inline bool mux_is_closed(const struct mux_stream *x)
{
	return x->heard & HEARD_CLOSE;
}

/* Sent bytes would not reach the client. */
static inline bool mux_is_mute(const struct mux_stream *x)
{
	return x->reset || (x->heard & (HEARD_CLOSE | HEARD_LEFT));
}

static inline void mux_is_cold(struct mux_stream *x, bool cold)
{
	x->mux->cold += cold;
	x->mux->cold -= x->cold;
	x->cold = cold;
}

/* Call it when the bytes in its `out`, or in frames, have changed. */
static inline void mux_count_waiting(struct mux_stream *x)
{
	struct mux *mux = x->mux;
	bool waits = x->out.len > x->framed && !mux_is_mute(x);

	if (x->waits == waits)
		return;
	x->waits = waits;
	if (!waits)
		mux->waiting--;
	else if (mux->waiting++ == 0)
		pace_start(&mux->framed, mux_now_us(mux), mux_write_grace(mux));
}

#endif
