/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/mux_act.h"

#include "proto/mux_head.h"
#include "proto/mux_stream.h"

static void stream_done(struct mux_stream *x)
{
	const struct stream_sink *sink = mux_sink(x->mux);

	if (x->s.detached)
		return;
	stream_detach(&x->s);
	sink->on_done(sink->ctx, &x->s);
}

/* What was recorded, and not yet acted on. */
static bool news(const struct mux_stream *x, enum mux_heard what)
{
	return x->heard & ~x->acted & what;
}

/* Neither the library nor the sink refers to it any more. */
static bool is_over(const struct mux_stream *x)
{
	return mux_is_closed(x) && x->marks == 0 && (x->s.detached || !x->known) && x->held <= mux_now(x->mux);
}

/* ---- bytes that came ---- */

/* The application has consumed n bytes: only now may the client send as many more. */
static void consume(struct mux_stream *x, size_t n)
{
	if (n == 0)
		return;
	bufq_consume(&x->in, n);
	if (!(x->heard & (HEARD_END | HEARD_CLOSE)))
		x->mux->kind->credit(x, n);
}

/* At most n bytes of the body, in one piece. */
static struct slice front(struct mux_stream *x, uint64_t n)
{
	uint8_t *chunk = mux_shared(x->mux)->chunk;
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
static struct slice whole_body(struct mux_stream *x)
{
	const struct config *c = mux_config(x->mux);
	struct slice whole;

