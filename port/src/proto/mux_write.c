/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/mux_write.h"

#include <stdlib.h>

#include "frames/names.h"
#include "proto/http.h"

enum { DATES_MANY = 16 };

/* ---- heads ---- */

/* The libraries copy fields unless told that they stay in place; they make copied names lower case. */
static struct mux_nv nv_of(struct slice name, struct slice value, unsigned flags)
{
	return (struct mux_nv){name.at, value.at, name.len, value.len, (uint8_t)flags};
}

/* The flag for fields that stay out of the table. Without a table it is not set: the QPACK of quic-go 0.29 refuses it. */
static unsigned secret(const struct mux_stream *x)
{
	return x->mux->kind->indexes ? MUX_NO_INDEX : 0;
}

static struct mux_nv nv_of_field(const struct field *f)
{
	return nv_of(f->index >= 0 ? name_text(f->index) : f->name, f->value, f->index >= 0 ? MUX_NO_COPY_NAME : 0);
}

/* Credentials are not put into the table: a later guess could be tested against it. */
static size_t put_fields(const struct mux_stream *x, size_t n, const struct field *fields, unsigned count)
{
	struct mux_nv *nv = mux_shared(x->mux)->nv;

	for (unsigned i = 0; i < count; i++) {
		if (http_is_ours(&fields[i]))
			continue;
		nv[n] = nv_of_field(&fields[i]);
		if (fields[i].index == NAME_SET_COOKIE)
			nv[n].flags |= (uint8_t)secret(x);
		n++;
	}
	return n;
}

/* In decimal, at the end of the text. */
static struct slice number(char *text, size_t size, uint64_t n)
{
	size_t at = size;

	do
		text[--at] = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	return slice_of(text + at, size - at);
}

static struct mux_nv nv_of_status(struct mux_env *shared, unsigned status)
{
	char *text = shared->status;

	text[0] = (char)('0' + status / 100);
	text[1] = (char)('0' + status / 10 % 10);
	text[2] = (char)('0' + status % 10);
	return nv_of(SLICE_LIT(":status"), slice_of(text, 3), MUX_NO_COPY_NAME);
}

static bool took(struct mux_stream *x, bool well)
{
	if (!well)
		x->why = END_ERROR;
	return well;
}

void mux_charge_aside(struct mux_stream *x, const struct mux_nv *nv, size_t count)
{
	x->s.interim += MUX_ASIDE_COST;
	for (size_t i = 0; i < count; i++)
		x->s.interim += nv[i].name_len + nv[i].value_len + MUX_FIELD_COST;
}

bool mux_write_info(struct mux_stream *x, unsigned status, const struct field *fields, unsigned count)
{
	struct mux_env *shared = mux_shared(x->mux);
	size_t n = 0;

	shared->nv[n++] = nv_of_status(shared, status);
	n = put_fields(x, n, fields, count);
	mux_charge_aside(x, shared->nv, n);
	return took(x, x->mux->kind->put_info(x, shared->nv, n));
}

/*
 * The date changes each second: its values would fill the table of a connection with few requests, which then keeps them while it is
 * idle. So it enters the table only where many responses of one second use it.
 */
static unsigned date_flags(struct mux *mux)
{
	uint64_t second = mux_now(mux) / 1000;

	if (mux->dated != second)
		mux->dates = 0;
	mux->dated = second;
	mux->dates++;
	return MUX_NO_COPY_NAME | MUX_NO_COPY_VALUE | (mux->kind->indexes && mux->dates < DATES_MANY ? MUX_NO_INDEX : 0);
}

bool mux_write_head(struct mux_stream *x, const struct response_head *head, bool whole)
{
	struct session_env *env = mux_env_of(x->mux);
	struct mux_env *shared = env->mux;
	struct mux_nv *nv = shared->nv;
	int64_t length = http_length_to_say(head, x->holds && head->status < 300);
	size_t n = 0;

	nv[n++] = nv_of_status(shared, head->status);
	if (!head->has_date)
		nv[n++] = nv_of(SLICE_LIT("date"), slice_of(env->date, DATE_LEN), date_flags(x->mux));
	if (!head->has_server && env->config->server[0])
		nv[n++] = nv_of(SLICE_LIT("server"), slice_str(env->config->server), MUX_NO_COPY_NAME | MUX_NO_COPY_VALUE);
	n = put_fields(x, n, head->fields, head->field_count);
	if (length != LENGTH_UNKNOWN)
		nv[n++] = nv_of(SLICE_LIT("content-length"), number(shared->length, sizeof shared->length, (uint64_t)length),
				MUX_NO_COPY_NAME);
	return took(x, x->mux->kind->put_head(x, nv, n, !whole));
}

bool mux_write_upgrade(struct mux_stream *x, const struct field *fields, unsigned count)
{
	struct mux_env *shared = mux_shared(x->mux);
	size_t n = 0;

	shared->nv[n++] = nv_of_status(shared, 200);
	n = put_fields(x, n, fields, count);
	return took(x, x->mux->kind->put_head(x, shared->nv, n, true));
}

bool mux_write_error(struct mux_stream *x, unsigned status, unsigned retry_after)
{
	bool no_body = x->s.head_method;
	struct http_error e;

	http_error_make(&e, status, retry_after);
	if (!mux_write_head(x, &e.head, no_body) || (!no_body && !bufq_append(&x->out, e.body.at, e.body.len)))
		return false;
	mux_count_waiting(x);
	return true;
}

/* ---- trailers ---- */

static const uint8_t *keep(uint8_t **at, struct slice text)
{
	const uint8_t *start = *at;

	if (text.len)
		memcpy(*at, text.at, text.len);
	*at += text.len;
	return start;
}

bool mux_write_trailers(struct mux_stream *x, const struct field *fields, unsigned count)
{
	struct mux_trailers *t;
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
		t->nv[i] = nv_of(fields[i].name, fields[i].value, 0);
		t->nv[i].name = keep(&at, fields[i].name);
		t->nv[i].value = keep(&at, fields[i].value);
	}
	x->last = t;
	return true;
}

/* ---- bodies: the libraries pull, in the order of priority ---- */

bool mux_write_more(struct mux_stream *x)
{
	mux_is_cold(x, false);
	if (!x->deferred)
		return true;
	x->deferred = false;
	return x->mux->kind->resume(x);
}

bool mux_write_cold(struct mux *mux)
{
	bool well = true;

	for (struct list *l = mux->streams.next; l != &mux->streams && mux->cold && well; l = l->next) {
		struct mux_stream *x = container_of(l, struct mux_stream, link);
		if (x->cold)
			well = mux_write_more(x);
	}
	return well;
}
