/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Priorities of responses by PRIORITY_UPDATE (RFC 9218 7.1). nghttp2 reads such frames too, but 1.52 never removes an announced
 * stream
 * from one of its lists: when the stream closes, its memory is freed and still written to. So the frames are read here, and
 * nghttp2 gets the priority only of open streams.
 */
#ifndef SPARX_PROTO_H2_PRIORITY_H
#define SPARX_PROTO_H2_PRIORITY_H

#include "proto/h2_session.h"

/* Reads a Priority field value (RFC 9218 4). False: it is not a dictionary (RFC 8941 3.2), and nothing was changed. */
bool h2_priority_parse(struct slice text, unsigned *urgency, bool *incremental);

void h2_priority_callbacks(nghttp2_session_callbacks *callbacks, nghttp2_option *option);
/* Handles a complete frame. Returns its error, an NGHTTP2_* code, or 0. */
uint32_t h2_priority_take(struct h2 *h2, const nghttp2_frame *frame);
/* Called when the head of a request is complete: an earlier PRIORITY_UPDATE overrides its priority field. */
void h2_priority_begins(struct h2 *h2, int32_t id);

#endif
