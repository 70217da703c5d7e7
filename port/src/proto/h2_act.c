/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_act.h"

#include <stdlib.h>

#include "proto/h2_head.h"
#include "proto/h2_life.h"
#include "proto/h2_push.h"
#include "proto/h2_read.h"
#include "proto/h2_stream.h"
#include "proto/http_fields.h"

static void stream_done(struct h2_stream *x)
{
	const struct stream_sink *sink = h2_sink(x->h2);

	if (x->s.detached)
		return;
	stream_detach(&x->s);
	sink->on_done(sink->ctx, &x->s);
}

/* What was recorded, and not yet acted on. */
static bool news(const struct h2_stream *x, enum h2_heard what)
{
	return x->heard & ~x->acted & what;
}

/* Neither nghttp2 nor the sink refers to it any more. */
static bool is_over(const struct h2_stream *x)
{
	return h2_is_closed(x) && x->marks == 0 && (x->s.detached || !x->known) && x->held <= h2_now(x->h2);
}

/* ---- bytes that came ---- */

/* The application has consumed n bytes: only now may the client send as many more. */
static void consume(struct h2_stream *x, size_t n)
{
	if (n == 0)
		return;
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
static struct slice whole_body(struct h2_stream *x)
{
	const struct config *c = h2_config(x->h2);
	struct slice whole;

	if (x->in.len == 0 || !(x->heard & HEARD_END) || x->trailers || x->in.len > c->inline_body ||
	    (c->max_body && x->in.len > c->max_body))
		return (struct slice){0};
	whole = front(x, x->in.len);
	return whole.len == x->in.len ? whole : (struct slice){0}; /* it may lie in very many pieces */
}

/* It has gone with its request. */
static void body_taken(struct h2_stream *x)
{
	x->s.body_in = x->in.len;
	x->expects = false;
	x->acted |= HEARD_END;
	consume(x, x->in.len);
	stream_request_moves(&x->s, REQUEST_ENDED);
}

static void dispatch(struct h2_stream *x, struct request_head *head)
{
	const struct stream_sink *sink = h2_sink(x->h2);
	struct h2 *h2 = x->h2;
	uint64_t most = h2_config(h2)->max_requests;

	h2->requests++;
	x->known = true;
	x->expects = head->flags & REQUEST_EXPECTS_CONTINUE;
	x->holds = head->flags & REQUEST_MAY_UPGRADE;
	pace_start(&x->body, h2_now_us(h2), h2_config(h2)->body_grace * 1000);
	pace_stop(&x->body, h2_now_us(h2));
	head->peer = &h2->session.owner->peer;
	head->secure = h2->session.owner->secure;
	head->https = head->https || head->secure != NULL;
	if (head->body == BODY_NONE)
		stream_request_moves(&x->s, REQUEST_ENDED);
	else
		head->whole = whole_body(x);
	if (most && h2->requests >= most)
		h2_begin_drain(h2);
	sink->on_request(sink->ctx, &x->s, head);
	if (x->s.took_whole)
		body_taken(x);
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
	if (h2_is_closed(x)) {
		stream_detach(&x->s);
		return;
	}
	if (x->promise) {
		h2_push_head(x, env->fields, &head);
		dispatch(x, &head);
		free(x->promise);
		x->promise = NULL;
		return;
	}
	x->s.head_method = h2_asks_head(x->head);
	status = h2_examine(x->h2, x->head, x->bare, env->fields, &head);
	if (!status && http_is_misdirected(x->h2->session.owner, &head))
		status = 421;
	if (status) {
		h2_stream_refuse(x, status);
	} else {
		head.https = head.https || x->h2->session.owner->secure != NULL;
		note_push(x, &head);
		dispatch(x, &head);
	}
	h2_head_free(x->h2, x->head);
	x->head = NULL;
}

/* ---- its body ---- */

static void body_moved(struct h2_stream *x, size_t n)
{
	const struct config *c = h2_config(x->h2);

	pace_moved(&x->body, h2_now_us(x->h2), n, c->body_rate, c->body_grace * 1000);
}

static bool deliver_one(struct h2_stream *x)
{
	const struct stream_sink *sink = h2_sink(x->h2);
	uint64_t wanted = stream_wanted(&x->s), most = h2_config(x->h2)->max_body;
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
		h2_stream_refuse_body(x, 413, END_ERROR);
		return true;
	}
	sink->on_body(sink->ctx, &x->s, piece);
	consume(x, piece.len);
	body_moved(x, piece.len);
	if (stream_wanted(&x->s) == 0)
		pace_stop(&x->body, h2_now_us(x->h2));
	return true;
}

