/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Priorities of responses by PRIORITY_UPDATE (RFC 9218 7.1). nghttp2 reads such frames too, but 1.52 never removes an announced stream
 * from one of its lists: when the stream closes, its memory is freed and still written to. So the frames are read here, and nghttp2
 * learns only of streams that are open.
 */
#ifndef SPARX_PROTO_H2_PRIORITY_H
#define SPARX_PROTO_H2_PRIORITY_H

#include "proto/h2_session.h"

/* A Priority field value (RFC 9218 4): false if it is no dictionary (RFC 8941 3.2), and then nothing is changed. */
bool h2_priority_parse(struct slice text, unsigned *urgency, bool *incremental);

void h2_priority_callbacks(nghttp2_session_callbacks *callbacks, nghttp2_option *option);
/* Such a frame is complete. Returns what is wrong with it: an NGHTTP2_* code, 0 if nothing is. */
uint32_t h2_priority_take(struct h2 *h2, const nghttp2_frame *frame);
/* The head of a request is complete: an earlier PRIORITY_UPDATE overrides its priority field. */
void h2_priority_begins(struct h2 *h2, int32_t id);

#endif
