/* The writing half of an HTTP/1 session: what of the responses has left, and what follows from that. */
#include "proto/h1_session.h"

/* Reports the bytes of the body that have left. Framing that is still in out is counted as body. */
static void tell_room(struct h1_stream *x)
{
	const struct stream_sink *sink = h1_sink(x->h1);
	uint64_t left = x->unsent < x->out.len ? x->unsent : x->out.len, gone = x->unsent - left;

	if (gone == 0)
		return;
	x->unsent = left;
	if (!x->s.detached)
		sink->on_room(sink->ctx, &x->s, gone);
}

/* Deals with the rest of a request body that nobody reads. */
static void skip_rest(struct h1 *h1)
{
	h1->reading = NULL;
	h1->skipped = 0;
	if (h1->state == H1_BODY)
		h1_moves(h1, H1_SKIP);
	h1->since = h1_now(h1);
}

static void stream_done(struct h1_stream *x)
{
	const struct stream_sink *sink = h1_sink(x->h1);
	struct h1 *h1 = x->h1;
	bool close = x->close;

	if (h1->reading == x)
		skip_rest(h1);
	if (!x->s.detached) {
		stream_detach(&x->s);
		sink->on_done(sink->ctx, &x->s);
	}
	h1_stream_free(x);
	if (h1->open == 0 && h1->state == H1_IDLE)
		h1->since = h1_now(h1);
	close = close || (h1->last && h1->open == 0 && h1->state == H1_IDLE);
	if (close) {
		h1_stop(h1, h1->eof ? CLOSE_NOW : CLOSE_LINGER);
		h1_end_streams(h1, END_CLOSED);
	}
}

/* Ends the streams whose response has left, in their order. */
static void settle(struct h1 *h1)
{
	struct h1_stream *x;

	while ((x = h1_first(h1))) {
		tell_room(x);
		if (x->cut) {
			h1_stop(h1, CLOSE_CUT);
			return;
		}
		if (x->s.response != RESPONSE_ENDED || x->out.len > 0)
			return;
		stream_done(x);
	}
}

int h1_output(struct session *s, struct iovec *iov, int max)
{
	struct h1 *h1 = h1_of(s);
	int count = 0;

	settle(h1);
	for (struct list *l = h1->streams.next; l != &h1->streams && count < max; l = l->next) {
		struct h1_stream *x = container_of(l, struct h1_stream, link);
		count += bufq_iov(&x->out, iov + count, max - count);
		if (x->s.response != RESPONSE_ENDED || x->cut || x->close)
			break;
	}
	return count;
}

/* Each response that waits needs its own rate: many of them on one connection cost as much memory as on many. */
static void moved(struct h1 *h1, uint64_t n)
{
	const struct config *c = h1_config(h1);
	unsigned waiting = 0;

	for (struct list *l = h1->streams.next; l != &h1->streams; l = l->next)
		waiting += container_of(l, struct h1_stream, link)->out.len > 0;
	pace_moved(&h1->out, h1_now_us(h1), n, c->response_rate * waiting, c->write_timeout * 1000);
}

void h1_taken(struct session *s, uint64_t n)
{
	moved(h1_of(s), n);
}

void h1_sent(struct session *s, size_t n)
{
	struct h1 *h1 = h1_of(s);

	moved(h1, n);
	for (struct list *l = h1->streams.next; n > 0; l = l->next) {
		struct h1_stream *x = container_of(l, struct h1_stream, link);
		size_t part = n < x->out.len ? n : x->out.len;
		bufq_consume(&x->out, part);
		x->s.interim = x->out.len < x->s.interim ? x->out.len : x->s.interim;
		n -= part;
	}
	settle(h1);
}

void h1_own(struct session *s)
{
	struct h1 *h1 = h1_of(s);

	for (struct list *l = h1->streams.next; l != &h1->streams; l = l->next) {
		struct h1_stream *x = container_of(l, struct h1_stream, link);
		x->cut = !bufq_own(&x->out) || x->cut;
	}
}
