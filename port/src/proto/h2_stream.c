/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_stream.h"

#include <assert.h>
#include <stdlib.h>

#include "proto/h2_head.h"
#include "proto/h2_write.h"

/* ---- its beginning and its end ---- */

struct h2_stream *h2_stream_new(struct h2 *h2, int32_t id)
{
	struct h2_stream *x = calloc(1, sizeof *x);

	if (!x)
		return NULL;
	stream_init(&x->s, h2->stream_ops);
	x->s.born_us = *h2_env_of(h2)->now_us;
	x->h2 = h2;
	x->id = id;
	x->why = END_RESET;
	list_init(&x->todo);
	list_append(&h2->streams, &x->link);
	h2->open++;
	h2->trimmed = false;
	return x;
}

void h2_stream_free(struct h2_stream *x)
{
	struct h2 *h2 = x->h2;

	assert(x->marks == 0);
	if (x->s.owed)
		h2_sink(h2)->on_lapse(h2_sink(h2)->ctx, &x->s);
	list_remove(&x->link);
	list_remove(&x->todo);
	h2->open--;
	if (h2->open == 0)
		h2->since = h2_now(h2);
	h2_head_free(h2, x->head);
	h2_head_free(h2, x->trailers);
	free(x->promise);
	if (x->authority)
		nghttp2_rcbuf_decref(x->authority);
	free(x->last);
	bufq_free(&x->in);
	bufq_free(&x->out);
	h2_count_waiting(x);
	h2_is_cold(x, false);
	free(x);
}

void h2_stream_ends(struct h2_stream *x, enum stream_end why)
{
	const struct stream_sink *sink = h2_sink(x->h2);
	bool listens = x->known && !x->s.detached;

	stream_detach(&x->s);
	if (listens)
		sink->on_reset(sink->ctx, &x->s, why);
}

/*
 * Resetting a request does not stop the handler working on it, so reset streams keep counting against h2_max_streams
 * (CVE-2023-44487, CVE-2025-8671).
 */
void h2_stream_lost(struct h2_stream *x, enum stream_end why)
{
	uint64_t most = h2_config(x->h2)->h2_reset_hold;

	if (x->known && !x->s.detached && x->s.response != RESPONSE_ENDED && most) {
		x->s.owed = true;
		x->held = h2_now(x->h2) + most;
		h2_watch(x->h2, x->held);
	}
	h2_stream_ends(x, why);
}

void h2_stream_reset(struct h2_stream *x, uint32_t code)
{
	if (x->reset || h2_is_closed(x))
		return;
	x->reset = true;
	if (nghttp2_submit_rst_stream(x->h2->ng, NGHTTP2_FLAG_NONE, x->id, code) != 0)
		x->h2->fault = NGHTTP2_INTERNAL_ERROR;
}

void h2_stream_cut(struct h2_stream *x, uint32_t code)
{
	x->ours = true;
	h2_stream_reset(x, code);
}

/* ---- responses of the port's own ---- */

void h2_pace_begins(struct h2_stream *x)
{
	pace_start(&x->pace, h2_now_us(x->h2), h2_write_grace(x->h2));
	h2_watch(x->h2, pace_deadline(&x->pace));
}

void h2_stream_answer(struct h2_stream *x, unsigned status, unsigned retry_after)
{
	x->s.status = (uint16_t)status;
	x->whole = x->s.head_method;
	h2_pace_begins(x);
	stream_response_moves(&x->s, RESPONSE_STREAMING);
	stream_response_moves(&x->s, RESPONSE_ENDED);
	if (!h2_write_error(x, status, retry_after))
		h2_stream_cut(x, NGHTTP2_INTERNAL_ERROR);
}

void h2_stream_refuse(struct h2_stream *x, unsigned status)
{
	h2_env_of(x->h2)->rejected++;
	stream_detach(&x->s);
	if (status == 400)
		h2_stream_cut(x, NGHTTP2_PROTOCOL_ERROR); /* malformed: RFC 9113 8.1.1 */
	else
		h2_stream_answer(x, status, 0);
}

void h2_stream_refuse_body(struct h2_stream *x, unsigned status, enum stream_end why)
{
	h2_env_of(x->h2)->rejected++;
	h2_stream_lost(x, why);
	if (status == 400)
		h2_stream_cut(x, NGHTTP2_PROTOCOL_ERROR);
	else if (x->s.response == RESPONSE_WAITING)
		h2_stream_answer(x, status, 0);
	else if (!x->finished)
		h2_stream_cut(x, NGHTTP2_CANCEL);
}
