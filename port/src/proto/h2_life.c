/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_life.h"

#include "base/sm.h"
#include "proto/h2_stream.h"

enum {
	NOTICE_MS = 1000, /* between the two GOAWAYs, if the client does not answer the PING */
	TRIM_MS = 1000,   /* without a request, before memory is given back */
};

static const char *const state_names[] = {"start", "open", "notice", "last", "stopped"};
static const uint32_t state_next[] = {
	[H2_START] = SM_BIT(H2_OPEN) | SM_BIT(H2_NOTICE) | SM_BIT(H2_STOPPED),
	[H2_OPEN] = SM_BIT(H2_NOTICE) | SM_BIT(H2_STOPPED),
	[H2_NOTICE] = SM_BIT(H2_LAST) | SM_BIT(H2_STOPPED),
	[H2_LAST] = SM_BIT(H2_STOPPED),
	[H2_STOPPED] = SM_BIT(H2_STOPPED),
};
static const struct sm machine = {"h2", state_names, state_next};

static void moves(struct h2 *h2, enum h2_state to)
{
	sm_move(&machine, &h2->state, (uint8_t)to);
	h2->since = h2_now(h2);
}

/* ---- the end of the session ---- */

/* Ends all streams whose response is not complete. */
static void end_unfinished(struct h2 *h2, enum stream_end why)
{
	for (struct list *l = h2->streams.next; l != &h2->streams; l = l->next) {
		struct h2_stream *x = container_of(l, struct h2_stream, link);
		if (!x->finished)
			h2_stream_ends(x, why);
	}
}

void h2_stop(struct h2 *h2, enum session_close how, enum stream_end why)
{
	moves(h2, H2_STOPPED);
	if (how > h2->closing)
		h2->closing = (uint8_t)how;
	end_unfinished(h2, why);
}

/* Stops with GOAWAY and this code. */
static void give_up(struct h2 *h2, uint32_t code, enum stream_end why)
{
	bool fine = nghttp2_session_terminate_session(h2->ng, code) == 0;

	h2_stop(h2, fine ? CLOSE_LINGER : CLOSE_CUT, why);
}

/* ---- draining: RFC 9113 6.8 ---- */

void h2_begin_drain(struct h2 *h2)
{
	if (h2->state != H2_START && h2->state != H2_OPEN)
		return;
	moves(h2, H2_NOTICE);
	if (nghttp2_submit_shutdown_notice(h2->ng) != 0 || nghttp2_submit_ping(h2->ng, NGHTTP2_FLAG_NONE, NULL) != 0)
		h2->fault = NGHTTP2_INTERNAL_ERROR;
}

/* Everything that the client sent before it saw the first GOAWAY has arrived. */
static void finish_drain(struct h2 *h2)
{
	int32_t last = nghttp2_session_get_last_proc_stream_id(h2->ng);

	moves(h2, H2_LAST);
	if (nghttp2_submit_goaway(h2->ng, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0) != 0)
		h2->fault = NGHTTP2_INTERNAL_ERROR;
}

void h2_look_around(struct h2 *h2)
{
	if (h2->state == H2_STOPPED)
		return;
	if (h2->state == H2_START && h2->greeted)
		moves(h2, H2_OPEN);
	if (h2->state == H2_NOTICE && h2->ponged)
		finish_drain(h2);
	if (h2->fault)
		give_up(h2, h2->fault, END_ERROR);
	else if (h2->open == 0 && h2->eof)
		h2_stop(h2, CLOSE_NOW, END_CLOSED);
	else if (!nghttp2_session_want_read(h2->ng) && !nghttp2_session_want_write(h2->ng))
		h2_stop(h2, CLOSE_LINGER, END_ERROR);
}

/* ---- deadlines ---- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static bool waits_for_body(const struct h2_stream *x)
{
	if (!x->known || x->holds || (x->heard & (HEARD_END | HEARD_CLOSE)) || x->finished || x->h2->eof)
		return false;
	return x->in.len == 0 && (x->s.request != REQUEST_OPEN || stream_wanted(&x->s) > 0);
}

static uint64_t body_deadline(const struct h2_stream *x)
{
	return h2_config(x->h2)->body_rate && waits_for_body(x) ? pace_deadline(&x->body) : UINT64_MAX;
}

/* Which window is closed while the body waits. */
enum blocked { BLOCKED_NOT, BLOCKED_STREAM, BLOCKED_CONNECTION };

static enum blocked blocked(const struct h2_stream *x)
{
	nghttp2_session *ng = x->h2->ng;

	if (h2_is_closed(x) || x->finished || x->out.len == 0 || stream_allows(&x->s) == 0)
		return BLOCKED_NOT;
	if (nghttp2_session_get_stream_remote_window_size(ng, x->id) <= 0)
		return BLOCKED_STREAM;
	return nghttp2_session_get_remote_window_size(ng) <= 0 ? BLOCKED_CONNECTION : BLOCKED_NOT;
}

/* A body waits for a window that the client does not open. Waiting for more urgent streams does not count. */
static uint64_t stall_deadline(const struct h2_stream *x)
{
	switch (blocked(x)) {
	case BLOCKED_STREAM:
		return pace_deadline(&x->pace);
	case BLOCKED_CONNECTION:
		return pace_deadline(&x->h2->framed);
	case BLOCKED_NOT:
		break;
	}
	return x->out.len > 0 && !h2_is_closed(x) ? h2_now(x->h2) + h2_config(x->h2)->write_timeout : UINT64_MAX;
}

