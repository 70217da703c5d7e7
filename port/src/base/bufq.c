/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bufq.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "base/shared.h"

enum { BLOCK_MIN = 480, BLOCK_MAX = 64 * 1024, LEND_MIN = 8 * 1024, SPARES_MAX = 512 };

/* Freed blocks of BLOCK_MIN bytes. Static, since queues have nothing in common but this. */
static struct pool spares;

enum kind { OWNED, LENT, SHARED, LOADED, PART };

/* The part of a file that is still to be written. */
struct part {
	struct file *file;
	uint64_t offset;
	size_t left;
};

struct bufq_block {
	struct bufq_block *next;
	uint32_t head, tail, cap;
	uint8_t kind;        /* enum kind */
	const uint8_t *lent; /* LENT, SHARED: where the bytes are */
	uint8_t data[];      /* OWNED, LOADED: the bytes; PART: a struct part */
};

static uint8_t *bytes_of(const struct bufq_block *block)
{
	return block->kind == LENT || block->kind == SHARED ? (uint8_t *)(uintptr_t)block->lent : (uint8_t *)(uintptr_t)block->data;
}

static struct part *part_of(const struct bufq_block *block)
{
	return (struct part *)(void *)(uintptr_t)block->data;
}

static size_t length_of(const struct bufq_block *block)
{
	return block->kind == PART ? part_of(block)->left : block->tail - block->head;
}

void bufq_init(struct bufq *q)
{
	*q = (struct bufq){0};
}

static void free_block(struct bufq_block *block)
{
	if (block->cap == BLOCK_MIN)
		pool_give(&spares, block, SPARES_MAX);
	else
		free(block);
}

static void drop_first(struct bufq *q)
{
	struct bufq_block *block = q->first;

	q->first = block->next;
	if (!q->first)
		q->last = NULL;
	if (block->kind == SHARED)
		shared_give(block->lent, block->tail);
	if (block->kind == PART) {
		q->files--;
		q->charged -= FILE_COST;
		file_give(part_of(block)->file);
	}
	free_block(block);
}

void bufq_free(struct bufq *q)
{
	while (q->first)
		drop_first(q);
	q->len = q->charged = 0;
	q->borrows = false;
}

void bufq_free_spares(void)
{
	pool_free(&spares);
}

static struct bufq_block *new_block(enum kind kind, size_t cap)
{
	size_t size = sizeof(struct bufq_block) + cap;
	struct bufq_block *block = cap == BLOCK_MIN ? pool_take(&spares, size) : malloc(size);

	if (block)
		*block = (struct bufq_block){.cap = (uint32_t)cap, .kind = (uint8_t)kind};
	return block;
}

static void link_block(struct bufq *q, struct bufq_block *block)
{
	block->next = NULL;
	if (q->last)
		q->last->next = block;
	else
		q->first = block;
	q->last = block;
}

static struct bufq_block *add_block(struct bufq *q, enum kind kind, size_t cap)
{
	struct bufq_block *block = new_block(kind, cap);

	if (block)
		link_block(q, block);
	return block;
}

/* Bytes that may still be put into the last block. */
static size_t room_of(const struct bufq_block *block)
{
	return block && block->kind == OWNED ? block->cap - block->tail : 0;
}

uint8_t *bufq_reserve(struct bufq *q, size_t n)
{
	struct bufq_block *block = q->last;

	if (room_of(block) < n || !block)
		block = add_block(q, OWNED, n < BLOCK_MIN ? BLOCK_MIN : n);
	return block ? block->data + block->tail : NULL;
}

void bufq_filled(struct bufq *q, size_t n)
{
	assert(q->last && room_of(q->last) >= n);
	q->last->tail += (uint32_t)n;
	q->len += n;
	q->charged += n;
}

static size_t fill(struct bufq *q, const uint8_t *bytes, size_t n)
{
	struct bufq_block *block = q->last;
	size_t room = room_of(block);

	if (room == 0)
		return 0;
	n = n < room ? n : room;
	memcpy(block->data + block->tail, bytes, n);
	block->tail += (uint32_t)n;
	q->len += n;
	q->charged += n;
	return n;
}

