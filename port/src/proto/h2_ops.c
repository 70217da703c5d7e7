/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of a stream (stream_ops). */
#include "proto/h2_ops.h"

#include "proto/h2_life.h"
#include "proto/h2_push.h"
#include "proto/h2_stream.h"
#include "proto/h2_write.h"

static struct h2_stream *stream_of(struct stream *s)
{
	return container_of(s, struct h2_stream, s);
}

/* There is something to send, or soon will be. */
static void begin_output(struct h2_stream *x)
{
	h2_pace_begins(x);
	h2_wake(x->h2);
}

static bool h2_send_info(struct stream *s, unsigned status, const struct field *fields, unsigned count)
{
	struct h2_stream *x = stream_of(s);

	h2_wake(x->h2);
	if (status == 100)
		x->expects = false;
	return h2_is_closed(x) || h2_write_info(x, status, fields, count);
}

static bool h2_send_head(struct stream *s, const struct response_head *head)
{
	struct h2_stream *x = stream_of(s);

	begin_output(x);
	x->whole = s->bodiless || head->length == 0;
	if (head->close)
		h2_begin_drain(x->h2);
	return h2_is_closed(x) || h2_write_head(x, head, x->whole);
}

static bool h2_upgrade(struct stream *s, struct slice protocol, const struct field *fields, unsigned count)
{
	struct h2_stream *x = stream_of(s);

	(void)protocol; /* there is no field that would say it */
	begin_output(x);
	s->status = 200;
	stream_request_moves(s, REQUEST_OPEN);
	h2_note(x, 0); /* bytes that came before the response */
	return h2_is_closed(x) || h2_write_upgrade(x, fields, count);
}

static bool h2_send_data(struct stream *s, struct slice data)
{
	struct h2_stream *x = stream_of(s);

	if (data.len == 0)
		return true;
	if (x->whole || h2_is_closed(x)) {
		x->dropped += data.len;
		h2_note(x, 0);
		h2_wake(x->h2);
		return true;
	}
	if (x->out.len == 0)
		begin_output(x);
	h2_wake(x->h2); /* lent bytes must be copied at the end of the turn */
	if (!bufq_lend(&x->out, data.at, data.len))
		return false;
	h2_count_waiting(x);
	x->h2->borrows |= x->out.borrows;
	return h2_write_more(x);
}

static bool h2_send_file(struct stream *s, struct file *f, uint64_t offset, size_t n)
{
	struct h2_stream *x = stream_of(s);

	h2_wake(x->h2);
	if (x->whole || h2_is_closed(x)) {
		x->dropped += FILE_COST;
		h2_note(x, 0);
		return true;
	}
	if (x->out.len == 0)
		begin_output(x);
	if (!bufq_append_file(&x->out, f, offset, n))
		return false;
	h2_count_waiting(x);
	return h2_write_more(x);
}

static bool h2_send_end(struct stream *s, const struct field *trailers, unsigned count)
{
	struct h2_stream *x = stream_of(s);

	if (x->out.len == 0)
		begin_output(x);
	h2_note(x, 0);
	if (x->whole || h2_is_closed(x))
		return true;
	if (count && !h2_write_trailers(x, trailers, count))
		return false;
	return h2_write_more(x);
}

static bool h2_send_push(struct stream *s, struct slice target, const struct field *fields, unsigned count)
{
	h2_wake(stream_of(s)->h2);
	return h2_push(stream_of(s), target, fields, count);
}

static void h2_consume(struct stream *s)
{
	struct h2_stream *x = stream_of(s);
	struct h2 *h2 = x->h2;

	if (x->expects && x->in.len == 0 && !(x->heard & HEARD_END) && s->response == RESPONSE_WAITING &&
	    !h2_write_info(x, 100, NULL, 0))
		h2_stream_cut(x, NGHTTP2_INTERNAL_ERROR);
	x->expects = false;
	pace_go(&x->body, h2_now_us(h2));
	if (h2_config(h2)->body_rate)
		h2_watch(h2, pace_deadline(&x->body));
	h2_note(x, 0);
	h2_wake(h2);
}

static void h2_go_on(struct stream *s)
{
	struct h2_stream *x = stream_of(s);

	if (h2_is_closed(x))
		return;
	begin_output(x);
	if (!h2_write_more(x))
		h2_stream_cut(x, NGHTTP2_INTERNAL_ERROR);
}

static void h2_discard(struct stream *s)
{
	struct h2_stream *x = stream_of(s);

	s->wanted = 0;
	pace_start(&x->body, h2_now_us(x->h2), h2_config(x->h2)->body_grace * 1000);
	if (h2_config(x->h2)->body_rate)
		h2_watch(x->h2, pace_deadline(&x->body));
	h2_note(x, 0);
	h2_wake(x->h2);
}

static void h2_reset(struct stream *s, unsigned status, unsigned retry_after)
{
	struct h2_stream *x = stream_of(s);

	h2_discard(s);
	if (h2_is_closed(x))
		return;
	if (s->response == RESPONSE_WAITING && status)
		h2_stream_answer(x, status, retry_after);
	else if (!x->finished)
		h2_stream_cut(x, s->upgraded ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
}

static void h2_release(struct stream *s)
{
	struct h2_stream *x = stream_of(s);

	s->owed = false;
	x->held = 0;
	h2_note(x, 0);
	h2_wake(x->h2);
}

const struct stream_ops h2_stream_ops = {
	.send_info = h2_send_info,
	.send_head = h2_send_head,
	.upgrade = h2_upgrade,
	.send_data = h2_send_data,
	.send_file = h2_send_file,
	.send_end = h2_send_end,
	.push = h2_send_push,
	.consume = h2_consume,
	.go_on = h2_go_on,
	.discard = h2_discard,
	.reset = h2_reset,
	.release = h2_release,
};
