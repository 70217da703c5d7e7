/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h3_stream.h"

#include <stdlib.h>

#include "proto/mux_head.h"
#include "proto/mux_stream.h"

/* ---- its beginning and its end ---- */

struct h3_stream *h3_stream_new(struct h3 *h3, int64_t id)
{
	struct h3_stream *x = calloc(1, sizeof *x);

	if (!x || !idmap_put(&h3->map, (uint64_t)id + 1, x)) {
		free(x);
		return NULL;
	}
	mux_stream_begin(&x->m, &h3->m);
	x->id = id;
	x->began = h3_now(h3);
	mux_watch(&h3->m, x->began + h3_config(h3)->header_timeout);
	return x;
}

void h3_stream_drop(struct h3_stream *x)
{
	h3_session_of(x)->unacked -= x->m.framed;
	x->given = (struct bufq_cursor){0};
	mux_stream_drop(&x->m);
}

void h3_stream_free(struct h3_stream *x)
{
	struct h3 *h3 = h3_session_of(x);

	idmap_del(&h3->map, (uint64_t)x->id + 1);
	h3_is_queued(x, false);
	mux_head_free(&h3->m, x->block);
	mux_stream_free(&x->m);
	if (h3->m.open == 0) {
		idmap_free(&h3->map);
		idmap_init(&h3->map);
	}
	free(x);
}

/* ---- its two sides ---- */

void h3_stream_stop(struct h3_stream *x, uint64_t code)
{
	struct h3 *h3 = h3_session_of(x);

	if (x->m.stopped || (x->m.heard & (HEARD_END | HEARD_CLOSE)))
		return;
	x->m.stopped = true;
	h3_is_queued(x, false);
	if (nghttp3_conn_shutdown_stream_read(h3->ng, x->id) != 0)
		h3_give_up(h3, NGHTTP3_H3_INTERNAL_ERROR);
	h3->carrier->stop(h3->m.owner, x->id, code);
}

void h3_stream_cut(struct h3_stream *x, uint64_t code)
{
	struct h3 *h3 = h3_session_of(x);

	h3_stream_stop(x, code);
	if (x->m.reset || x->m.left || mux_is_closed(&x->m))
		return;
	x->m.reset = true;
	nghttp3_conn_shutdown_stream_write(h3->ng, x->id);
	h3->carrier->reset(h3->m.owner, x->id, code);
	mux_note(&x->m, 0);
}

void h3_stream_abort(struct h3_stream *x, uint64_t code)
{
	struct h3 *h3 = h3_session_of(x);

	if (x->m.reset || mux_is_closed(&x->m))
		return;
	if (code != NGHTTP3_H3_REQUEST_REJECTED &&
	    !bucket_take(&h3->m.own_resets, mux_now_us(&h3->m), h3_config(h3)->h3_own_resets, 10000000))
		h3_give_up(h3, NGHTTP3_H3_EXCESSIVE_LOAD);
	x->m.why = END_ERROR;
	h3_stream_cut(x, code);
	mux_note(&x->m, HEARD_LEFT);
}

void h3_stream_acked(struct h3_stream *x, size_t n)
{
	uint32_t files = x->m.out.files;

	n = n < x->m.framed ? n : x->m.framed;
	x->m.framed -= n;
	h3_session_of(x)->unacked -= n;
	bufq_consume_behind(&x->m.out, &x->given, n);
	if (files != x->m.out.files) {
		x->m.room += (uint64_t)FILE_COST * (files - x->m.out.files);
		mux_note(&x->m, 0);
	}
	mux_pace_moved(&x->m, n);
}
