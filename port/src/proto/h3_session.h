/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of HTTP/3 share: h3.c (functions for the carrier), h3_life.c (states, drain, deadlines), h3_read.c (what nghttp3
 * received), h3_stream.c (one stream), h3_write.c (output), h3_kind.c (the functions that mux needs). The parts that it shares
 * with HTTP/2 are in mux.h. Unlike there, sent bytes stay in memory until the client has acknowledged them.
 */
#ifndef SPARX_PROTO_H3_SESSION_H
#define SPARX_PROTO_H3_SESSION_H

#include <nghttp3/nghttp3.h>

#include "base/idmap.h"
#include "proto/h3.h"
#include "proto/h3_scan.h"
#include "proto/mux.h"

enum {
	H3_FRAME_MAX = 16 * 1024, /* longest DATA frame of ours: urgent streams wait for at most one */
	H3_UNI_MAX = 8,           /* unidirectional streams that a client may have open */
};

struct h3_stream {
	struct mux_stream m;
	struct mux_head *block;   /* being received */
	struct bufq_cursor given; /* bytes of `out` before this are in frames */
	struct h3_scan scan;      /* state of the check of received frames */
	uint64_t began;           /* ms: when its first byte arrived */
	uint64_t came;            /* received bytes of the body, */
	uint64_t around;          /* and of framing: frame headers, header blocks, ignored frames */
	int64_t id;
	bool ended;       /* the end of its response is in a frame */
	bool spared;      /* nghttp3 was not told that the last byte has arrived */
	bool queued;      /* a field section is complete, and waits in nghttp3 for the QPACK table */
	uint8_t sections; /* field sections that came out of nghttp3 */
};

/*
 *   START ──client's SETTINGS──> OPEN ──drain──> NOTICE ──round trip──> LAST
 *   any ──error, nothing left to do──> STOPPED
 */
enum h3_state { H3_START, H3_OPEN, H3_NOTICE, H3_LAST, H3_STOPPED };

/* A unidirectional stream of the client, until its type is known. */
struct h3_uni {
	int64_t id; /* -1: none */
	struct h3_number type;
	bool typed;
};

struct h3 {
	struct mux m;
	const struct h3_carrier *carrier;
	nghttp3_conn *ng;
	struct idmap map; /* id + 1 to struct h3_stream */
	struct h3_uni uni[H3_UNI_MAX];
	int64_t control_id;  /* the client's control stream; -1: not opened yet */
	int64_t own_control; /* ours */
	struct h3_scan control;
	uint64_t opened;  /* all streams that the client has opened so far */
	uint64_t over;    /* closed streams for which the client has not been allowed new ones yet */
	uint64_t allowed; /* all streams that the client may open, counted from the beginning */
	uint64_t unacked; /* bytes of bodies in frames, */
	uint64_t kept;    /* of these, streams that the sink knows */
	uint64_t progress;
	uint64_t stray; /* bytes on unidirectional streams, beyond those that requests justify */
	struct bucket resets, unis;
	uint32_t queued;    /* streams whose field section waits for the QPACK table, */
	uint32_t may_queue; /* and how many our SETTINGS allow */
	uint32_t deferrals; /* how often nghttp3 heard that a stream has nothing to send now */
	uint8_t state;      /* enum h3_state */
	uint8_t untyped;    /* unidirectional streams that ended before their type was known */
	bool greeted;       /* the client's SETTINGS have arrived */
	bool promised;      /* our SETTINGS have been corrected */
};

static inline struct h3_stream *h3_of_stream(const struct mux_stream *x)
{
	return container_of(x, struct h3_stream, m);
}

static inline struct h3 *h3_of_mux(const struct mux *mux)
{
	return container_of(mux, struct h3, m);
}

static inline struct h3 *h3_session_of(const struct h3_stream *x)
{
	return h3_of_mux(x->m.mux);
}

static inline const nghttp3_nv *h3_nv_of(const struct mux_nv *nv)
{
	return (const nghttp3_nv *)(const void *)nv;
}

static inline const struct config *h3_config(const struct h3 *h3)
{
	return mux_config(&h3->m);
}

static inline uint64_t h3_now(const struct h3 *h3)
{
	return mux_now(&h3->m);
}

static inline struct h3_stream *h3_stream_of(const struct h3 *h3, int64_t id)
{
	return idmap_get(&h3->map, (uint64_t)id + 1);
}

/* Whether a field section of it waits for the QPACK table; for its client, one that was reset does not. */
static inline void h3_is_queued(struct h3_stream *x, bool queued)
{
	struct h3 *h3 = h3_session_of(x);

	h3->queued += queued;
	h3->queued -= x->queued;
	x->queued = queued;
}

static inline void h3_give_up(struct h3 *h3, uint64_t code)
{
	mux_give_up(&h3->m, code);
}

#endif
