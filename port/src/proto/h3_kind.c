/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h3_kind.h"

#include "proto/h3_life.h"
#include "proto/h3_stream.h"
#include "proto/h3_write.h"
#include "proto/mux_head.h"
#include "proto/mux_ops.h"
#include "proto/mux_stream.h"
#include "proto/mux_wait.h"

static unsigned examine(struct mux_stream *m, struct field *fields, struct request_head *head)
{
	unsigned status = mux_head_examine(m, 30, fields, head);

	head->https = true;
	return status;
}

static void unreference(void *text)
{
	nghttp3_rcbuf_decref(text);
}

static bool resume(struct mux_stream *m)
{
	struct h3_stream *x = h3_of_stream(m);

	return nghttp3_conn_resume_stream(h3_session_of(x)->ng, x->id) == 0;
}

static void credit(struct mux_stream *m, size_t n)
{
	h3_of_mux(m->mux)->carrier->credit(m->mux->owner, h3_of_stream(m)->id, n);
}

static void stop(struct mux_stream *m)
{
	if (!m->stopped)
		mux_pace_begins(m); /* the client has this long to end its side */
	h3_stream_stop(h3_of_stream(m), NGHTTP3_H3_NO_ERROR);
}

static void cut(struct mux_stream *m, enum mux_cut why)
{
	h3_stream_cut(h3_of_stream(m), why == MUX_CANCELLED ? NGHTTP3_H3_REQUEST_CANCELLED : NGHTTP3_H3_INTERNAL_ERROR);
}

static void malformed(struct mux_stream *m)
{
	h3_stream_abort(h3_of_stream(m), NGHTTP3_H3_MESSAGE_ERROR);
}

static void drop(struct mux_stream *m)
{
	h3_stream_drop(h3_of_stream(m));
}

static void over(struct mux_stream *m)
{
	struct h3 *h3 = h3_of_mux(m->mux);

	h3_stream_free(h3_of_stream(m));
	h3_allow_one_more(h3);
}

static void drain(struct mux *mux)
{
	h3_begin_drain(h3_of_mux(mux));
}

static bool is_shut(const struct mux_stream *m)
{
	return h3_of_mux(m->mux)->carrier->is_shut(m->mux->owner, h3_of_stream(m)->id);
}

static bool is_full(const struct mux *mux)
{
	const struct h3 *h3 = h3_of_mux(mux);

	return h3->unacked >= h3_config(h3)->h3_unacked || h3->carrier->is_full(mux->owner);
}

static bool is_stuck(const struct mux_stream *m)
{
	return mux_blocked(m) || m->left || !m->known;
}

const struct mux_kind h3_kind = {
	.streams = &mux_stream_ops,
	.failed = NGHTTP3_H3_INTERNAL_ERROR,
	.keeps = true,
	.examine = examine,
	.unreference = unreference,
	.put_head = h3_write_head,
	.put_info = h3_write_info,
	.resume = resume,
	.credit = credit,
	.stop = stop,
	.cut = cut,
	.malformed = malformed,
	.drop = drop,
	.over = over,
	.drain = drain,
	.is_shut = is_shut,
	.is_full = is_full,
	.is_stuck = is_stuck,
	.deadline = h3_stream_deadline,
	.timed_out = h3_stream_timed_out,
};
