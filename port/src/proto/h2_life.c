/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_life.h"

#include "base/sm.h"
#include "proto/mux_stream.h"
#include "proto/mux_wait.h"

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
	h2->m.since = h2_now(h2);
}

/* ---- the end of the session ---- */

/* Ends all streams whose response is not complete. */
static void end_unfinished(struct h2 *h2, enum stream_end why)
{
	for (struct list *l = h2->m.streams.next; l != &h2->m.streams; l = l->next) {
		struct mux_stream *x = container_of(l, struct mux_stream, link);
		if (!x->finished)
			mux_stream_ends(x, why);
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

void h2_tell_hangup(struct h2 *h2)
{
	const struct stream_sink *sink = mux_sink(&h2->m);

	for (struct list *l = h2->m.streams.next; l != &h2->m.streams; l = l->next) {
		struct mux_stream *x = container_of(l, struct mux_stream, link);
		if (!x->known || x->s.detached || x->s.hung_up)
			continue;
		if (!(x->heard & HEARD_END)) {
			mux_stream_ends(x, END_CLOSED);
			x->mux->kind->cut(x, MUX_CANCELLED);
			continue;
		}
		x->s.hung_up = true;
		sink->on_hangup(sink->ctx, &x->s);
	}
}

/* ---- draining: RFC 9113 6.8 ---- */

void h2_begin_drain(struct h2 *h2)
{
	if (h2->state != H2_START && h2->state != H2_OPEN)
		return;
	moves(h2, H2_NOTICE);
	if (nghttp2_submit_shutdown_notice(h2->ng) != 0 || nghttp2_submit_ping(h2->ng, NGHTTP2_FLAG_NONE, NULL) != 0)
		h2->m.fault = NGHTTP2_INTERNAL_ERROR;
}

/* Everything that the client sent before it saw the first GOAWAY has arrived. */
static void finish_drain(struct h2 *h2)
{
	int32_t last = nghttp2_session_get_last_proc_stream_id(h2->ng);

	moves(h2, H2_LAST);
	if (nghttp2_submit_goaway(h2->ng, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0) != 0)
		h2->m.fault = NGHTTP2_INTERNAL_ERROR;
}

void h2_look_around(struct h2 *h2)
{
	if (h2->state == H2_STOPPED)
		return;
	if (h2->state == H2_START && h2->greeted)
		moves(h2, H2_OPEN);
	if (h2->state == H2_NOTICE && h2->ponged)
		finish_drain(h2);
	if (h2->m.fault)
		give_up(h2, (uint32_t)h2->m.fault, END_ERROR);
	else if (h2->m.open == 0 && h2->m.eof)
		h2_stop(h2, CLOSE_NOW, END_CLOSED);
	else if (!nghttp2_session_want_read(h2->ng) && !nghttp2_session_want_write(h2->ng))
		h2_stop(h2, CLOSE_LINGER, END_ERROR);
}

/* ---- deadlines ---- */

static uint64_t write_deadline(const struct h2 *h2)
{
	if (h2->out.len > 0)
		return pace_deadline(&h2->pace);
	return h2->state == H2_STOPPED ? h2->m.since + h2_config(h2)->write_timeout : UINT64_MAX;
}

static uint64_t greeting_deadline(const struct h2 *h2)
{
	uint64_t most = h2_config(h2)->h2_settings_timeout;

	if (h2->state == H2_STOPPED)
		return UINT64_MAX;
	return h2->unacked ? h2->unacked + most : h2->state == H2_START ? h2->m.since + most : UINT64_MAX;
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
		return h2->m.since + NOTICE_MS;
	if (h2->state != H2_OPEN || h2->m.open > 0)
		return UINT64_MAX;
	return h2->m.since + (mux_env_of(&h2->m)->crowded ? c->busy_idle_timeout : c->idle_timeout);
}

static uint64_t trim_deadline(const struct h2 *h2)
{
	return h2->state == H2_OPEN && h2->m.open == 0 && !h2->trimmed && h2->table ? h2->m.since + TRIM_MS : UINT64_MAX;
}

static void trim(struct h2 *h2)
{
	h2->trimmed = true;
	page_trim(h2->table);
}

uint64_t h2_deadline(const struct h2 *h2)
{
	uint64_t first = write_deadline(h2);

	if (mux_env_of(&h2->m)->read_paused) /* frames of the client may wait in the socket */
		return first;
	first = mux_earlier(first, greeting_deadline(h2));
	first = mux_earlier(first, mux_earlier(block_deadline(h2), idle_deadline(h2)));
	first = mux_earlier(first, trim_deadline(h2));
	return h2->state == H2_STOPPED ? first : mux_earlier(first, h2->m.review);
}

/* ---- deadlines that have passed ---- */

void h2_overdue(struct h2 *h2)
{
	uint64_t now = h2_now(h2);

	if (now >= write_deadline(h2))
		h2_stop(h2, CLOSE_CUT, END_TIMEOUT);
	else if (mux_env_of(&h2->m)->read_paused)
		return;
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
	else if (now >= h2->m.review && h2->state != H2_STOPPED)
		mux_review(&h2->m);
}
