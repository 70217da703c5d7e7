#include "proto/h2.h"

#include <assert.h>
#include <stdlib.h>

#include "base/sm.h"
#include "proto/h2_push.h"
#include "proto/h2_read.h"
#include "proto/h2_session.h"
#include "proto/h2_write.h"

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

static struct h2 *h2_of(const struct session *s)
{
	return container_of(s, struct h2, session);
}

static struct h2_stream *stream_of(struct stream *s)
{
	return container_of(s, struct h2_stream, s);
}

static const struct stream_sink *sink_of(const struct h2 *h2)
{
	return h2_env_of(h2)->sink;
}

static void wake(struct h2 *h2)
{
	h2->session.owner->wake(h2->session.owner);
}

static void moves(struct h2 *h2, enum h2_state to)
{
	sm_move(&machine, &h2->state, (uint8_t)to);
	h2->since = h2_now(h2);
}

/* A stream may have waited too long at that time. */
static void watch(struct h2 *h2, uint64_t when)
{
	if (when < h2->review)
		h2->review = when;
}

/* ---- streams ---- */

static const struct stream_ops h2_stream_ops;

struct h2_stream *h2_stream_new(struct h2 *h2, int32_t id)
{
	struct h2_stream *x = calloc(1, sizeof *x);

	if (!x)
		return NULL;
	stream_init(&x->s, &h2_stream_ops);
	x->s.born_us = *h2_env_of(h2)->now_us;
	x->h2 = h2;
	x->id = id;
	x->why = END_RESET;
	x->refused = h2->open >= h2_config(h2)->h2_max_streams;
	list_init(&x->todo);
	list_append(&h2->streams, &x->link);
	h2->open++;
	h2->trimmed = false;
	return x;
}

static void stream_free(struct h2_stream *x)
{
	struct h2 *h2 = x->h2;

	assert(x->marks == 0);
	list_remove(&x->link);
	list_remove(&x->todo);
	h2->open--;
	if (h2->open == 0)
		h2->since = h2_now(h2);
	h2_head_free(h2, x->head);
	h2_head_free(h2, x->trailers);
	h2_push_free(x);
	if (x->authority)
		nghttp2_rcbuf_decref(x->authority);
	free(x->last);
	bufq_free(&x->in);
	bufq_free(&x->out);
	free(x);
}

/* Tells the sink that this is the end, if it still listens. */
static void stream_ends(struct h2_stream *x, enum stream_end why)
{
	const struct stream_sink *sink = sink_of(x->h2);
	bool listens = x->known && !x->s.detached;

	stream_detach(&x->s);
	if (listens)
		sink->on_reset(sink->ctx, &x->s, why);
}

static void stream_done(struct h2_stream *x)
{
	const struct stream_sink *sink = sink_of(x->h2);

	if (x->s.detached)
		return;
	stream_detach(&x->s);
	sink->on_done(sink->ctx, &x->s);
}

static bool is_closed(const struct h2_stream *x)
{
	return x->heard & HEARD_CLOSE;
}

/* Recorded, and not yet acted on. */
static bool news(const struct h2_stream *x, enum h2_heard what)
{
	return x->heard & ~x->acted & what;
}

/* Nobody speaks of it any more. */
static bool is_over(const struct h2_stream *x)
{
	return is_closed(x) && x->marks == 0 && (x->s.detached || !x->known) && x->held <= h2_now(x->h2);
}

static void reset_stream(struct h2_stream *x, uint32_t code)
{
	if (x->reset || is_closed(x))
		return;
	x->reset = true;
	if (nghttp2_submit_rst_stream(x->h2->ng, NGHTTP2_FLAG_NONE, x->id, code) != 0)
		x->h2->fault = NGHTTP2_INTERNAL_ERROR;
}

/* The application failed, or the client was too slow: its fault or not, it is no mistake in the protocol. */
static void cut_stream(struct h2_stream *x, uint32_t code)
{
	x->ours = true;
	reset_stream(x, code);
}

