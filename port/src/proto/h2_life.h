/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a session: its states, drain, end and deadlines. */
#ifndef SPARX_PROTO_H2_LIFE_H
#define SPARX_PROTO_H2_LIFE_H

#include "proto/h2_session.h"

/* Begins a drain that loses no request: RFC 9113 6.8. */
void h2_begin_drain(struct h2 *h2);
/* Ends the session if it has nothing left to do. */
void h2_look_around(struct h2 *h2);
/* Stops reading. */
void h2_stop(struct h2 *h2, enum session_close how, enum stream_end why);

/* The client has closed its side. */
void h2_tell_hangup(struct h2 *h2);

/* The next deadline, in ms; UINT64_MAX: none. */
uint64_t h2_deadline(const struct h2 *h2);
/* The deadline has passed. */
void h2_overdue(struct h2 *h2);

#endif
