/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_read.h"

#include <limits.h>
#include <stdlib.h>

#include "proto/h2_priority.h"
#include "proto/h2_push.h"
#include "proto/h2_stream.h"
#include "proto/mux_head.h"

static struct slice text_of(nghttp2_rcbuf *rcbuf)
{
	nghttp2_vec vec = nghttp2_rcbuf_get_buf(rcbuf);

	return slice_of(vec.base, vec.len);
}

/* ---- nghttp2's callbacks: they record ---- */

/* Records why the session must end, and makes nghttp2 return at once. */
static int give_up(struct h2 *h2, uint32_t code)
{
	if (!h2->m.fault)
		h2->m.fault = code;
	return NGHTTP2_ERR_CALLBACK_FAILURE;
}

/*
 * A stream beyond the limit: RFC 9113 5.1.2. nghttp2 decodes its head and drops it. It is counted at once, so that at most a few
 * hundred resets wait to be sent.
 */
static int refuse(struct h2 *h2, int32_t id)
{
	if (!h2_scan_take_reset(&h2->scan, h2_config(h2), mux_now_us(&h2->m)))
		return give_up(h2, NGHTTP2_ENHANCE_YOUR_CALM);
	if (nghttp2_submit_rst_stream(h2->ng, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM) != 0)
		return give_up(h2, NGHTTP2_INTERNAL_ERROR);
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx)
{
	struct h2 *h2 = ctx;
	struct h2_stream *x;

	bool request = frame->headers.cat == NGHTTP2_HCAT_REQUEST;

	mux_head_free(&h2->m, h2->block);
	h2->block = NULL;
	if (request)
		h2->newest = frame->hd.stream_id;
	if (request && h2->m.open >= h2_config(h2)->h2_max_streams)
		return refuse(h2, frame->hd.stream_id);
	h2->block = mux_head_new(&h2->m, h2_config(h2)->h2_max_header_bytes, h2_config(h2)->h2_max_header_fields);
	if (!h2->block)
		return give_up(h2, NGHTTP2_INTERNAL_ERROR);
	if (!request)
		return 0;
	x = h2_stream_new(h2, frame->hd.stream_id);
	if (!x)
		return give_up(h2, NGHTTP2_INTERNAL_ERROR);
	nghttp2_session_set_stream_user_data(ng, x->id, x);
	return 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, nghttp2_rcbuf *name, nghttp2_rcbuf *value, uint8_t flags,
		     void *ctx)
{
	struct h2 *h2 = ctx;

	(void)ng;
	(void)frame;
	(void)flags;
	if (!h2->block)
		return 0;
	switch (mux_head_take(&h2->m, h2->block, text_of(name), text_of(value))) {
	case MUX_TOOK:
		mux_head_refer(h2->block, name, value);
		nghttp2_rcbuf_incref(name);
		nghttp2_rcbuf_incref(value);
		return 0;
	case MUX_TOOK_COPY:
		return 0;
	case MUX_TOOK_ALL:
		return give_up(h2, NGHTTP2_ENHANCE_YOUR_CALM);
	default:
		return give_up(h2, NGHTTP2_INTERNAL_ERROR);
	}
}

/* An invalid field makes the request malformed; nghttp2 would just drop the field. */
static int on_invalid_header(nghttp2_session *ng, const nghttp2_frame *frame, nghttp2_rcbuf *name, nghttp2_rcbuf *value,
			     uint8_t flags, void *ctx)
{
	(void)ng;
	(void)frame;
	(void)name;
	(void)value;
	(void)flags;
	(void)ctx;
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *ctx)
{
	struct h2 *h2 = ctx;
	struct h2_stream *x = h2_stream_of(h2, id);

	(void)ng;
	(void)flags;
	h2->arrived += len;
	if (!x)
		return 0;
	if (!bufq_append(&x->m.in, data, len))
		return give_up(h2, NGHTTP2_INTERNAL_ERROR);
	mux_note(&x->m, 0);
	return 0;
}

static void take_block(struct h2 *h2, struct h2_stream *x, const nghttp2_frame *frame)
{
	bool request = frame->headers.cat == NGHTTP2_HCAT_REQUEST;
	struct mux_head **place = request ? &x->m.head : &x->m.trailers;

	mux_head_free(&h2->m, *place);
	x->m.bare = x->m.bare || (request && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM));
	*place = h2->block;
	h2->block = NULL;
	mux_note(&x->m, request ? HEARD_HEAD : 0);
	if (request)
		h2_priority_begins(h2, x->id);
}