/* ---- the end of the session ---- */

/* What was not answered whole has ended. */
static void end_unfinished(struct h2 *h2, enum stream_end why)
{
	for (struct list *l = h2->streams.next; l != &h2->streams; l = l->next) {
		struct h2_stream *x = container_of(l, struct h2_stream, link);
		if (!x->finished)
			stream_ends(x, why);
	}
}

/* Nothing is read any more. */
static void stop(struct h2 *h2, enum session_close how, enum stream_end why)
{
	moves(h2, H2_STOPPED);
	if (how > h2->closing)
		h2->closing = (uint8_t)how;
	end_unfinished(h2, why);
}

/* GOAWAY with this code, and no more. */
static void give_up(struct h2 *h2, uint32_t code, enum stream_end why)
{
	bool fine = nghttp2_session_terminate_session(h2->ng, code) == 0;

	stop(h2, fine ? CLOSE_LINGER : CLOSE_CUT, why);
}

/* ---- draining: RFC 9113 6.8 ---- */

static void begin_drain(struct h2 *h2)
{
	if (h2->state != H2_START && h2->state != H2_OPEN)
		return;
	moves(h2, H2_NOTICE);
	if (nghttp2_submit_shutdown_notice(h2->ng) != 0 || nghttp2_submit_ping(h2->ng, NGHTTP2_FLAG_NONE, NULL) != 0)
		h2->fault = NGHTTP2_INTERNAL_ERROR;
}

/* What the client sent before it knew has come by now. */
static void finish_drain(struct h2 *h2)
{
	int32_t last = nghttp2_session_get_last_proc_stream_id(h2->ng);

	moves(h2, H2_LAST);
	if (nghttp2_submit_goaway(h2->ng, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0) != 0)
		h2->fault = NGHTTP2_INTERNAL_ERROR;
}

/* ---- answers of the port's own ---- */

static void answer(struct h2_stream *x, unsigned status, unsigned retry_after)
{
	x->s.status = (uint16_t)status;
	x->whole = x->s.head_method;
	x->progressed = h2_now(x->h2);
	watch(x->h2, x->progressed + h2_config(x->h2)->write_timeout);
	stream_response_moves(&x->s, RESPONSE_STREAMING);
	stream_response_moves(&x->s, RESPONSE_ENDED);
	if (!h2_write_error(x, status, retry_after))
		cut_stream(x, NGHTTP2_INTERNAL_ERROR);
}

/* A head that cannot be taken. */
static void refuse(struct h2_stream *x, unsigned status)
{
	h2_env_of(x->h2)->rejected++;
	stream_detach(&x->s);
	if (status == 400)
		reset_stream(x, NGHTTP2_PROTOCOL_ERROR); /* malformed: RFC 9113 8.1.1 */
	else
		answer(x, status, 0);
}

/* The body of a request is malformed, too long or too slow. */
static void refuse_body(struct h2_stream *x, unsigned status, enum stream_end why)
{
	h2_env_of(x->h2)->rejected++;
	stream_ends(x, why);
	if (status == 400)
		reset_stream(x, NGHTTP2_PROTOCOL_ERROR);
	else if (x->s.response == RESPONSE_WAITING)
		answer(x, status, 0);
	else if (!x->finished)
		cut_stream(x, NGHTTP2_CANCEL);
}

/* ---- acting on what was received ---- */

static void dispatch(struct h2_stream *x, struct request_head *head)
{
	const struct stream_sink *sink = sink_of(x->h2);
	struct h2 *h2 = x->h2;
	uint64_t most = h2_config(h2)->max_requests;

	h2->requests++;
	x->known = true;
	x->expects = head->flags & REQUEST_EXPECTS_CONTINUE;
	x->s.head_method = slice_eq(head->method, SLICE_LIT("HEAD"));
	x->since = x->starved = h2_now(h2);
	head->peer = &h2->session.owner->peer;
	if (head->body == BODY_NONE)
		stream_request_moves(&x->s, REQUEST_ENDED);
	if (most && h2->requests >= most)
		begin_drain(h2);
	sink->on_request(sink->ctx, &x->s, head);
}

