/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_push.h"

#include <stdlib.h>

#include "frames/names.h"
#include "proto/h2_stream.h"
#include "proto/h2_write.h"
#include "proto/http.h"
#include "proto/mux_write.h"

struct h2_promise {
	struct slice authority, target;
	unsigned count;
	struct field fields[];
};

static struct slice authority_of(const struct h2_stream *x)
{
	nghttp2_vec vec = nghttp2_rcbuf_get_buf(x->authority);

	return slice_of(vec.base, vec.len);
}

bool h2_push_allowed(const struct h2_stream *x)
{
	const struct h2 *h2 = h2_session_of(x);

	return x->authority && x->id % 2 == 1 && h2->state == H2_OPEN && !x->m.finished && !(x->m.heard & HEARD_CLOSE) &&
	       h2->m.open < h2_config(h2)->h2_max_streams &&
	       nghttp2_session_get_remote_settings(h2->ng, NGHTTP2_SETTINGS_ENABLE_PUSH) == 1;
}

/* ---- promised requests, each in one piece of memory ---- */

static struct slice keep(uint8_t **at, struct slice text, bool lower)
{
	struct slice kept = slice_of(*at, text.len);

	for (size_t i = 0; i < text.len; i++)
		(*at)[i] = lower && text.at[i] >= 'A' && text.at[i] <= 'Z' ? text.at[i] | 0x20 : text.at[i];
	*at += text.len;
	return kept;
}

static struct h2_promise *promise_new(struct slice authority, struct slice target, const struct field *fields, unsigned count)
{
	size_t bytes = authority.len + target.len;
	struct h2_promise *p;
	uint8_t *at;

	for (unsigned i = 0; i < count; i++)
		bytes += fields[i].name.len + fields[i].value.len;
	p = malloc(sizeof *p + count * sizeof p->fields[0] + bytes);
	if (!p)
		return NULL;
	at = (uint8_t *)&p->fields[count];
	p->count = count;
	p->authority = keep(&at, authority, false);
	p->target = keep(&at, target, false);
	for (unsigned i = 0; i < count; i++)
		p->fields[i] = (struct field){keep(&at, fields[i].name, true), keep(&at, fields[i].value, false), fields[i].index};
	return p;
}

void h2_push_head(const struct h2_stream *x, struct field *fields, struct request_head *head)
{
	const struct h2_promise *p = x->promise;

	memcpy(fields, p->fields, p->count * sizeof *fields);
	*head = (struct request_head){
		.version = 20,
		.method = SLICE_LIT("GET"),
		.method_index = METHOD_GET,
		.https = x->https,
		.authority = p->authority,
		.body = BODY_NONE,
		.flags = REQUEST_PUSHED,
		.fields = fields,
		.field_count = p->count,
	};
	http_split_target(p->target, &head->path, &head->query);
}

/* ---- the promise ---- */

static struct mux_nv nv_of(struct slice name, struct slice value)
{
	return (struct mux_nv){name.at, value.at, name.len, value.len, 0};
}

static int32_t submit(struct h2_stream *parent, struct h2_stream *x)
{
	const struct h2_promise *p = x->promise;
	struct mux_nv *nv = mux_shared(x->m.mux)->nv;
	size_t n = 0;

	nv[n++] = nv_of(SLICE_LIT(":method"), SLICE_LIT("GET"));
	nv[n++] = nv_of(SLICE_LIT(":scheme"), parent->https ? SLICE_LIT("https") : SLICE_LIT("http"));
	nv[n++] = nv_of(SLICE_LIT(":path"), p->target);
	nv[n++] = nv_of(SLICE_LIT(":authority"), p->authority);
	for (unsigned i = 0; i < p->count; i++)
		nv[n++] = nv_of(p->fields[i].name, p->fields[i].value);
	mux_charge_aside(&parent->m, nv, n);
	parent->asides++;
	return nghttp2_submit_push_promise(h2_session_of(x)->ng, NGHTTP2_FLAG_NONE, parent->id, h2_nv_of(nv), n, x);
}

bool h2_push(struct h2_stream *parent, struct slice target, const struct field *fields, unsigned count)
{
	struct h2_stream *x;

	if (!h2_push_allowed(parent))
		return true;
	x = h2_stream_new(h2_session_of(parent), 0);
	if (!x)
		return false;
	x->https = parent->https;
	x->m.heard = HEARD_END;
	x->promise = promise_new(authority_of(parent), target, fields, count);
	if (x->promise)
		x->id = submit(parent, x);
	if (x->promise && x->id > 0)
		return true;
	mux_note(&x->m, HEARD_CLOSE); /* the stream was never opened: freed here */
	return x->promise && x->id != NGHTTP2_ERR_NOMEM;
}
