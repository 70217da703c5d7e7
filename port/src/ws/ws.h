/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A WebSocket (RFC 6455) on the bytes of an upgraded stream of any HTTP version. It sits between the session and the bridge: the
 * bridge gives it received bytes and asks for the messages in them; what it sends goes to the stream.
 *
 *   OPEN ──host's CLOSE, idle, drain──> CLOSING ──┐
 *     └──client's Close, client's fault────────────┴──> LEAVING ──ws_finish──> OVER
 *
 * A socket that is LEAVING reads no more frames, but still sends, so that answers to earlier messages go out first.
 *
 * Between messages it owns no buffer, no wslay context and, without context takeover, no zlib state.
 */
#ifndef SPARX_WS_WS_H
#define SPARX_WS_WS_H

#include "base/buf.h"
#include "stream/stream.h"
#include "ws/codec.h"
#include "ws/deflate.h"
#include "ws/frame.h"
#include "ws/utf8.h"

/* Objects that all sockets share, since they are needed only while a frame or a message is in progress. */
struct ws_env {
	const uint64_t *now; /* ms; the loop's */
	struct ws_codec *codec;
	struct inflater *inflater;
	struct deflater *deflater;
	struct buf deflated; /* of the piece being sent */
};

struct ws_config {
#define WS_OPTION(name, value, min, max, unit, meaning) uint64_t name;
#include "ws/options.def"
#undef WS_OPTION
	struct deflate_want compress;
};

enum ws_state { WS_OPEN, WS_CLOSING, WS_LEAVING, WS_OVER };

/* Who began the closing handshake. */
enum ws_closer { WS_CLOSED_BY_CLIENT, WS_CLOSED_BY_HOST, WS_CLOSED_FOR_IDLENESS, WS_CLOSED_BY_DRAIN };

/* Bytes of the window that a message, or a piece of one, costs besides its data: more than the head of its frame. */
enum { WS_SEND_COST = 16 };

struct ws {
	struct stream *s;
	struct ws_env *env;
	struct ws_guard guard;
	struct ws_codec *codec; /* while a data frame is read that did not arrive in one piece */
	struct buf message;     /* the one that is coming in */
	struct buf pong;        /* the pong for the newest ping, while earlier pongs have not left */
	struct inflater *inflater;
	struct deflater *deflater;
	struct deflate_params *deflate; /* NULL: no compression was agreed */
	uint64_t frame_left;            /* bytes of the frame being read */
	uint64_t wire_total;            /* all bytes given to the stream so far */
	uint64_t wire_gone;             /* of these, left for the kernel */
	uint64_t unsent;                /* window spent on messages that was not yet returned (on_room) */
	uint64_t pong_end;              /* wire_gone when the last pong will have left */
	uint64_t heard, active;         /* ms: when bytes last arrived; when a message was last received or sent */
	uint64_t pinged;                /* ms: when our unanswered ping was sent; 0: there is none */
	uint64_t closing;               /* ms: since when it is CLOSING or LEAVING */
	uint64_t credit;                /* for the bridge: the read credit if every message has been answered */
	const char *fault; /* LEAVING: the rule that the client broke; NULL: it sent a Close, and its reason is in `message` */
	uint32_t idle_timeout, ping_interval, close_timeout;
	uint32_t max_ratio;
	uint32_t ping_count;
	struct utf8 in_text, out_text;
	uint16_t code;   /* LEAVING: code of the client's Close, or the code to fail with */
	uint8_t state;   /* enum ws_state */
	uint8_t closer;  /* enum ws_closer */
	uint8_t sending; /* enum ws_type of the message that is being sent in pieces; WS_CONTINUATION: none */
	bool credit_grows;
	bool frame_fin;  /* of the frame being read */
	bool said_close; /* a Close frame was sent */
	bool deflating;  /* the message being sent */
	uint8_t level, mem_level;
	uint8_t pongs; /* sent since the queue was last empty */
};

void ws_config_defaults(struct ws_config *c);
/* The names of the numeric options, and their places; NULL after the last. */
struct ws_option_def {
	const char *name, *unit;
	uint64_t min, max;
	size_t offset; /* in struct ws_config */
};
const struct ws_option_def *ws_option_at(unsigned position);

void ws_env_free(struct ws_env *env);

/* agreed: NULL without compression. Returns NULL if memory runs out. */
struct ws *ws_new(struct ws_env *env, struct stream *s, const struct ws_config *c, const struct deflate_params *agreed);
void ws_free(struct ws *w);

enum ws_event_kind {
	WS_NOTHING, /* more bytes are needed */
	WS_MESSAGE, /* type and data: a whole message, a ping (which was answered), or a pong */
	WS_LEAVES,  /* the client sent a Close, or broke a rule: call ws_finish when earlier messages are answered */
	WS_CLOSED,  /* from ws_finish: the client's Close, code and data, its reason. It was answered, and the stream can end */
	WS_FAILED,  /* from ws_finish: the rule that the client broke, code and data. It was sent a Close, and the stream can end */
	WS_NO_MEMORY,
};

/* data: valid until the next call for any socket. */
struct ws_event {
	enum ws_event_kind kind;
	unsigned type, code;
	struct slice data;
};

/* Reads bytes until there is something to report; *used says how many. The others are offered again, with more. */
struct ws_event ws_next(struct ws *w, struct slice bytes, size_t *used);
/* Once, after WS_LEAVES: sends the final Close. */
struct ws_event ws_finish(struct ws *w);
/* The result that ws_finish would have, for a client that cannot receive a Close any more. */
struct ws_event ws_last_event(const struct ws *w);

/* The outcome of an order. WS_REFUSED: *rule says why, and nothing was done. */
enum ws_result { WS_OK, WS_REFUSED, WS_OUT_OF_MEMORY };

/* A message or, with more, a piece of it; a ping or a pong. After a Close it is dropped. */
enum ws_result ws_send(struct ws *w, unsigned type, struct slice data, bool more, const char **rule);
/* Begins the closing handshake, unless it has begun. code 0: none. */
enum ws_result ws_close(struct ws *w, enum ws_closer closer, unsigned code, struct slice reason, const char **rule);
/* Sends a Close to a client without waiting for its answer. */
void ws_fail(struct ws *w, unsigned code, const char *reason);

/* n bytes have left for the kernel; returns how many bytes of window that frees. */
uint64_t ws_sent(struct ws *w, uint64_t n);

/* When to call ws_tick, in ms; 0: never. */
uint64_t ws_deadline(const struct ws *w);
/* False: the client does not answer. reading: bytes from it would have been noticed. */
bool ws_tick(struct ws *w, bool reading);

#endif
