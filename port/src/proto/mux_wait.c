/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/mux_wait.h"

#include "proto/mux_stream.h"

static bool waits_for_body(const struct mux_stream *x)
{
	if (!x->known || x->holds || x->stopped || (x->heard & (HEARD_END | HEARD_CLOSE | HEARD_LEFT)) || x->finished ||
	    x->mux->eof)
		return false;
	if (x->in.len > 0)
		return false;
	/* a client that waits for 100 Continue sends nothing, and that is not its fault */
	return x->s.request == REQUEST_OPEN ? stream_wanted(&x->s) > 0 : !x->expects;
}

static uint64_t body_deadline(const struct mux_stream *x)
{
	return mux_config(x->mux)->body_rate && waits_for_body(x) ? pace_deadline(&x->body) : UINT64_MAX;
}

/* All of the body is in frames but for its end, for which nghttp2 wants an open window too, although it has no byte. */
static bool end_waits(const struct mux_stream *x)
{
	return x->s.response == RESPONSE_ENDED && !x->waits && !x->finished && !x->whole && !mux_is_mute(x);
}

enum mux_blocked mux_blocked(const struct mux_stream *x)
{
	const struct mux *mux = x->mux;

	if (x->waits ? stream_allows(&x->s) == 0 : !end_waits(x))
		return MUX_BLOCKED_NOT;
	if (mux->kind->is_shut(x))
		return MUX_BLOCKED_STREAM;
	return mux->kind->is_full(mux) ? MUX_BLOCKED_CONNECTION : MUX_BLOCKED_NOT;
}

/*
 * A body waits for a window that the client does not open, and cannot open once it has closed its side. Waiting for more urgent
 * streams does
 * not count.
 */
uint64_t mux_stall_deadline(const struct mux_stream *x)
{
	enum mux_blocked blocked;

	if (mux_is_closed(x) || (!x->waits && !end_waits(x)))
		return UINT64_MAX;
	blocked = mux_blocked(x);
	if (blocked && x->mux->eof)
		return mux_now(x->mux);
	switch (blocked) {
	case MUX_BLOCKED_STREAM:
		return pace_deadline(&x->pace);
	case MUX_BLOCKED_CONNECTION:
		return pace_deadline(x->mux->waiting ? &x->mux->framed : &x->pace);
	case MUX_BLOCKED_NOT:
		break;
	}
	return mux_now(x->mux) + mux_config(x->mux)->write_timeout;
}

uint64_t mux_deadline(const struct mux_stream *x)
{
	uint64_t first;

	if (mux_is_closed(x))
		return x->held ? x->held : UINT64_MAX;
	first = mux_earlier(body_deadline(x), mux_stall_deadline(x));
	return x->lingers && !x->stopped ? mux_earlier(first, x->lingers) : first;
}

bool mux_all_wait(const struct mux *mux)
{
	unsigned waiting = 0;

	for (struct list *l = mux->streams.next; l != &mux->streams; l = l->next) {
		const struct mux_stream *x = container_of(l, struct mux_stream, link);
		if (mux_is_closed(x))
			continue; /* its handler is running, and does not wait for the client */
		if (!mux->kind->is_stuck(x) && (!waits_for_body(x) || x->s.upgraded))
			return false;
		waiting++;
	}
	return waiting > 0;
}

void mux_timed_out(struct mux_stream *x)
{
	uint64_t now = mux_now(x->mux);

	if (mux_is_closed(x))
		return;
	if (now >= body_deadline(x)) {
		mux_stream_refuse_body(x, 408, END_TIMEOUT);
	} else if (now >= mux_stall_deadline(x)) {
		mux_stream_lost(x, x->mux->eof ? END_CLOSED : END_TIMEOUT);
		x->mux->kind->cut(x, MUX_CANCELLED);
		mux_pace_begins(x);
	}
}

/* A deadline that has passed without effect is not waited for again. */
static uint64_t review_one(struct mux_stream *x)
{
	struct mux *mux = x->mux;
	uint64_t when = mux->kind->deadline(x);

	if (when > mux_now(mux))
		return when;
	mux_note(x, 0);
	mux->kind->timed_out(x);
	when = mux->kind->deadline(x);
	return when > mux_now(mux) ? when : UINT64_MAX;
}

void mux_review(struct mux *mux)
{
	uint64_t next = UINT64_MAX;

	if (!mux->kind->is_full(mux))
		pace_start(&mux->framed, mux_now_us(mux), mux_write_grace(mux));
	mux->review = UINT64_MAX;
	for (struct list *l = mux->streams.next; l != &mux->streams && !mux->fault; l = l->next) {
		struct mux_stream *x = container_of(l, struct mux_stream, link);
		if ((x->waits || end_waits(x)) && !mux_blocked(x))
			pace_start(&x->pace, mux_now_us(mux), mux_write_grace(mux)); /* nothing but the client kept it waiting */
		next = mux_earlier(next, review_one(x));
	}
	mux_watch(mux, next);
}
