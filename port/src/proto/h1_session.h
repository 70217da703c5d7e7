/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of an HTTP/1 session share: h1.c (its table of functions), h1_stream.c (one stream, and its operations; the end of
 * reading), h1_input.c (reads), h1_output.c (writes, and ends streams), h1_times.c (its deadlines, and what happens
 * when they pass).
 */
#ifndef SPARX_PROTO_H1_SESSION_H
#define SPARX_PROTO_H1_SESSION_H

#include "base/bufq.h"
#include "base/list.h"
#include "base/pace.h"
#include "base/sm.h"
#include "proto/h1_read.h"
#include "proto/h1_write.h"
#include "proto/session.h"

/*
 * What is being read:
 *
 *   IDLE ──first byte──> HEAD ──head complete──> BODY ──last byte──> IDLE
 *                          └──no body──> IDLE      └──not wanted──> SKIP ──last byte──> IDLE
 *   IDLE ──upgrade──> TUNNEL
 *   any ──error, close, end of file──> STOPPED
 */
enum h1_state { H1_IDLE, H1_HEAD, H1_BODY, H1_SKIP, H1_TUNNEL, H1_STOPPED };

struct h1 {
	struct session session;
	struct list streams;       /* in the order of their requests, which is that of their responses */
	struct h1_parse *parse;    /* in HEAD, BODY, SKIP */
	struct h1_stream *reading; /* whose body is read, in BODY and TUNNEL; in SKIP while its response goes on */
	uint64_t since;            /* ms: the beginning of what is being read */
	struct pace body;          /* of the body that is being read; stopped while it waits for credit */
	struct pace out;           /* of what is written */
	uint64_t skipped;          /* bytes of an unwanted body that were skipped */
	uint32_t requests;
	uint16_t open;   /* streams */
	uint8_t state;   /* enum h1_state */
	uint8_t closing; /* enum session_close: how to close, once STOPPED and everything is written */
	uint8_t empty_lines;
	bool eof;    /* the client has closed its side */
	bool last;   /* accept no more requests */
	bool unsafe; /* the newest request must not run concurrently with a later one */
	bool holds;  /* the newest request may be upgraded, so the bytes after it may not be HTTP */
	bool cold;   /* the next bytes to write belong to a file, and are not in memory */
	bool held;   /* the next bytes to write wait for the rate of their peer */
};

struct h1_stream {
	struct stream s;
	struct h1 *h1;
	struct list link;
	struct bufq out;
	uint64_t unsent; /* body bytes in out that were not yet reported (on_room) */
	uint64_t body;   /* bytes of the response body in out, including those of files */
	uint8_t framing; /* enum h1_framing */
	bool http10, keep_alive, close, expects, takes_trailers;
	bool came;     /* some bytes of the request body have arrived */
	bool connects; /* the method is CONNECT */
	bool cut;      /* the connection ends with this response */
	uint8_t why;   /* enum stream_end: for this reason */
};

extern const struct sm h1_machine;

static inline struct h1 *h1_of(const struct session *s)
{
	return container_of(s, struct h1, session);
}

static inline struct h1_stream *h1_stream_of(struct stream *s)
{
	return container_of(s, struct h1_stream, s);
}

/* How many queued bytes may leave now: all except those of the body beyond the stream's allowance. */
static inline size_t h1_may_leave(const struct h1_stream *x)
{
	size_t body = x->body < x->out.len ? (size_t)x->body : x->out.len;

	uint64_t most = stream_allows(&x->s);

	return body > most ? x->out.len - (body - (size_t)most) : x->out.len;
}

static inline struct h1_stream *h1_first(const struct h1 *h1)
{
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): a stream is unlinked before it is freed */
	return list_empty(&h1->streams) ? NULL : container_of(h1->streams.next, struct h1_stream, link);
}

static inline struct session_env *h1_env_of(const struct h1 *h1)
{
	return h1->session.owner->env;
}

static inline const struct config *h1_config(const struct h1 *h1)
{
	return h1_env_of(h1)->config;
}

