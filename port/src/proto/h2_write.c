/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_write.h"

#include <stdio.h>
#include <stdlib.h>

#include "file/load.h"
#include "frames/names.h"
#include "proto/http.h"

/* ---- heads ---- */

/* nghttp2 copies fields unless told that they stay in place; it makes copied names lower case. */
static nghttp2_nv nv_of(struct slice name, struct slice value, unsigned flags)
{
	return (nghttp2_nv){(uint8_t *)(uintptr_t)name.at, (uint8_t *)(uintptr_t)value.at, name.len, value.len, (uint8_t)flags};
}

/* Credentials are not put into the table: a later guess could be tested against it. */
static unsigned flags_of(const struct field *f)
{
	unsigned flags = f->index >= 0 ? NGHTTP2_NV_FLAG_NO_COPY_NAME : NGHTTP2_NV_FLAG_NONE;

	return f->index == NAME_SET_COOKIE ? flags | NGHTTP2_NV_FLAG_NO_INDEX : flags;
}

static nghttp2_nv nv_of_field(const struct field *f)
{
	return nv_of(f->index >= 0 ? name_text(f->index) : f->name, f->value, flags_of(f));
}

static size_t put_fields(nghttp2_nv *nv, size_t n, const struct field *fields, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (!http_is_ours(&fields[i]))
			nv[n++] = nv_of_field(&fields[i]);
	return n;
}

static struct slice number(char *text, size_t size, uint64_t n)
{
	return slice_of(text, (size_t)snprintf(text, size, "%llu", (unsigned long long)n));
}

static nghttp2_nv nv_of_status(char text[4], unsigned status)
{
	return nv_of(SLICE_LIT(":status"), number(text, 4, status), NGHTTP2_NV_FLAG_NO_COPY_NAME);
}

/* False: nghttp2 could not take it. */
static bool took(struct h2_stream *x, int result)
{
	if (result != 0)
		x->why = END_ERROR;
	return result >= 0;
}

/* What a field costs besides its bytes, and a frame that nghttp2 keeps. */
enum { FIELD_COST = 32, ASIDE_COST = 256 };

void h2_aside_waits(struct h2_stream *x, const nghttp2_nv *nv, size_t count)
{
	x->asides++;
	x->s.interim += ASIDE_COST;
	for (size_t i = 0; i < count; i++)
		x->s.interim += nv[i].namelen + nv[i].valuelen + FIELD_COST;
}

/* One of them has become a frame, or never will become one. */
static void aside_gone(struct h2_stream *x)
{
	if (x && x->asides > 0 && --x->asides == 0)
		x->s.interim = 0;
}

bool h2_write_info(struct h2_stream *x, unsigned status, const struct field *fields, unsigned count)
{
	nghttp2_nv *nv = h2_shared(x->h2)->nv;
	char digits[4];
	size_t n = 0;

	nv[n++] = nv_of_status(digits, status);
	n = put_fields(nv, n, fields, count);
	h2_aside_waits(x, nv, n);
	return took(x, nghttp2_submit_headers(x->h2->ng, NGHTTP2_FLAG_NONE, x->id, NULL, nv, n, NULL));
}

static ssize_t pull(nghttp2_session *ng, int32_t id, uint8_t *at, size_t len, uint32_t *flags, nghttp2_data_source *source,
		    void *ctx);

bool h2_write_head(struct h2_stream *x, const struct response_head *head, bool whole)
{
	struct session_env *env = h2_env_of(x->h2);
	nghttp2_data_provider provider = {{.ptr = x}, pull};
	nghttp2_nv *nv = h2_shared(x->h2)->nv;
	int64_t length = http_length_to_say(head, x->holds && head->status < 300);
	char digits[4], size[24];
	size_t n = 0;

	nv[n++] = nv_of_status(digits, head->status);
	if (!head->has_date) /* date changes each second: its values would fill the table of an idle connection */
		nv[n++] = nv_of(SLICE_LIT("date"), slice_of(env->date, DATE_LEN),
				NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_INDEX);
	if (!head->has_server && env->config->server[0])
		nv[n++] = nv_of(SLICE_LIT("server"), slice_str(env->config->server),
				NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE);
	n = put_fields(nv, n, head->fields, head->field_count);
	if (length != LENGTH_UNKNOWN)
		nv[n++] = nv_of(SLICE_LIT("content-length"), number(size, sizeof size, (uint64_t)length),
				NGHTTP2_NV_FLAG_NO_COPY_NAME);
	return took(x, nghttp2_submit_response(x->h2->ng, x->id, nv, n, whole ? NULL : &provider));
}

