/* SPDX-License-Identifier: Apache-2.0 */
/* The writing half of an HTTP/1 session: bytes of responses leave, and streams end. */
#include "file/load.h"
#include "proto/h1_session.h"

/* Subtracts the bytes of the body that have left, including files, from the allowance. True: the allowance is used up. */
static bool spend(struct h1_stream *x)
{
	uint64_t left = x->body < x->out.len ? x->body : x->out.len, gone = x->body - left;

	x->body = left;
	stream_spends(&x->s, gone);
	return gone > 0 && x->s.allowance == 0;
}

/* Reports the bytes of the body that have left. Framing that is still in out is counted as body. */
static void tell_room(struct h1_stream *x)
{
	const struct stream_sink *sink = h1_sink(x->h1);
	uint64_t left = x->unsent < x->out.charged ? x->unsent : x->out.charged, gone = x->unsent - left;

	bool spent = spend(x);

	if (gone == 0 && !spent)
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
			h1_stream_ends(x, (enum stream_end)x->why);
			h1_stop(h1, CLOSE_CUT);
			return;
		}
		if (x->s.response != RESPONSE_ENDED || x->out.len > 0)
			return;
		stream_done(x);
	}
}

/* ---- files ---- */

/* Bytes before a part of a file leave together with its first bytes: separate writes would be two packets. */
enum { BESIDE = 16 * 1024 };

/* Whether more of a part has to be read into memory. */
static bool wants_load(const struct h1 *h1, const struct bufq_file *f)
{
	if (f->before >= FILE_WHOLE)
		return false;
	return !h1->session.owner->sends_files || file_is_cold(f->file, f->offset) || f->file->unsendable || f->len <= FILE_WHOLE ||
	       (f->before > 0 && f->before < BESIDE);
}

static void stop_at(struct h1_stream *x, enum loaded why, bool is_next)
{
	struct h1 *h1 = x->h1;

	if (why == LOADED_LATER) {
		h1->cold = h1->cold || is_next;
		return;
	}
	x->cut = true;
	x->why = why == LOADED_NEVER ? END_FILE : END_ERROR;
}

/* Reads once for bytes that are written from memory. `first`: this is the first response in the queue. */
static void load(struct h1_stream *x, bool first)
{
	struct bufq_file f;
	enum loaded found;

	if (x->cut || !bufq_file(&x->out, &f) || !wants_load(x->h1, &f))
		return;
	found = file_load(&x->out, FILE_WHOLE - f.before);
	if (found != LOADED_SOME)
		stop_at(x, found, first && f.before == 0);
}

/* A response that waits for a disk, or for the rate of its peer, does not wait for the client. */
static void set_pace(struct h1 *h1)
{
	if (h1->cold || h1->held)
		pace_stop(&h1->out, h1_now_us(h1));
	else
		pace_go(&h1->out, h1_now_us(h1));
}

/* The vectors that contain the first n bytes. */
static int cut_iov(struct iovec *iov, int count, size_t n)
{
	int i = 0;

	for (; i < count && n > 0; i++) {
		iov[i].iov_len = iov[i].iov_len < n ? iov[i].iov_len : n;
		n -= iov[i].iov_len;
	}
	return i;
}

static int gather(struct h1 *h1, struct iovec *iov, int max)
{
	bool held = false;
	int count = 0;

	for (struct list *l = h1->streams.next; l != &h1->streams && count < max && !held; l = l->next) {
		struct h1_stream *x = container_of(l, struct h1_stream, link);
		size_t most;
		int n;
		if (x->out.files)
			load(x, count == 0);
		n = bufq_iov(&x->out, iov + count, max - count);
		most = h1_may_leave(x);
		held = most < x->out.len;
		count += held ? cut_iov(iov + count, n, most) : n;
		if (x->s.response != RESPONSE_ENDED || x->cut || x->close || x->out.files)
			break;
	}
	return count;
}

/* True: the first response has neither bytes to write nor anything to report, so no other has. */
static bool rests(struct h1 *h1)
{
	const struct h1_stream *x = h1_first(h1);

	if (x && (x->out.len > 0 || x->unsent > 0 || x->body > 0 || x->cut || x->s.response == RESPONSE_ENDED))
		return false;
	h1->cold = h1->held = false;
	set_pace(h1);
	return true;
}

/* A response may have waited, complete, for one of which nothing was left to write: only now it waits for the client. */
static void settle_before_output(struct h1 *h1)
{
	struct h1_stream *x = h1_first(h1);
	bool nothing_waited = x->out.len == 0;

	settle(h1);
	x = h1_first(h1);
	if (nothing_waited && x && x->out.len > 0)
		pace_start(&h1->out, h1_now_us(h1), h1_config(h1)->write_timeout * 1000);
}

int h1_output(struct session *s, struct iovec *iov, int max)
{
	struct h1 *h1 = h1_of(s);
	int count;

	if (rests(h1))
		return 0;
	settle_before_output(h1);
	h1->cold = false;
	h1->held = h1_is_held(h1);
	count = gather(h1, iov, max);
	set_pace(h1);
	if (count == 0)
		settle(h1);
	return count;
}

bool h1_file(struct session *s, struct bufq_file *f)
{
	struct h1_stream *x = h1_first(h1_of(s));
	enum loaded found;
	uint64_t most;

	if (!x || x->cut || x->h1->cold || !bufq_file(&x->out, f) || f->before > 0)
		return false;
	most = h1_may_leave(x);
	if (most == 0)
		return false;
	most = most < FILE_AT_ONCE ? most : FILE_AT_ONCE;
	f->len = f->len < most ? f->len : most;
	found = file_look(f->file, f->offset, &f->len);
	if (found == LOADED_SOME)
		return true;
	stop_at(x, found, true);
	set_pace(x->h1);
	settle(x->h1);
	return false;
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

bool h1_sent(struct session *s, size_t n)
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
	return !rests(h1);
}

void h1_own(struct session *s)
{
	struct h1 *h1 = h1_of(s);

	for (struct list *l = h1->streams.next; l != &h1->streams; l = l->next) {
		struct h1_stream *x = container_of(l, struct h1_stream, link);
		if (x->out.borrows)
			x->cut = !bufq_own(&x->out) || x->cut;
	}
}
