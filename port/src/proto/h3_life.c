/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h3_life.h"

#include "base/sm.h"
#include "proto/h3_stream.h"

enum {
	NOTICE_MIN_MS = 20,   /* between the two GOAWAYs, and behind the second: three times there and back, but no less, */
	NOTICE_MAX_MS = 2000, /* and no more */
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
	h3->since = h3_now(h3);
}

/* A packet for each of them would cost more than it brings: the client hears of them when half of what it has is used. */
void h3_allow_more(struct h3 *h3)
{
	if (h3->over == 0 || h3->allowed - h3->opened > h3_config(h3)->h3_max_streams / 2)
		return;
	h3->allowed += h3->over;
	nghttp3_conn_set_max_client_streams_bidi(h3->ng, h3->allowed);
	h3->carrier->more(h3->owner, false, h3->over);
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
	for (struct list *l = h3->streams.next; l != &h3->streams; l = l->next) {
		struct h3_stream *x = container_of(l, struct h3_stream, link);
		if (!x->left)
			h3_stream_ends(x, why);
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
	h3_wake(h3);
}

/* Everything that the client sent before it saw the first GOAWAY has arrived. */
static void finish_drain(struct h3 *h3)
{
	moves(h3, H3_LAST);
	if (nghttp3_conn_shutdown(h3->ng) != 0)
		h3_give_up(h3, NGHTTP3_H3_INTERNAL_ERROR);
	h3_wake(h3);
}

void h3_look_around(struct h3 *h3)
{
	if (h3->state == H3_STOPPED)
		return;
	if (h3->state == H3_START && h3->greeted)
		moves(h3, H3_OPEN);
	if (h3->fault)
		stop(h3, h3->fault, END_ERROR);
}

/* ---- deadlines ---- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static bool waits_for_body(const struct h3_stream *x)
{
	if (!x->known || x->holds || x->stopped || (x->heard & (H3_HEARD_END | H3_HEARD_CLOSE | H3_HEARD_LEFT)) || x->left)
		return false;
	return x->in.len == 0 && (x->s.request != REQUEST_OPEN || stream_wanted(&x->s) > 0);
}

static uint64_t body_deadline(const struct h3_stream *x)
{
	return h3_config(x->h3)->body_rate && waits_for_body(x) ? pace_deadline(&x->body) : UINT64_MAX;
}

/* A head that stays incomplete. */
static uint64_t head_deadline(const struct h3_stream *x)
{
	return x->heard & H3_HEARD_HEAD || x->stopped ? UINT64_MAX : x->began + h3_config(x->h3)->header_timeout;
}

/* Which window is closed while the body waits. */
enum blocked { BLOCKED_NOT, BLOCKED_STREAM, BLOCKED_CONNECTION };

static enum blocked blocked(const struct h3_stream *x)
{
	const struct h3 *h3 = x->h3;

	if (!x->waits || stream_allows(&x->s) == 0)
		return BLOCKED_NOT;
	if (h3->carrier->is_shut(h3->owner, x->id))
		return BLOCKED_STREAM;
	return h3->unacked >= h3_config(h3)->h3_unacked || h3->carrier->is_full(h3->owner) ? BLOCKED_CONNECTION : BLOCKED_NOT;
}

/*
 * A body waits for a window that the client does not open, or for its acknowledgements. Waiting for more urgent streams does
 * not count.
 */
static uint64_t stall_deadline(const struct h3_stream *x)
{
	if (h3_is_closed(x))
		return UINT64_MAX;
	switch (blocked(x)) {
	case BLOCKED_STREAM:
		return pace_deadline(&x->pace);
	case BLOCKED_CONNECTION:
		return pace_deadline(&x->h3->framed);
	case BLOCKED_NOT:
		break;
	}
	if (x->waits)
		return h3_now(x->h3) + h3_config(x->h3)->write_timeout;
	return x->left || x->reset ? pace_deadline(&x->pace) : UINT64_MAX;
}

bool h3_all_wait(const struct h3 *h3)
{
	unsigned waiting = 0;

	for (struct list *l = h3->streams.next; l != &h3->streams; l = l->next) {
		const struct h3_stream *x = container_of(l, struct h3_stream, link);
		bool waits = blocked(x) || x->left || !x->known || (waits_for_body(x) && !x->s.upgraded);
		if (h3_is_closed(x))
			continue; /* its handler is running, and does not wait for the client */
		if (!waits)
			return false;
		waiting++;
	}
	return waiting > 0;
}

static uint64_t stream_deadline(const struct h3_stream *x)
{
	uint64_t first;

	if (h3_is_closed(x))
		return x->held ? x->held : UINT64_MAX;
	first = earlier(stall_deadline(x), head_deadline(x));
	if (x->lingers && !x->stopped)
		return earlier(first, x->lingers);
	return earlier(first, body_deadline(x));
}

static uint64_t greeting_deadline(const struct h3 *h3)
{
	return h3->state == H3_START ? h3->since + h3_config(h3)->h3_settings_timeout : UINT64_MAX;
}

static uint64_t notice_time(const struct h3 *h3)
{
	uint64_t time = 3 * h3->carrier->round_trip(h3->owner);

	return time < NOTICE_MIN_MS ? NOTICE_MIN_MS : time < NOTICE_MAX_MS ? time : NOTICE_MAX_MS;
}

static uint64_t idle_deadline(const struct h3 *h3)
{
	const struct config *c = h3_config(h3);

	if (h3->state == H3_NOTICE ||
	    (h3->state == H3_LAST && h3->open == 0)) /* the client is to hear which requests it may send again */
		return h3->since + notice_time(h3);
	if (h3->state != H3_OPEN || h3->open > 0)
		return UINT64_MAX;
	return h3->since + (h3_env_of(h3)->crowded ? c->busy_idle_timeout : c->idle_timeout);
}

uint64_t h3_deadline(const struct h3 *h3)
{
	if (h3->state == H3_STOPPED)
		return UINT64_MAX;
	return earlier(earlier(greeting_deadline(h3), idle_deadline(h3)), h3->review);
}

/* ---- deadlines that have passed ---- */

static void stream_timed_out(struct h3_stream *x)
{
	uint64_t now = h3_now(x->h3);

	h3_note(x, 0);
	if (h3_is_closed(x))
		return;
	if (now >= head_deadline(x)) {
		h3_stream_cut(x, NGHTTP3_H3_REQUEST_INCOMPLETE);
		h3_pace_begins(x);
	} else if (now >= body_deadline(x)) {
		h3_stream_refuse_body(x, 408, END_TIMEOUT);
	} else if (now >= stall_deadline(x) && (x->left || x->reset)) {
		stop(x->h3, NGHTTP3_H3_EXCESSIVE_LOAD, END_TIMEOUT); /* it acknowledges nothing */
	} else if (now >= stall_deadline(x)) {
		h3_stream_lost(x, END_TIMEOUT);
		h3_stream_cut(x, NGHTTP3_H3_REQUEST_CANCELLED);
		h3_pace_begins(x);
	}
}

static void review(struct h3 *h3)
{
	uint64_t next = UINT64_MAX, when;

	if (!h3->carrier->is_full(h3->owner) && h3->unacked < h3_config(h3)->h3_unacked)
		pace_start(&h3->framed, h3_now_us(h3), h3_write_grace(h3));
	h3->review = UINT64_MAX;
	for (struct list *l = h3->streams.next; l != &h3->streams && h3->state != H3_STOPPED; l = l->next) {
		struct h3_stream *x = container_of(l, struct h3_stream, link);
		if (x->waits && !blocked(x))
			pace_start(&x->pace, h3_now_us(h3), h3_write_grace(h3)); /* nothing but the client kept it waiting */
		when = stream_deadline(x);
		if (when <= h3_now(h3)) {
			stream_timed_out(x);
			when = stream_deadline(x);
		}
		next = earlier(next, when > h3_now(h3) ? when : UINT64_MAX);
	}
	h3_watch(h3, next);
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
	else if (now >= h3->review)
		review(h3);
}
