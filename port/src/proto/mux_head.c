/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/mux_head.h"

#include <stdlib.h>

enum { SPARES_MAX = 32, FIELD_OVERHEAD = 32 };

/* ---- memory ---- */

struct mux_head *mux_head_new(struct mux *mux, uint64_t max_bytes, uint64_t max_fields)
{
	struct mux_head *head = pool_take(&mux_shared(mux)->heads, sizeof *head);

	if (!head)
		return NULL;
	memset(head, 0, offsetof(struct mux_head, pairs));
	head->max_bytes = max_bytes;
	head->max_fields = max_fields;
	return head;
}

void mux_head_free(struct mux *mux, struct mux_head *head)
{
	void (*unreference)(void *text);

	if (!head)
		return;
	unreference = mux->kind->unreference;
	for (void **text = head->references, **end = text + 2 * head->count; text < end; text++)
		unreference(*text);
	buf_free(&head->cookies);
	pool_give(&mux_shared(mux)->heads, head, SPARES_MAX);
}

/* ---- fields, as they come ---- */

static bool is_bearable(struct mux_head *head, size_t bytes)
{
	head->all_bytes += bytes;
	head->all_fields++;
	return head->all_bytes <= head->max_bytes && head->all_fields <= head->max_fields;
}

/* Counts kept bytes. */
static bool fits(struct mux_head *head, const struct config *c, size_t bytes)
{
	head->bytes += bytes;
	return head->bytes <= c->max_header_block;
}

/* Makes room for a field. */
static bool has_place(struct mux_head *head, const struct config *c, bool pseudo)
{
	head->pseudo += pseudo;
	if (pseudo)
		return head->pseudo <= MUX_PSEUDO_MAX;
	return head->count - head->pseudo < c->max_header_count;
}

static enum mux_took drop(struct mux_head *head)
{
	head->too_large = true;
	return MUX_TOOK_COPY;
}

static struct slice cookie_of(const struct mux_head *head)
{
	for (unsigned i = 0; i < head->count; i++)
		if (slice_eq(head->pairs[i].name, SLICE_LIT("cookie")))
			return head->pairs[i].value;
	return (struct slice){0};
}

/* Another piece of the cookie field. */
static enum mux_took join_cookie(struct mux_head *head, const struct config *c, struct slice value)
{
	struct slice first = buf_len(&head->cookies) ? (struct slice){0} : cookie_of(head);

	if (!fits(head, c, value.len + 2))
		return drop(head);
	if ((first.len > 0 && !buf_append(&head->cookies, first.at, first.len)) || !buf_append(&head->cookies, "; ", 2) ||
	    !buf_append(&head->cookies, value.at, value.len))
		return MUX_TOOK_NONE;
	return MUX_TOOK_COPY;
}

enum mux_took mux_head_take(struct mux *mux, struct mux_head *head, struct slice name, struct slice value)
{
	size_t bytes = name.len + value.len + FIELD_OVERHEAD;
	const struct config *c = mux_config(mux);

	if (!is_bearable(head, bytes))
		return MUX_TOOK_ALL;
	if (head->too_large)
		return MUX_TOOK_COPY;
	if (slice_eq(name, SLICE_LIT("cookie"))) {
		if (head->cookie)
			return join_cookie(head, c, value);
		head->cookie = true;
	}
	if (!fits(head, c, bytes) || !has_place(head, c, name.len > 0 && name.at[0] == ':'))
		return drop(head);
	head->pairs[head->count++] = (struct http_pair){name, value};
	return MUX_TOOK;
}

/* ---- complete heads ---- */

static struct http_pairs pairs_of(const struct mux_head *head)
{
	return (struct http_pairs){
		.at = head->pairs,
		.count = head->count,
		.too_large = head->too_large,
		.cookies = slice_of(buf_at(&head->cookies), buf_len(&head->cookies)),
	};
}

unsigned mux_head_examine(struct mux_stream *x, unsigned version, struct field *fields, struct request_head *head)
{
	struct http_pairs pairs = pairs_of(x->head);

	*head = (struct request_head){.version = version, .fields = fields};
	if (x->head->malformed)
		return 400;
	return http_examine(&pairs, x->bare, mux_config(x->mux)->max_body, fields, head);
}

unsigned mux_head_trailers(const struct mux_head *trailers, struct field *fields, unsigned *count)
{
	struct http_pairs pairs;

	*count = 0;
	if (!trailers)
		return 0;
	if (trailers->malformed)
		return 400;
	pairs = pairs_of(trailers);
	return http_trailers_of(&pairs, fields, count);
}

bool mux_head_asks_head(const struct mux_head *head)
{
	struct http_pairs pairs = pairs_of(head);

	return http_asks_head(&pairs);
}
