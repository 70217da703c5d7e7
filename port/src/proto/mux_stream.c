/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/mux_stream.h"

#include <stdlib.h>

#include "proto/mux_head.h"
#include "proto/mux_write.h"

/* ---- its beginning and its end ---- */

void mux_stream_begin(struct mux_stream *x, struct mux *mux)
{
	stream_init(&x->s, mux->kind->streams);
	x->s.born_us = mux_now_us(mux);
	x->mux = mux;
	x->why = END_RESET;
	list_init(&x->pending);
	list_append(&mux->streams, &x->link);
	mux->open++;
}

void mux_stream_drop(struct mux_stream *x)
{
	x->framed = 0;
	mux_is_cold(x, false);
	bufq_free(&x->out);
	mux_count_waiting(x);
}

void mux_stream_free(struct mux_stream *x)
{
	struct mux *mux = x->mux;
	const struct stream_sink *sink = mux_sink(mux);

	if (x->s.owed)
		sink->on_lapse(sink->ctx, &x->s);
	list_remove(&x->link);
	list_remove(&x->pending);
	mux->open--;
	if (mux->open == 0)
		mux->since = mux_now(mux);
	mux_head_free(mux, x->head);
	mux_head_free(mux, x->trailers);
	free(x->last);
	bufq_free(&x->in);
	mux->kind->drop(x);
}

void mux_stream_ends(struct mux_stream *x, enum stream_end why)
{
	const struct stream_sink *sink = mux_sink(x->mux);
	bool listens = x->known && !x->s.detached;

	stream_detach(&x->s);
	if (listens)
		sink->on_reset(sink->ctx, &x->s, why);
}

/*
 * Resetting a request does not stop the handler working on it, so reset streams still count as open streams (CVE-2023-44487,
 * CVE-2025-8671).
 */
void mux_stream_lost(struct mux_stream *x, enum stream_end why)
{
	uint64_t most = mux_config(x->mux)->h2_reset_hold;

	if (x->known && !x->s.detached && x->s.response != RESPONSE_ENDED && most) {
		x->s.owed = true;
		x->held = mux_now(x->mux) + most;
		mux_watch(x->mux, x->held);
	}
	mux_stream_ends(x, why);
}

/* ---- responses of the port's own ---- */

void mux_pace_begins(struct mux_stream *x)
{
	pace_start(&x->pace, mux_now_us(x->mux), mux_write_grace(x->mux));
	mux_watch(x->mux, x->mux->eof ? mux_now(x->mux) : pace_deadline(&x->pace));
}

void mux_stream_answer(struct mux_stream *x, unsigned status, unsigned retry_after)
{
	x->s.status = (uint16_t)status;
	x->whole = x->s.head_method;
	mux_pace_begins(x);
	stream_response_moves(&x->s, RESPONSE_STREAMING);
	stream_response_moves(&x->s, RESPONSE_ENDED);
	if (!mux_write_error(x, status, retry_after))
		x->mux->kind->cut(x, MUX_FAILED);
}

void mux_stream_refuse(struct mux_stream *x, unsigned status)
{
	mux_env_of(x->mux)->rejected++;
	stream_detach(&x->s);
	if (status == 400)
		x->mux->kind->malformed(x); /* RFC 9113 8.1.1, RFC 9114 4.1.2 */
	else
		mux_stream_answer(x, status, 0);
}

void mux_stream_refuse_body(struct mux_stream *x, unsigned status, enum stream_end why)
{
	mux_env_of(x->mux)->rejected++;
	mux_stream_lost(x, why);
	if (status == 400)
		x->mux->kind->malformed(x);
	else if (x->s.response == RESPONSE_WAITING)
		mux_stream_answer(x, status, 0);
	else if (!x->finished)
		x->mux->kind->cut(x, MUX_CANCELLED);
}