/* What a push needs to know, where there may be one. */
static void note_push(struct h2_stream *x, struct request_head *head)
{
	if (nghttp2_session_get_remote_settings(x->h2->ng, NGHTTP2_SETTINGS_ENABLE_PUSH) != 1)
		return;
	x->https = head->https;
	x->authority = h2_authority_of(x->head);
	if (x->authority)
		head->flags |= REQUEST_TAKES_PUSH;
}

static void take_request(struct h2_stream *x)
{
	struct session_env *env = h2_env_of(x->h2);
	struct request_head head;
	unsigned status;

	x->acted |= HEARD_HEAD;
	if (is_closed(x) || x->refused) {
		stream_detach(&x->s);
		reset_stream(x, NGHTTP2_REFUSED_STREAM);
		return;
	}
	if (x->promise) {
		h2_push_head(x, env->fields, &head);
		dispatch(x, &head);
		h2_push_free(x);
		return;
	}
	status = h2_examine(x->h2, x->head, x->bare, env->fields, &head);
	if (status) {
		refuse(x, status);
	} else {
		note_push(x, &head);
		dispatch(x, &head);
	}
	h2_head_free(x->h2, x->head);
	x->head = NULL;
}

/* The application has taken so many bytes: only now may the client send as many more. */
static void consume(struct h2_stream *x, size_t n)
{
	bufq_consume(&x->in, n);
	if (!(x->heard & (HEARD_END | HEARD_CLOSE)) && nghttp2_session_consume_stream(x->h2->ng, x->id, n) != 0)
		x->h2->fault = NGHTTP2_INTERNAL_ERROR;
}

/* At most n bytes of the body, in one piece. */
static struct slice front(struct h2_stream *x, uint64_t n)
{
	uint8_t *chunk = h2_shared(x->h2)->chunk;
	struct iovec iov[32];
	int count = bufq_iov(&x->in, iov, 32);
	size_t len = 0;

	if (iov[0].iov_len >= n || count == 1)
		return slice_of(iov[0].iov_base, iov[0].iov_len < n ? iov[0].iov_len : (size_t)n);
	n = n < H2_CHUNK_MAX ? n : H2_CHUNK_MAX;
	for (int i = 0; i < count && len < n; i++) {
		size_t part = iov[i].iov_len < n - len ? iov[i].iov_len : (size_t)n - len;
		memcpy(chunk + len, iov[i].iov_base, part);
		len += part;
	}
	return slice_of(chunk, len);
}

static bool deliver_one(struct h2_stream *x)
{
	const struct stream_sink *sink = sink_of(x->h2);
	uint64_t wanted = stream_wanted(&x->s), most = h2_config(x->h2)->max_body;
	struct slice piece;

	if (x->s.detached || x->s.request != REQUEST_OPEN) {
		consume(x, x->in.len); /* nobody wants it */
		return false;
	}
	if (wanted == 0)
		return false;
	piece = front(x, wanted);
	x->s.body_in += piece.len;
	if (most && x->s.body_in > most) {
		refuse_body(x, 413, END_ERROR);
		return true;
	}
	sink->on_body(sink->ctx, &x->s, piece);
	consume(x, piece.len);
	if (stream_wanted(&x->s) == 0)
		x->starved = h2_now(x->h2);
	return true;
}

static void body_ended(struct h2_stream *x)
{
	const struct stream_sink *sink = sink_of(x->h2);
	struct field *fields = h2_env_of(x->h2)->fields;
	unsigned count;

	x->acted |= HEARD_END;
	if (x->s.detached || x->s.request != REQUEST_OPEN)
		return;
	if (!h2_trailers_of(x->trailers, fields, &count)) {
		refuse_body(x, 400, END_ERROR);
		return;
	}
	stream_request_moves(&x->s, REQUEST_ENDED);
	sink->on_end(sink->ctx, &x->s, fields, count);
	h2_head_free(x->h2, x->trailers);
	x->trailers = NULL;
}

