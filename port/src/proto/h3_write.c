/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h3_write.h"

#include <stdio.h>
#include <stdlib.h>

#include "file/load.h"
#include "frames/names.h"
#include "proto/http.h"

/* ---- heads ---- */

/* nghttp3 copies fields unless told that they stay in place; it makes copied names lower case. */
static nghttp3_nv nv_of(struct slice name, struct slice value, unsigned flags)
{
	return (nghttp3_nv){(uint8_t *)(uintptr_t)name.at, (uint8_t *)(uintptr_t)value.at, name.len, value.len, (uint8_t)flags};
}

/* Credentials are not put into the table: a later guess could be tested against it. */
static nghttp3_nv nv_of_field(const struct field *f)
{
	unsigned flags = f->index >= 0 ? NGHTTP3_NV_FLAG_NO_COPY_NAME : NGHTTP3_NV_FLAG_NONE;

	if (f->index == NAME_SET_COOKIE)
		flags |= NGHTTP3_NV_FLAG_NEVER_INDEX;
	return nv_of(f->index >= 0 ? name_text(f->index) : f->name, f->value, flags);
}

static size_t put_fields(nghttp3_nv *nv, size_t n, const struct field *fields, unsigned count)
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

static nghttp3_nv nv_of_status(char text[4], unsigned status)
{
	return nv_of(SLICE_LIT(":status"), number(text, 4, status), NGHTTP3_NV_FLAG_NO_COPY_NAME);
}

/* False: nghttp3 could not take it. */
static bool took(struct h3_stream *x, int result)
{
	if (result != 0)
		x->why = END_ERROR;
	return result == 0;
}

/* What a field costs besides its bytes, and a frame that nghttp3 keeps. */
enum { FIELD_COST = 32, ASIDE_COST = 256 };

bool h3_write_info(struct h3_stream *x, unsigned status, const struct field *fields, unsigned count)
{
	nghttp3_nv *nv = h3_shared(x->h3)->nv;
	char digits[4];
	size_t n = 0;

	nv[n++] = nv_of_status(digits, status);
	n = put_fields(nv, n, fields, count);
	x->s.interim += ASIDE_COST;
	for (size_t i = 0; i < n; i++)
		x->s.interim += nv[i].namelen + nv[i].valuelen + FIELD_COST;
	return took(x, nghttp3_conn_submit_info(x->h3->ng, x->id, nv, n));
}

static nghttp3_ssize pull(nghttp3_conn *ng, int64_t id, nghttp3_vec *vec, size_t max, uint32_t *flags, void *ctx, void *user);
static const nghttp3_data_reader reader = {pull};

bool h3_write_head(struct h3_stream *x, const struct response_head *head, bool whole)
{
	struct session_env *env = h3_env_of(x->h3);
	nghttp3_nv *nv = h3_shared(x->h3)->nv;
	int64_t length = http_length_to_say(head, x->holds && head->status < 300);
	char digits[4], size[24];
	size_t n = 0;

	nv[n++] = nv_of_status(digits, head->status);
	if (!head->has_date)
		nv[n++] = nv_of(SLICE_LIT("date"), slice_of(env->date, DATE_LEN), NGHTTP3_NV_FLAG_NO_COPY_NAME);
	if (!head->has_server && env->config->server[0])
		nv[n++] = nv_of(SLICE_LIT("server"), slice_str(env->config->server),
				NGHTTP3_NV_FLAG_NO_COPY_NAME | NGHTTP3_NV_FLAG_NO_COPY_VALUE);
	n = put_fields(nv, n, head->fields, head->field_count);
	if (length != LENGTH_UNKNOWN)
		nv[n++] = nv_of(SLICE_LIT("content-length"), number(size, sizeof size, (uint64_t)length),
				NGHTTP3_NV_FLAG_NO_COPY_NAME);
	return took(x, nghttp3_conn_submit_response(x->h3->ng, x->id, nv, n, whole ? NULL : &reader));
}

bool h3_write_upgrade(struct h3_stream *x, const struct field *fields, unsigned count)
{
	nghttp3_nv *nv = h3_shared(x->h3)->nv;
	char digits[4];
	size_t n = 0;

	nv[n++] = nv_of_status(digits, 200);
	n = put_fields(nv, n, fields, count);
	return took(x, nghttp3_conn_submit_response(x->h3->ng, x->id, nv, n, &reader));
}

bool h3_write_error(struct h3_stream *x, unsigned status, unsigned retry_after)
{
	bool no_body = x->s.head_method;
	struct http_error e;

	http_error_make(&e, status, retry_after);
	if (!h3_write_head(x, &e.head, no_body) || (!no_body && !bufq_append(&x->out, e.body.at, e.body.len)))
		return false;
	h3_count_waiting(x);
	return true;
}

