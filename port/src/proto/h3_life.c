/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h3_life.h"

#include "base/sm.h"
#include "proto/h3_stream.h"
#include "proto/mux_stream.h"
#include "proto/mux_wait.h"

enum {
	NOTICE_MIN_MS = 20,   /* between the two GOAWAYs, and after the second: three round trips, but at least this, */
	NOTICE_MAX_MS = 2000, /* and at most this */
};

static const char *const state_names[] = {"start", "open", "notice", "last", "stopped"};
static const uint32_t state_next[] = {
	[H3_START] = SM_BIT(H3_OPEN) | SM_BIT(H3_NOTICE) | SM_BIT(H3_STOPPED),
	[H3_OPEN] = SM_BIT(H3_NOTICE) | SM_BIT(H3_STOPPED),
	[H3_NOTICE] = SM_BIT(H3_LAST) | SM_BIT(H3_STOPPED),
	[H3_LAST] = SM_BIT(H3_STOPPED),
	[H3_STOPPED] = 0,
};
static const struct sm machine = {"h3", state_names, state_next};

static void moves(struct h3 *h3, enum h3_state to)
{
	sm_move(&machine, &h3->state, (uint8_t)to);
	h3->m.since = h3_now(h3);
}

/* A packet for each closed stream would cost too much: the client gets new streams when half of its allowance is used. */
void h3_allow_more(struct h3 *h3)
{
	if (h3->over == 0 || h3->allowed - h3->opened > h3_config(h3)->h3_max_streams / 2)
		return;
	h3->allowed += h3->over;
	nghttp3_conn_set_max_client_streams_bidi(h3->ng, h3->allowed);
	h3->carrier->more(h3->m.owner, false, h3->over);
	h3->over = 0;
}

void h3_allow_one_more(struct h3 *h3)
{
	h3->over++;
	h3_allow_more(h3);
}

/* ---- the end of the session ---- */

/* Ends all streams whose response is not complete. The carrier tells the client why. */
static void stop(struct h3 *h3, uint64_t code, enum stream_end why)
{
	if (h3->state == H3_STOPPED)
		return;
	h3_give_up(h3, code);
	moves(h3, H3_STOPPED);
	for (struct list *l = h3->m.streams.next; l != &h3->m.streams; l = l->next) {
		struct mux_stream *x = container_of(l, struct mux_stream, link);
		if (!x->left)
			mux_stream_ends(x, why);
	}
}

/* ---- draining: RFC 9114 5.2 ---- */

void h3_begin_drain(struct h3 *h3)
{
	if (h3->state != H3_START && h3->state != H3_OPEN)
		return;
	moves(h3, H3_NOTICE);
	if (nghttp3_conn_submit_shutdown_notice(h3->ng) != 0)
		h3_give_up(h3, NGHTTP3_H3_INTERNAL_ERROR);
	mux_wake(&h3->m);
}

/* Everything that the client sent before it saw the first GOAWAY has arrived. */
static void finish_drain(struct h3 *h3)
{
	moves(h3, H3_LAST);
	if (nghttp3_conn_shutdown(h3->ng) != 0)
		h3_give_up(h3, NGHTTP3_H3_INTERNAL_ERROR);
	mux_wake(&h3->m);
}

void h3_look_around(struct h3 *h3)
{
	if (h3->state == H3_STOPPED)
		return;
	if (h3->state == H3_START && h3->greeted)
		moves(h3, H3_OPEN);
	if (h3->m.fault)
		stop(h3, h3->m.fault, END_ERROR);
}

/* ---- deadlines ---- */

/* A head that stays incomplete. */
static uint64_t head_deadline(const struct mux_stream *x)
{
	return x->heard & HEARD_HEAD || x->stopped ? UINT64_MAX : h3_of_stream(x)->began + mux_config(x->mux)->header_timeout;
}

/* Sent bytes, or the end of a stream, have not been acknowledged; or the client was asked to stop, and does not. While it may still send,
 * its side keeps the stream open. */
static uint64_t ack_deadline(const struct mux_stream *x)
{
	bool waits = x->reset || (x->left && (x->stopped || x->framed > 0 || (x->heard & HEARD_END)));

	return waits && !mux_is_closed(x) && !x->waits ? pace_deadline(&x->pace) : UINT64_MAX;
}

uint64_t h3_stream_deadline(const struct mux_stream *x)
{
	uint64_t first = mux_deadline(x);

	if (mux_is_closed(x))
		return first;
	return mux_earlier(first, mux_earlier(ack_deadline(x), head_deadline(x)));
}

static uint64_t greeting_deadline(const struct h3 *h3)
{
	return h3->state == H3_START ? h3->m.since + h3_config(h3)->h3_settings_timeout : UINT64_MAX;
}

static uint64_t notice_time(const struct h3 *h3)
{
	uint64_t time = 3 * h3->carrier->round_trip(h3->m.owner);

	return time < NOTICE_MIN_MS ? NOTICE_MIN_MS : time < NOTICE_MAX_MS ? time : NOTICE_MAX_MS;
}

static uint64_t idle_deadline(const struct h3 *h3)
{
	const struct config *c = h3_config(h3);

	if (h3->state == H3_NOTICE ||
	    (h3->state == H3_LAST && h3->m.open == 0)) /* the client must learn which requests it may send again */
		return h3->m.since + notice_time(h3);
	if (h3->state != H3_OPEN || h3->m.open > 0)
		return UINT64_MAX;
	return h3->m.since + (mux_env_of(&h3->m)->crowded ? c->busy_idle_timeout : c->idle_timeout);
}

uint64_t h3_deadline(const struct h3 *h3)
{
	if (h3->state == H3_STOPPED)
		return UINT64_MAX;
	return mux_earlier(mux_earlier(greeting_deadline(h3), idle_deadline(h3)), h3->m.review);
}

/* ---- deadlines that have passed ---- */

void h3_stream_timed_out(struct mux_stream *x)
{
	struct h3 *h3 = h3_of_mux(x->mux);
	uint64_t now = h3_now(h3);

	if (!mux_is_closed(x) && now >= head_deadline(x)) {
		h3_stream_cut(h3_of_stream(x), NGHTTP3_H3_REQUEST_INCOMPLETE);
		mux_pace_begins(x);
	} else if (now >= ack_deadline(x)) {
		stop(h3, NGHTTP3_H3_EXCESSIVE_LOAD, END_TIMEOUT);
	} else {
		mux_timed_out(x);
	}
}

void h3_overdue(struct h3 *h3)
{
	uint64_t now = h3_now(h3);

	if (h3->state == H3_STOPPED)
		return;
	if (now >= greeting_deadline(h3))
		stop(h3, NGHTTP3_H3_MISSING_SETTINGS, END_TIMEOUT);
	else if (now >= idle_deadline(h3) && h3->state == H3_NOTICE)
		finish_drain(h3);
	else if (now >= idle_deadline(h3))
		stop(h3, NGHTTP3_H3_NO_ERROR, h3->state == H3_LAST ? END_CLOSED : END_TIMEOUT);
	else if (now >= h3->m.review)
		mux_review(&h3->m);
}
