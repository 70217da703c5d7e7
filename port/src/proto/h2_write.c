/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_write.h"

#include "file/load.h"
#include "proto/mux_write.h"

MUX_SAME_NV(nghttp2_nv);
_Static_assert((unsigned)NGHTTP2_NV_FLAG_NO_INDEX == MUX_NO_INDEX && (unsigned)NGHTTP2_NV_FLAG_NO_COPY_NAME == MUX_NO_COPY_NAME &&
		       (unsigned)NGHTTP2_NV_FLAG_NO_COPY_VALUE == MUX_NO_COPY_VALUE,
	       "other flags");

/* ---- heads ---- */

/* An interim answer or a promise has become a frame, or never will. */
static void aside_gone(struct h2_stream *x)
{
	if (x && x->asides > 0 && --x->asides == 0)
		x->m.s.interim = 0;
}

bool h2_write_info(struct mux_stream *m, const struct mux_nv *nv, size_t n)
{
	struct h2_stream *x = h2_of_stream(m);

	x->asides++;
	return nghttp2_submit_headers(h2_session_of(x)->ng, NGHTTP2_FLAG_NONE, x->id, NULL, h2_nv_of(nv), n, NULL) == 0;
}

static ssize_t pull(nghttp2_session *ng, int32_t id, uint8_t *at, size_t len, uint32_t *flags, nghttp2_data_source *source,
		    void *ctx);

bool h2_write_head(struct mux_stream *m, const struct mux_nv *nv, size_t n, bool body)
{
	struct h2_stream *x = h2_of_stream(m);
	nghttp2_data_provider provider = {{.ptr = x}, pull};

	return nghttp2_submit_response(h2_session_of(x)->ng, x->id, h2_nv_of(nv), n, body ? &provider : NULL) == 0;
}

/* ---- bodies: nghttp2 pulls, in the order of priority ---- */

/* The end of the body: END_STREAM on the current frame if there are no trailers. */
static void pull_end(nghttp2_session *ng, struct h2_stream *x, uint32_t *flags)
{
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (!x->m.last)
		return;
	*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
	if (nghttp2_submit_trailer(ng, x->id, h2_nv_of(x->m.last->nv), x->m.last->count) != 0)
		mux_fails(x->m.mux);
}

static ssize_t defer(struct h2_stream *x)
{
	x->m.deferred = true;
	return NGHTTP2_ERR_DEFERRED;
}

/* The file is shorter than FILE said: the stream ends, which is not counted against the client. */
static ssize_t fail(struct h2_stream *x, enum loaded why)
{
	if (why == LOADED_NO_MEMORY)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	x->ours = true;
	x->m.why = END_FILE;
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* How many of the first `len` bytes of the body are in memory, after one attempt to read the file; or an error. */
static ssize_t have(struct h2_stream *x, size_t len)
{
	struct bufq_file f;
	enum loaded found = LOADED_SOME;

	if (bufq_file(&x->m.out, &f) && f.before < len)
		found = file_load(&x->m.out, len - f.before);
	if (!bufq_file(&x->m.out, &f))
		f.before = x->m.out.len;
	if (f.before > 0)
		return (ssize_t)(len < f.before ? len : f.before); /* the error is found again after these bytes */
	if (found != LOADED_LATER)
		return fail(x, found);
	mux_is_cold(&x->m, true);
	return defer(x);
}

static ssize_t pull(nghttp2_session *ng, int32_t id, uint8_t *at, size_t len, uint32_t *flags, nghttp2_data_source *source,
		    void *ctx)
{
	struct h2_stream *x = source->ptr;
	bool ended = x->m.s.response == RESPONSE_ENDED;

	(void)id;
	(void)at;
	(void)ctx;
	if (x->m.out.len == 0 ? !ended : stream_allows(&x->m.s) == 0)
		return defer(x);
	if (len > stream_allows(&x->m.s))
		len = (size_t)x->m.s.allowance;
	if (x->m.out.files) {
		ssize_t in_memory = have(x, len);
		if (in_memory <= 0)
			return in_memory;
		len = (size_t)in_memory;
	}
	if (len >= x->m.out.len) {
		len = x->m.out.len;
		if (ended)
			pull_end(ng, x, flags);
	}
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	return (ssize_t)len;
}

/* ---- the output ---- */

bool h2_put(struct h2 *h2, const void *bytes, size_t n)
{
	if (h2->out.len == 0)
		pace_start(&h2->pace, mux_now_us(&h2->m), mux_write_grace(&h2->m));
	h2->queued += n;
	return bufq_append(&h2->out, bytes, n);
}

static struct h2_mark *last_mark(struct h2 *h2)
{
	return buf_len(&h2->marks) ? (struct h2_mark *)(void *)(h2->marks.data + h2->marks.tail) - 1 : NULL;
}

/* Records that the output up to here belongs to this stream. */
static bool mark(struct h2_stream *x, uint32_t bytes, bool end)
{
	struct h2_mark new = {x, h2_session_of(x)->queued, bytes, end}, *last = last_mark(h2_session_of(x));

	if (last && last->x == x && !last->end) {
		last->at = new.at;
		last->bytes += bytes;
		last->end = end;
		return true;
	}
	x->m.marks++;
	return buf_append(&h2_session_of(x)->marks, &new, sizeof new);
}

/* A part of a stream's body. */
static bool put_body(struct h2_stream *x, size_t n)
{
	size_t before = x->m.out.charged;
	bool moved = bufq_move(&x->m.out, &h2_session_of(x)->out, n);

	h2_session_of(x)->queued += n;
	return moved && mark(x, (uint32_t)(before - x->m.out.charged), false);
}

/* A DATA frame: moves its payload from the stream's queue to the output. The pause lets h2_pump check how much waits. */
static int on_send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t len, nghttp2_data_source *source,
			void *ctx)
{
	struct h2 *h2 = ctx;
	struct h2_stream *x = source->ptr;

	(void)ng;
	(void)frame;
	if (!h2_put(h2, head, 9) || !put_body(x, len))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	stream_spends(&x->m.s, len);
	mux_pace_moved(&x->m, len);
	mux_framed_moved(&h2->m, len);
	mux_count_waiting(&x->m);
	h2_scan_earn(&h2->scan);
	return h2->out.len < H2_OUT_HIGH ? 0 : NGHTTP2_ERR_PAUSE;
}

