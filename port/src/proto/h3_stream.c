/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h3_stream.h"

#include <stdlib.h>

#include "proto/h3_head.h"
#include "proto/h3_write.h"

/* ---- its beginning and its end ---- */

struct h3_stream *h3_stream_new(struct h3 *h3, int64_t id)
{
	struct h3_stream *x = calloc(1, sizeof *x);

	if (!x || !idmap_put(&h3->map, (uint64_t)id + 1, x)) {
		free(x);
		return NULL;
	}
	stream_init(&x->s, h3->stream_ops);
	x->s.born_us = h3_now_us(h3);
	x->h3 = h3;
	x->id = id;
	x->why = END_RESET;
	x->began = h3_now(h3);
	list_init(&x->todo);
	list_append(&h3->streams, &x->link);
	h3->open++;
	h3_watch(h3, x->began + h3_config(h3)->header_timeout);
	return x;
}

void h3_stream_drop(struct h3_stream *x)
{
	x->h3->unacked -= x->framed;
	x->framed = 0;
	x->given = (struct bufq_cursor){0};
	h3_is_cold(x, false);
	bufq_free(&x->out);
	h3_count_waiting(x);
}

void h3_stream_free(struct h3_stream *x)
{
	struct h3 *h3 = x->h3;

	if (x->s.owed)
		h3_sink(h3)->on_lapse(h3_sink(h3)->ctx, &x->s);
	idmap_del(&h3->map, (uint64_t)x->id + 1);
	list_remove(&x->link);
	list_remove(&x->todo);
	h3->open--;
	if (h3->open == 0) {
		h3->since = h3_now(h3);
		idmap_free(&h3->map);
		idmap_init(&h3->map);
	}
	h3_head_free(h3, x->block);
	h3_head_free(h3, x->head);
	h3_head_free(h3, x->trailers);
	free(x->last);
	bufq_free(&x->in);
	h3_stream_drop(x);
	free(x);
}

void h3_stream_ends(struct h3_stream *x, enum stream_end why)
{
	const struct stream_sink *sink = h3_sink(x->h3);
	bool listens = x->known && !x->s.detached;

	stream_detach(&x->s);
	if (listens)
		sink->on_reset(sink->ctx, &x->s, why);
}

/*
 * Resetting a request does not stop the handler working on it, so reset streams keep counting against h3_max_streams
 * (CVE-2023-44487, CVE-2025-8671).
 */
void h3_stream_lost(struct h3_stream *x, enum stream_end why)
{
	uint64_t most = h3_config(x->h3)->h2_reset_hold;

	if (x->known && !x->s.detached && x->s.response != RESPONSE_ENDED && most) {
		x->s.owed = true;
		x->held = h3_now(x->h3) + most;
		h3_watch(x->h3, x->held);
	}
	h3_stream_ends(x, why);
}

/* ---- its two sides ---- */

void h3_stream_stop(struct h3_stream *x, uint64_t code)
{
	struct h3 *h3 = x->h3;

	if (x->stopped || (x->heard & (H3_HEARD_END | H3_HEARD_CLOSE)))
		return;
	x->stopped = true;
	if (nghttp3_conn_shutdown_stream_read(h3->ng, x->id) != 0)
		h3_give_up(h3, NGHTTP3_H3_INTERNAL_ERROR);
	h3->carrier->stop(h3->owner, x->id, code);
}

void h3_stream_cut(struct h3_stream *x, uint64_t code)
{
	struct h3 *h3 = x->h3;

	h3_stream_stop(x, code);
	if (x->reset || x->left || h3_is_closed(x))
		return;
	x->reset = true;
	nghttp3_conn_shutdown_stream_write(h3->ng, x->id);
	h3->carrier->reset(h3->owner, x->id, code);
	h3_note(x, 0);
}

void h3_stream_abort(struct h3_stream *x, uint64_t code)
{
	struct h3 *h3 = x->h3;

	if (x->reset || h3_is_closed(x))
		return;
	if (code != NGHTTP3_H3_REQUEST_REJECTED &&
	    !bucket_take(&h3->own_resets, h3_now_us(h3), h3_config(h3)->h3_own_resets, 10000000))
		h3_give_up(h3, NGHTTP3_H3_EXCESSIVE_LOAD);
	x->why = END_ERROR;
	h3_stream_cut(x, code);
	h3_note(x, H3_HEARD_LEFT);
}

void h3_stream_acked(struct h3_stream *x, size_t n)
{
	uint32_t files = x->out.files;

	n = n < x->framed ? n : x->framed;
	x->framed -= n;
	x->h3->unacked -= n;
	bufq_consume_behind(&x->out, &x->given, n);
	if (files != x->out.files) {
		x->room += (uint64_t)FILE_COST * (files - x->out.files);
		h3_note(x, 0);
	}
	pace_moved(&x->pace, h3_now_us(x->h3), n, h3_config(x->h3)->response_rate, h3_write_grace(x->h3));
}

/* ---- responses of the port's own ---- */

void h3_pace_begins(struct h3_stream *x)
{
	pace_start(&x->pace, h3_now_us(x->h3), h3_write_grace(x->h3));
	h3_watch(x->h3, pace_deadline(&x->pace));
}

void h3_stream_answer(struct h3_stream *x, unsigned status, unsigned retry_after)
{
	x->s.status = (uint16_t)status;
	x->whole = x->s.head_method;
	h3_pace_begins(x);
	stream_response_moves(&x->s, RESPONSE_STREAMING);
	stream_response_moves(&x->s, RESPONSE_ENDED);
	if (!h3_write_error(x, status, retry_after))
		h3_stream_cut(x, NGHTTP3_H3_INTERNAL_ERROR);
}

void h3_stream_refuse(struct h3_stream *x, unsigned status)
{
	h3_env_of(x->h3)->rejected++;
	stream_detach(&x->s);
	if (status == 400)
		h3_stream_abort(x, NGHTTP3_H3_MESSAGE_ERROR); /* malformed: RFC 9114 4.1.2 */
	else
		h3_stream_answer(x, status, 0);
}

void h3_stream_refuse_body(struct h3_stream *x, unsigned status, enum stream_end why)
{
	h3_env_of(x->h3)->rejected++;
	h3_stream_lost(x, why);
	if (status == 400)
		h3_stream_abort(x, NGHTTP3_H3_MESSAGE_ERROR);
	else if (x->s.response == RESPONSE_WAITING)
		h3_stream_answer(x, status, 0);
	else if (!x->left)
		h3_stream_cut(x, NGHTTP3_H3_REQUEST_CANCELLED);
}
