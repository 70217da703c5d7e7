/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2.h"

#include <stdlib.h>

#include "proto/h2_kind.h"
#include "proto/h2_life.h"
#include "proto/h2_priority.h"
#include "proto/h2_read.h"
#include "proto/h2_stream.h"
#include "proto/h2_write.h"
#include "proto/mux_act.h"
#include "proto/mux_head.h"
#include "proto/mux_stream.h"
#include "proto/mux_wait.h"
#include "proto/mux_write.h"

static struct h2 *h2_of(const struct session *s)
{
	return container_of(s, struct h2, session);
}

/* Acts on what was recorded: for streams, and for the session. */
static void act_all(struct h2 *h2)
{
	mux_act_all(&h2->m);
	h2_look_around(h2);
}

/* ---- reading ---- */

static size_t h2_input(struct session *s, uint8_t *data, size_t len, bool eof)
{
	struct h2 *h2 = h2_of(s);
	size_t used;

	if (h2->state == H2_STOPPED)
		return len;
	used = h2_receive(h2, data, len);
	if (!h2->m.fault)
		act_all(h2);
	if (eof && used == len && !h2->m.eof) {
		h2->m.eof = true;
		mux_watch(&h2->m, h2_now(h2));
		h2_tell_hangup(h2);
	}
	act_all(h2);
	return used;
}

/* Reading is going on, and will find the end. */
static void h2_hangup(struct session *s)
{
	(void)s;
}

static void h2_deliver(struct session *s)
{
	struct h2 *h2 = h2_of(s);

	if (h2->state != H2_STOPPED)
		act_all(h2);
}

/* ---- writing ---- */

static void tell_room(struct h2_stream *x, uint32_t bytes)
{
	const struct stream_sink *sink = mux_sink(x->m.mux);

	if ((bytes > 0 || x->m.s.allowance == 0) && !x->m.s.detached)
		sink->on_room(sink->ctx, &x->m.s, bytes);
}

/* Credits the bytes that have left the output to their streams. */
static void settle(struct h2 *h2)
{
	while (buf_len(&h2->marks)) {
		struct h2_mark m;
		memcpy(&m, buf_at(&h2->marks), sizeof m);
		if (m.at > h2->sent)
			return;
		buf_consume(&h2->marks, sizeof m);
		m.x->m.marks--;
		m.x->m.left = m.x->m.left || m.end;
		tell_room(m.x, m.bytes);
		mux_note(&m.x->m, 0);
	}
	if (h2->m.open <= 1 || h2->marks.cap > H2_MARKS_KEPT * sizeof(struct h2_mark))
		buf_free(&h2->marks); /* else it is freed with the last stream */
}

static int h2_output(struct session *s, struct iovec *iov, int max)
{
	struct h2 *h2 = h2_of(s);
	bool more, well = mux_write_cold(&h2->m);

	do {
		if (!well || !h2_pump(h2))
			h2_stop(h2, CLOSE_CUT, END_ERROR);
		settle(h2);
		more = !list_empty(&h2->m.pending) || (h2->m.fault && h2->state != H2_STOPPED);
		act_all(h2);
	} while (more);
	return bufq_iov(&h2->out, iov, max);
}

static bool h2_sent(struct session *s, size_t n)
{
	struct h2 *h2 = h2_of(s);

	h2_out_moved(h2, n);
	h2->sent += n;
	bufq_consume(&h2->out, n);
	settle(h2);
	act_all(h2);
	return true;
}

static void h2_taken(struct session *s, uint64_t n)
{
	h2_out_moved(h2_of(s), n);
}

/*
 * Copies lent bytes that were not sent, or not put into frames, in this turn. If that fails, the output ends inside a frame, and
 * nothing may follow it, not even GOAWAY.
 */
