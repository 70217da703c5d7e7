/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/3 to the client: heads, bodies and trailers, which nghttp3 puts into frames. */
#ifndef SPARX_PROTO_H3_WRITE_H
#define SPARX_PROTO_H3_WRITE_H

#include "proto/h3_session.h"

/* Heads for nghttp3 (mux_kind.put_head, put_info). False: out of memory. */
bool h3_write_head(struct mux_stream *x, const struct mux_nv *nv, size_t n, bool body);
bool h3_write_info(struct mux_stream *x, const struct mux_nv *nv, size_t n);

#endif
