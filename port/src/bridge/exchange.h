/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An exchange: the bridge's state of a stream, and of the host's work on it. The stream has one pointer to it (sink_data). A
 * table of functions determines its kind: a request and its response (http), bytes both ways (tunnel), or a WebSocket.
 */
#ifndef SPARX_BRIDGE_EXCHANGE_H
#define SPARX_BRIDGE_EXCHANGE_H

#include "base/chunk.h"
#include "bridge/bridge.h"

/* The progress of the host's work on it, as shares count it. */
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
	uint8_t *head;     /* its encoded REQUEST, then the trailers of an ended body; NULL: it does not wait */
	uint32_t head_len, waited_at, end_len;
	struct slice whole; /* the body that is sent with the request: memory of the event, or of the head while it waits */
	bool known;         /* the host has received its REQUEST */
	bool short_head;    /* head has WAITING_SHORT bytes */
	bool h3;            /* it came by HTTP/3 */
	uint8_t listener;   /* its number */
	/* The host's work */
	uint8_t work; /* enum exchange_work */
	bool counted; /* by the limits on its peer */
	/* The rate of its peer's bodies */
	bool shaped;              /* there is such a rate */
	bool waits_in, waits_out; /* for it */
	struct wheel_node resume; /* when something that waits may go on */
	struct share *share;      /* of its peer in the host's work */
	/* Credits */
	uint64_t chunks; /* chunks of the body, or messages, that the host has granted credit for, */
	uint64_t chunk;  /* of at most this many bytes */
	uint64_t window; /* bytes of the response that the host may still send */
	uint64_t room;   /* bytes that have left, and were not yet granted again (ROOM) */
	uint64_t unsent; /* bytes of the window that were spent and have not left */
	int64_t left;    /* of a response body with a length; LENGTH_UNKNOWN */
	uint64_t body_out;
	bool unheard;                            /* upgraded, and read without credit: its bytes are not for the host */
	uint8_t accepts;                         /* enum coding: a coding of the response that the client accepts */
	bool was_read;                           /* the host has granted credit for the body, or asked for it to be decoded */
	uint64_t whole_us, sent_us, answered_us; /* head complete; REQUEST sent; response begun */
	char label[72];                          /* method and path, shortened for log lines */
	struct list files;                       /* files that the host has handed over for it: struct handed */
	/* The body */
	struct decoding_plan coded;     /* the codings of the body, */
	struct body_decoding *decoding; /* and the state of decoding: bridge/decode */
	/* Upgrades */
	struct ws_handshake *handshake; /* the upgrade that the request asks for, until it is answered */
	struct ws *ws;
	uint64_t active;       /* ms: when bytes of a tunnel last came or went */
	uint32_t idle_timeout; /* ms, of a tunnel; 0: none */
};

/* NULL if there is nothing to do. A function that ends the exchange must not use it afterwards. */
struct exchange_kind {
	const char *no_data; /* why DATA and END are refused; NULL: they are accepted */
	/* Bytes of an upgraded stream: how many were used. */
	size_t (*bytes)(struct exchange *x, struct slice bytes);
	/* A part of a request body; the host does not want the rest; how many bytes may come at once, if the host's `max` does
	 * not say it. */
	void (*body)(struct exchange *x, struct slice data);
	void (*forget)(struct exchange *x);
	uint64_t (*wants)(const struct exchange *x);
	/* The client sends no more. */
	void (*ended)(struct exchange *x, const struct field *trailers, unsigned count);
	/* The host has granted read credit: chunks, or messages, of at most `max` bytes. */
	void (*read)(struct exchange *x, uint64_t chunks, uint64_t max);
	/* n bytes that were given to the stream have left: returns how many bytes of window that frees. */
	uint64_t (*sent)(struct exchange *x, uint64_t n);
	/* The stream was cut from the other side: says what the host should hear before GONE, and returns the reason for that. */
	enum stream_end (*lost)(struct exchange *x, enum stream_end why);
	/* The bridge is about to end the exchange: tells the client why. False: it cannot. */
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

/* Makes the exchange of a stream, with the next id. NULL: out of memory. */
struct exchange *exchange_new(struct bridge *b, struct stream *s, const struct exchange_kind *kind);
/*
 * The live exchange that a message names; NULL if it has ended, or never existed (which gets ERROR). The host's last message
 * about an exchange ends the host's work on it.
 */
struct exchange *exchange_find(struct bridge *b, const struct message *m);
/* The host's work on an ended exchange is over. */
void exchange_release(struct bridge *b, uint64_t id);
/* Frees everything that the bridge has of it; its id is dead. */
void exchange_forget(struct exchange *x);
/* As above; but while the session still counts the stream (owed), the host can release it. */
void exchange_part(struct exchange *x);
/* The session has freed the stream. */
void exchange_lapse(struct exchange *x);

/* Ways to end it: for this reason; the host broke a rule; the application did (this is logged, with the name of the field, if
   any); out of memory. All of them free the exchange. */
void exchange_end(struct exchange *x, unsigned status, enum stream_end why);
void exchange_break_rule(struct exchange *x, const struct message *m, const char *field, const char *rule);
void exchange_refuse(struct exchange *x, const struct message *m, const char *field, const char *rule);
void exchange_refuse_field(struct exchange *x, const struct message *m, const char *field, const char *rule, struct slice offender);
void exchange_no_memory(struct exchange *x);
/* Logs that a file is shorter than FILE said, or cannot be read. */
void exchange_blames_file(const struct exchange *x);
/* Something could not be sent: out of memory, or a file is shorter than FILE said. */
void exchange_fails(struct exchange *x);

/* ---- what all its kinds need ---- */

/* Read credit: tell the session after a change; add credit; spend one chunk; void all of it. */
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
/* For a body and for a tunnel: `read` of both; send a chunk to the host; send the end. */
void exchange_read(struct exchange *x, uint64_t chunks, uint64_t max);
void exchange_body(struct exchange *x, struct slice data);
void exchange_body_ended(struct exchange *x, const struct field *trailers, unsigned count);
/* The response has begun. */
void exchange_answers(struct exchange *x, unsigned status);
/* Spends n bytes of the window, which must be available. */
void exchange_spend(struct exchange *x, uint64_t cost);
/* Nothing waits for that any more. */
void exchange_unspend(struct exchange *x, uint64_t cost);
/* Decodes the header fields of a message into b->fields. False: they are invalid, which ended the exchange. */
bool exchange_fields(struct exchange *x, const struct message *m, const char *field, struct slice raw, unsigned *count);

#endif
