/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/3 to the client: heads, bodies and trailers, which nghttp3 puts into frames. */
#ifndef SPARX_PROTO_H3_WRITE_H
#define SPARX_PROTO_H3_WRITE_H

#include "proto/h3_session.h"

/* False from any of these: out of memory. */
bool h3_write_info(struct h3_stream *x, unsigned status, const struct field *fields, unsigned count);
/* whole: the response ends with it. */
bool h3_write_head(struct h3_stream *x, const struct response_head *head, bool whole);
bool h3_write_upgrade(struct h3_stream *x, const struct field *fields, unsigned count);
/* An answer of the port's own, with its body. */
bool h3_write_error(struct h3_stream *x, unsigned status, unsigned retry_after);
/* Keeps trailers until the body has gone. */
bool h3_write_trailers(struct h3_stream *x, const struct field *fields, unsigned count);
/* There is more in `out`, or the response has ended. */
bool h3_write_more(struct h3_stream *x);
/* Looks again for what was not in memory. */
bool h3_write_cold(struct h3 *h3);

#endif