bool h2_write_upgrade(struct h2_stream *x, const struct field *fields, unsigned count)
{
	nghttp2_data_provider provider = {{.ptr = x}, pull};
	nghttp2_nv *nv = h2_shared(x->h2)->nv;
	char digits[4];
	size_t n = 0;

	nv[n++] = nv_of_status(digits, 200);
	n = put_fields(nv, n, fields, count);
	return took(x, nghttp2_submit_response(x->h2->ng, x->id, nv, n, &provider));
}

bool h2_write_error(struct h2_stream *x, unsigned status, unsigned retry_after)
{
	bool no_body = x->s.head_method;
	struct http_error e;

	http_error_make(&e, status, retry_after);
	if (!h2_write_head(x, &e.head, no_body) || (!no_body && !bufq_append(&x->out, e.body.at, e.body.len)))
		return false;
	h2_count_waiting(x);
	return true;
}

/* ---- trailers ---- */

struct h2_trailers {
	size_t count;
	nghttp2_nv nv[];
};

static uint8_t *keep(uint8_t **at, const uint8_t *bytes, size_t n)
{
	uint8_t *start = *at;

	if (n)
		memcpy(start, bytes, n);
	*at += n;
	return start;
}

bool h2_write_trailers(struct h2_stream *x, const struct field *fields, unsigned count)
{
	struct h2_trailers *t;
	size_t bytes = 0;
	uint8_t *at;

	for (unsigned i = 0; i < count; i++)
		bytes += fields[i].name.len + fields[i].value.len;
	t = malloc(sizeof *t + count * sizeof t->nv[0] + bytes);
	if (!t)
		return false;
	t->count = count;
	at = (uint8_t *)&t->nv[count];
	for (unsigned i = 0; i < count; i++) {
		t->nv[i] = nv_of(fields[i].name, fields[i].value, NGHTTP2_NV_FLAG_NONE);
		t->nv[i].name = keep(&at, fields[i].name.at, fields[i].name.len);
		t->nv[i].value = keep(&at, fields[i].value.at, fields[i].value.len);
	}
	x->last = t;
	return true;
}

/* ---- bodies: nghttp2 pulls, in the order of priority ---- */

bool h2_write_more(struct h2_stream *x)
{
	int result;

	h2_is_cold(x, false);

	if (!x->deferred)
		return true;
	x->deferred = false;
	result = nghttp2_session_resume_data(x->h2->ng, x->id);
	return result != NGHTTP2_ERR_NOMEM;
}

/* The end of the body: in the frame being made if there are no trailers. */
static void pull_end(nghttp2_session *ng, struct h2_stream *x, uint32_t *flags)
{
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (!x->last)
		return;
	*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
	if (nghttp2_submit_trailer(ng, x->id, x->last->nv, x->last->count) != 0)
		x->h2->fault = NGHTTP2_INTERNAL_ERROR;
}

static ssize_t defer(struct h2_stream *x)
{
	x->deferred = true;
	return NGHTTP2_ERR_DEFERRED;
}

