/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h3_read.h"

#include <stdlib.h>

#include "proto/h3_stream.h"
#include "proto/mux_head.h"

enum {
	/* Bytes of framing that a stream may have in addition to its header blocks: in all, and for each byte of a body. */
	AROUND_FREE = 64 * 1024,
	AROUND_EACH = 3,
	/* Bytes on a client's unidirectional streams (SETTINGS, priorities, the QPACK table): at first, and for each request. */
	STRAY_FREE = 64 * 1024,
	STRAY_EACH = 4096,
};

static struct slice text_of(nghttp3_rcbuf *rcbuf)
{
	nghttp3_vec vec = nghttp3_rcbuf_get_buf(rcbuf);

	return slice_of(vec.base, vec.len);
}

/* ---- nghttp3's callbacks: they record ---- */

/* Records why the session must end, and makes nghttp3 return at once. */
static int give_up(struct h3 *h3, uint64_t code)
{
	h3_give_up(h3, code);
	return NGHTTP3_ERR_CALLBACK_FAILURE;
}

static int on_begin_block(nghttp3_conn *ng, int64_t id, void *ctx, void *user)
{
	struct h3 *h3 = ctx;
	struct h3_stream *x = h3_stream_of(h3, id);

	(void)ng;
	(void)user;
	if (!x)
		return 0;
	mux_head_free(&h3->m, x->block);
	x->block = mux_head_new(&h3->m, h3_config(h3)->h3_max_header_bytes, h3_config(h3)->h3_max_header_fields);
	return x->block ? 0 : give_up(h3, NGHTTP3_H3_INTERNAL_ERROR);
}

static int on_field(nghttp3_conn *ng, int64_t id, int32_t token, nghttp3_rcbuf *name, nghttp3_rcbuf *value, uint8_t flags,
		    void *ctx, void *user)
{
	struct h3 *h3 = ctx;
	struct h3_stream *x = h3_stream_of(h3, id);

	(void)ng;
	(void)token;
	(void)flags;
	(void)user;
	if (!x || !x->block)
		return 0;
	switch (mux_head_take(&h3->m, x->block, text_of(name), text_of(value))) {
	case MUX_TOOK:
		mux_head_refer(x->block, name, value);
		nghttp3_rcbuf_incref(name);
		nghttp3_rcbuf_incref(value);
		return 0;
	case MUX_TOOK_COPY:
		return 0;
	case MUX_TOOK_ALL:
		return give_up(h3, NGHTTP3_H3_EXCESSIVE_LOAD);
	default:
		return give_up(h3, NGHTTP3_H3_INTERNAL_ERROR);
	}
}

/* nghttp3 silently drops fields with invalid octets (RFC 9114 10.3). */
static bool lost_some(const struct mux_head *block, uint32_t lines)
{
	return block->all_fields != lines;
}

static void came_out(struct h3_stream *x)
{
	x->sections++;
	h3_is_queued(x, false);
}

static int on_head(nghttp3_conn *ng, int64_t id, int end, void *ctx, void *user)
{
	struct h3_stream *x = h3_stream_of(ctx, id);

	(void)ng;
	(void)user;
	if (!x)
		return 0;
	x->m.bare = end;
	x->block->malformed = lost_some(x->block, x->scan.head_lines);
	x->m.head = x->block;
	x->block = NULL;
	came_out(x);
	mux_note(&x->m, HEARD_HEAD);
	return 0;
}

static int on_trailers(nghttp3_conn *ng, int64_t id, int end, void *ctx, void *user)
{
	struct h3_stream *x = h3_stream_of(ctx, id);

	(void)ng;
	(void)end;
	(void)user;
	if (!x)
		return 0;
	mux_head_free(x->m.mux, x->m.trailers);
	x->block->malformed = lost_some(x->block, x->scan.last_lines);
	x->m.trailers = x->block;
	x->block = NULL;
	came_out(x);
	return 0;
}

static int on_data(nghttp3_conn *ng, int64_t id, const uint8_t *data, size_t len, void *ctx, void *user)
{
	struct h3 *h3 = ctx;
	struct h3_stream *x = h3_stream_of(h3, id);

	(void)ng;
	(void)user;
	/* a stream that is not read must not close the window of the others; the streams' own windows bound what is stored */
	h3->carrier->credit_all(h3->m.owner, len);
	if (!x || x->m.stopped)
		return 0;
	if (!bufq_append(&x->m.in, data, len))
		return give_up(h3, NGHTTP3_H3_INTERNAL_ERROR);
	x->came += len;
	h3->progress += len;
	mux_note(&x->m, 0);
	return 0;
}

/* Bytes that waited in nghttp3 for the QPACK table. */
static int on_late_use(nghttp3_conn *ng, int64_t id, size_t n, void *ctx, void *user)
{
	struct h3 *h3 = ctx;

	(void)ng;
	(void)user;
	h3->carrier->credit(h3->m.owner, id, n);
	h3->carrier->credit_all(h3->m.owner, n);
	return 0;
}

static int on_end(nghttp3_conn *ng, int64_t id, void *ctx, void *user)
{
	struct h3_stream *x = h3_stream_of(ctx, id);

	(void)ng;
	(void)user;
	if (x)
		mux_note(&x->m, HEARD_END);
	return 0;
}

