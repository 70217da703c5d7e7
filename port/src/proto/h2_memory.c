/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h2_memory.h"

#include <stdlib.h>
#include <string.h>

#include "platform/platform.h"

/* Versions 1.41 to 1.64, whose sources were read. */
enum { VERSION_FIRST = 0x012900, VERSION_LAST = 0x0140ff };

/* Whether nghttp2's buffer and tables are recognized by their size. -DH2_MEMORY_PLAIN: everything comes from malloc. */
#ifdef H2_MEMORY_PLAIN
enum { RECOGNIZES = 0 };
#else
enum { RECOGNIZES = 1 };
#endif

/* A page for small allocations when malloc has no memory. */
static void *last_resort(struct h2_memory *m, size_t n)
{
	m->starved = true;
	return n <= PAGE_BYTES ? pages_take(&m->pages) : NULL;
}

/* An allocation of at least n bytes that was freed; NULL: none is kept. */
static void *take_small(struct h2_memory *m, size_t n)
{
	size_t i = (n + H2_STEP_HEAD + H2_STEP - 1) / H2_STEP;

	if (n > H2_SMALL - H2_STEP_HEAD || !m->small[i].first)
		return NULL;
	m->kept -= i * H2_STEP;
	return pool_take(&m->small[i], n);
}

/* Keeps an allocation of malloc's; its size says for what it is large enough. */
static void give_small(struct h2_memory *m, void *at)
{
	size_t size = platform_memory_size(at), i = (size + H2_STEP_HEAD) / H2_STEP;

	if (size < H2_STEP || i > H2_SMALL / H2_STEP || m->kept >= H2_KEPT_BYTES || m->small[i].kept >= H2_KEPT_MAX ||
	    !POOL_KEEPS) {
		free(at);
		return;
	}
	m->kept += i * H2_STEP;
	pool_give(&m->small[i], at, H2_KEPT_MAX);
}

static void *allocate(size_t n, void *ctx)
{
	struct h2_memory *m = ctx;
	void *at;

	if (m->sharing && n >= H2_FRAME_BUFFER_MIN && n <= H2_FRAME_BUFFER_MAX) {
		m->sharing = false;
		return m->frame;
	}
	at = take_small(m, n);
	if (!at)
		at = malloc(n);
	if (!at)
		at = last_resort(m, n);
	return at;
}

static void release(void *at, void *ctx)
{
	struct h2_memory *m = ctx;

	if (!at || at == m->frame)
		return;
	if ((uintptr_t)at % PAGE_BYTES == 0 && pages_own(&m->pages, at))
		pages_give(&m->pages, at);
	else
		give_small(m, at);
}

/* Only nghttp2's tables of streams have this size, and they are allocated while a session is made. */
static bool is_table(const struct h2_memory *m, size_t count, size_t size)
{
	return RECOGNIZES && m->making && !m->table && count < PAGE_BYTES && size < PAGE_BYTES && count * size == PAGE_BYTES;
}

static void *allocate_zeroed(size_t count, size_t size, void *ctx)
{
	struct h2_memory *m = ctx;
	void *at = NULL;

	if (is_table(m, count, size))
		at = m->table = pages_take(&m->pages);
	if (!at)
		at = calloc(count, size);
	return at || (size && count > PAGE_BYTES / size) ? at : last_resort(m, count * size);
}

/* How many bytes may be read there: at least the requested size; 0: unknown. */
static size_t size_of(const struct h2_memory *m, void *at)
{
	if (at == m->frame)
		return sizeof m->frame;
	return pages_own(&m->pages, at) ? PAGE_BYTES : platform_memory_size(at);
}

static void *resize(void *at, size_t n, void *ctx)
{
	struct h2_memory *m = ctx;
	void *moved = NULL;
	size_t old;

	if (!at)
		return allocate(n, ctx);
	if (at != m->frame && !pages_own(&m->pages, at))
		moved = realloc(at, n);
	if (moved)
		return moved;
	old = size_of(m, at);
	moved = old ? allocate(n, ctx) : NULL;
	if (!moved)
		return NULL;
	memcpy(moved, at, n < old ? n : old);
	release(at, ctx);
	return moved;
}

void h2_memory_init(struct h2_memory *m)
{
	int version = nghttp2_version(0)->version_num;

	m->mem = (nghttp2_mem){m, allocate, release, allocate_zeroed, resize};
	m->known = RECOGNIZES && version >= VERSION_FIRST && version <= VERSION_LAST;
	m->sharing = m->making = m->starved = false;
	m->kept = 0;
	memset(m->small, 0, sizeof m->small);
	pages_init(&m->pages);
}

void h2_memory_free(struct h2_memory *m)
{
	for (size_t i = 0; i < sizeof m->small / sizeof *m->small; i++)
		pool_free(&m->small[i]);
	pages_free(&m->pages);
}

bool h2_memory_starved(struct h2_memory *m)
{
	bool starved = m->starved;

	m->starved = false;
	return starved;
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
