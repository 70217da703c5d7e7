/* SPDX-License-Identifier: Apache-2.0 */
/* The rules for responses of the application (PROTOCOL.md 4.1), checked once for all protocols. RFC 9110 sections 5 and 6. */
#ifndef SPARX_STREAM_RULES_H
#define SPARX_STREAM_RULES_H

#include "base/text.h"
#include "stream/stream.h"

/* RFC 9110 5.5: no control octets except the tab. */
bool is_field_value(struct slice value);

/* A protocol to upgrade to, RFC 9110 7.8: a token, optionally followed by a slash and a version. */
bool is_protocol(struct slice name);

/*
 * Checks the fields that the host wants to send, and fills in what they determine: close, has_server, has_date, and the length
 * from a content-length field where head->length is LENGTH_UNKNOWN. `any_length`: the response has no body, so any content-length
 * is accepted. Returns the broken rule, or NULL; *offender (if not NULL) is then the name of the field that broke it, or absent.
 */
const char *response_check(struct response_head *head, bool any_length, struct slice *offender);
/* The same for 1xx. */
const char *info_check(unsigned status, const struct field *fields, unsigned count, struct slice *offender);
/* The same for the answer to an upgrade. */
const char *upgrade_check(const struct field *fields, unsigned count, struct slice *offender);
/* The same for the request of a push. */
const char *push_check(const struct field *fields, unsigned count, struct slice *offender);
/* The same for trailers: no framing, routing or hop-by-hop field (RFC 9110 6.5.1). */
const char *trailers_check(const struct field *fields, unsigned count, struct slice *offender);

/* Whether a response with this status, to this method, never has a body (RFC 9110 6.4.1; 205: 15.3.6). */
static inline bool never_has_body(unsigned status, bool head_method)
{
	return head_method || status < 200 || status == 204 || status == 205 || status == 304;
}

#endif