static int made_last(struct h2 *h2, struct h2_stream *x)
{
	x->m.finished = true;
	mux_note(&x->m, 0);
	if (!mark(x, 0, true))
		h2->m.fault = NGHTTP2_INTERNAL_ERROR;
	return 0;
}

/* A stream that is reset for the client's error costs us a frame, and may have cost the application a request. */
static void count_reset(struct h2 *h2, struct h2_stream *x, uint32_t code)
{
	const struct config *c = h2_config(h2);
	uint64_t now_us = mux_now_us(&h2->m);
	if (code == NGHTTP2_NO_ERROR || code == NGHTTP2_REFUSED_STREAM || (x && x->ours))
		return; /* refused streams are counted when they arrive */
	if (!bucket_take(&h2->m.own_resets, now_us, c->h2_own_resets, 10000000) && !h2->m.fault)
		h2->m.fault = NGHTTP2_ENHANCE_YOUR_CALM;
}

static int on_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx)
{
	struct h2 *h2 = ctx;
	struct h2_stream *x = h2_stream_of(h2, frame->hd.stream_id);

	(void)ng;
	switch (frame->hd.type) {
	case NGHTTP2_RST_STREAM:
		count_reset(h2, x, frame->rst_stream.error_code);
		if (x && !x->ours && !x->m.finished)
			x->m.why = END_ERROR;
		return 0;
	case NGHTTP2_PUSH_PROMISE:
		aside_gone(x);
		x = h2_stream_of(h2, frame->push_promise.promised_stream_id);
		if (x)
			mux_note(&x->m, HEARD_HEAD);
		return 0;
	case NGHTTP2_HEADERS:
		aside_gone(x);
		return x && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) ? made_last(h2, x) : 0;
	case NGHTTP2_DATA:
		return x && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) ? made_last(h2, x) : 0;
	default:
		return 0;
	}
}

/* A promise that came too late: nghttp2 may not have made its stream. */
static void forget_promise(struct h2 *h2, int32_t id)
{
	for (struct list *l = h2->m.streams.next; l != &h2->m.streams; l = l->next) {
		struct h2_stream *x = container_of(l, struct h2_stream, m.link);
		if (x->id == id)
			mux_note(&x->m, HEARD_CLOSE);
	}
}

/* A head of ours that nghttp2 would not send (it is too long): the stream cannot go on. */
static int on_not_sent(nghttp2_session *ng, const nghttp2_frame *frame, int why, void *ctx)
{
	struct h2 *h2 = ctx;
	struct h2_stream *x = h2_stream_of(h2, frame->hd.stream_id);

	if (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_PUSH_PROMISE)
		aside_gone(x);
	if (frame->hd.type == NGHTTP2_PUSH_PROMISE)
		forget_promise(h2, frame->push_promise.promised_stream_id);
	if (!x || frame->hd.type != NGHTTP2_HEADERS || why == NGHTTP2_ERR_STREAM_CLOSED || why == NGHTTP2_ERR_STREAM_CLOSING)
		return 0;
	x->ours = true;
	x->m.why = END_ERROR;
	nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, x->id, NGHTTP2_INTERNAL_ERROR);
	return 0;
}

void h2_write_callbacks(nghttp2_session_callbacks *callbacks)
{
	nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_not_sent);
}

static bool wants_more(const struct h2 *h2)
{
	return h2->out.len < H2_OUT_HIGH && buf_len(&h2->marks) < H2_MARKS_HIGH * sizeof(struct h2_mark) &&
	       nghttp2_session_want_write(h2->ng);
}

bool h2_pump(struct h2 *h2)
{
	const uint8_t *bytes;
	ssize_t n;

	while (!h2->broken && wants_more(h2)) {
		n = nghttp2_session_mem_send(h2->ng, &bytes);
		h2->broken = n < 0 || (n > 0 && !h2_put(h2, bytes, (size_t)n)) || h2_memory_starved(&h2_shared(h2)->memory);
		if (n <= 0)
			break;
	}
	return !h2->broken;
}
