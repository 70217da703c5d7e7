/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h3_act.h"

#include "frames/names.h"
#include "proto/h3_head.h"
#include "proto/h3_life.h"
#include "proto/h3_read.h"
#include "proto/h3_stream.h"
#include "proto/http_fields.h"

static void stream_done(struct h3_stream *x)
{
	const struct stream_sink *sink = h3_sink(x->h3);

	if (x->s.detached)
		return;
	stream_detach(&x->s);
	sink->on_done(sink->ctx, &x->s);
}

/* What was recorded, and not yet acted on. */
static bool news(const struct h3_stream *x, enum h3_heard what)
{
	return x->heard & ~x->acted & what;
}

/* Neither the library nor the sink refers to it any more. */
static bool is_over(const struct h3_stream *x)
{
	return h3_is_closed(x) && (x->s.detached || !x->known) && x->held <= h3_now(x->h3);
}

/* ---- bytes that came ---- */

/* The application has consumed n bytes: only now may the client send as many more. */
static void consume(struct h3_stream *x, size_t n)
{
	if (n == 0)
		return;
	bufq_consume(&x->in, n);
	if (!(x->heard & (H3_HEARD_END | H3_HEARD_CLOSE)))
		x->h3->carrier->credit(x->h3->owner, x->id, n);
}

/* At most n bytes of the body, in one piece. */
static struct slice front(struct h3_stream *x, uint64_t n)
{
	uint8_t *chunk = h3_shared(x->h3)->chunk;
	struct iovec iov[32];
	int count = bufq_iov(&x->in, iov, 32);
	size_t len = 0;

	if (iov[0].iov_len >= n || count == 1)
		return slice_of(iov[0].iov_base, iov[0].iov_len < n ? iov[0].iov_len : (size_t)n);
	n = n < CHUNK_MAX ? n : CHUNK_MAX;
	for (int i = 0; i < count && len < n; i++) {
		size_t part = iov[i].iov_len < n - len ? iov[i].iov_len : (size_t)n - len;
		memcpy(chunk + len, iov[i].iov_base, part);
		len += part;
	}
	return slice_of(chunk, len);
}

/* ---- a request ---- */

/* The body, if its last byte is there, and no trailers. */
static struct slice whole_body(struct h3_stream *x)
{
	const struct config *c = h3_config(x->h3);
	struct slice whole;

	if (x->in.len == 0 || !(x->heard & H3_HEARD_END) || x->trailers || x->in.len > c->inline_body ||
	    (c->max_body && x->in.len > c->max_body))
		return (struct slice){0};
	whole = front(x, x->in.len);
	return whole.len == x->in.len ? whole : (struct slice){0}; /* it may lie in very many pieces */
}

/* It has gone with its request. */
static void body_taken(struct h3_stream *x)
{
	x->s.body_in = x->in.len;
	x->expects = false;
	x->acted |= H3_HEARD_END;
	consume(x, x->in.len);
	stream_request_moves(&x->s, REQUEST_ENDED);
}

static void dispatch(struct h3_stream *x, struct request_head *head)
{
	const struct stream_sink *sink = h3_sink(x->h3);
	struct h3 *h3 = x->h3;
	uint64_t most = h3_config(h3)->max_requests;

	h3->requests++;
	x->known = true;
	x->expects = head->flags & REQUEST_EXPECTS_CONTINUE;
	x->holds = head->flags & REQUEST_MAY_UPGRADE;
	pace_start(&x->body, h3_now_us(h3), h3_config(h3)->body_grace * 1000);
	pace_stop(&x->body, h3_now_us(h3));
	head->peer = &h3->owner->peer;
	head->secure = h3->owner->secure;
	if (head->body == BODY_NONE)
		stream_request_moves(&x->s, REQUEST_ENDED);
	else
		head->whole = whole_body(x);
	if (most && h3->requests >= most)
		h3_begin_drain(h3);
	sink->on_request(sink->ctx, &x->s, head);
	if (x->s.took_whole)
		body_taken(x);
}

static void take_request(struct h3_stream *x)
{
	struct session_env *env = h3_env_of(x->h3);
	struct request_head head;
	unsigned status;

	x->acted |= H3_HEARD_HEAD;
	if (h3_is_mute(x)) {
		stream_detach(&x->s);
		return;
	}
	x->s.head_method = h3_asks_head(x->head);
	status = h3_examine(x->h3, x->head, x->bare, env->fields, &head);
	head.https = true;
	if (!status && http_is_misdirected(x->h3->owner, &head))
		status = 421;
	if (status)
		h3_stream_refuse(x, status);
	else
		dispatch(x, &head);
	h3_head_free(x->h3, x->head);
	x->head = NULL;
}

/* ---- its body ---- */

static void body_moved(struct h3_stream *x, size_t n)
{
	const struct config *c = h3_config(x->h3);

	pace_moved(&x->body, h3_now_us(x->h3), n, c->body_rate, c->body_grace * 1000);
}

static bool deliver_one(struct h3_stream *x)
{
	const struct stream_sink *sink = h3_sink(x->h3);
	uint64_t wanted = stream_wanted(&x->s), most = h3_config(x->h3)->max_body;
	struct slice piece;

	if (x->s.detached || x->s.request != REQUEST_OPEN) {
		body_moved(x, x->in.len);
		consume(x, x->in.len); /* nobody wants it */
		return false;
	}
	if (wanted == 0)
		return false;
	piece = front(x, wanted);
	x->s.body_in += piece.len;
	if (most && x->s.body_in > most) {
		h3_stream_refuse_body(x, 413, END_ERROR);
		return true;
	}
	sink->on_body(sink->ctx, &x->s, piece);
	consume(x, piece.len);
	body_moved(x, piece.len);
	if (stream_wanted(&x->s) == 0)
		pace_stop(&x->body, h3_now_us(x->h3));
	return true;
}

