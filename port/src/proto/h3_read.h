/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/3 from the client: nghttp3's callbacks, which record; and floods. */
#ifndef SPARX_PROTO_H3_READ_H
#define SPARX_PROTO_H3_READ_H

#include "proto/h3_session.h"

void h3_read_callbacks(nghttp3_callbacks *callbacks);

/* Passes bytes of a stream to nghttp3. h3->fault is set if the session must end. */
void h3_read(struct h3 *h3, int64_t id, const uint8_t *bytes, size_t n, bool end);

#endif
