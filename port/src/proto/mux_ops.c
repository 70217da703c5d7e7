/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/mux_ops.h"

#include "proto/mux_stream.h"
#include "proto/mux_write.h"

/* There is something to send, or soon will be. */
static void begin_output(struct mux_stream *x)
{
	mux_pace_begins(x);
	mux_wake(x->mux);
}

static bool send_info(struct stream *s, unsigned status, const struct field *fields, unsigned count)
{
	struct mux_stream *x = mux_stream_of(s);

	mux_wake(x->mux);
	if (status == 100)
		x->expects = false;
	return mux_is_mute(x) || mux_write_info(x, status, fields, count);
}

static bool send_head(struct stream *s, const struct response_head *head)
{
	struct mux_stream *x = mux_stream_of(s);

	begin_output(x);
	x->whole = s->bodiless || head->length == 0;
	if (head->close)
		x->mux->kind->drain(x->mux);
	return mux_is_mute(x) || mux_write_head(x, head, x->whole);
}

static bool upgrade(struct stream *s, struct slice protocol, const struct field *fields, unsigned count)
{
	struct mux_stream *x = mux_stream_of(s);

	(void)protocol; /* there is no field for it */
	begin_output(x);
	s->status = 200;
	stream_request_moves(s, REQUEST_OPEN);
	mux_note(x, 0); /* bytes that came before the response */
	return mux_is_mute(x) || mux_write_upgrade(x, fields, count);
}

/* Sent bytes may have to stay until they are acknowledged. */
static bool append(struct mux_stream *x, struct slice data)
{
	bool well = x->mux->kind->keeps ? bufq_append(&x->out, data.at, data.len) : bufq_lend(&x->out, data.at, data.len);

	x->mux->borrows |= x->out.borrows;
	return well;
}

static bool send_data(struct stream *s, struct slice data)
{
	struct mux_stream *x = mux_stream_of(s);

	if (data.len == 0)
		return true;
	mux_wake(x->mux); /* lent bytes must be copied at the end of the turn */
	if (x->whole || mux_is_mute(x)) {
		x->room += data.len;
		mux_note(x, 0);
		return true;
	}
	if (!x->waits)
		begin_output(x);
	if (!append(x, data))
		return false;
	mux_count_waiting(x);
	return mux_write_more(x);
}

static bool send_file(struct stream *s, struct file *f, uint64_t offset, size_t n)
{
	struct mux_stream *x = mux_stream_of(s);

	mux_wake(x->mux);
	if (x->whole || mux_is_mute(x)) {
		x->room += FILE_COST;
		mux_note(x, 0);
		return true;
	}
	if (!x->waits)
		begin_output(x);
	if (!bufq_append_file(&x->out, f, offset, n))
		return false;
	mux_count_waiting(x);
	return mux_write_more(x);
}

static bool send_end(struct stream *s, const struct field *trailers, unsigned count)
{
	struct mux_stream *x = mux_stream_of(s);

	if (!x->waits)
		begin_output(x);
	mux_note(x, 0);
	if (x->whole || mux_is_mute(x))
		return true;
	if (count && !mux_write_trailers(x, trailers, count))
		return false;
	return mux_write_more(x);
}

static void consume(struct stream *s)
{
	struct mux_stream *x = mux_stream_of(s);
	struct mux *mux = x->mux;

	if (x->expects && x->in.len == 0 && !(x->heard & HEARD_END) && s->response == RESPONSE_WAITING && !mux_is_mute(x) &&
	    !mux_write_info(x, 100, NULL, 0))
		x->mux->kind->cut(x, MUX_FAILED);
	x->expects = false;
	pace_go(&x->body, mux_now_us(mux));
	if (mux_config(mux)->body_rate)
		mux_watch(mux, pace_deadline(&x->body));
	mux_note(x, 0);
	mux_wake(mux);
}

static void go_on(struct stream *s)
{
	struct mux_stream *x = mux_stream_of(s);

	if (mux_is_mute(x))
		return;
	begin_output(x);
	if (!mux_write_more(x))
		x->mux->kind->cut(x, MUX_FAILED);
}

static void discard(struct stream *s)
{
	struct mux_stream *x = mux_stream_of(s);

	s->wanted = 0;
	pace_start(&x->body, mux_now_us(x->mux), mux_config(x->mux)->body_grace * 1000);
	if (mux_config(x->mux)->body_rate)
		mux_watch(x->mux, pace_deadline(&x->body));
	mux_note(x, 0);
	mux_wake(x->mux);
}

static void abandon(struct stream *s, unsigned status, unsigned retry_after)
{
	struct mux_stream *x = mux_stream_of(s);

	discard(s);
	if (mux_is_mute(x))
		return;
	if (s->response == RESPONSE_WAITING && status)
		mux_stream_answer(x, status, retry_after);
	else if (!x->finished)
		x->mux->kind->cut(x, s->upgraded ? MUX_CANCELLED : MUX_FAILED);
}

static void release(struct stream *s)
{
	struct mux_stream *x = mux_stream_of(s);

	s->owed = false;
	x->held = 0;
	mux_note(x, 0);
	mux_wake(x->mux);
}

static bool push(struct stream *s, struct slice target, const struct field *fields, unsigned count)
{
	struct mux_stream *x = mux_stream_of(s);

	mux_wake(x->mux);
	return !x->mux->kind->push || x->mux->kind->push(x, target, fields, count);
}

const struct stream_ops mux_stream_ops = {
	.send_info = send_info,
	.send_head = send_head,
	.upgrade = upgrade,
	.send_data = send_data,
	.send_file = send_file,
	.send_end = send_end,
	.push = push,
	.consume = consume,
	.go_on = go_on,
	.discard = discard,
	.reset = abandon,
	.release = release,
};