static void deliver(struct h2_stream *x)
{
	while (x->in.len > 0 && deliver_one(x))
		;
	if (x->in.len == 0 && news(x, HEARD_END))
		body_ended(x);
}

/*
 * Who resets its requests has not freed those who work on them: such a stream counts on for a while, so that a client cannot
 * have more in work than h2_max_streams by taking back what it asked (CVE-2023-44487, CVE-2025-8671).
 */
static void hold(struct h2_stream *x)
{
	x->held = h2_now(x->h2) + h2_config(x->h2)->h2_reset_hold;
	watch(x->h2, x->held);
}

static void closed(struct h2_stream *x)
{
	x->acted |= HEARD_CLOSE;
	bufq_free(&x->in);
	bufq_free(&x->out);
	if (x->finished)
		return;
	if (x->known && !x->ours && x->s.response != RESPONSE_ENDED)
		hold(x);
	stream_ends(x, (enum stream_end)x->why);
}

static void tell_dropped(struct h2_stream *x)
{
	const struct stream_sink *sink = sink_of(x->h2);
	uint64_t dropped = x->dropped;

	x->dropped = 0;
	if (dropped && !x->s.detached)
		sink->on_room(sink->ctx, &x->s, dropped);
}

static void act(struct h2_stream *x)
{
	if (news(x, HEARD_HEAD))
		take_request(x);
	if (x->acted & HEARD_HEAD)
		deliver(x);
	if (news(x, HEARD_CLOSE))
		closed(x);
	tell_dropped(x);
	/* the answer is complete, and the rest of the request of no use: RFC 9113 8.1 */
	if (x->finished && x->s.response == RESPONSE_ENDED && !(x->heard & HEARD_END))
		reset_stream(x, NGHTTP2_NO_ERROR);
	if (x->left && x->s.response == RESPONSE_ENDED)
		stream_done(x);
	if (is_over(x))
		stream_free(x);
}

/* Is it time to end? */
static void look_around(struct h2 *h2)
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
		stop(h2, CLOSE_NOW, END_CLOSED);
	else if (!nghttp2_session_want_read(h2->ng) && !nghttp2_session_want_write(h2->ng))
		stop(h2, CLOSE_LINGER, END_ERROR);
}

static void act_all(struct h2 *h2)
{
	struct list *l;

	while ((l = list_pop(&h2->todo)))
		act(container_of(l, struct h2_stream, todo));
	look_around(h2);
}

static void tell_hangup(struct h2 *h2)
{
	const struct stream_sink *sink = sink_of(h2);

	for (struct list *l = h2->streams.next; l != &h2->streams; l = l->next) {
		struct h2_stream *x = container_of(l, struct h2_stream, link);
		if (!x->known || x->s.detached || x->s.hung_up)
			continue;
		if (!(x->heard & HEARD_END)) {
			stream_ends(x, END_CLOSED);
			cut_stream(x, NGHTTP2_CANCEL);
			continue;
		}
		x->s.hung_up = true;
		sink->on_hangup(sink->ctx, &x->s);
	}
}

static size_t h2_input(struct session *s, uint8_t *data, size_t len, bool eof)
{
	struct h2 *h2 = h2_of(s);

	if (h2->state == H2_STOPPED)
		return len;
	h2_receive(h2, data, len);
	if (!h2->fault)
		act_all(h2);
	if (eof && !h2->eof) {
		h2->eof = true;
		tell_hangup(h2);
	}
	act_all(h2);
	return len;
}

/* Reading goes on, so the end will be met there. */
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
	const struct stream_sink *sink = sink_of(x->h2);

	if (bytes > 0 && !x->s.detached)
		sink->on_room(sink->ctx, &x->s, bytes);
}

