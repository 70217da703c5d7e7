/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/wipe.h"

void buf_init(struct buf *b)
{
	*b = (struct buf){0};
}

void buf_free(struct buf *b)
{
	free(b->data);
	buf_init(b);
}

static void to_front(struct buf *b)
{
	size_t len = buf_len(b);

	if (b->head == 0)
		return;
	if (len)
		memmove(b->data, b->data + b->head, len);
	b->head = 0;
	b->tail = len;
}

/* Whether n more bytes fit into its memory, if need be with the others moved to the front. */
static bool has_room(struct buf *b, size_t n)
{
	if (buf_room(b) < n)
		to_front(b);
	return buf_room(b) >= n;
}

static size_t grown(const struct buf *b, size_t n)
{
	size_t cap = b->cap ? b->cap : 512;

	while (cap < b->tail + n)
		cap *= 2;
	return cap;
}

bool buf_reserve(struct buf *b, size_t n)
{
	uint8_t *data;
	size_t cap;

	if (has_room(b, n))
		return true;
	cap = grown(b, n);
	data = realloc(b->data, cap);
	if (!data)
		return false;
	b->data = data;
	b->cap = cap;
	return true;
}

bool buf_reserve_wiping(struct buf *b, size_t n)
{
	uint8_t *data;
	size_t cap;

	if (has_room(b, n))
		return true;
	cap = grown(b, n);
	data = malloc(cap);
	if (!data)
		return false;
	if (b->data) {
		memcpy(data, b->data, b->tail);
		wipe(b->data, b->cap);
		free(b->data);
	}
	b->data = data;
	b->cap = cap;
	return true;
}

void buf_wipe_slack(struct buf *b)
{
	if (b->data)
		wipe(b->data + b->tail, b->cap - b->tail);
}

bool buf_append(struct buf *b, const void *bytes, size_t n)
{
	if (n == 0)
		return true;
	if (!buf_reserve(b, n))
		return false;
	memcpy(b->data + b->tail, bytes, n);
	b->tail += n;
	return true;
}

void buf_filled(struct buf *b, size_t n)
{
	assert(n <= buf_room(b));
	b->tail += n;
}

void buf_consume(struct buf *b, size_t n)
{
	assert(n <= buf_len(b));
	b->head += n;
	if (b->head == b->tail)
		b->head = b->tail = 0;
}