static void h2_own(struct session *s)
{
	struct h2 *h2 = h2_of(s);
	bool well;

	if (!h2->m.borrows)
		return;
	h2->m.borrows = false;
	well = bufq_own(&h2->out);
	for (struct list *l = h2->m.streams.next; l != &h2->m.streams && well; l = l->next)
		well = bufq_own(&container_of(l, struct mux_stream, link)->out);
	if (!well)
		h2_stop(h2, CLOSE_CUT, END_ERROR);
}

/* ---- the rest of the table ---- */

/* There is at most an incomplete head. */
static bool has_begun(const struct h2 *h2)
{
	if (h2->m.open == 0)
		return true;
	return h2->m.open == 1 && h2->block && !container_of(h2->m.streams.next, struct mux_stream, link)->known;
}

static bool h2_reads(const struct session *s)
{
	const struct h2 *h2 = h2_of(s);

	return h2->state != H2_STOPPED && nghttp2_session_get_outbound_queue_size(h2->ng) < H2_QUEUE_HIGH;
}

static struct session_wants h2_wants(const struct session *s)
{
	const struct h2 *h2 = h2_of(s);
	bool stopped = h2->state == H2_STOPPED;
	uint64_t deadline = h2_deadline(h2);
	bool over = stopped && (h2->out.len == 0 || h2->closing != CLOSE_LINGER);

	return (struct session_wants){
		.read = h2_reads(s),
		.peek = false,
		.write = h2->out.len > 0 || (!h2->broken && nghttp2_session_want_write(h2->ng)),
		.later = h2->m.cold > 0,
		.idle = h2->state == H2_OPEN && h2->m.open == 0 && h2->out.len == 0,
		.begun = has_begun(h2),
		.close = over ? (enum session_close)h2->closing : CLOSE_NOT,
		.deadline = deadline == UINT64_MAX ? 0 : deadline,
	};
}

static bool h2_stalled(const struct session *s)
{
	return mux_all_wait(&h2_of(s)->m);
}

static void h2_tick(struct session *s)
{
	h2_overdue(h2_of(s));
}

static void h2_drain(struct session *s)
{
	h2_begin_drain(h2_of(s));
}

static void h2_close(struct session *s, enum stream_end why)
{
	struct h2 *h2 = h2_of(s);
	struct list *l;

	while ((l = h2->m.streams.next) != &h2->m.streams) {
		struct h2_stream *x = container_of(l, struct h2_stream, m.link);
		mux_stream_ends(&x->m, why);
		x->m.marks = 0;
		h2_stream_free(x);
	}
	mux_head_free(&h2->m, h2->block);
	nghttp2_session_del(h2->ng);
	buf_free(&h2->marks);
	buf_free(&h2->updates);
	bufq_free(&h2->out);
	free(h2);
}

static const struct session_ops h2_ops = {
	.input = h2_input,
	.deliver = h2_deliver,
	.hangup = h2_hangup,
	.output = h2_output,
	.sent = h2_sent,
	.taken = h2_taken,
	.own = h2_own,
	.wants = h2_wants,
	.reads = h2_reads,
	.stalled = h2_stalled,
	.tick = h2_tick,
	.drain = h2_drain,
	.close = h2_close,
};

/* ---- the beginning ---- */

static bool make_options(struct h2_env *shared, const struct config *c)
{
	nghttp2_option *o;

	if (nghttp2_option_new(&shared->option) != 0)
		return false;
	o = shared->option;
	nghttp2_option_set_no_auto_window_update(o, 1);
	nghttp2_option_set_no_closed_streams(o, 1);
	nghttp2_option_set_max_settings(o, 32);
	nghttp2_option_set_max_outbound_ack(o, 1000);
	nghttp2_option_set_stream_reset_rate_limit(o, 1 << 20, 1 << 20); /* h2_scan's limits are lower */
	nghttp2_option_set_max_continuations(o, (size_t)c->h2_max_continuations + 1);
	nghttp2_option_set_max_deflate_dynamic_table_size(o, (size_t)c->h2_deflate_table);
	return true;
}

