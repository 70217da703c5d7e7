/* A queue of bytes in blocks: append at the end, write from the front with writev, no byte moves twice. */
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
};

void bufq_init(struct bufq *q);
void bufq_free(struct bufq *q);
/* n contiguous bytes to write into, at the end; bufq_filled says how many were used. NULL: out of memory. */
uint8_t *bufq_reserve(struct bufq *q, size_t n);
void bufq_filled(struct bufq *q, size_t n);
bool bufq_append(struct bufq *q, const void *bytes, size_t n);
/* Fills at most max vectors with the queue's front; returns how many. */
int bufq_iov(const struct bufq *q, struct iovec *iov, int max);
void bufq_consume(struct bufq *q, size_t n);

#endif
