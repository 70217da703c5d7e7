/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 from the client: nghttp2's callbacks, which record; floods, which they count; and what a complete head says, checked
 * where nghttp2 is lenient.
 */
#ifndef SPARX_PROTO_H2_READ_H
#define SPARX_PROTO_H2_READ_H

#include "proto/h2_session.h"

void h2_read_callbacks(nghttp2_session_callbacks *callbacks);

/* Hands bytes to nghttp2: as many frames as the turn has steps for. Returns how many bytes. h2->fault is set if the session is to end. */
size_t h2_receive(struct h2 *h2, const uint8_t *data, size_t len);

/*
 * Describes a complete head; fields has room for SESSION_FIELDS_MAX. The slices live as long as the head. Returns 0, or the status to refuse it with: 400 if it is malformed.
 */
unsigned h2_examine(struct h2 *h2, const struct h2_head *block, bool ended, struct field *fields, struct request_head *head);
/* The :authority of a head, referenced; NULL if it has none. */
nghttp2_rcbuf *h2_authority_of(const struct h2_head *block);
/* The same for trailers, which may not be there. */
unsigned h2_trailers_of(const struct h2_head *block, struct field *fields, unsigned *count);
/* Whether the method is HEAD, of a head that may not be whole. */
bool h2_asks_head(const struct h2_head *block);

#endif
