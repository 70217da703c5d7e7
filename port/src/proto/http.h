/* SPDX-License-Identifier: Apache-2.0 */
/* What all versions of HTTP share (RFC 9110). */
#ifndef SPARX_PROTO_HTTP_H
#define SPARX_PROTO_HTTP_H

#include "stream/stream.h"

/* A longer method is refused (RFC 9112 3): the longest registered one has 17 letters. */
enum { HTTP_METHOD_MAX = 64 };

/* ---- requests ---- */

/* The octets that a request target may contain, in any of its forms. */
bool http_target_valid(struct slice text);
/* An authority (RFC 3986 3.2 without userinfo): host, and a port if there is one. */
bool http_authority_valid(struct slice authority);
/* The target of CONNECT: a host and a port that is not empty (RFC 9110 9.3.6). */
bool http_authority_has_port(struct slice authority);
/*
 * Determines the authority of the request: the one in its target (or :authority), or else the Host field, absent if there is
 * none; if both exist they must agree (RFC 9112 3.2.2, RFC 9113 8.3.1, RFC 9114 4.3.1). Returns NULL, or what is wrong.
 */
const char *http_settle_authority(struct request_head *head, struct slice host, bool may_be_empty);
/* A target that begins with a slash, as path and query; an absent query has no question mark. */
void http_split_target(struct slice target, struct slice *path, struct slice *query);
/* The only expectation that exists: 100-continue. */
bool http_expects_continue(struct slice expectation);
/* Checks head->body, once it is known. Returns 0, or 413 beyond max_body (0: no limit). */
unsigned http_settle_body(struct request_head *head, uint64_t max_body);

/* ---- responses ---- */

/* The reason phrase of a status; empty if it has none. */
const char *http_reason(unsigned status);
/* Whether the session writes this field itself, so that the host's is left out: the length and connection fields. */
bool http_is_ours(const struct field *f);
/* The length to state in the head. tunnel: the response opens one. */
int64_t http_length_to_say(const struct response_head *head, bool tunnel);

/* A response of the port's own: the status as plain text. */
struct http_error {
	struct response_head head;
	struct slice body;
	struct field fields[2];
	char text[96], seconds[16];
};

/* retry_after: seconds; 0: no such field. */
void http_error_make(struct http_error *e, unsigned status, unsigned retry_after);

#endif
