/*
 * A queue of bytes in blocks: append at the end, write from the front with writev, and no byte moves twice. Bytes may also be
 * lent to it: they are written in place, and those that were not written in time are copied (bufq_own).
 */
#ifndef SPARX_BASE_BUFQ_H
#define SPARX_BASE_BUFQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct bufq_block;

struct bufq {
	struct bufq_block *first, *last;
	size_t len;
	bool borrows; /* some blocks may hold lent bytes */
};

void bufq_init(struct bufq *q);
void bufq_free(struct bufq *q);
/* n contiguous bytes to write into, at the end; bufq_filled says how many were used. NULL: out of memory. */
uint8_t *bufq_reserve(struct bufq *q, size_t n);
void bufq_filled(struct bufq *q, size_t n);
bool bufq_append(struct bufq *q, const void *bytes, size_t n);
/* The bytes must stay where they are until bufq_own. Small amounts are copied at once. */
bool bufq_lend(struct bufq *q, const void *bytes, size_t n);
/* Copies the lent bytes that are still queued. False: out of memory, the queue must not be used any more. */
bool bufq_own(struct bufq *q);
/* Moves the front of one queue to the end of another; lent bytes stay lent. */
bool bufq_move(struct bufq *from, struct bufq *to, size_t n);
/* Fills at most max vectors with the queue's front; returns how many. */
int bufq_iov(const struct bufq *q, struct iovec *iov, int max);
void bufq_consume(struct bufq *q, size_t n);

/* How far a reader has come who needs the bytes to stay a while longer; all zero at first. Nothing may be lent to such a queue. */
struct bufq_cursor {
	struct bufq_block *block;
	uint32_t at; /* in it */
};

/* The next bytes, at most `most`, which the cursor then has behind it. Returns how many vectors, and in *n how many bytes. */
int bufq_walk(const struct bufq *q, struct bufq_cursor *c, size_t most, struct iovec *iov, int max, size_t *n);
/* Consumes bytes that the cursor has behind it. */
void bufq_consume_behind(struct bufq *q, struct bufq_cursor *c, size_t n);

#endif
