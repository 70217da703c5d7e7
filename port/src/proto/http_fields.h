/* SPDX-License-Identifier: Apache-2.0 */
/* A request that is a list of fields with pseudo-header fields, as in HTTP/2 and HTTP/3. */
#ifndef SPARX_PROTO_HTTP_FIELDS_H
#define SPARX_PROTO_HTTP_FIELDS_H

#include "proto/session.h"

struct http_pair {
	struct slice name, value;
};

/* The fields as a session keeps them. */
struct http_pairs {
	const struct http_pair *at;
	unsigned count;       /* at most SESSION_FIELDS_MAX in addition to the pseudo-header fields */
	bool too_large;       /* some were dropped */
	struct slice cookies; /* the value of the cookie field, if it came in several; else empty */
};

/*
 * Fills in *head, whose version is set, and `fields`. ended: there is no body. Returns 0, or the status that refuses it; 400: it is
 * malformed.
 */
unsigned http_examine(const struct http_pairs *pairs, bool ended, uint64_t max_body, struct field *fields,
		      struct request_head *head);
bool http_asks_head(const struct http_pairs *pairs);
/* The same for trailers. */
unsigned http_trailers_of(const struct http_pairs *pairs, struct field *fields, unsigned *count);

/* RFC 9110 15.5.20: a client may use a connection for another host only if the certificate covers that host. */
bool http_is_misdirected(struct session_owner *owner, const struct request_head *head);

#endif