static bool is_open(void *ctx, int32_t id)
{
	struct h2 *h2 = ctx;

	return h2_stream_of(h2, id);
}

/* NULL: out of memory. */
static struct h2_env *share(struct session_env *env)
{
	struct h2_env *shared = env->h2 ? env->h2 : calloc(1, sizeof *shared);

	if (!shared || env->h2)
		return shared;
	env->h2 = shared;
	h2_memory_init(&shared->memory);
	if (nghttp2_session_callbacks_new(&shared->callbacks) != 0 || !make_options(shared, env->config)) {
		h2_env_free(env);
		return NULL;
	}
	h2_read_callbacks(shared->callbacks);
	h2_priority_callbacks(shared->callbacks, shared->option);
	h2_write_callbacks(shared->callbacks);
	return shared;
}

void h2_env_free(struct session_env *env)
{
	struct h2_env *shared = env->h2;

	if (!shared)
		return;
	pool_free(&shared->streams);
	h2_memory_free(&shared->memory);
	nghttp2_session_callbacks_del(shared->callbacks);
	nghttp2_option_del(shared->option);
	free(shared);
	env->h2 = NULL;
}

enum { SETTINGS_MAX = 5, SETTING_LEN = 6, FRAME_HEAD_LEN = 9, SETTING_ID_LEN = 2 };

/*
 * nghttp2 would end the connection of a client that opens too many streams; here, such a stream is refused. So nghttp2 gets a
 * larger limit than the client: the first setting is changed in the outgoing frame.
 */
static bool put_settings(struct h2 *h2, const nghttp2_settings_entry *settings, size_t count)
{
	uint8_t frame[FRAME_HEAD_LEN + SETTINGS_MAX * SETTING_LEN], *value = frame + FRAME_HEAD_LEN + SETTING_ID_LEN;
	uint32_t most = (uint32_t)h2_config(h2)->h2_max_streams;
	const uint8_t *made;
	ssize_t n;

	if (nghttp2_submit_settings(h2->ng, NGHTTP2_FLAG_NONE, settings, count) != 0)
		return false;
	n = nghttp2_session_mem_send(h2->ng, &made);
	if (n != (ssize_t)(FRAME_HEAD_LEN + count * SETTING_LEN))
		return false;
	memcpy(frame, made, (size_t)n);
	for (unsigned i = 0; i < 4; i++)
		value[i] = (uint8_t)(most >> (24 - 8 * i));
	return h2_put(h2, frame, (size_t)n);
}

static bool greet(struct h2 *h2)
{
	const struct config *c = h2_config(h2);
	nghttp2_settings_entry settings[SETTINGS_MAX] = {
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, INT32_MAX},
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t)c->h2_stream_window},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)c->max_header_block},
		{NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
		{NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
	};
	size_t count = SETTINGS_MAX - (c->h2_extended_connect ? 0 : 1);

	h2->unacked = h2_now(h2);
	return put_settings(h2, settings, count) &&
	       nghttp2_session_set_local_window_size(h2->ng, NGHTTP2_FLAG_NONE, 0, (int32_t)c->h2_connection_window) == 0;
}

struct session *h2_start(struct session_owner *owner)
{
	struct h2_env *shared = share(owner->env);
	struct h2 *h2 = shared ? calloc(1, sizeof *h2) : NULL;

	if (!h2)
		return NULL;
	h2->session = (struct session){&h2_ops, owner};
	h2_scan_init(&h2->scan);
	h2->scan.is_open = is_open;
	h2->scan.ctx = h2;
	if (!mux_init(&h2->m, owner, &h2_kind) ||
	    h2_memory_session(&shared->memory, &h2->ng, &h2->table, shared->callbacks, h2, shared->option) != 0) {
		free(h2);
		return NULL;
	}
	if (!greet(h2)) {
		h2_close(&h2->session, END_ERROR);
		return NULL;
	}
	if (owner->env->draining)
		h2_begin_drain(h2);
	return &h2->session;
}