	if (x->in.len == 0 || !(x->heard & HEARD_END) || x->trailers || x->in.len > c->inline_body ||
	    (c->max_body && x->in.len > c->max_body))
		return (struct slice){0};
	whole = front(x, x->in.len);
	return whole.len == x->in.len ? whole : (struct slice){0}; /* it may consist of very many pieces */
}

/* It was delivered with its request. */
static void body_taken(struct mux_stream *x)
{
	x->s.body_in = x->in.len;
	x->expects = false;
	x->acted |= HEARD_END;
	consume(x, x->in.len);
	stream_request_moves(&x->s, REQUEST_ENDED);
}

static void dispatch(struct mux_stream *x, struct request_head *head)
{
	const struct stream_sink *sink = mux_sink(x->mux);
	struct mux *mux = x->mux;
	uint64_t most = mux_config(mux)->max_requests;

	mux->requests++;
	x->known = true;
	x->expects = head->flags & REQUEST_EXPECTS_CONTINUE;
	x->holds = head->flags & REQUEST_MAY_UPGRADE;
	pace_start(&x->body, mux_now_us(mux), mux_config(mux)->body_grace * 1000);
	pace_stop(&x->body, mux_now_us(mux));
	head->peer = &mux->owner->peer;
	head->secure = mux->owner->secure;
	head->https = head->https || head->secure != NULL;
	if (head->body == BODY_NONE)
		stream_request_moves(&x->s, REQUEST_ENDED);
	else
		head->whole = whole_body(x);
	if (most && mux->requests >= most)
		mux->kind->drain(mux);
	sink->on_request(sink->ctx, &x->s, head);
	if (x->s.took_whole)
		body_taken(x);
}

static void take_request(struct mux_stream *x)
{
	struct session_owner *owner = x->mux->owner;
	struct request_head head;
	unsigned status;

	x->acted |= HEARD_HEAD;
	if (mux_is_mute(x) || x->s.detached) { /* the session has ended before: nobody would report its end */
		stream_detach(&x->s);
		return;
	}
	if (x->head)
		x->s.head_method = mux_head_asks_head(x->head);
	status = x->mux->kind->examine(x, owner->env->fields, &head);
	if (!status && x->head && http_is_misdirected(owner, &head))
		status = 421;
	if (status)
		mux_stream_refuse(x, status);
	else
		dispatch(x, &head);
	mux_head_free(x->mux, x->head);
	x->head = NULL;
}

/* ---- its body ---- */

static void body_moved(struct mux_stream *x, size_t n)
{
	const struct config *c = mux_config(x->mux);

	pace_moved(&x->body, mux_now_us(x->mux), n, c->body_rate, c->body_grace * 1000);
}

/* Nobody wants it. A client that has sent a part of it does not wait for 100 Continue, so the rest has a deadline. */
static void drop_body(struct mux_stream *x)
{
	body_moved(x, x->in.len);
	consume(x, x->in.len);
	if (x->expects && mux_config(x->mux)->body_rate)
		mux_watch(x->mux, pace_deadline(&x->body));
	x->expects = false;
}

static bool deliver_one(struct mux_stream *x)
{
	const struct stream_sink *sink = mux_sink(x->mux);
	uint64_t wanted = stream_wanted(&x->s), most = mux_config(x->mux)->max_body;
	struct slice piece;

	if (x->s.detached || x->s.request != REQUEST_OPEN) {
		drop_body(x);
		return false;
	}
	if (wanted == 0)
		return false;
	piece = front(x, wanted);
	x->s.body_in += piece.len;
	if (most && x->s.body_in > most) {
		mux_stream_refuse_body(x, 413, END_ERROR);
		return true;
	}
	sink->on_body(sink->ctx, &x->s, piece);
	consume(x, piece.len);
	body_moved(x, piece.len);
	if (stream_wanted(&x->s) == 0)
		pace_stop(&x->body, mux_now_us(x->mux));
	return true;
}

static void body_ended(struct mux_stream *x)
{
	const struct stream_sink *sink = mux_sink(x->mux);
	struct field *fields = mux_env_of(x->mux)->fields;
	unsigned count, status;

	x->acted |= HEARD_END;
	if (x->s.detached || x->s.request != REQUEST_OPEN)
		return;
	status = x->s.upgraded && x->trailers ? 400 : mux_head_trailers(x->trailers, fields, &count);
	if (status) {
		mux_stream_refuse_body(x, status, END_ERROR);
		return;
	}
	stream_request_moves(&x->s, REQUEST_ENDED);
	sink->on_end(sink->ctx, &x->s, fields, count);
	mux_head_free(x->mux, x->trailers);
	x->trailers = NULL;
}

/* No more bytes will come, but earlier ones still wait for credit, so the reader must not learn of the end yet. */
static void tell_left(struct mux_stream *x)
{
	const struct stream_sink *sink = mux_sink(x->mux);

	if (x->s.hung_up || x->s.detached)
		return;
	x->s.hung_up = true;
	sink->on_hangup(sink->ctx, &x->s);
}

/* Offers bytes of an upgraded stream; unused ones are offered again, with those that come after them. */
static void deliver_bytes(struct mux_stream *x)
{
	const struct stream_sink *sink = mux_sink(x->mux);
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

static void deliver(struct mux_stream *x)
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

/* The client does not want the response, or will never complete its request. */
static void left(struct mux_stream *x)
{
	x->acted |= HEARD_LEFT;
	bufq_free(&x->in);
	mux_count_waiting(x);
	if (x->finished)
		return;
	mux_stream_lost(x, (enum stream_end)x->why);
	x->mux->kind->cut(x, MUX_CANCELLED);
}

static void closed(struct mux_stream *x)
{
	x->acted |= HEARD_CLOSE;
	bufq_free(&x->in);
	x->mux->kind->drop(x);
	if (!x->finished)
		mux_stream_lost(x, (enum stream_end)x->why);
}

static void tell_room(struct mux_stream *x)
{
	const struct stream_sink *sink = mux_sink(x->mux);
	uint64_t room = x->room;
	bool spent = x->spent;

	x->room = 0;
	x->spent = false;
	if ((room || spent) && !x->s.detached)
		sink->on_room(sink->ctx, &x->s, room);
}

/*
 * The response is complete, so the rest of the request is not needed (RFC 9113 8.1, RFC 9114 4.1). An upgraded stream is ended by both sides
 * (RFC 8441 5), so its client gets a moment to do so.
 */
static void end_request(struct mux_stream *x)
{
	uint64_t now = mux_now(x->mux);

	if (x->s.upgraded && !x->lingers) {
		x->lingers = now + mux_config(x->mux)->linger_timeout;
		mux_watch(x->mux, x->lingers);
	}
	if (now >= x->lingers)
		x->mux->kind->stop(x);
}

/* A file is shorter than FILE said, so the response cannot be complete. */
static void cut_for_file(struct mux_stream *x)
{
	x->why = END_FILE;
	x->mux->kind->cut(x, MUX_FAILED);
	mux_note(x, HEARD_LEFT);
}

static void act(struct mux_stream *x)
{
	if (news(x, HEARD_HEAD))
		take_request(x);
	if (x->acted & HEARD_HEAD)
		deliver(x);
	if (x->broken && !x->reset)
		cut_for_file(x);
	if (news(x, HEARD_LEFT))
		left(x);
	if (news(x, HEARD_CLOSE))
		closed(x);
	tell_room(x);
	if (x->finished && x->s.response == RESPONSE_ENDED && !(x->heard & HEARD_END))
		end_request(x);
	if (x->left && x->s.response == RESPONSE_ENDED)
		stream_done(x);
	if (is_over(x))
		x->mux->kind->over(x);
}

void mux_act_all(struct mux *mux)
{
	struct list *l;

	while ((l = list_pop(&mux->pending)))
		act(container_of(l, struct mux_stream, pending));
}
