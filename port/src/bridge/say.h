/* SPDX-License-Identifier: Apache-2.0 */
/* Messages to the host. If memory runs out, a message is lost, and the link ends the connection to the host (link_flush). */
#ifndef SPARX_BRIDGE_SAY_H
#define SPARX_BRIDGE_SAY_H

#include "bridge/bridge.h"

/*
 * For each message of the port: say_room(b, &(struct msg_room){.stream = 1, .bytes = 5}). False: there was no memory, or it is
 * a diagnostic, and the host does not keep up.
 */
#define PORT(name) bool say_##name(struct bridge *b, const struct msg_##name *m);
#define HOST(name)
#define MESSAGE(NAME, name, kind, direction, fields) direction(name)
#include "frames/messages.def"
#undef PORT
#undef HOST

/* Sends ERROR: what is wrong with a message, and the consequence. */
void say_fault(struct bridge *b, const struct message *m, const char *field, const char *rule, const char *consequence);

/* Begins a message that is written piece by piece, with room for `body` bytes; link_commit ends it. NULL: out of memory. */
uint8_t *say_begin(struct bridge *b, enum message_kind kind, size_t body);

#endif