/* A frame that contains only padding counts as empty too. */
static int take_data(struct h2 *h2, const nghttp2_frame *frame)
{
	bool padding = frame->hd.length > 0 && frame->hd.length <= frame->data.padlen;

	if (!padding || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	if (h2_scan_take_empty(&h2->scan, h2_config(h2), mux_now_us(&h2->m)))
		return 0;
	return give_up(h2, NGHTTP2_ENHANCE_YOUR_CALM);
}

/* RFC 9113 6.9.2: a SETTINGS that makes a window too large ends the connection; nghttp2 would reset the stream. */
static bool windows_overflow(const struct h2 *h2, const nghttp2_settings *settings)
{
	for (size_t i = 0; i < settings->niv; i++)
		if (settings->iv[i].settings_id == NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE &&
		    (int64_t)h2->widest + settings->iv[i].value - h2->opened > INT32_MAX)
			return true;
	return false;
}

static int take_settings(struct h2 *h2, const nghttp2_frame *frame)
{
	if (frame->hd.flags & NGHTTP2_FLAG_ACK) {
		h2->unacked = 0;
		return 0;
	}
	h2->greeted = true;
	return windows_overflow(h2, &frame->settings) ? give_up(h2, NGHTTP2_FLOW_CONTROL_ERROR) : 0;
}

/* Records the windows before a SETTINGS changes them. */
static int on_begin_frame(nghttp2_session *ng, const nghttp2_frame_hd *hd, void *ctx)
{
	struct h2 *h2 = ctx;
	int32_t window;

	if (hd->type != NGHTTP2_SETTINGS || (hd->flags & NGHTTP2_FLAG_ACK))
		return 0;
	h2->opened = nghttp2_session_get_remote_settings(ng, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);
	h2->widest = 0;
	for (struct list *l = h2->m.streams.next; l != &h2->m.streams; l = l->next) {
		window = nghttp2_session_get_stream_remote_window_size(ng, container_of(l, struct h2_stream, m.link)->id);
		h2->widest = window > h2->widest ? window : h2->widest;
	}
	return 0;
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx)
{
	struct h2 *h2 = ctx;
	struct h2_stream *x = NULL;
	uint32_t fault;

	(void)ng;
	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		x = h2_stream_of(h2, frame->hd.stream_id);
		if (x)
			take_block(h2, x, frame);
		break;
	case NGHTTP2_DATA:
		x = h2_stream_of(h2, frame->hd.stream_id);
		break;
	case NGHTTP2_SETTINGS:
		return take_settings(h2, frame);
	case NGHTTP2_PING:
		h2->ponged = h2->ponged || ((frame->hd.flags & NGHTTP2_FLAG_ACK) && h2->state == H2_NOTICE);
		break;
	case NGHTTP2_PRIORITY_UPDATE:
		fault = h2_priority_take(h2, frame);
		return fault ? give_up(h2, fault) : 0;
	default:
		break;
	}
	if (x && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		mux_note(&x->m, HEARD_END);
	return frame->hd.type == NGHTTP2_DATA ? take_data(h2, frame) : 0;
}

static int on_close(nghttp2_session *ng, int32_t id, uint32_t code, void *ctx)
{
	struct h2_stream *x = h2_stream_of(ctx, id);

	(void)ng;
	(void)code;
	if (x)
		mux_note(&x->m, HEARD_CLOSE);
	return 0;
}

void h2_read_callbacks(nghttp2_session_callbacks *callbacks)
{
	nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback2(callbacks, on_invalid_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
}

/* ---- bytes ---- */

static uint32_t code_of(ssize_t error)
{
	switch (error) {
	case NGHTTP2_ERR_FLOODED:
		return NGHTTP2_ENHANCE_YOUR_CALM;
	case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
		return NGHTTP2_PROTOCOL_ERROR;
	default:
		return NGHTTP2_INTERNAL_ERROR;
	}
}

/* How many more frames may be read in this turn, and how many of them were. */
static unsigned steps_left(const struct session_owner *owner)
{
	return owner->max_steps ? owner->max_steps - (owner->steps < owner->max_steps ? owner->steps : owner->max_steps) : UINT_MAX;
}

size_t h2_receive(struct h2 *h2, const uint8_t *data, size_t len)
{
	struct session_owner *owner = h2->session.owner;
	unsigned most = steps_left(owner), left = most;
	size_t all = len;
	ssize_t n = 0;
	uint32_t fault;

	h2->arrived = 0;
	len = h2_scan(&h2->scan, h2_config(h2), mux_now_us(&h2->m), data, len, &left, &fault);
	owner->steps += most - left;
	if (len > 0)
		n = nghttp2_session_mem_recv(h2->ng, data, len);
	if (n < 0)
		give_up(h2, code_of(n));
	else if (fault)
		give_up(h2, fault);
	else if (h2_memory_starved(&h2_shared(h2)->memory))
		give_up(h2, NGHTTP2_INTERNAL_ERROR);
	/* a stream that is not read must not close the window of the others; the streams' own windows bound what is stored */
	if (h2->arrived && nghttp2_session_consume_connection(h2->ng, h2->arrived) != 0)
		give_up(h2, NGHTTP2_INTERNAL_ERROR);
	return h2->m.fault ? all : len;
}

/* ---- a complete head ---- */

/* Referenced; NULL if it has none. */
static nghttp2_rcbuf *authority_of(const struct mux_head *block)
{
	for (unsigned i = 0; i < block->count; i++) {
		nghttp2_rcbuf *value = block->references[2 * i + 1];
		if (!slice_eq(block->pairs[i].name, SLICE_LIT(":authority")))
			continue;
		nghttp2_rcbuf_incref(value);
		return value;
	}
	return NULL;
}

/* Keeps what a push needs, if the request may push. */
static void note_push(struct h2_stream *x, struct request_head *head)
{
	if (nghttp2_session_get_remote_settings(h2_session_of(x)->ng, NGHTTP2_SETTINGS_ENABLE_PUSH) != 1)
		return;
	x->https = head->https || x->m.mux->owner->secure;
	x->authority = authority_of(x->m.head);
	if (x->authority)
		head->flags |= REQUEST_TAKES_PUSH;
}

unsigned h2_examine(struct mux_stream *m, struct field *fields, struct request_head *head)
{
	struct h2_stream *x = h2_of_stream(m);
	unsigned status;

	if (x->promise) {
		h2_push_head(x, fields, head);
		return 0;
	}
	status = mux_head_examine(m, 20, fields, head);
	if (!status)
		note_push(x, head);
	return status;
}