/* The file is not what it was: that is no fault of the client's, and not of its connection. */
static ssize_t fail(struct h2_stream *x, enum loaded why)
{
	if (why == LOADED_NO_MEMORY)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	x->ours = true;
	x->why = END_FILE;
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* How many of `len` bytes are in memory at the front of the body, after one look at the file there; or an error. */
static ssize_t have(struct h2_stream *x, size_t len)
{
	struct bufq_file f;
	enum loaded found = LOADED_SOME;

	if (bufq_file(&x->out, &f) && f.before < len)
		found = file_load(&x->out, len - f.before);
	if (!bufq_file(&x->out, &f))
		f.before = x->out.len;
	if (f.before > 0)
		return (ssize_t)(len < f.before ? len : f.before); /* what is wrong is found again behind it */
	if (found != LOADED_LATER)
		return fail(x, found);
	h2_is_cold(x, true);
	return defer(x);
}

static ssize_t pull(nghttp2_session *ng, int32_t id, uint8_t *at, size_t len, uint32_t *flags, nghttp2_data_source *source,
		    void *ctx)
{
	struct h2_stream *x = source->ptr;
	bool ended = x->s.response == RESPONSE_ENDED;

	(void)id;
	(void)at;
	(void)ctx;
	if (x->out.len == 0 ? !ended : stream_allows(&x->s) == 0)
		return defer(x);
	if (len > stream_allows(&x->s))
		len = (size_t)x->s.allowance;
	if (x->out.files) {
		ssize_t in_memory = have(x, len);
		if (in_memory <= 0)
			return in_memory;
		len = (size_t)in_memory;
	}
	if (len >= x->out.len) {
		len = x->out.len;
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
		pace_start(&h2->pace, h2_now_us(h2), h2_write_grace(h2));
	h2->queued += n;
	return bufq_append(&h2->out, bytes, n);
}

static struct h2_mark *last_mark(struct h2 *h2)
{
	return buf_len(&h2->marks) ? (struct h2_mark *)(void *)(h2->marks.data + h2->marks.tail) - 1 : NULL;
}

/* What is in the output up to here is of this stream. */
static bool mark(struct h2_stream *x, uint32_t bytes, bool end)
{
	struct h2_mark new = {x, x->h2->queued, bytes, end}, *last = last_mark(x->h2);

	if (last && last->x == x && !last->end) {
		last->at = new.at;
		last->bytes += bytes;
		last->end = end;
		return true;
	}
	x->marks++;
	return buf_append(&x->h2->marks, &new, sizeof new);
}

/* A part of a stream's body. */
static bool put_body(struct h2_stream *x, size_t n)
{
	size_t before = x->out.charged;
	bool moved = bufq_move(&x->out, &x->h2->out, n);

	x->h2->queued += n;
	return moved && mark(x, (uint32_t)(before - x->out.charged), false);
}

/* A DATA frame: its payload goes from the stream's queue to the output. Pausing lets h2_pump look at how much waits. */
static int on_send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *head, size_t len, nghttp2_data_source *source,
			void *ctx)
{
	struct h2 *h2 = ctx;
	struct h2_stream *x = source->ptr;

	(void)ng;
	(void)frame;
	if (!h2_put(h2, head, 9) || !put_body(x, len))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	stream_spends(&x->s, len);
	pace_moved(&x->pace, h2_now_us(h2), len, h2_config(h2)->response_rate, h2_write_grace(h2));
	pace_moved(&h2->framed, h2_now_us(h2), len, h2_rate_of_all(h2), h2_write_grace(h2));
	h2_count_waiting(x);
	h2_scan_earn(&h2->scan);
	return h2->out.len < H2_OUT_HIGH ? 0 : NGHTTP2_ERR_PAUSE;
}

static int made_last(struct h2 *h2, struct h2_stream *x)
{
	x->finished = true;
	h2_note(x, 0);
	if (!mark(x, 0, true))
		h2->fault = NGHTTP2_INTERNAL_ERROR;
	return 0;
}

/* A stream reset for the client's error costs us a frame, and may have cost the application a request. */
static void count_reset(struct h2 *h2, struct h2_stream *x, uint32_t code)
{
	const struct config *c = h2_config(h2);
	uint64_t now_us = *h2_env_of(h2)->now_us;
	if (code == NGHTTP2_NO_ERROR || code == NGHTTP2_REFUSED_STREAM || (x && x->ours))
		return; /* streams that were refused are counted when they come */
	if (!bucket_take(&h2->own_resets, now_us, c->h2_own_resets, 10000000) && !h2->fault)
		h2->fault = NGHTTP2_ENHANCE_YOUR_CALM;
}

static int on_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx)
{
	struct h2 *h2 = ctx;
	struct h2_stream *x = h2_stream_of(ng, frame->hd.stream_id);

	switch (frame->hd.type) {
	case NGHTTP2_RST_STREAM:
		count_reset(h2, x, frame->rst_stream.error_code);
		if (x && !x->ours && !x->finished)
			x->why = END_ERROR;
		return 0;
	case NGHTTP2_PUSH_PROMISE:
		aside_gone(x);
		x = h2_stream_of(ng, frame->push_promise.promised_stream_id);
		if (x)
			h2_note(x, HEARD_HEAD);
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
	for (struct list *l = h2->streams.next; l != &h2->streams; l = l->next) {
		struct h2_stream *x = container_of(l, struct h2_stream, link);
		if (x->id == id)
			h2_note(x, HEARD_CLOSE);
	}
}

/* A head of ours that nghttp2 would not send (it is too long): the stream cannot go on. */
static int on_not_sent(nghttp2_session *ng, const nghttp2_frame *frame, int why, void *ctx)
{
	struct h2_stream *x = h2_stream_of(ng, frame->hd.stream_id);

	if (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_PUSH_PROMISE)
		aside_gone(x);
	if (frame->hd.type == NGHTTP2_PUSH_PROMISE)
		forget_promise(ctx, frame->push_promise.promised_stream_id);
	if (!x || frame->hd.type != NGHTTP2_HEADERS || why == NGHTTP2_ERR_STREAM_CLOSED || why == NGHTTP2_ERR_STREAM_CLOSING)
		return 0;
	x->ours = true;
	x->why = END_ERROR;
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

bool h2_write_cold(struct h2 *h2)
{
	bool well = true;

	for (struct list *l = h2->streams.next; l != &h2->streams && h2->cold && well; l = l->next) {
		struct h2_stream *x = container_of(l, struct h2_stream, link);
		if (x->cold)
			well = h2_write_more(x);
	}
	return well;
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