bool bufq_append(struct bufq *q, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;
	size_t used;

	if (n == 0)
		return true;
	used = fill(q, at, n);
	for (at += used, n -= used; n; at += used, n -= used) {
		size_t cap = n < BLOCK_MIN ? BLOCK_MIN : n > BLOCK_MAX ? BLOCK_MAX : n;
		if (!add_block(q, OWNED, cap))
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
	block = add_block(q, shared_has(bytes) ? SHARED : LENT, 0);
	if (!block)
		return false;
	if (block->kind == SHARED) /* the host does not write there until it is given back */
		shared_keep(bytes, n);
	block->lent = bytes;
	block->tail = (uint32_t)n;
	q->len += n;
	q->charged += n;
	q->borrows = q->borrows || block->kind == LENT;
	return true;
}

bool bufq_append_file(struct bufq *q, struct file *f, uint64_t offset, size_t n)
{
	struct bufq_block *block = add_block(q, PART, sizeof(struct part));

	assert(n > 0);
	if (!block)
		return false;
	*part_of(block) = (struct part){file_keep(f), offset, n};
	q->files++;
	q->len += n;
	q->charged += FILE_COST;
	return true;
}

/* Copies only lent bytes; all other blocks move over unchanged. */
bool bufq_own(struct bufq *q)
{
	struct bufq_block *block = q->first, *next;
	bool well = true;

	if (!q->borrows)
		return true;
	q->first = q->last = NULL;
	q->borrows = false;
	for (; block; block = next) {
		size_t n = length_of(block);
		next = block->next;
		if (block->kind != LENT) {
			link_block(q, block);
			continue;
		}
		q->len -= n;
		q->charged -= n;
		well = well && bufq_append(q, block->lent + block->head, n);
		free_block(block);
	}
	return well;
}

int bufq_iov(const struct bufq *q, struct iovec *iov, int max)
{
	int count = 0;

	for (struct bufq_block *b = q->first; b && b->kind != PART && count < max; b = b->next)
		if (b->tail > b->head)
			iov[count++] = (struct iovec){bytes_of(b) + b->head, b->tail - b->head};
	return count;
}

bool bufq_file(const struct bufq *q, struct bufq_file *f)
{
	const struct bufq_block *b = q->first;
	size_t before = 0;

	if (q->files == 0)
		return false;
	for (; b->kind != PART || part_of(b)->left == 0; b = b->next) {
		before += length_of(b);
		if (!b->next)
			return false;
	}
	*f = (struct bufq_file){part_of(b)->file, part_of(b)->offset, part_of(b)->left, before};
	return true;
}

/* The position of the first part that is not completely written. */
static struct bufq_block **first_part(struct bufq *q)
{
	struct bufq_block **at = &q->first;

	while (*at && ((*at)->kind != PART || part_of(*at)->left == 0))
		at = &(*at)->next;
	return at;
}

/* A file may return few bytes at a time, which must not occupy more memory than they need. */
static struct bufq_block *shrunk(struct bufq_block *block, size_t n)
{
	struct bufq_block *less = n < block->cap / 2 ? realloc(block, sizeof *block + n) : NULL;

	if (less)
		less->cap = (uint32_t)n;
	return less ? less : block;
}

ssize_t bufq_load(struct bufq *q, size_t n, ssize_t (*read)(struct file *f, void *to, size_t n, uint64_t offset))
{
	struct bufq_block **at = first_part(q), *block;
	struct part *part = part_of(*at);
	ssize_t got;

	n = n < part->left ? n : part->left;
	n = n < BLOCK_MAX ? n : BLOCK_MAX;
	block = new_block(LOADED, n);
	if (!block) {
		errno = ENOMEM;
		return -1;
	}
	got = read(part->file, block->data, n, part->offset);
	if (got <= 0) {
		free_block(block);
		return got;
	}
	block = shrunk(block, (size_t)got);
	part->offset += (uint64_t)got;
	part->left -= (size_t)got;
	block->tail = (uint32_t)got;
	block->next = *at;
	*at = block;
	return got;
}

/* Takes n bytes from a block that has more. */
static void shorten(struct bufq *q, struct bufq_block *block, size_t n)
{
	if (block->kind == PART) {
		part_of(block)->offset += n;
		part_of(block)->left -= n;
		return;
	}
	block->head += (uint32_t)n;
	if (block->kind != LOADED)
		q->charged -= n;
}

void bufq_consume(struct bufq *q, size_t n)
{
	assert(n <= q->len);
	q->len -= n;
	while (q->first && n >= length_of(q->first)) {
		size_t all = length_of(q->first);
		n -= all;
		shorten(q, q->first, all);
		drop_first(q);
	}
	if (n && q->first)
		shorten(q, q->first, n);
}

bool bufq_move(struct bufq *from, struct bufq *to, size_t n)
{
	assert(n <= from->len);
	while (n > 0) {
		const struct bufq_block *b = from->first;
		size_t part = length_of(b) < n ? length_of(b) : n;
		const uint8_t *at = bytes_of(b) + b->head;
		assert(b->kind != PART);
		if (!(b->kind == LENT || b->kind == SHARED ? bufq_lend(to, at, part) : bufq_append(to, at, part)))
			return false;
		bufq_consume(from, part);
		n -= part;
	}
	return true;
}

/* Whether it is a part of a file that is not completely in memory: a cursor cannot go beyond it. */
static bool is_live(const struct bufq_block *block)
{
	return block->kind == PART && part_of(block)->left > 0;
}

int bufq_walk(const struct bufq *q, struct bufq_cursor *c, size_t most, struct iovec *iov, int max, size_t *n, size_t *charged)
{
	int count = 0;

	*n = *charged = 0;
	if (!c->block && q->first && !is_live(q->first))
		*c = (struct bufq_cursor){q->first, q->first->head};
	while (c->block && *n < most && count < max) {
		size_t left = c->block->tail - c->at, part = left < most - *n ? left : most - *n;
		if (part)
			iov[count++] = (struct iovec){bytes_of(c->block) + c->at, part};
		*n += part;
		*charged += c->block->kind == LOADED ? 0 : part;
		c->at += (uint32_t)part;
		if (part < left || !c->block->next || is_live(c->block->next))
			break;
		*c = (struct bufq_cursor){c->block->next, c->block->next->head};
	}
	return count;
}

/* Whether a cursor has n bytes before it. */
static bool has_walked(const struct bufq *q, const struct bufq_cursor *c, size_t n)
{
	size_t before = c->at - c->block->head;

	for (const struct bufq_block *b = q->first; b != c->block && before <= n; b = b->next)
		before += length_of(b);
	return before == n;
}

void bufq_consume_behind(struct bufq *q, struct bufq_cursor *c, size_t n)
{
	bool at_end = c->block && c->at == c->block->tail && c->block->next;

	if (at_end && !is_live(c->block->next))
		*c = (struct bufq_cursor){c->block->next, c->block->next->head};
	else if (at_end && has_walked(q, c, n))
		*c = (struct bufq_cursor){0}; /* its block is freed */
	bufq_consume(q, n);
	if (!q->first)
		*c = (struct bufq_cursor){0};
}