bool h2_all_wait(const struct h2 *h2)
{
	unsigned waiting = 0;

	for (struct list *l = h2->streams.next; l != &h2->streams; l = l->next) {
		const struct h2_stream *x = container_of(l, struct h2_stream, link);
		bool waits = (x->waits && !x->cold && (h2->out.len > 0 || blocked(x))) || (waits_for_body(x) && !x->s.upgraded);
		if (h2_is_closed(x))
			continue; /* its handler is running, and does not wait for the client */
		if (!waits)
			return false;
		waiting++;
	}
	return waiting > 0;
}

static uint64_t stream_deadline(const struct h2_stream *x)
{
	if (h2_is_closed(x))
		return x->held ? x->held : UINT64_MAX;
	if (x->lingers)
		return x->reset ? UINT64_MAX : x->lingers;
	return earlier(body_deadline(x), stall_deadline(x));
}

static uint64_t write_deadline(const struct h2 *h2)
{
	if (h2->out.len > 0)
		return pace_deadline(&h2->pace);
	return h2->state == H2_STOPPED ? h2->since + h2_config(h2)->write_timeout : UINT64_MAX;
}

static uint64_t greeting_deadline(const struct h2 *h2)
{
	uint64_t most = h2_config(h2)->h2_settings_timeout;

	if (h2->state == H2_STOPPED)
		return UINT64_MAX;
	return h2->unacked ? h2->unacked + most : h2->state == H2_START ? h2->since + most : UINT64_MAX;
}

static uint64_t block_deadline(const struct h2 *h2)
{
	uint64_t since = h2_scan_head_since(&h2->scan);

	return since && h2->state != H2_STOPPED ? since / 1000 + h2_config(h2)->header_timeout : UINT64_MAX;
}

static uint64_t idle_deadline(const struct h2 *h2)
{
	const struct config *c = h2_config(h2);

	if (h2->state == H2_NOTICE)
		return h2->since + NOTICE_MS;
	if (h2->state != H2_OPEN || h2->open > 0)
		return UINT64_MAX;
	return h2->since + (h2_env_of(h2)->crowded ? c->busy_idle_timeout : c->idle_timeout);
}

static uint64_t trim_deadline(const struct h2 *h2)
{
	return h2->state == H2_OPEN && h2->open == 0 && !h2->trimmed && h2->table ? h2->since + TRIM_MS : UINT64_MAX;
}

static void trim(struct h2 *h2)
{
	h2->trimmed = true;
	page_trim(h2->table);
}

uint64_t h2_deadline(const struct h2 *h2)
{
	uint64_t first = earlier(write_deadline(h2), greeting_deadline(h2));

	first = earlier(first, earlier(block_deadline(h2), idle_deadline(h2)));
	first = earlier(first, trim_deadline(h2));
	return h2->state == H2_STOPPED ? first : earlier(first, h2->review);
}

/* ---- deadlines that have passed ---- */

static void stream_timed_out(struct h2_stream *x)
{
	h2_note(x, 0);
	if (h2_is_closed(x) || x->lingers)
		return;
	if (h2_now(x->h2) >= body_deadline(x)) {
		h2_stream_refuse_body(x, 408, END_TIMEOUT);
		return;
	}
	h2_stream_lost(x, END_TIMEOUT);
	h2_stream_cut(x, NGHTTP2_CANCEL);
}

static void review(struct h2 *h2)
{
	uint64_t next = UINT64_MAX, when;

	if (nghttp2_session_get_remote_window_size(h2->ng) > 0)
		pace_start(&h2->framed, h2_now_us(h2), h2_write_grace(h2));
	for (struct list *l = h2->streams.next; l != &h2->streams; l = l->next) {
		struct h2_stream *x = container_of(l, struct h2_stream, link);
		when = stream_deadline(x);
		if (x->waits && !blocked(x))
			pace_start(&x->pace, h2_now_us(h2), h2_write_grace(h2)); /* nothing but the client kept it waiting */
		if (when <= h2_now(h2))
			stream_timed_out(x);
		else
			next = earlier(next, when);
	}
	h2->review = next;
}

void h2_overdue(struct h2 *h2)
{
	uint64_t now = h2_now(h2);

	if (now >= write_deadline(h2))
		h2_stop(h2, CLOSE_CUT, END_TIMEOUT);
	else if (now >= greeting_deadline(h2))
		give_up(h2, NGHTTP2_SETTINGS_TIMEOUT, END_TIMEOUT);
	else if (now >= block_deadline(h2))
		give_up(h2, NGHTTP2_ENHANCE_YOUR_CALM, END_TIMEOUT);
	else if (now >= idle_deadline(h2) && h2->state == H2_NOTICE)
		finish_drain(h2);
	else if (now >= idle_deadline(h2))
		give_up(h2, NGHTTP2_NO_ERROR, END_TIMEOUT);
	else if (now >= trim_deadline(h2))
		trim(h2);
	else if (now >= h2->review && h2->state != H2_STOPPED)
		review(h2);
}
