/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An exchange: what the bridge knows of a stream, and of the host's work on it. The stream has one pointer to it (sink_data). Of what kind it
 * is, a table of functions says: a request and its response (http), bytes both ways (tunnel), or a WebSocket.
 */
#ifndef SPARX_BRIDGE_EXCHANGE_H
#define SPARX_BRIDGE_EXCHANGE_H

#include "base/chunk.h"
#include "bridge/bridge.h"

/* How far the host's work on it is, as shares count it. */
enum exchange_work { WORK_NONE, WORK_GOES_ON, WORK_YIELDS, WORK_IS_OVER };

struct exchange {
	struct stream *s;
	struct bridge *b;
	const struct exchange_kind *kind;
	uint64_t id;
	struct wheel_node timer;
	/* Waiting for demand */
	struct list queue; /* among all that do */
	struct list turn;  /* among those of its peer */
	uint8_t *head; /* of its REQUEST, encoded, and behind that the trailers of a body that has ended; NULL: it does not wait */
	uint32_t head_len, waited_at, end_len;
	struct slice
		whole;    /* the body that goes with the request: of the event, and while it waits in the same memory as the head */
	bool known;       /* the host has heard of it */
	bool h3;          /* it came by HTTP/3 */
	uint8_t listener; /* its number */
	/* The host's work */
	uint8_t work; /* enum exchange_work */
	bool counted; /* by the limits on its peer */
	/* The rate of its peer's bodies */
	bool shaped;              /* there is such a rate */
	bool waits_in, waits_out; /* for it */
	struct wheel_node resume; /* when something that waits may go on */
	struct share *share;      /* of its peer in the host's work */
	/* Credits */
	uint64_t chunks; /* of the body, or messages, that the host wants, */
	uint64_t chunk;  /* of at most so many bytes */
	uint64_t window; /* bytes of the response that the host may still send */
	uint64_t room;   /* bytes that have left, not yet granted anew */
	uint64_t unsent; /* bytes of the window that were spent, and have not left */
	int64_t left;    /* of a response body with a length; LENGTH_UNKNOWN */
	uint64_t body_out;
	bool unheard;                            /* upgraded, and read on without credit: what comes is not for the host */
	uint8_t accepts;                         /* enum coding: of the response, what the client takes */
	bool was_read;                           /* the host has granted credit for the body, or asked for it to be decoded */
	uint64_t whole_us, sent_us, answered_us; /* head complete; REQUEST sent; response begun */
	char label[72];                          /* method and path, as far as they go in a line of the log */
	struct list files;                       /* that the host has handed over for it: struct handed */
	/* The body */
	struct decoding_plan coded;     /* what was done to it, */
	struct body_decoding *decoding; /* and how far it is undone: bridge/decode */
	/* Upgrades */
	struct ws_handshake *handshake; /* what the request asks for, until it is answered */
	struct ws *ws;
	uint64_t active;       /* ms: when bytes of a tunnel last came or went */
	uint32_t idle_timeout; /* ms, of a tunnel; 0: none */
};

/* NULL where there is nothing to do. What ends the exchange does nothing with it afterwards. */
struct exchange_kind {
	const char *no_data; /* why DATA and END are refused; NULL: they are not */
	/* Bytes of an upgraded stream: how many were used. */
	size_t (*bytes)(struct exchange *x, struct slice bytes);
	/* A part of a request body; what it gives up when nothing more is to come; bytes that may come at once, if that is not what the host says. */
	void (*body)(struct exchange *x, struct slice data);
	void (*forget)(struct exchange *x);
	uint64_t (*wants)(const struct exchange *x);
	/* The client sends no more. */
	void (*ended)(struct exchange *x, const struct field *trailers, unsigned count);
	/* The host has granted read credit: chunks, or messages, of at most `max` bytes. */
	void (*read)(struct exchange *x, uint64_t chunks, uint64_t max);
	/* n bytes of what was given to the stream have left: how much of the window that is. */
	uint64_t (*sent)(struct exchange *x, uint64_t n);
	/* The stream was cut from the other side: says what the host should hear before GONE, and returns the reason for that. */
	enum stream_end (*lost)(struct exchange *x, enum stream_end why);
	/* The bridge is about to end it: tells the client why. False: it could not. */
	bool (*goodbye)(struct exchange *x, enum stream_end why);
	/* The server drains. */
	void (*drain)(struct exchange *x);
};

static inline struct exchange *exchange_of(const struct stream *s)
{
	return s->sink_data;
}

/* ---- its life ---- */

void exchange_init(struct bridge *b);
void exchange_free(struct bridge *b);

/* The stream's, with the next id. NULL: out of memory. */
struct exchange *exchange_new(struct bridge *b, struct stream *s, const struct exchange_kind *kind);
/*
 * The live one that a message speaks of; NULL if it has ended, or there never was one (which is told). A message that is the host's
 * last word on it ends the host's work.
 */
struct exchange *exchange_find(struct bridge *b, const struct message *m);
/* The host is done with one that has ended. */
void exchange_release(struct bridge *b, uint64_t id);
/* The bridge keeps nothing of it; its id is dead. */
void exchange_forget(struct exchange *x);
/* As above; but while the session owes the stream to the host's work, it can still be released. */
void exchange_part(struct exchange *x);
/* The session keeps the stream no longer. */
void exchange_lapse(struct exchange *x);

/* The ends: as said; the host broke a rule; the application did, which is logged, with the name of the field that did, if one is to
   blame; there is no memory. It is gone afterwards. */
void exchange_end(struct exchange *x, unsigned status, enum stream_end why);
void exchange_break_rule(struct exchange *x, const struct message *m, const char *field, const char *rule);
void exchange_refuse(struct exchange *x, const struct message *m, const char *field, const char *rule);
void exchange_refuse_field(struct exchange *x, const struct message *m, const char *field, const char *rule, struct slice offender);
void exchange_no_memory(struct exchange *x);
/* Says in the log that a file was not what was said. */
void exchange_blames_file(const struct exchange *x);
/* What was to be sent could not be: there is no memory, or a file is not what was said. */
void exchange_fails(struct exchange *x);

/* ---- what all its kinds need ---- */

/* Read credit: after something that decides what the session is to give; more of it; one chunk is spent, or all are void. */
static inline void exchange_wants(struct exchange *x)
{
	bool open = x->s->request == REQUEST_OPEN && x->chunks > 0 && !x->waits_in;

	if (x->unheard)
		x->s->wanted = CHUNK_MAX;
	else if (!open)
		x->s->wanted = 0;
	else
		x->s->wanted = x->kind->wants ? x->kind->wants(x) : x->chunk;
}

void exchange_grant(struct exchange *x, uint64_t chunks, uint64_t max);
void exchange_spend_chunk(struct exchange *x);
void exchange_drop_chunks(struct exchange *x);
/* A body, or the bytes of a tunnel: what `read` is for both; a chunk for the host; the end. */
void exchange_read(struct exchange *x, uint64_t chunks, uint64_t max);
void exchange_body(struct exchange *x, struct slice data);
void exchange_body_ended(struct exchange *x, const struct field *trailers, unsigned count);
/* The head of the answer is known. */
void exchange_answers(struct exchange *x, unsigned status);
/* Spends so much of the window, which there must be. */
void exchange_spend(struct exchange *x, uint64_t cost);
/* What that was for waits no more. */
void exchange_unspend(struct exchange *x, uint64_t cost);
/* Header fields of a message into b->fields. False: they are wrong, which ended the exchange. */
bool exchange_fields(struct exchange *x, const struct message *m, const char *field, struct slice raw, unsigned *count);

#endif