static void body_ended(struct h2_stream *x)
{
	const struct stream_sink *sink = h2_sink(x->h2);
	struct field *fields = h2_env_of(x->h2)->fields;
	unsigned count, status;

	x->acted |= HEARD_END;
	if (x->s.detached || x->s.request != REQUEST_OPEN)
		return;
	status = x->s.upgraded && x->trailers ? 400 : h2_trailers_of(x->trailers, fields, &count);
	if (status) {
		h2_stream_refuse_body(x, status, END_ERROR);
		return;
	}
	stream_request_moves(&x->s, REQUEST_ENDED);
	sink->on_end(sink->ctx, &x->s, fields, count);
	h2_head_free(x->h2, x->trailers);
	x->trailers = NULL;
}

/* No more bytes will come, but earlier ones still wait for credit, so the reader must not learn of the end yet. */
static void tell_left(struct h2_stream *x)
{
	const struct stream_sink *sink = h2_sink(x->h2);

	if (x->s.hung_up || x->s.detached)
		return;
	x->s.hung_up = true;
	sink->on_hangup(sink->ctx, &x->s);
}

/* Offers bytes of an upgraded stream; unused ones are offered again, with those that come after them. */
static void deliver_bytes(struct h2_stream *x)
{
	const struct stream_sink *sink = h2_sink(x->h2);
	size_t used = 1;

	while (used > 0 && x->in.len > 0 && stream_reads(&x->s)) {
		used = sink->on_bytes(sink->ctx, &x->s, front(x, CHUNK_MAX));
		x->s.body_in += used;
		consume(x, used);
	}
	if (x->s.detached || x->s.response == RESPONSE_ENDED)
		consume(x, x->in.len);
	else if (news(x, HEARD_END) && (x->in.len == 0 || stream_reads(&x->s)))
		body_ended(x);
	else if (news(x, HEARD_END))
		tell_left(x);
}

static void deliver(struct h2_stream *x)
{
	if (x->holds && x->s.response == RESPONSE_WAITING && !x->s.detached) {
		if (news(x, HEARD_END))
			tell_left(x);
		return;
	}
	if (x->s.upgraded) {
		deliver_bytes(x);
		return;
	}
	while (x->in.len > 0 && deliver_one(x))
		;
	if (x->in.len == 0 && news(x, HEARD_END))
		body_ended(x);
}

/* ---- its end ---- */

static void closed(struct h2_stream *x)
{
	x->acted |= HEARD_CLOSE;
	bufq_free(&x->in);
	bufq_free(&x->out);
	h2_count_waiting(x);
	if (x->finished)
		return;
	h2_stream_lost(x, (enum stream_end)x->why);
}

static void tell_dropped(struct h2_stream *x)
{
	const struct stream_sink *sink = h2_sink(x->h2);
	uint64_t dropped = x->dropped;

	x->dropped = 0;
	if (dropped && !x->s.detached)
		sink->on_room(sink->ctx, &x->s, dropped);
}

/*
 * The response is complete, so the rest of the request is not needed: RFC 9113 8.1. An upgraded stream is ended by both sides
 * (RFC 8441 5), so its client gets a moment to do so.
 */
static void end_request(struct h2_stream *x)
{
	uint64_t now = h2_now(x->h2);

	if (x->s.upgraded && !x->lingers) {
		x->lingers = now + h2_config(x->h2)->linger_timeout;
		h2_watch(x->h2, x->lingers);
	}
	if (now >= x->lingers)
		h2_stream_reset(x, NGHTTP2_NO_ERROR);
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
	if (x->finished && x->s.response == RESPONSE_ENDED && !(x->heard & HEARD_END))
		end_request(x);
	if (x->left && x->s.response == RESPONSE_ENDED)
		stream_done(x);
	if (is_over(x))
		h2_stream_free(x);
}

void h2_act_all(struct h2 *h2)
{
	struct list *l;

	while ((l = list_pop(&h2->todo)))
		act(container_of(l, struct h2_stream, todo));
	h2_look_around(h2);
}

void h2_tell_hangup(struct h2 *h2)
{
	const struct stream_sink *sink = h2_sink(h2);

	for (struct list *l = h2->streams.next; l != &h2->streams; l = l->next) {
		struct h2_stream *x = container_of(l, struct h2_stream, link);
		if (!x->known || x->s.detached || x->s.hung_up)
			continue;
		if (!(x->heard & HEARD_END)) {
			h2_stream_ends(x, END_CLOSED);
			h2_stream_cut(x, NGHTTP2_CANCEL);
			continue;
		}
		x->s.hung_up = true;
		sink->on_hangup(sink->ctx, &x->s);
	}
}
