/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_kind.h"

#include "proto/h2_life.h"
#include "proto/h2_push.h"
#include "proto/h2_read.h"
#include "proto/h2_stream.h"
#include "proto/h2_write.h"
#include "proto/mux_ops.h"
#include "proto/mux_stream.h"
#include "proto/mux_wait.h"

static void unreference(void *text)
{
	nghttp2_rcbuf_decref(text);
}

static bool resume(struct mux_stream *m)
{
	struct h2_stream *x = h2_of_stream(m);

	return nghttp2_session_resume_data(h2_session_of(x)->ng, x->id) != NGHTTP2_ERR_NOMEM;
}

static void credit(struct mux_stream *m, size_t n)
{
	struct h2_stream *x = h2_of_stream(m);

	if (nghttp2_session_consume_stream(h2_session_of(x)->ng, x->id, n) != 0)
		mux_fails(m->mux);
}

static void stop(struct mux_stream *m)
{
	h2_stream_reset(h2_of_stream(m), NGHTTP2_NO_ERROR);
}

static void cut(struct mux_stream *m, enum mux_cut why)
{
	h2_stream_cut(h2_of_stream(m), why == MUX_CANCELLED ? NGHTTP2_CANCEL : NGHTTP2_INTERNAL_ERROR);
}

static void malformed(struct mux_stream *m)
{
	h2_stream_cut(h2_of_stream(m), NGHTTP2_PROTOCOL_ERROR);
}

static void over(struct mux_stream *m)
{
	h2_stream_free(h2_of_stream(m));
}

static void drain(struct mux *mux)
{
	h2_begin_drain(h2_of_mux(mux));
}

static bool is_shut(const struct mux_stream *m)
{
	const struct h2_stream *x = h2_of_stream(m);

	return nghttp2_session_get_stream_remote_window_size(h2_session_of(x)->ng, x->id) <= 0;
}

static bool is_full(const struct mux *mux)
{
	return nghttp2_session_get_remote_window_size(h2_of_mux(mux)->ng) <= 0;
}

static bool is_stuck(const struct mux_stream *m)
{
	return !m->cold && (mux_blocked(m) || (m->waits && h2_of_mux(m->mux)->out.len > 0));
}

static bool push(struct mux_stream *m, struct slice target, const struct field *fields, unsigned count)
{
	return h2_push(h2_of_stream(m), target, fields, count);
}

const struct mux_kind h2_kind = {
	.streams = &mux_stream_ops,
	.failed = NGHTTP2_INTERNAL_ERROR,
	.indexes = true,
	.examine = h2_examine,
	.unreference = unreference,
	.put_head = h2_write_head,
	.put_info = h2_write_info,
	.resume = resume,
	.credit = credit,
	.stop = stop,
	.cut = cut,
	.malformed = malformed,
	.drop = mux_stream_drop,
	.over = over,
	.drain = drain,
	.push = push,
	.is_shut = is_shut,
	.is_full = is_full,
	.is_stuck = is_stuck,
	.deadline = mux_deadline,
	.timed_out = mux_timed_out,
};
