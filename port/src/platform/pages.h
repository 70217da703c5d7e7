/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of zeros. The memory of an all-zero page can be returned to the system, since it still reads as zeros.
 */
#ifndef SPARX_PLATFORM_PAGES_H
#define SPARX_PLATFORM_PAGES_H

#include <stdbool.h>
#include <stddef.h>

enum { PAGE_BYTES = 4096 };

struct pages {
	void **slabs, **idle; /* mapped slabs; free pages */
	size_t slab_count, idle_count, idle_room;
};

void pages_init(struct pages *p);
void pages_free(struct pages *p);
/* PAGE_BYTES zeros. NULL: out of memory, or the system's pages are larger. */
void *pages_take(struct pages *p);
/* Whether it is one of these pages. */
bool pages_own(const struct pages *p, const void *at);
void pages_give(struct pages *p, void *page);
/* Returns the page's memory to the system if it is all zeros; the owner keeps the page. */
void page_trim(void *page);

#endif
