/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of one stream of many (stream_ops). */
#ifndef SPARX_PROTO_MUX_OPS_H
#define SPARX_PROTO_MUX_OPS_H

#include "stream/stream.h"

bool mux_send_info(struct stream *s, unsigned status, const struct field *fields, unsigned count);
bool mux_send_head(struct stream *s, const struct response_head *head);
bool mux_upgrade(struct stream *s, struct slice protocol, const struct field *fields, unsigned count);
bool mux_send_data(struct stream *s, struct slice data);
bool mux_send_file(struct stream *s, struct file *f, uint64_t offset, size_t n);
bool mux_send_end(struct stream *s, const struct field *trailers, unsigned count);
void mux_consume(struct stream *s);
void mux_go_on(struct stream *s);
void mux_discard(struct stream *s);
void mux_abandon(struct stream *s, unsigned status, unsigned retry_after);
void mux_release(struct stream *s);

#endif
