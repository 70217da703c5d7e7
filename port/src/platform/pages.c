/* SPDX-License-Identifier: Apache-2.0 */
#include "platform/pages.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/platform.h"

enum { SLAB_PAGES = 64 };

void pages_init(struct pages *p)
{
	*p = (struct pages){0};
}

void pages_free(struct pages *p)
{
	for (size_t i = 0; i < p->slab_count; i++)
		munmap(p->slabs[i], SLAB_PAGES * PAGE_BYTES);
	free(p->slabs);
	free(p->idle);
	pages_init(p);
}

static bool grow(struct pages *p)
{
	size_t room = (p->slab_count + 1) * SLAB_PAGES;
	void **slabs = realloc(p->slabs, (p->slab_count + 1) * sizeof *slabs), **idle;
	char *slab;

	if (!slabs)
		return false;
	p->slabs = slabs;
	idle = realloc(p->idle, room * sizeof *idle);
	if (!idle)
		return false;
	p->idle = idle;
	p->idle_room = room;
	slab = mmap(NULL, SLAB_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (slab == MAP_FAILED)
		return false;
	p->slabs[p->slab_count++] = slab;
	for (size_t i = SLAB_PAGES; i > 0; i--)
		p->idle[p->idle_count++] = slab + (i - 1) * PAGE_BYTES;
	return true;
}

void *pages_take(struct pages *p)
{
	if (sysconf(_SC_PAGESIZE) != PAGE_BYTES || (p->idle_count == 0 && !grow(p)))
		return NULL;
	return p->idle[--p->idle_count];
}

bool pages_own(const struct pages *p, const void *at)
{
	for (size_t i = 0; at && (uintptr_t)at % PAGE_BYTES == 0 && i < p->slab_count; i++)
		if ((const char *)at >= (const char *)p->slabs[i] &&
		    (const char *)at < (const char *)p->slabs[i] + SLAB_PAGES * PAGE_BYTES)
			return true;
	return false;
}

void pages_give(struct pages *p, void *page)
{
	platform_zero_pages(page, PAGE_BYTES);
	p->idle[p->idle_count++] = page;
}

void page_trim(void *page)
{
	const char *bytes = page;

	if (bytes[0] == 0 && memcmp(bytes, bytes + 1, PAGE_BYTES - 1) == 0)
		platform_zero_pages(page, PAGE_BYTES);
}
