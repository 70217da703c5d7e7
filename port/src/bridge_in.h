/* What the parts of the bridge share: bridge.c, and bridge_upgrade.c, which is WebSockets and tunnels. */
#ifndef SPARX_BRIDGE_IN_H
#define SPARX_BRIDGE_IN_H

#include "bridge.h"

/* ---- bridge.c ---- */

/* The beginning of a message of this kind, with room for `body` bytes after it. NULL: no memory; the message is lost. */
uint8_t *bridge_begin(struct bridge *b, enum message_kind kind, size_t body);
void bridge_send_error(struct bridge *b, const struct message *m, const char *field, const char *rule, const char *consequence);
/* The live stream that a message speaks of; NULL if it has ended, or there never was one (which is told). */
struct stream *bridge_find(struct bridge *b, const struct message *m);
/* Field number i, header fields, into b->fields. False: the stream has ended. */
bool bridge_read_fields(struct bridge *b, struct stream *s, const struct message *m, unsigned i, unsigned *count);
/* The head of the answer is known. */
void bridge_first_answer(struct bridge *b, struct stream *s, unsigned status);
/* The ends of a stream: the host broke a rule; the application did, which is logged; there is no memory; or as said. */
void bridge_break_rule(struct bridge *b, struct stream *s, const struct message *m, const char *field, const char *rule);
void bridge_refuse(struct bridge *b, struct stream *s, const struct message *m, const char *field, const char *rule);
void bridge_no_memory(struct bridge *b, struct stream *s);
void bridge_end_stream(struct bridge *b, struct stream *s, unsigned status, enum stream_end why);

/* ---- bridge_upgrade.c ---- */

/* Notes what a request asks to be upgraded to, and says so in REQUEST's flags. */
void upgrade_note(struct stream *s, const struct request_head *head);
unsigned upgrade_flags(const struct stream *s);
void upgrade_take(struct bridge *b, const struct message *m);
void upgrade_take_send(struct bridge *b, const struct message *m);
void upgrade_take_close(struct bridge *b, const struct message *m);
/* Bytes for a WebSocket: returns how many were used. */
size_t upgrade_bytes(struct bridge *b, struct stream *s, struct slice bytes);
/* A stream ends that the client need not expect to end. True: it is a WebSocket, and its client was told why. */
bool upgrade_says_goodbye(struct stream *s, enum stream_end why);
/* Asks the clients of all WebSockets to leave. */
void upgrade_drain(struct bridge *b);
void upgrade_forget(struct stream *s);

#endif
