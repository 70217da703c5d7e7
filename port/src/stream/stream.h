/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The waist: one exchange, a request and its response, independent of its protocol. Sessions (h1, h2) make streams and
 * report events on them to a sink (the bridge, ws); the sink orders operations. Neither includes the other.
 *
 *   session ──events──> sink      stream_sink: on_request, on_body, on_bytes, on_end, on_room, on_hangup, on_done, on_reset, on_lapse, on_kept
 *   session <──operations── sink  stream_ops: send_info, send_head, upgrade, send_data, send_file, send_end, push, consume, discard, reset, release
 *
 * An operation never calls an event on the same stack: it records, and wakes its connection. An event may call operations.
 * The session owns the stream's memory. on_done or on_reset is the last event of a stream and comes exactly once, unless the sink
 * detached before (stream_detach). A stream that is `owed` at on_reset is kept until the sink releases it, since its handler may
 * still be running, or until on_lapse.
 */
#ifndef SPARX_STREAM_STREAM_H
#define SPARX_STREAM_STREAM_H

#include "base/field.h"
#include "base/file.h"
#include "base/secure.h"

/*
 * Two halves, which progress independently:
 *
 *   request   OPEN ──last byte──> ENDED          OPEN ──discard──> SKIPPED
 *   response  WAITING ──head──> STREAMING ──end──> ENDED
 *
 * A coding keeps the head for a while: if the exchange ends before the session has it, the response half is WAITING again.
 * An upgrade turns the stream into bytes both ways, without framing: the request half is OPEN anew, the response half STREAMING.
 */
enum request_half { REQUEST_OPEN, REQUEST_ENDED, REQUEST_SKIPPED };
enum response_half { RESPONSE_WAITING, RESPONSE_STREAMING, RESPONSE_ENDED };

enum { SEND_COPIED = 4096 };

enum { BODY_NONE = -2, LENGTH_UNKNOWN = -1 };

enum request_flag {
	REQUEST_TAKES_TRAILERS = 1,
	REQUEST_EXPECTS_CONTINUE = 2,
	REQUEST_MAY_UPGRADE = 4, /* the client asks for another protocol, or for a tunnel (CONNECT) */
	REQUEST_TAKES_PUSH = 16, /* the client accepts pushes */
	REQUEST_PUSHED = 32,     /* a pushed request */
	REQUEST_WEBSOCKET = 8,   /* for a WebSocket, by RFC 6455 or RFC 8441; the sink checks that */
};

/* Why a stream ended without a complete response (GONE). */
enum stream_end { END_CLOSED, END_RESET, END_TIMEOUT, END_ABORTED, END_ERROR, END_DRAINED, END_FILE };

struct share;
struct proxied;

struct peer {
	uint8_t address[16];
	uint8_t address_len; /* 4, 16, or 0 for a unix socket */
	uint8_t listener;
	uint16_t port;
	uint8_t local[18];             /* our end of the connection: an address of the same length, and a port */
	bool trusted;                  /* a trusted proxy: it names the clients of its requests */
	bool exempt;                   /* has no limits */
	bool counted;                  /* the connection was counted for the limits of its share */
	struct share *share;           /* peer/shares.h; NULL: shares are not counted */
	const struct proxied *proxied; /* peer/proxied.h: the PROXY header; NULL: there was none */
};

/* A slice whose `at` is NULL is absent. All of it points into memory that lives as long as the event. */
struct request_head {
	unsigned version; /* 10, 11, 20 */
	struct slice method;
	int method_index; /* PROTOCOL.md 1.3; -1 if it has none */
	bool https;
	struct slice authority, path, query;
	struct slice target; /* absent if it is just path, or path ? query */
	int64_t body;        /* length, LENGTH_UNKNOWN, or BODY_NONE */
	unsigned flags;      /* enum request_flag */
	const struct peer *peer;
	const struct secure *secure; /* NULL: the connection is plain */
	const struct field *fields;
	unsigned field_count;
	struct slice whole; /* the complete body, if it is short and has arrived: the sink may take it (stream_take_whole) */
};

struct response_head {
	unsigned status;
	const struct field *fields;
	unsigned field_count;
	int64_t length;            /* of the body, or LENGTH_UNKNOWN */
	bool close;                /* the connection must end after it */
	bool has_server, has_date; /* among the fields */
};

struct stream;

