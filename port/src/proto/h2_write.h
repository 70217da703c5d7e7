/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 to the client: heads, bodies (which nghttp2 pulls), trailers; and their places in the output. */
#ifndef SPARX_PROTO_H2_WRITE_H
#define SPARX_PROTO_H2_WRITE_H

#include "proto/h2_session.h"

void h2_write_callbacks(nghttp2_session_callbacks *callbacks);

/* Heads for nghttp2 (mux_kind.put_head, put_info). False: out of memory. */
bool h2_write_head(struct mux_stream *x, const struct mux_nv *nv, size_t n, bool body);
bool h2_write_info(struct mux_stream *x, const struct mux_nv *nv, size_t n);

/* Puts a frame into the output. False: out of memory. */
bool h2_put(struct h2 *h2, const void *bytes, size_t n);
/* Makes frames until enough of them wait. False: the session is broken. */
bool h2_pump(struct h2 *h2);

#endif