static inline const struct stream_sink *h1_sink(const struct h1 *h1)
{
	return h1_env_of(h1)->sink;
}

static inline uint64_t h1_now(const struct h1 *h1)
{
	return *h1_env_of(h1)->now;
}

static inline uint64_t h1_now_us(const struct h1 *h1)
{
	return *h1_env_of(h1)->now_us;
}

static inline void h1_body_begins(struct h1 *h1)
{
	pace_start(&h1->body, h1_now_us(h1), h1_config(h1)->body_grace * 1000);
}

static inline void h1_body_moved(struct h1 *h1, size_t n)
{
	pace_moved(&h1->body, h1_now_us(h1), n, h1_config(h1)->body_rate, h1_config(h1)->body_grace * 1000);
}

static inline void h1_wake(struct h1 *h1)
{
	h1->session.owner->wake(h1->session.owner);
}

static inline void h1_moves(struct h1 *h1, enum h1_state to)
{
	sm_move(&h1_machine, &h1->state, (uint8_t)to);
	h1->since = h1_now(h1);
}

static inline bool h1_may_begin(const struct h1 *h1)
{
	const struct session_env *env = h1_env_of(h1);

	return !h1->last && !h1->holds && !env->paused && h1->open < h1_config(h1)->max_pipeline;
}

/* write_timeout applies to the response that is being sent: later ones must not extend it. */
static inline void h1_begin_output(struct h1_stream *x)
{
	if (x->out.len == 0 && x == h1_first(x->h1))
		pace_start(&x->h1->out, h1_now_us(x->h1), h1_config(x->h1)->write_timeout * 1000);
}

/* The next bytes to leave wait for the stream's allowance. */
static inline bool h1_is_held(const struct h1 *h1)
{
	struct h1_stream *x = h1_first(h1);

	return x && !x->cut && x->out.len > 0 && h1_may_leave(x) == 0;
}

static inline bool h1_has_output(const struct h1 *h1)
{
	struct h1_stream *x = h1_first(h1);

	if (!x || h1_is_held(h1))
		return false;
	return x->out.len > 0 || x->cut || x->s.response == RESPONSE_ENDED || x->unsent > 0;
}

/* ---- h1_stream.c ---- */

struct h1_stream *h1_stream_new(struct h1 *h1);
void h1_stream_free(struct h1_stream *x);
/* Reports the end of the stream to the sink, unless it has detached. */
void h1_stream_ends(struct h1_stream *x, enum stream_end why);
/* Ends all open streams for this reason. */
void h1_end_streams(struct h1 *h1, enum stream_end why);
/* Stops reading. */
void h1_stop(struct h1 *h1, enum session_close how);
/* Returns the parser. */
void h1_give_parse(struct h1 *h1);
/* Answers with a response of the port's own. */
void h1_answer(struct h1_stream *x, const struct h1_error *error);

/* ---- h1_input.c ---- */

size_t h1_input(struct session *s, uint8_t *data, size_t len, bool eof);
void h1_hangup(struct session *s);
/* Refuses a head: the response takes its place in the order of responses, as a stream that the sink never sees. head: its bytes;
 * NULL: it is incomplete. */
void h1_refuse(struct h1 *h1, const uint8_t *head);
/* The body of the request being read is malformed, too long or too slow. */
void h1_refuse_body(struct h1 *h1, unsigned status, enum stream_end why);

/* ---- h1_output.c ---- */

int h1_output(struct session *s, struct iovec *iov, int max);
bool h1_file(struct session *s, struct bufq_file *f);
bool h1_sent(struct session *s, size_t n);
void h1_taken(struct session *s, uint64_t n);
void h1_own(struct session *s);

/* ---- h1_times.c ---- */

struct session_wants h1_wants(const struct session *s);
bool h1_reads(const struct session *s);
bool h1_stalled(const struct session *s);
void h1_tick(struct session *s);
void h1_drain(struct session *s);

#endif
