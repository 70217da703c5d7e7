/* SPDX-License-Identifier: Apache-2.0 */
/* Server push (RFC 9113 8.4): requests that the application makes in the client's name. */
#ifndef SPARX_PROTO_H2_PUSH_H
#define SPARX_PROTO_H2_PUSH_H

#include "proto/h2_session.h"

/* Whether the client accepts pushes with the request of x. */
bool h2_push_allowed(const struct h2_stream *x);
/* Promises the response to a GET of this target. The new stream is recorded when its frame is made. False: out of memory. */
bool h2_push(struct h2_stream *x, struct slice target, const struct field *fields, unsigned count);
/* Describes the promised request; its slices live as long as the promise. */
void h2_push_head(const struct h2_stream *x, struct field *fields, struct request_head *head);

#endif
