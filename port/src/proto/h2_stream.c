#include "proto/h2_stream.h"

#include <assert.h>
#include <stdlib.h>

#include "proto/h2_life.h"
#include "proto/h2_push.h"
#include "proto/h2_read.h"
#include "proto/h2_write.h"

static const struct stream_ops h2_stream_ops;

static struct h2_stream *stream_of(struct stream *s)
{
	return container_of(s, struct h2_stream, s);
}

/* ---- its beginning and its end ---- */

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
	list_init(&x->todo);
	list_append(&h2->streams, &x->link);
	h2->open++;
	h2->trimmed = false;
	return x;
}

void h2_stream_free(struct h2_stream *x)
{
	struct h2 *h2 = x->h2;

	assert(x->marks == 0);
	if (x->s.owed)
		h2_sink(h2)->on_lapse(h2_sink(h2)->ctx, &x->s);
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
	h2_count_waiting(x);
	free(x);
}

void h2_stream_ends(struct h2_stream *x, enum stream_end why)
{
	const struct stream_sink *sink = h2_sink(x->h2);
	bool listens = x->known && !x->s.detached;

	stream_detach(&x->s);
	if (listens)
		sink->on_reset(sink->ctx, &x->s, why);
}

/*
 * Who resets its requests has not freed those who work on them: so a client cannot have more in work than h2_max_streams by
 * taking back what it asked (CVE-2023-44487, CVE-2025-8671).
 */
void h2_stream_lost(struct h2_stream *x, enum stream_end why)
{
	uint64_t most = h2_config(x->h2)->h2_reset_hold;

	if (x->known && !x->s.detached && x->s.response != RESPONSE_ENDED && most) {
		x->s.owed = true;
		x->held = h2_now(x->h2) + most;
		h2_watch(x->h2, x->held);
	}
	h2_stream_ends(x, why);
}

void h2_stream_reset(struct h2_stream *x, uint32_t code)
{
	if (x->reset || h2_is_closed(x))
		return;
	x->reset = true;
	if (nghttp2_submit_rst_stream(x->h2->ng, NGHTTP2_FLAG_NONE, x->id, code) != 0)
		x->h2->fault = NGHTTP2_INTERNAL_ERROR;
}

void h2_stream_cut(struct h2_stream *x, uint32_t code)
{
	x->ours = true;
	h2_stream_reset(x, code);
}

/* ---- answers of the port's own ---- */

static void pace_begins(struct h2_stream *x)
{
	pace_start(&x->pace, h2_now_us(x->h2), h2_write_grace(x->h2));
	h2_watch(x->h2, pace_deadline(&x->pace));
}

static void answer(struct h2_stream *x, unsigned status, unsigned retry_after)
{
	x->s.status = (uint16_t)status;
	x->whole = x->s.head_method;
	pace_begins(x);
	stream_response_moves(&x->s, RESPONSE_STREAMING);
	stream_response_moves(&x->s, RESPONSE_ENDED);
	if (!h2_write_error(x, status, retry_after))
		h2_stream_cut(x, NGHTTP2_INTERNAL_ERROR);
}

void h2_stream_refuse(struct h2_stream *x, unsigned status)
{
	h2_env_of(x->h2)->rejected++;
	stream_detach(&x->s);
	if (status == 400)
		h2_stream_cut(x, NGHTTP2_PROTOCOL_ERROR); /* malformed: RFC 9113 8.1.1 */
	else
		answer(x, status, 0);
}

void h2_stream_refuse_body(struct h2_stream *x, unsigned status, enum stream_end why)
{
	h2_env_of(x->h2)->rejected++;
	h2_stream_lost(x, why);
	if (status == 400)
		h2_stream_cut(x, NGHTTP2_PROTOCOL_ERROR);
	else if (x->s.response == RESPONSE_WAITING)
		answer(x, status, 0);
	else if (!x->finished)
		h2_stream_cut(x, NGHTTP2_CANCEL);
}

/* ---- operations ---- */

/* There is something to send, or soon will be. */
static void begin_output(struct h2_stream *x)
{
	pace_begins(x);
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
	h2_note(x, 0); /* what came before the answer */
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
	h2_wake(x->h2); /* what is lent is to be owned at the end of its turn */
	if (!bufq_lend(&x->out, data.at, data.len))
		return false;
	h2_count_waiting(x);
	x->h2->borrows |= x->out.borrows;
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
		answer(x, status, retry_after);
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

static const struct stream_ops h2_stream_ops = {
	.send_info = h2_send_info,
	.send_head = h2_send_head,
	.upgrade = h2_upgrade,
	.send_data = h2_send_data,
	.send_end = h2_send_end,
	.push = h2_send_push,
	.consume = h2_consume,
	.discard = h2_discard,
	.reset = h2_reset,
	.release = h2_release,
};
