/* SPDX-License-Identifier: Apache-2.0 */
/* One contiguous buffer: bytes are appended at the tail and consumed at the head. It owns no memory until the first append. */
#ifndef SPARX_BASE_BUF_H
#define SPARX_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data;
	size_t head, tail, cap; /* head <= tail <= cap */
};

static inline size_t buf_len(const struct buf *b)
{
	return b->tail - b->head;
}

static inline uint8_t *buf_at(const struct buf *b)
{
	return b->data ? b->data + b->head : NULL;
}

static inline size_t buf_room(const struct buf *b)
{
	return b->cap - b->tail;
}

void buf_init(struct buf *b);
/* Frees the memory; the buffer is empty and usable afterwards. */
void buf_free(struct buf *b);
/* Makes room for n more bytes at the tail, by moving or growing. False: out of memory, nothing changed. */
bool buf_reserve(struct buf *b, size_t n);
/* The same for secrets: overwrites the old memory when the buffer moves. */
bool buf_reserve_wiping(struct buf *b, size_t n);
/* Overwrites the unused memory after the tail. (What is before the head was consumed, but others may still read it.) */
void buf_wipe_slack(struct buf *b);
bool buf_append(struct buf *b, const void *bytes, size_t n);
/* Records that n bytes were written at the tail, into reserved room. */
void buf_filled(struct buf *b, size_t n);
void buf_consume(struct buf *b, size_t n);

#endif
