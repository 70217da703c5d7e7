/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/3 from the client: nghttp3's callbacks, which record; floods; and what a complete head says. */
#ifndef SPARX_PROTO_H3_READ_H
#define SPARX_PROTO_H3_READ_H

#include "proto/h3_session.h"

void h3_read_callbacks(nghttp3_callbacks *callbacks);

/* Hands bytes of a stream to nghttp3. h3->fault is set if the session is to end. */
void h3_read(struct h3 *h3, int64_t id, const uint8_t *bytes, size_t n, bool end);

/* Describes a complete head; fields has room for SESSION_FIELDS_MAX. Returns 0, or the status to refuse it with: 400 if it is malformed. */
unsigned h3_examine(struct h3 *h3, const struct h3_head *block, bool ended, struct field *fields, struct request_head *head);
/* The same for trailers, which may not be there. */
unsigned h3_trailers_of(const struct h3_head *block, struct field *fields, unsigned *count);
/* Whether the method is HEAD, of a head that may not be whole. */
bool h3_asks_head(const struct h3_head *block);

#endif
