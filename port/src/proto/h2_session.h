/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of an HTTP/2 session share: h2.c (its table of functions), h2_life.c (states, drain, deadlines), h2_read.c (what
 * nghttp2 received), h2_stream.c (one stream), h2_write.c (output), h2_kind.c (the functions that mux needs). The parts that it
 * shares with HTTP/3 are in mux.h.
 */
#ifndef SPARX_PROTO_H2_SESSION_H
#define SPARX_PROTO_H2_SESSION_H

#include <nghttp2/nghttp2.h>

#include "proto/h2_memory.h"
#include "proto/h2_scan.h"
#include "proto/mux.h"

enum {
	H2_OUT_HIGH = 64 * 1024, /* bytes for the socket at which no more frames are made, so that nghttp2 can reorder the rest */
	H2_MARKS_HIGH = 1024,
	H2_MARKS_KEPT = 64,  /* memory for as many stays while there are several streams */
	H2_QUEUE_HIGH = 512, /* if this many frames wait for a peer that does not read, the peer is not read either */
};

/* What the sessions of one environment share, besides mux's. */
struct h2_env {
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *option;
	struct pool streams; /* freed streams */
	struct h2_memory memory;
};

struct h2_stream {
	struct mux_stream m;
	struct h2_promise *promise; /* a pushed request */
	nghttp2_rcbuf *authority;   /* of a request that may push */
	uint32_t asides;            /* bytes of interim responses and promises that are not in frames yet */
	int32_t id;
	bool https;
	bool ours; /* reset because the application failed: not counted against the client */
};

/* The place in the output where bytes of a stream end. */
struct h2_mark {
	struct h2_stream *x;
	uint64_t at;    /* value of h2->sent when they have left */
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
	struct mux m;
	nghttp2_session *ng;
	void *table;              /* nghttp2's table of streams; NULL if it is not known */
	struct bufq out;          /* frames that wait for the socket */
	struct buf marks;         /* struct h2_mark, in the order of out */
	uint64_t queued, sent;    /* all bytes that went into out, and that left it, so far */
	struct mux_head *block;   /* the header block being received */
	struct h2_stream *recent; /* the stream that was found last; NULL: it is freed */
	struct buf updates;       /* priorities of streams to come */
	uint8_t update[36];       /* the PRIORITY_UPDATE being received: its stream and field value */
	uint8_t update_len;
	int32_t newest;   /* of the client's streams */
	int32_t widest;   /* window of a stream when a SETTINGS began, */
	uint32_t opened;  /* and the client's initial window then */
	uint64_t unacked; /* ms: when our SETTINGS were sent, until they are acknowledged; else 0 */
	struct pace pace; /* of out */
	size_t arrived;   /* bytes of DATA received in this call, for the connection's window */
	struct h2_scan scan;
	uint8_t state;   /* enum h2_state */
	uint8_t closing; /* enum session_close: how to close when STOPPED and everything is written */
	bool broken;     /* nghttp2 ran out of memory while writing: it must not be called again */
	bool trimmed;    /* the memory of the idle session was trimmed */
	bool greeted;    /* the client's SETTINGS have arrived */
	bool ponged;     /* the PING of a drain has come back */
};

static inline struct h2_stream *h2_of_stream(const struct mux_stream *x)
{
	return container_of(x, struct h2_stream, m);
}

static inline struct h2 *h2_of_mux(const struct mux *mux)
{
	return container_of(mux, struct h2, m);
}

static inline struct h2 *h2_session_of(const struct h2_stream *x)
{
	return h2_of_mux(x->m.mux);
}

static inline const nghttp2_nv *h2_nv_of(const struct mux_nv *nv)
{
	return (const nghttp2_nv *)(const void *)nv;
}

static inline struct h2_env *h2_shared(const struct h2 *h2)
{
	return mux_env_of(&h2->m)->h2;
}

static inline const struct config *h2_config(const struct h2 *h2)
{
	return mux_config(&h2->m);
}

static inline uint64_t h2_now(const struct h2 *h2)
{
	return mux_now(&h2->m);
}

static inline void h2_out_moved(struct h2 *h2, uint64_t n)
{
	pace_moved(&h2->pace, mux_now_us(&h2->m), n, mux_rate_of_all(&h2->m), mux_write_grace(&h2->m));
}

/* NULL: nghttp2 has no such stream, or has closed it. Most calls are about the stream of the call before. */
static inline struct h2_stream *h2_stream_of(struct h2 *h2, int32_t id)
{
	struct h2_stream *x = h2->recent;

	if (!x || x->id != id || mux_is_closed(&x->m))
		x = h2->recent = nghttp2_session_get_stream_user_data(h2->ng, id);
	return x;
}

#endif