struct stream_ops {
	/* False from any of these: out of memory, the session cuts the stream (on_reset follows). */
	bool (*send_info)(struct stream *s, unsigned status, const struct field *fields, unsigned count);
	bool (*send_head)(struct stream *s, const struct response_head *head);
	/* Only after REQUEST_MAY_UPGRADE, instead of send_head. protocol: its name; absent for CONNECT. */
	bool (*upgrade)(struct stream *s, struct slice protocol, const struct field *fields, unsigned count);
	/* The data is lent: it stays where it is until the connection has had its share of this turn. SEND_COPIED bytes or less are
	   copied at once, and need not stay. */
	bool (*send_data)(struct stream *s, struct slice data);
	/* n bytes of a file, at least one, as data that costs FILE_COST bytes. If the file is shorter, the stream ends
	 * (END_FILE). */
	bool (*send_file)(struct stream *s, struct file *f, uint64_t offset, size_t n);
	bool (*send_end)(struct stream *s, const struct field *trailers, unsigned count);
	/* Only after REQUEST_TAKES_PUSH: promises the client the answer to a GET of this target with these fields, which then
	   arrives as a request (on_request). If that is no longer possible, nothing happens. */
	bool (*push)(struct stream *s, struct slice target, const struct field *fields, unsigned count);
	/* Read credit was granted: the session may read, and deliver at most stream_wanted() bytes at a time. */
	void (*consume)(struct stream *s);
	/* The allowance has grown. */
	void (*go_on)(struct stream *s);
	/* The sink does not want the rest of the request body. */
	void (*discard)(struct stream *s);
	/* Ends the stream: answers with the status if it is not 0 and nothing of the response was sent; else cuts. */
	void (*reset)(struct stream *s, unsigned status, unsigned retry_after);
	/* For an owed stream, once: its handler has ended. */
	void (*release)(struct stream *s);
};

/* The sink of events. `ctx` is the sink's own. */
struct stream_sink {
	void *ctx;
	void (*on_request)(void *ctx, struct stream *s, const struct request_head *head);
	/* At most stream_wanted() bytes; spends one chunk of credit. */
	void (*on_body)(void *ctx, struct stream *s, struct slice data);
	/* For an upgraded stream, instead of on_body. Returns how many bytes were used; the rest is offered again, with what came
	 * after it. */
	size_t (*on_bytes)(void *ctx, struct stream *s, struct slice bytes);
	void (*on_end)(void *ctx, struct stream *s, const struct field *trailers, unsigned count);
	/* Bytes of the response body have been written to the kernel, which frees this many bytes of window. */
	void (*on_room)(void *ctx, struct stream *s, uint64_t bytes);
	/* The client closed its side; the response may still reach it. */
	void (*on_hangup)(void *ctx, struct stream *s);
	/* The whole response has left for the kernel. */
	void (*on_done)(void *ctx, struct stream *s);
	void (*on_reset)(void *ctx, struct stream *s, enum stream_end why);
	/* An owed stream is freed, because its connection has ended, or it was not released in time. */
	void (*on_lapse)(void *ctx, struct stream *s);
	/* Changes the number of response bytes that were reported as room but that the session keeps until the client
	 * acknowledges them. */
	void (*on_kept)(void *ctx, const struct peer *peer, int64_t bytes);
};

struct stream {
	const struct stream_ops *ops;
	void *sink_data;                /* the sink's state of the stream */
	struct response_coding *coding; /* a step between sink and session that replaces `ops` (coding/) */
	uint8_t request;                /* enum request_half */
	uint8_t response;               /* enum response_half */
	bool detached;                  /* the sink has detached: no more events */
	bool head_method;               /* the request was HEAD */
	bool bodiless;                  /* the response has no body, and is complete with its head */
	bool hung_up;                   /* on_hangup was reported */
	bool upgraded;                  /* bytes both ways */
	bool took_whole;                /* the sink has the body: the session does not deliver it */
	bool owed;                      /* it has ended, and still counts until it is released */
	uint16_t status;                /* status of the response, once there is one */
	uint64_t wanted; /* the most bytes of a body, or of an upgraded stream, that the sink accepts at once; 0: none now */
	uint64_t body_in;
	uint64_t allowance; /* bytes of the response body that may leave now; UINT64_MAX: as many as there are */
	size_t interim;     /* bytes of interim responses and pushes that have not left */
	uint64_t born_us;   /* when the first byte of the request came */
};

void stream_init(struct stream *s, const struct stream_ops *ops);

void stream_request_moves(struct stream *s, enum request_half to);
void stream_response_moves(struct stream *s, enum response_half to);

/* How many bytes of the body may be delivered now: 0 without credit. */
static inline uint64_t stream_wanted(const struct stream *s)
{
	return s->request == REQUEST_OPEN ? s->wanted : 0;
}

/* Whether bytes of an upgraded stream may be read. */
static inline bool stream_reads(const struct stream *s)
{
	return !s->detached && s->response == RESPONSE_STREAMING && s->wanted > 0;
}

/* Only inside on_request: takes the body that came with it. */
static inline void stream_take_whole(struct stream *s)
{
	s->took_whole = true;
}

/* Detaches the sink: there are no more events. */
static inline void stream_detach(struct stream *s)
{
	s->detached = true;
}

/* Bytes of the response body that may leave now; after the sink has detached, all of them. */
static inline uint64_t stream_allows(const struct stream *s)
{
	return s->detached ? UINT64_MAX : s->allowance;
}

/* n bytes of the response body are on their way. */
static inline void stream_spends(struct stream *s, uint64_t bytes)
{
	if (s->allowance != UINT64_MAX)
		s->allowance -= bytes < s->allowance ? bytes : s->allowance;
}

const char *stream_end_name(enum stream_end why);

#endif
