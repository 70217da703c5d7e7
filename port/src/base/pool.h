/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of one size. Some of the blocks that were given back are kept for the next to take: malloc caches seven of a size, which
 * is few for a turn that serves many requests. The number of kept blocks is bounded, so idle connections pay nothing for them.
 */
#ifndef SPARX_BASE_POOL_H
#define SPARX_BASE_POOL_H

#include <stdint.h>
#include <stdlib.h>

/* Sanitizers and valgrind would not see errors in kept memory, so nothing is kept there. */
#ifdef SANDBOX_LEFT_OUT
enum { POOL_KEEPS = 0 };
#else
enum { POOL_KEEPS = 1 };
#endif

struct pool {
	void *first;   /* the block that was given back last: it is still in the CPU's caches */
	uint32_t kept; /* blocks */
};

/* At least `size` bytes, as malloc does; `size` is at least that of a pointer, and the same in all calls. NULL: out of memory. */
static inline void *pool_take(struct pool *p, size_t size)
{
	void *at = p->first;

	if (!at)
		return malloc(size);
	p->first = *(void **)at;
	p->kept--;
	return at;
}

/* Keeps the block, unless there are `most` already. */
static inline void pool_give(struct pool *p, void *at, uint32_t most)
{
	if (!POOL_KEEPS || p->kept >= most) {
		free(at);
		return;
	}
	*(void **)at = p->first;
	p->first = at;
	p->kept++;
}

static inline void pool_free(struct pool *p)
{
	while (p->first)
		free(pool_take(p, 0));
}

#endif
