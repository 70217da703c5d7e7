/* The life of a session: its states, how it drains and ends, and what it waits for. */
#ifndef SPARX_PROTO_H2_LIFE_H
#define SPARX_PROTO_H2_LIFE_H

#include "proto/h2_session.h"

/* Draining, by which no request is lost: RFC 9113 6.8. */
void h2_begin_drain(struct h2 *h2);
/* Is it time to end? */
void h2_look_around(struct h2 *h2);
/* Nothing is read any more. */
void h2_stop(struct h2 *h2, enum session_close how, enum stream_end why);

/* Whether every stream waits for its client, but for those that are closed and only released later. */
bool h2_all_wait(const struct h2 *h2);

/* When something will have taken too long, in ms; UINT64_MAX: never. */
uint64_t h2_deadline(const struct h2 *h2);
/* That time has come. */
void h2_overdue(struct h2 *h2);

#endif
