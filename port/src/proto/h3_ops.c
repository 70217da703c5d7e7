/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h3_ops.h"

#include "proto/h3_life.h"
#include "proto/h3_stream.h"
#include "proto/h3_write.h"

static struct h3_stream *stream_of(struct stream *s)
{
	return container_of(s, struct h3_stream, s);
}

/* There is something to send, or soon will be. */
static void begin_output(struct h3_stream *x)
{
	h3_pace_begins(x);
	h3_wake(x->h3);
}

static bool h3_send_info(struct stream *s, unsigned status, const struct field *fields, unsigned count)
{
	struct h3_stream *x = stream_of(s);

	h3_wake(x->h3);
	if (status == 100)
		x->expects = false;
	return h3_is_mute(x) || h3_write_info(x, status, fields, count);
}

static bool h3_send_head(struct stream *s, const struct response_head *head)
{
	struct h3_stream *x = stream_of(s);

	begin_output(x);
	x->whole = s->bodiless || head->length == 0;
	if (head->close)
		h3_begin_drain(x->h3);
	return h3_is_mute(x) || h3_write_head(x, head, x->whole);
}

static bool h3_upgrade(struct stream *s, struct slice protocol, const struct field *fields, unsigned count)
{
	struct h3_stream *x = stream_of(s);

	(void)protocol; /* there is no field that would say it */
	begin_output(x);
	s->status = 200;
	stream_request_moves(s, REQUEST_OPEN);
	h3_note(x, 0); /* bytes that came before the response */
	return h3_is_mute(x) || h3_write_upgrade(x, fields, count);
}

/* Copied, since it has to stay until it was acknowledged. */
static bool h3_send_data(struct stream *s, struct slice data)
{
	struct h3_stream *x = stream_of(s);

	if (data.len == 0)
		return true;
	h3_wake(x->h3);
	if (x->whole || h3_is_mute(x)) {
		x->room += data.len;
		h3_note(x, 0);
		return true;
	}
	if (!x->waits)
		begin_output(x);
	if (!bufq_append(&x->out, data.at, data.len))
		return false;
	h3_count_waiting(x);
	return h3_write_more(x);
}

static bool h3_send_file(struct stream *s, struct file *f, uint64_t offset, size_t n)
{
	struct h3_stream *x = stream_of(s);

	h3_wake(x->h3);
	if (x->whole || h3_is_mute(x)) {
		x->room += FILE_COST;
		h3_note(x, 0);
		return true;
	}
	if (!x->waits)
		begin_output(x);
	if (!bufq_append_file(&x->out, f, offset, n))
		return false;
	h3_count_waiting(x);
	return h3_write_more(x);
}

static bool h3_send_end(struct stream *s, const struct field *trailers, unsigned count)
{
	struct h3_stream *x = stream_of(s);

	if (!x->waits)
		begin_output(x);
	h3_note(x, 0);
	if (x->whole || h3_is_mute(x))
		return true;
	if (count && !h3_write_trailers(x, trailers, count))
		return false;
	return h3_write_more(x);
}

/* No client takes it any more, so none is told REQUEST_TAKES_PUSH. */
static bool h3_push(struct stream *s, struct slice target, const struct field *fields, unsigned count)
{
	(void)s;
	(void)target;
	(void)fields;
	(void)count;
	return true;
}

static void h3_consume(struct stream *s)
{
	struct h3_stream *x = stream_of(s);
	struct h3 *h3 = x->h3;

	if (x->expects && x->in.len == 0 && !(x->heard & H3_HEARD_END) && s->response == RESPONSE_WAITING && !h3_is_mute(x) &&
	    !h3_write_info(x, 100, NULL, 0))
		h3_stream_cut(x, NGHTTP3_H3_INTERNAL_ERROR);
	x->expects = false;
	pace_go(&x->body, h3_now_us(h3));
	if (h3_config(h3)->body_rate)
		h3_watch(h3, pace_deadline(&x->body));
	h3_note(x, 0);
	h3_wake(h3);
}

static void h3_go_on(struct stream *s)
{
	struct h3_stream *x = stream_of(s);

	if (h3_is_mute(x))
		return;
	begin_output(x);
	if (!h3_write_more(x))
		h3_stream_cut(x, NGHTTP3_H3_INTERNAL_ERROR);
}

static void h3_discard(struct stream *s)
{
	struct h3_stream *x = stream_of(s);

	s->wanted = 0;
	pace_start(&x->body, h3_now_us(x->h3), h3_config(x->h3)->body_grace * 1000);
	if (h3_config(x->h3)->body_rate)
		h3_watch(x->h3, pace_deadline(&x->body));
	h3_note(x, 0);
	h3_wake(x->h3);
}

static void h3_abandon(struct stream *s, unsigned status, unsigned retry_after)
{
	struct h3_stream *x = stream_of(s);

	h3_discard(s);
	if (h3_is_mute(x))
		return;
	if (s->response == RESPONSE_WAITING && status)
		h3_stream_answer(x, status, retry_after);
	else if (!x->left)
		h3_stream_cut(x, s->upgraded ? NGHTTP3_H3_REQUEST_CANCELLED : NGHTTP3_H3_INTERNAL_ERROR);
}

static void h3_release(struct stream *s)
{
	struct h3_stream *x = stream_of(s);

	s->owed = false;
	x->held = 0;
	h3_note(x, 0);
	h3_wake(x->h3);
}

const struct stream_ops h3_stream_ops = {
	.send_info = h3_send_info,
	.send_head = h3_send_head,
	.upgrade = h3_upgrade,
	.send_data = h3_send_data,
	.send_file = h3_send_file,
	.send_end = h3_send_end,
	.push = h3_push,
	.consume = h3_consume,
	.go_on = h3_go_on,
	.discard = h3_discard,
	.reset = h3_abandon,
	.release = h3_release,
};
