/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue of bytes in blocks: append at the end, write from the front with writev, and no byte moves twice. Bytes may also be
 * lent to it: they are written in place, and those that were not written in time are copied (bufq_own). And it may contain parts
 * of files, whose bytes are not in memory: the caller sends them itself (bufq_file), or first reads some into memory (bufq_load).
 */
#ifndef SPARX_BASE_BUFQ_H
#define SPARX_BASE_BUFQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/file.h"

struct bufq_block;

struct bufq {
	struct bufq_block *first, *last;
	size_t len;
	size_t charged; /* what the owner is charged: bytes that were put in, and FILE_COST for each part of a file */
	uint32_t files; /* parts of files in it */
	bool borrows;   /* some blocks may hold lent bytes */
};

/* The first part of a file in a queue. */
struct bufq_file {
	struct file *file;
	uint64_t offset;
	size_t len;
	size_t before; /* bytes before it, all of them in memory */
};

void bufq_init(struct bufq *q);
void bufq_free(struct bufq *q);
/* Frees the blocks that are kept for the queues of this process. */
void bufq_free_spares(void);
/* n contiguous bytes to write into, at the end; bufq_filled says how many were used. NULL: out of memory. */
uint8_t *bufq_reserve(struct bufq *q, size_t n);
void bufq_filled(struct bufq *q, size_t n);
bool bufq_append(struct bufq *q, const void *bytes, size_t n);
/* The bytes must stay where they are until bufq_own. Small amounts are copied at once. */
bool bufq_lend(struct bufq *q, const void *bytes, size_t n);
/* Appends n bytes of a file, at least one; the file is kept until they have been sent. */
bool bufq_append_file(struct bufq *q, struct file *f, uint64_t offset, size_t n);
/* Copies the lent bytes that are still queued. False: out of memory, the queue must not be used any more. */
bool bufq_own(struct bufq *q);
/* Moves the front of one queue to the end of another; lent bytes stay lent. All of it must be in memory. */
bool bufq_move(struct bufq *from, struct bufq *to, size_t n);
/* Fills at most max vectors with the queue's front, up to the first part of a file; returns how many. */
int bufq_iov(const struct bufq *q, struct iovec *iov, int max);
/* False: there is none. */
bool bufq_file(const struct bufq *q, struct bufq_file *f);
/*
 * Reads the next bytes of the first part of a file into memory, at their place in the queue: at most n, and as many as `read`
 * returns. Returns the result of `read`; or -1 with ENOMEM.
 */
ssize_t bufq_load(struct bufq *q, size_t n, ssize_t (*read)(struct file *f, void *to, size_t n, uint64_t offset));
void bufq_consume(struct bufq *q, size_t n);

/* The position of a reader that needs the bytes to stay a while longer; all zero at first. Nothing may be lent to such a queue. */
struct bufq_cursor {
	struct bufq_block *block;
	uint32_t at; /* in it */
};

/*
 * Moves the cursor over the next bytes in memory, at most `most`. Returns how many vectors they are, in *n how many bytes, and in
 * *charged how many of these count for the owner (bytes of files do not).
 */
int bufq_walk(const struct bufq *q, struct bufq_cursor *c, size_t most, struct iovec *iov, int max, size_t *n, size_t *charged);
/* Consumes bytes before the cursor. */
void bufq_consume_behind(struct bufq *q, struct bufq_cursor *c, size_t n);

#endif