/* What has left the output belongs to streams. */
static void settle(struct h2 *h2)
{
	while (buf_len(&h2->marks)) {
		struct h2_mark m;
		memcpy(&m, buf_at(&h2->marks), sizeof m);
		if (m.at > h2->sent)
			return;
		buf_consume(&h2->marks, sizeof m);
		m.x->marks--;
		m.x->left = m.x->left || m.end;
		tell_room(m.x, m.bytes);
		h2_note(m.x, 0);
	}
	buf_free(&h2->marks);
}

static int h2_output(struct session *s, struct iovec *iov, int max)
{
	struct h2 *h2 = h2_of(s);
	bool more;

	do {
		if (!h2_pump(h2))
			h2->fault = NGHTTP2_INTERNAL_ERROR;
		settle(h2);
		more = !list_empty(&h2->todo) || (h2->fault && h2->state != H2_STOPPED);
		act_all(h2);
	} while (more);
	return bufq_iov(&h2->out, iov, max);
}

static void h2_sent(struct session *s, size_t n)
{
	struct h2 *h2 = h2_of(s);

	h2->progressed = h2_now(h2);
	h2->sent += n;
	bufq_consume(&h2->out, n);
	settle(h2);
	act_all(h2);
}

/* ---- operations ---- */

/* There is something to send, or soon will be. */
static void begin_output(struct h2_stream *x)
{
	x->progressed = h2_now(x->h2);
	watch(x->h2, x->progressed + h2_config(x->h2)->write_timeout);
	wake(x->h2);
}

static bool h2_send_info(struct stream *s, unsigned status, const struct field *fields, unsigned count)
{
	struct h2_stream *x = stream_of(s);

	wake(x->h2);
	if (status == 100)
		x->expects = false;
	return is_closed(x) || h2_write_info(x, status, fields, count);
}

static bool h2_send_head(struct stream *s, const struct response_head *head)
{
	struct h2_stream *x = stream_of(s);

	begin_output(x);
	x->whole = s->bodiless || head->length == 0;
	if (head->close)
		begin_drain(x->h2);
	return is_closed(x) || h2_write_head(x, head, x->whole);
}

static bool h2_send_data(struct stream *s, struct slice data)
{
	struct h2_stream *x = stream_of(s);

	if (data.len == 0)
		return true;
	if (x->whole || is_closed(x)) {
		x->dropped += data.len;
		h2_note(x, 0);
		wake(x->h2);
		return true;
	}
	if (x->out.len == 0)
		begin_output(x);
	return bufq_append(&x->out, data.at, data.len) && h2_write_more(x);
}

static bool h2_send_end(struct stream *s, const struct field *trailers, unsigned count)
{
	struct h2_stream *x = stream_of(s);

	if (x->out.len == 0)
		begin_output(x);
	h2_note(x, 0);
	if (x->whole || is_closed(x))
		return true;
	if (count && !h2_write_trailers(x, trailers, count))
		return false;
	return h2_write_more(x);
}

static bool h2_send_push(struct stream *s, struct slice target, const struct field *fields, unsigned count)
{
	wake(stream_of(s)->h2);
	return h2_push(stream_of(s), target, fields, count);
}

static void h2_consume(struct stream *s)
{
	struct h2_stream *x = stream_of(s);
	struct h2 *h2 = x->h2;
	const struct config *c = h2_config(h2);

	if (x->expects && s->response == RESPONSE_WAITING && !h2_write_info(x, 100, NULL, 0))
		cut_stream(x, NGHTTP2_INTERNAL_ERROR);
	x->expects = false;
	if (x->starved) {
		x->since += h2_now(h2) - x->starved;
		x->starved = 0;
	}
	if (c->body_rate)
		watch(h2, x->since + c->body_grace);
	h2_note(x, 0);
	wake(h2);
}