static void body_ended(struct h3_stream *x)
{
	const struct stream_sink *sink = h3_sink(x->h3);
	struct field *fields = h3_env_of(x->h3)->fields;
	unsigned count, status;

	x->acted |= H3_HEARD_END;
	if (x->s.detached || x->s.request != REQUEST_OPEN)
		return;
	status = x->s.upgraded && x->trailers ? 400 : h3_trailers_of(x->trailers, fields, &count);
	if (status) {
		h3_stream_refuse_body(x, status, END_ERROR);
		return;
	}
	stream_request_moves(&x->s, REQUEST_ENDED);
	sink->on_end(sink->ctx, &x->s, fields, count);
	h3_head_free(x->h3, x->trailers);
	x->trailers = NULL;
}

/* No more bytes will come, but earlier ones still wait for credit, so the reader must not learn of the end yet. */
static void tell_left(struct h3_stream *x)
{
	const struct stream_sink *sink = h3_sink(x->h3);

	if (x->s.hung_up || x->s.detached)
		return;
	x->s.hung_up = true;
	sink->on_hangup(sink->ctx, &x->s);
}

/* Offers bytes of an upgraded stream; unused ones are offered again, with those that come after them. */
static void deliver_bytes(struct h3_stream *x)
{
	const struct stream_sink *sink = h3_sink(x->h3);
	size_t used = 1;

	while (used > 0 && x->in.len > 0 && stream_reads(&x->s)) {
		used = sink->on_bytes(sink->ctx, &x->s, front(x, CHUNK_MAX));
		x->s.body_in += used;
		consume(x, used);
	}
	if (x->s.detached || x->s.response == RESPONSE_ENDED)
		consume(x, x->in.len);
	else if (news(x, H3_HEARD_END) && (x->in.len == 0 || stream_reads(&x->s)))
		body_ended(x);
	else if (news(x, H3_HEARD_END))
		tell_left(x);
}

static void deliver(struct h3_stream *x)
{
	if (x->holds && x->s.response == RESPONSE_WAITING && !x->s.detached) {
		if (news(x, H3_HEARD_END))
			tell_left(x);
		return;
	}
	if (x->s.upgraded) {
		deliver_bytes(x);
		return;
	}
	while (x->in.len > 0 && deliver_one(x))
		;
	if (x->in.len == 0 && news(x, H3_HEARD_END))
		body_ended(x);
}

/* ---- its end ---- */

/* The client does not want the response, or will never complete its request. */
static void left(struct h3_stream *x)
{
	x->acted |= H3_HEARD_LEFT;
	bufq_free(&x->in);
	h3_count_waiting(x);
	if (x->left)
		return;
	h3_stream_lost(x, (enum stream_end)x->why);
	h3_stream_cut(x, NGHTTP3_H3_REQUEST_CANCELLED);
}

static void closed(struct h3_stream *x)
{
	x->acted |= H3_HEARD_CLOSE;
	bufq_free(&x->in);
	h3_stream_drop(x);
	if (!x->left)
		h3_stream_lost(x, (enum stream_end)x->why);
}

static void tell_room(struct h3_stream *x)
{
	const struct stream_sink *sink = h3_sink(x->h3);
	uint64_t room = x->room;
	bool news = room || x->spent;

	x->room = 0;
	x->spent = false;
	if (news && !x->s.detached)
		sink->on_room(sink->ctx, &x->s, room);
}

/*
 * The response is complete, so the rest of the request is not needed: RFC 9114 4.1. An upgraded stream is ended by both sides
 * (RFC 8441 5), so its client gets a moment to do so.
 */
static void end_request(struct h3_stream *x)
{
	uint64_t now = h3_now(x->h3);

	if (x->s.upgraded && !x->lingers) {
		x->lingers = now + h3_config(x->h3)->linger_timeout;
		h3_watch(x->h3, x->lingers);
	}
	if (now >= x->lingers)
		h3_stream_stop(x, NGHTTP3_H3_NO_ERROR);
}

/* A file is not what was said, so the response cannot be complete. */
static void cut_for_file(struct h3_stream *x)
{
	x->why = END_FILE;
	h3_stream_cut(x, NGHTTP3_H3_INTERNAL_ERROR);
	h3_note(x, H3_HEARD_LEFT);
}

static void act(struct h3_stream *x)
{
	struct h3 *h3 = x->h3;

	if (news(x, H3_HEARD_HEAD))
		take_request(x);
	if (x->acted & H3_HEARD_HEAD)
		deliver(x);
	if (x->broken && !x->reset)
		cut_for_file(x);
	if (news(x, H3_HEARD_LEFT))
		left(x);
	if (news(x, H3_HEARD_CLOSE))
		closed(x);
	tell_room(x);
	if (x->left && x->s.response == RESPONSE_ENDED && !(x->heard & H3_HEARD_END))
		end_request(x);
	if (x->left && x->s.response == RESPONSE_ENDED)
		stream_done(x);
	if (!is_over(x))
		return;
	h3_stream_free(x);
	h3_allow_one_more(h3);
}

void h3_act_all(struct h3 *h3)
{
	struct list *l;

	while (h3->state != H3_STOPPED && (l = list_pop(&h3->todo)))
		act(container_of(l, struct h3_stream, todo));
	h3_look_around(h3);
}
