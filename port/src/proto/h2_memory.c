#include "proto/h2_memory.h"

#include <stdlib.h>
#include <string.h>

/* 1.41 to 1.64: looked at. */
enum { VERSION_FIRST = 0x012900, VERSION_LAST = 0x0140ff };

static void *allocate(size_t n, void *ctx)
{
	struct h2_memory *m = ctx;

	if (m->sharing && n >= H2_FRAME_BUFFER_MIN && n <= H2_FRAME_BUFFER_MAX) {
		m->sharing = false;
		return m->frame;
	}
	return malloc(n);
}

static void release(void *at, void *ctx)
{
	struct h2_memory *m = ctx;

	if (pages_own(&m->pages, at))
		pages_give(&m->pages, at);
	else if (at != m->frame)
		free(at);
}

/* Of all that nghttp2 wants, only its tables of streams have this size, and they are wanted while a session is made. */
static void *allocate_zeroed(size_t count, size_t size, void *ctx)
{
	struct h2_memory *m = ctx;

	if (m->making && !m->table && count < PAGE_BYTES && size < PAGE_BYTES && count * size == PAGE_BYTES)
		m->table = pages_take(&m->pages);
	else
		return calloc(count, size);
	return m->table ? m->table : calloc(count, size);
}

static void *resize(void *at, size_t n, void *ctx)
{
	struct h2_memory *m = ctx;
	void *moved;

	if (!at)
		return allocate(n, ctx);
	if (at != m->frame)
		return realloc(at, n);
	moved = malloc(n);
	if (moved)
		memcpy(moved, m->frame, n < sizeof m->frame ? n : sizeof m->frame);
	return moved;
}

void h2_memory_init(struct h2_memory *m)
{
	int version = nghttp2_version(0)->version_num;

	m->mem = (nghttp2_mem){m, allocate, release, allocate_zeroed, resize};
	m->known = version >= VERSION_FIRST && version <= VERSION_LAST;
	m->sharing = m->making = false;
	pages_init(&m->pages);
}

void h2_memory_free(struct h2_memory *m)
{
	pages_free(&m->pages);
}

int h2_memory_session(struct h2_memory *m, nghttp2_session **ng, void **table, const nghttp2_session_callbacks *callbacks,
		      void *ctx, const nghttp2_option *option)
{
	int result;

	m->sharing = m->known;
	m->making = true;
	m->table = NULL;
	result = nghttp2_session_server_new3(ng, callbacks, ctx, option, &m->mem);
	*table = result == 0 ? m->table : NULL;
	m->sharing = m->making = false;
	return result;
}
