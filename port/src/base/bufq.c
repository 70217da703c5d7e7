#include "base/bufq.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_MIN = 480, BLOCK_MAX = 64 * 1024, LEND_MIN = 8 * 1024 };

struct bufq_block {
	struct bufq_block *next;
	uint32_t head, tail, cap;
	const uint8_t *lent; /* the bytes, if they are not in data */
	uint8_t data[];
};

static uint8_t *bytes_of(const struct bufq_block *block)
{
	return block->lent ? (uint8_t *)(uintptr_t)block->lent : (uint8_t *)(uintptr_t)block->data;
}

void bufq_init(struct bufq *q)
{
	*q = (struct bufq){0};
}

static void drop_first(struct bufq *q)
{
	struct bufq_block *block = q->first;

	q->first = block->next;
	if (!q->first)
		q->last = NULL;
	free(block);
}

void bufq_free(struct bufq *q)
{
	while (q->first)
		drop_first(q);
	q->len = 0;
	q->borrows = false;
}

static struct bufq_block *add_block(struct bufq *q, size_t cap)
{
	struct bufq_block *block = malloc(sizeof *block + cap);

	if (!block)
		return NULL;
	*block = (struct bufq_block){.cap = (uint32_t)cap};
	if (q->last)
		q->last->next = block;
	else
		q->first = block;
	q->last = block;
	return block;
}

uint8_t *bufq_reserve(struct bufq *q, size_t n)
{
	struct bufq_block *block = q->last;

	if (!block || block->cap - block->tail < n)
		block = add_block(q, n < BLOCK_MIN ? BLOCK_MIN : n);
	return block ? block->data + block->tail : NULL;
}

void bufq_filled(struct bufq *q, size_t n)
{
	assert(q->last && q->last->cap - q->last->tail >= n);
	q->last->tail += (uint32_t)n;
	q->len += n;
}

static size_t fill(struct bufq *q, const uint8_t *bytes, size_t n)
{
	struct bufq_block *block = q->last;
	size_t room = block ? block->cap - block->tail : 0;

	if (n > room)
		n = room;
	if (n) {
		memcpy(block->data + block->tail, bytes, n);
		bufq_filled(q, n);
	}
	return n;
}

bool bufq_append(struct bufq *q, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;
	size_t used = fill(q, at, n);

	for (at += used, n -= used; n; at += used, n -= used) {
		size_t cap = n < BLOCK_MIN ? BLOCK_MIN : n > BLOCK_MAX ? BLOCK_MAX : n;
		if (!add_block(q, cap))
			return false;
		used = fill(q, at, n);
	}
	return true;
}

bool bufq_lend(struct bufq *q, const void *bytes, size_t n)
{
	struct bufq_block *block;

	if (n < LEND_MIN || n > UINT32_MAX)
		return bufq_append(q, bytes, n);
	block = add_block(q, 0);
	if (!block)
		return false;
	block->lent = bytes;
	block->tail = block->cap = (uint32_t)n; /* full: nothing is appended to it */
	q->len += n;
	q->borrows = true;
	return true;
}

bool bufq_own(struct bufq *q)
{
	struct bufq old = *q;
	bool well = true;

	if (!q->borrows)
		return true;
	bufq_init(q);
	for (struct bufq_block *b = old.first; b && well; b = b->next)
		well = bufq_append(q, bytes_of(b) + b->head, b->tail - b->head);
	bufq_free(&old);
	return well;
}

int bufq_iov(const struct bufq *q, struct iovec *iov, int max)
{
	int count = 0;

	for (struct bufq_block *b = q->first; b && count < max; b = b->next)
		if (b->tail > b->head)
			iov[count++] = (struct iovec){bytes_of(b) + b->head, b->tail - b->head};
	return count;
}

void bufq_consume(struct bufq *q, size_t n)
{
	assert(n <= q->len);
	q->len -= n;
	while (q->first && n >= q->first->tail - q->first->head) {
		n -= q->first->tail - q->first->head;
		drop_first(q);
	}
	if (n)
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): bytes are left, so there is a block */
		q->first->head += (uint32_t)n;
}

bool bufq_move(struct bufq *from, struct bufq *to, size_t n)
{
	assert(n <= from->len);
	while (n > 0) {
		const struct bufq_block *b = from->first;
		size_t part = b->tail - b->head < n ? b->tail - b->head : n;
		const uint8_t *at = bytes_of(b) + b->head;
		if (!(b->lent ? bufq_lend(to, at, part) : bufq_append(to, at, part)))
			return false;
		bufq_consume(from, part);
		n -= part;
	}
	return true;
}

int bufq_walk(const struct bufq *q, struct bufq_cursor *c, size_t most, struct iovec *iov, int max, size_t *n)
{
	int count = 0;

	if (!c->block && q->first)
		*c = (struct bufq_cursor){q->first, q->first->head};
	for (*n = 0; c->block && *n < most && count < max;) {
		size_t left = c->block->tail - c->at, part = left < most - *n ? left : most - *n;
		if (part)
			iov[count++] = (struct iovec){bytes_of(c->block) + c->at, part};
		*n += part;
		c->at += (uint32_t)part;
		if (part < left || !c->block->next)
			break;
		*c = (struct bufq_cursor){c->block->next, c->block->next->head};
	}
	return count;
}

void bufq_consume_behind(struct bufq *q, struct bufq_cursor *c, size_t n)
{
	if (c->block && c->at == c->block->tail && c->block->next)
		*c = (struct bufq_cursor){c->block->next, c->block->next->head};
	bufq_consume(q, n);
	if (!q->first)
		*c = (struct bufq_cursor){0};
}
