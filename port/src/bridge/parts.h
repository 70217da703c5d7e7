/*
 * What the parts of the bridge share. bridge.c is the whole and the life of a stream in it; bridge/events.c turns events into
 * messages, bridge/streams.c messages into operations; bridge/queue.c hands out requests or keeps them; bridge/work.c
 * counts what the host is at work on; bridge/hello.c begins; bridge/upgrade.c is WebSockets and tunnels.
 */
#ifndef SPARX_BRIDGE_PARTS_H
#define SPARX_BRIDGE_PARTS_H

#include "bridge.h"

enum { EXIT_CONFIG = 2, EXIT_LISTEN = 3, EXIT_FRAMING = 4, EXIT_SANDBOX = 6 }; /* of the process */

/* ---- bridge.c ---- */

void bridge_moves(struct bridge *b, enum bridge_state to);
/* Stops the server, and with it the process. */
void bridge_over(struct bridge *b, int status);
/* The beginning of a message of this kind, with room for `body` bytes after it. NULL: no memory; the message is lost. */
uint8_t *bridge_begin(struct bridge *b, enum message_kind kind, size_t body);
/* Diagnostics are dropped when the host does not keep up. */
bool bridge_no_room_for_talk(struct bridge *b);
void bridge_send_error(struct bridge *b, const struct message *m, const char *field, const char *rule, const char *consequence);
void bridge_send_gone(struct bridge *b, uint64_t id, enum stream_end why);
void bridge_send_number(struct bridge *b, enum message_kind kind, uint64_t number);
/* The bridge keeps nothing of a stream; its id is dead. */
void bridge_forget(struct bridge *b, struct stream *s);
/* The ends of a stream: the host broke a rule; the application did, which is logged; there is no memory; or as said. */
void bridge_break_rule(struct bridge *b, struct stream *s, const struct message *m, const char *field, const char *rule);
void bridge_refuse(struct bridge *b, struct stream *s, const struct message *m, const char *field, const char *rule);
void bridge_no_memory(struct bridge *b, struct stream *s);
void bridge_end_stream(struct bridge *b, struct stream *s, unsigned status, enum stream_end why);

/* ---- bridge/events.c ---- */

void bridge_events_init(struct bridge *b);

/* ---- bridge/hello.c ---- */

void bridge_take_hello(struct bridge *b, const struct message *m);
void bridge_hello_failed(struct bridge *b, const struct message *m, const char *field, const char *rule, int status);

/* ---- bridge/streams.c ---- */

/* The live stream that a message speaks of; NULL if it has ended, or there never was one (which is told). */
struct stream *bridge_find(struct bridge *b, const struct message *m);
/* Header fields of a message into b->fields. False: the stream has ended. */
bool bridge_read_fields(struct bridge *b, struct stream *s, const struct message *m, const char *field, struct slice raw,
			unsigned *count);
/* The head of the answer is known. */
void bridge_first_answer(struct bridge *b, struct stream *s, unsigned status);
void bridge_take_demand(struct bridge *b, const struct message *m);
void bridge_take_read(struct bridge *b, const struct message *m);
void bridge_take_discard(struct bridge *b, const struct message *m);
void bridge_take_respond(struct bridge *b, const struct message *m);
void bridge_take_head(struct bridge *b, const struct message *m);
void bridge_take_data(struct bridge *b, const struct message *m);
void bridge_take_end(struct bridge *b, const struct message *m);
void bridge_take_inform(struct bridge *b, const struct message *m);
void bridge_take_push(struct bridge *b, const struct message *m);
void bridge_take_abort(struct bridge *b, const struct message *m);
void bridge_take_release(struct bridge *b, const struct message *m);
void bridge_take_yield(struct bridge *b, const struct message *m);
void bridge_take_resume(struct bridge *b, const struct message *m);

/* ---- bridge/upgrade.c ---- */

/* Notes what a request asks to be upgraded to, and says so in REQUEST's flags. False: out of memory. */
bool bridge_upgrade_note(struct stream *s, const struct request_head *head);
unsigned bridge_upgrade_flags(const struct stream *s);
void bridge_take_upgrade(struct bridge *b, const struct message *m);
void bridge_take_send(struct bridge *b, const struct message *m);
void bridge_take_close(struct bridge *b, const struct message *m);
/* Bytes for a WebSocket: returns how many were used. */
size_t bridge_upgrade_bytes(struct bridge *b, struct stream *s, struct slice bytes);
/* A WebSocket was granted read credit. */
void bridge_upgrade_credit(struct bridge *b, struct stream *s);
/* The client of a WebSocket sends no more bytes. */
void bridge_upgrade_end(struct bridge *b, struct stream *s);
/* A stream has ended without us; if it was a WebSocket whose client had said why, the host hears that too. */
void bridge_upgrade_lost(struct bridge *b, struct stream *s);
/* A stream ends that the client need not expect to end. True: it is a WebSocket, and its client was told why. */
bool bridge_upgrade_says_goodbye(struct stream *s, enum stream_end why);
/* Asks the clients of all WebSockets to leave. */
void bridge_upgrade_drain(struct bridge *b);
void bridge_upgrade_forget(struct stream *s);

#endif
