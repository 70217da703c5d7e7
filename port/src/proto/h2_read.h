/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 from the client: nghttp2's callbacks, which record and count floods; and complete heads, checked where nghttp2 is
 * lenient.
 */
#ifndef SPARX_PROTO_H2_READ_H
#define SPARX_PROTO_H2_READ_H

#include "proto/h2_session.h"

void h2_read_callbacks(nghttp2_session_callbacks *callbacks);

/* Passes bytes to nghttp2, at most as many frames as the turn allows. Returns how many bytes. h2->fault is set if the session
 * must end. */
size_t h2_receive(struct h2 *h2, const uint8_t *data, size_t len);

/* Examines a complete head, or a promise of ours (mux_kind.examine). */
unsigned h2_examine(struct mux_stream *x, struct field *fields, struct request_head *head);

#endif