static void h2_discard(struct stream *s)
{
	struct h2_stream *x = stream_of(s);

	s->chunks = 0;
	h2_note(x, 0);
	wake(x->h2);
}

static void h2_reset(struct stream *s, unsigned status, unsigned retry_after)
{
	struct h2_stream *x = stream_of(s);

	h2_discard(s);
	if (is_closed(x))
		return;
	if (s->response == RESPONSE_WAITING && status)
		answer(x, status, retry_after);
	else if (!x->finished)
		cut_stream(x, NGHTTP2_INTERNAL_ERROR);
}

static const struct stream_ops h2_stream_ops = {
	.send_info = h2_send_info,
	.send_head = h2_send_head,
	.send_data = h2_send_data,
	.send_end = h2_send_end,
	.push = h2_send_push,
	.consume = h2_consume,
	.discard = h2_discard,
	.reset = h2_reset,
};

/* ---- what it waits for ---- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* When a body that comes at the least allowed rate would have come this far. */
static uint64_t body_deadline(const struct h2_stream *x)
{
	const struct config *c = h2_config(x->h2);

	if (c->body_rate == 0 || !x->known || (x->heard & (HEARD_END | HEARD_CLOSE)) || x->finished || x->h2->eof)
		return UINT64_MAX;
	if (x->in.len > 0 || (x->s.request == REQUEST_OPEN && stream_wanted(&x->s) == 0))
		return UINT64_MAX;
	return x->since + c->body_grace + x->s.body_in * 1000 / c->body_rate;
}

/* A body that waits for a window which the client does not open; waiting for others that are more urgent does not count. */
static uint64_t stall_deadline(const struct h2_stream *x)
{
	const struct h2 *h2 = x->h2;
	uint64_t since = x->progressed;

	if (is_closed(x) || x->finished || x->out.len == 0)
		return UINT64_MAX;
	if (nghttp2_session_get_stream_remote_window_size(h2->ng, x->id) > 0) {
		if (nghttp2_session_get_remote_window_size(h2->ng) > 0)
			since = h2_now(h2);
		else
			since = since > h2->framed ? since : h2->framed;
	}
	return since + h2_config(h2)->write_timeout;
}

static uint64_t stream_deadline(const struct h2_stream *x)
{
	if (x->held)
		return x->held;
	return earlier(body_deadline(x), stall_deadline(x));
}

