/* Server push (RFC 9113 8.4): requests that the application makes in the client's name. */
#ifndef SPARX_PROTO_H2_PUSH_H
#define SPARX_PROTO_H2_PUSH_H

#include "proto/h2_session.h"

/* Whether the client takes pushes beside what it asked for with x. */
bool h2_push_allowed(const struct h2_stream *x);
/* Promises the answer to a GET of this target. When the promise has been made the new stream is noted. False: out of memory. */
bool h2_push(struct h2_stream *x, struct slice target, const struct field *fields, unsigned count);
/* Describes the request that was promised; what it points to lives as long as the promise. */
void h2_push_head(const struct h2_stream *x, struct field *fields, struct request_head *head);

#endif