/* ---- trailers ---- */

struct h3_trailers {
	size_t count;
	nghttp3_nv nv[];
};

static uint8_t *keep(uint8_t **at, const uint8_t *bytes, size_t n)
{
	uint8_t *start = *at;

	if (n)
		memcpy(start, bytes, n);
	*at += n;
	return start;
}

bool h3_write_trailers(struct h3_stream *x, const struct field *fields, unsigned count)
{
	struct h3_trailers *t;
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
		t->nv[i] = nv_of(fields[i].name, fields[i].value, NGHTTP3_NV_FLAG_NONE);
		t->nv[i].name = keep(&at, fields[i].name.at, fields[i].name.len);
		t->nv[i].value = keep(&at, fields[i].value.at, fields[i].value.len);
	}
	x->last = t;
	return true;
}

/* ---- bodies: nghttp3 pulls, in the order of priority ---- */

bool h3_write_more(struct h3_stream *x)
{
	h3_is_cold(x, false);
	if (!x->deferred)
		return true;
	x->deferred = false;
	return nghttp3_conn_resume_stream(x->h3->ng, x->id) == 0;
}

/* The end of the body: in the frame being made if there are no trailers. */
static int pull_end(nghttp3_conn *ng, struct h3_stream *x, uint32_t *flags)
{
	x->ended = true;
	*flags |= NGHTTP3_DATA_FLAG_EOF;
	if (!x->last)
		return 0;
	*flags |= NGHTTP3_DATA_FLAG_NO_END_STREAM;
	return nghttp3_conn_submit_trailers(ng, x->id, x->last->nv, x->last->count);
}

/* n bytes are in a frame, of which so many are not of files. */
static void count_framed(struct h3_stream *x, size_t n, size_t charged)
{
	struct h3 *h3 = x->h3;

	stream_spends(&x->s, n);
	x->spent |= n > 0 && x->s.allowance == 0;
	x->framed += n;
	x->room += charged;
	h3->unacked += n;
	h3_count_waiting(x);
	h3_note(x, 0);
}

/* Whether the next byte of the body is in memory; where it is of a file, that is looked at once. */
static bool is_there(struct h3_stream *x)
{
	struct bufq_file f;
	enum loaded found;

	if (!bufq_file(&x->out, &f) || f.before > x->framed)
		return true;
	found = file_load(&x->out, H3_FRAME_MAX);
	if (found == LOADED_SOME)
		return true;
	h3_is_cold(x, found == LOADED_LATER);
	x->broken = found != LOADED_LATER;
	h3_note(x, 0);
	return false;
}

/* Whether there is something to be framed: a part of the body, or its end alone. */
static bool may_pull(struct h3_stream *x)
{
	if (x->out.len == x->framed)
		return x->s.response == RESPONSE_ENDED;
	return stream_allows(&x->s) > 0 && is_there(x);
}

static nghttp3_ssize pull(nghttp3_conn *ng, int64_t id, nghttp3_vec *vec, size_t max, uint32_t *flags, void *ctx, void *user)
{
	struct h3_stream *x = h3_stream_of(ctx, id);
	struct iovec iov[8];
	int count;
	size_t n, charged, most;

	(void)user;
	if (!x)
		return NGHTTP3_ERR_CALLBACK_FAILURE;
	if (!may_pull(x)) {
		x->deferred = true;
		x->h3->deferrals++;
		return NGHTTP3_ERR_WOULDBLOCK;
	}
	most = stream_allows(&x->s) < H3_FRAME_MAX ? (size_t)x->s.allowance : H3_FRAME_MAX;
	count = bufq_walk(&x->out, &x->given, most, iov, max < 8 ? (int)max : 8, &n, &charged);
	for (int i = 0; i < count; i++)
		vec[i] = (nghttp3_vec){iov[i].iov_base, iov[i].iov_len};
	count_framed(x, n, charged);
	if (x->out.len == x->framed && x->s.response == RESPONSE_ENDED && pull_end(ng, x, flags) != 0)
		return NGHTTP3_ERR_CALLBACK_FAILURE;
	return count;
}

bool h3_write_cold(struct h3 *h3)
{
	bool well = true;

	for (struct list *l = h3->streams.next; l != &h3->streams && h3->cold && well; l = l->next) {
		struct h3_stream *x = container_of(l, struct h3_stream, link);
		if (x->cold)
			well = h3_write_more(x);
	}
	return well;
}