static uint64_t write_deadline(const struct h2 *h2)
{
	if (h2->out.len > 0)
		return h2->progressed + h2_config(h2)->write_timeout;
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

static uint64_t deadline_of(const struct h2 *h2)
{
	uint64_t first = earlier(write_deadline(h2), greeting_deadline(h2));

	first = earlier(first, earlier(block_deadline(h2), idle_deadline(h2)));
	first = earlier(first, trim_deadline(h2));
	return h2->state == H2_STOPPED ? first : earlier(first, h2->review);
}

static struct session_wants h2_wants(const struct session *s)
{
	const struct h2 *h2 = h2_of(s);
	bool stopped = h2->state == H2_STOPPED;
	uint64_t deadline = deadline_of(h2);
	bool over = stopped && (h2->out.len == 0 || h2->closing != CLOSE_LINGER);

	return (struct session_wants){
		.read = !stopped && nghttp2_session_get_outbound_queue_size(h2->ng) < H2_QUEUE_HIGH,
		.peek = false,
		.write = h2->out.len > 0 || nghttp2_session_want_write(h2->ng),
		.idle = h2->state == H2_OPEN && h2->open == 0 && h2->out.len == 0,
		.close = over ? (enum session_close)h2->closing : CLOSE_NOT,
		.deadline = deadline == UINT64_MAX ? 0 : deadline,
	};
}

static void stream_timed_out(struct h2_stream *x)
{
	h2_note(x, 0);
	if (x->held)
		return;
	if (h2_now(x->h2) >= body_deadline(x)) {
		refuse_body(x, 408, END_TIMEOUT);
		return;
	}
	stream_ends(x, END_TIMEOUT);
	cut_stream(x, NGHTTP2_CANCEL);
}

static void review(struct h2 *h2)
{
	uint64_t next = UINT64_MAX, when;

	for (struct list *l = h2->streams.next; l != &h2->streams; l = l->next) {
		struct h2_stream *x = container_of(l, struct h2_stream, link);
		when = stream_deadline(x);
		if (when <= h2_now(h2))
			stream_timed_out(x);
		else
			next = earlier(next, when);
	}
	h2->review = next;
}

static void h2_tick(struct session *s)
{
	struct h2 *h2 = h2_of(s);
	uint64_t now = h2_now(h2);

	if (now >= write_deadline(h2))
		stop(h2, CLOSE_CUT, END_TIMEOUT);
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

static void h2_drain(struct session *s)
{
	begin_drain(h2_of(s));
}

static void h2_close(struct session *s, enum stream_end why)
{
	struct h2 *h2 = h2_of(s);
	struct list *l;

	while ((l = h2->streams.next) != &h2->streams) {
		struct h2_stream *x = container_of(l, struct h2_stream, link);
		stream_ends(x, why);
		x->marks = 0;
		stream_free(x);
	}
	h2_head_free(h2, h2->block);
	nghttp2_session_del(h2->ng);
	buf_free(&h2->marks);
	bufq_free(&h2->out);
	free(h2);
}

static const struct session_ops h2_ops = {
	.input = h2_input,
	.deliver = h2_deliver,
	.hangup = h2_hangup,
	.output = h2_output,
	.sent = h2_sent,
	.wants = h2_wants,
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
	nghttp2_option_set_stream_reset_rate_limit(o, 1 << 20, 1 << 20); /* h2_scan's limits come first */
	nghttp2_option_set_max_continuations(o, (size_t)c->h2_max_continuations + 1);
	nghttp2_option_set_builtin_recv_extension_type(o, NGHTTP2_PRIORITY_UPDATE);
	nghttp2_option_set_max_deflate_dynamic_table_size(o, (size_t)c->h2_deflate_table);
	return true;
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
	h2_write_callbacks(shared->callbacks);
	return shared;
}

void h2_env_free(struct session_env *env)
{
	struct h2_env *shared = env->h2;

	if (!shared)
		return;
	h2_heads_free(shared);
	h2_memory_free(&shared->memory);
	buf_free(&shared->cookies);
	nghttp2_session_callbacks_del(shared->callbacks);
	nghttp2_option_del(shared->option);
	free(shared);
	env->h2 = NULL;
}

static bool greet(struct h2 *h2)
{
	const struct config *c = h2_config(h2);
	nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, (uint32_t)c->h2_max_streams},
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t)c->h2_stream_window},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)c->max_header_block},
		{NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
	};

	h2->unacked = h2_now(h2);
	return nghttp2_submit_settings(h2->ng, NGHTTP2_FLAG_NONE, settings, sizeof settings / sizeof *settings) == 0 &&
	       nghttp2_session_set_local_window_size(h2->ng, NGHTTP2_FLAG_NONE, 0, (int32_t)c->h2_connection_window) == 0;
}

struct session *h2_start(struct session_owner *owner)
{
	struct h2_env *shared = share(owner->env);
	struct h2 *h2 = shared ? calloc(1, sizeof *h2) : NULL;

	if (!h2)
		return NULL;
	h2->session = (struct session){&h2_ops, owner};
	list_init(&h2->streams);
	list_init(&h2->todo);
	h2->since = h2_now(h2);
	h2->review = UINT64_MAX;
	h2_scan_init(&h2->scan);
	if (h2_memory_session(&shared->memory, &h2->ng, &h2->table, shared->callbacks, h2, shared->option) != 0) {
		free(h2);
		return NULL;
	}
	if (!greet(h2)) {
		h2_close(&h2->session, END_ERROR);
		return NULL;
	}
	return &h2->session;
}