/* nghttp3 wants a stream to end: its head is malformed, or it came after a GOAWAY, or its type is unknown. */
static int on_stop(nghttp3_conn *ng, int64_t id, uint64_t code, void *ctx, void *user)
{
	struct h3 *h3 = ctx;
	struct h3_stream *x = h3_stream_of(h3, id);

	(void)ng;
	(void)user;
	if (x)
		h3_stream_abort(x, code);
	else
		h3->carrier->stop(h3->m.owner, id, code);
	return 0;
}

static int on_reset(nghttp3_conn *ng, int64_t id, uint64_t code, void *ctx, void *user)
{
	struct h3 *h3 = ctx;

	(void)ng;
	(void)user;
	if (!h3_stream_of(h3, id)) /* else on_stop has done it */
		h3->carrier->reset(h3->m.owner, id, code);
	return 0;
}

static int on_acked(nghttp3_conn *ng, int64_t id, uint64_t n, void *ctx, void *user)
{
	struct h3_stream *x = h3_stream_of(ctx, id);

	(void)ng;
	(void)user;
	if (x)
		h3_stream_acked(x, (size_t)n);
	return 0;
}

static int on_settings(nghttp3_conn *ng, const nghttp3_settings *settings, void *ctx)
{
	struct h3 *h3 = ctx;

	(void)ng;
	(void)settings;
	h3->greeted = true;
	return 0;
}

void h3_read_callbacks(nghttp3_callbacks *callbacks)
{
	*callbacks = (nghttp3_callbacks){
		.acked_stream_data = on_acked,
		.recv_data = on_data,
		.deferred_consume = on_late_use,
		.begin_headers = on_begin_block,
		.recv_header = on_field,
		.end_headers = on_head,
		.begin_trailers = on_begin_block,
		.recv_trailer = on_field,
		.end_trailers = on_trailers,
		.stop_sending = on_stop,
		.end_stream = on_end,
		.reset_stream = on_reset,
		.recv_settings = on_settings,
	};
}

/* ---- bytes ---- */

/* If nghttp3 finds an error in a body or in trailers, the request is malformed, but the connection goes on: RFC 9114 4.1.2. */
static void fail(struct h3 *h3, struct h3_stream *x, int error)
{
	if (x && error == NGHTTP3_ERR_MALFORMED_HTTP_MESSAGING)
		h3_stream_abort(x, NGHTTP3_H3_MESSAGE_ERROR);
	else if (error == NGHTTP3_ERR_QPACK_HEADER_TOO_LARGE) /* a name of more than 256 bytes, or a value of more than 64 KiB */
		h3_give_up(h3, NGHTTP3_H3_EXCESSIVE_LOAD);
	else
		h3_give_up(h3, nghttp3_err_infer_quic_app_error_code(error));
}

/* Frames without effect cost CPU time: some are allowed for each byte of a body and for each request. */
static void charge(struct h3 *h3, struct h3_stream *x, uint64_t n)
{
	const struct config *c = h3_config(h3);

	if (x) {
		x->around += n;
		if (x->around > AROUND_FREE + c->h3_max_header_bytes * 2 + AROUND_EACH * x->came)
			h3_give_up(h3, NGHTTP3_H3_EXCESSIVE_LOAD);
		return;
	}
	h3->stray += n;
	if (h3->stray > STRAY_FREE + STRAY_EACH * h3->m.requests)
		h3_give_up(h3, NGHTTP3_H3_EXCESSIVE_LOAD);
}

/* nghttp3 treats an empty request as an error of the connection: RFC 9114 4.1 */
static bool is_void(const struct h3_stream *x, size_t n, bool end)
{
	return x && end && n == 0 && x->around == 0 && x->came == 0;
}

/* RFC 9204 2.1.2: at most as many sections as we announced may wait for the table. */
static void count_queued(struct h3 *h3, struct h3_stream *x)
{
	if (!x || x->m.stopped || x->scan.sections <= x->sections)
		return;
	h3_is_queued(x, true);
	if (h3->queued > h3->may_queue)
		h3_give_up(h3, NGHTTP3_QPACK_DECOMPRESSION_FAILED);
}

void h3_read(struct h3 *h3, int64_t id, const uint8_t *bytes, size_t n, bool end)
{
	struct h3_stream *x = h3_stream_of(h3, id);
	uint64_t fault = x && !x->m.stopped ? h3_scan_request(&x->scan, bytes, n, end) : 0;
	uint64_t before = x ? x->came : 0;
	nghttp3_ssize used;

	if (fault) {
		h3_give_up(h3, fault);
		return;
	}
	if (x && (x->m.stopped || is_void(x, n, end))) {
		h3_stream_abort(x, NGHTTP3_H3_REQUEST_INCOMPLETE);
		h3->carrier->credit_all(h3->m.owner, n);
		return;
	}
	used = nghttp3_conn_read_stream(h3->ng, id, bytes, n, end);
	if (used < 0) {
		fail(h3, x, (int)used);
		h3->carrier->credit_all(h3->m.owner, n - (x ? x->came - before : 0)); /* on_data has credited the others */
		return;
	}
	h3->progress += x ? (uint64_t)used : 0;
	h3->carrier->credit(h3->m.owner, id, (uint64_t)used);
	h3->carrier->credit_all(h3->m.owner, (uint64_t)used);
	charge(h3, x, (uint64_t)used);
	count_queued(h3, x);
}
