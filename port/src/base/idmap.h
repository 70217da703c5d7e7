/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers to pointers: open addressing. Keys are never 0. */
#ifndef SPARX_BASE_IDMAP_H
#define SPARX_BASE_IDMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct idmap_slot {
	uint64_t key;
	void *value;
};

struct idmap {
	struct idmap_slot *slots;
	size_t mask, count; /* mask + 1 slots, a power of two; none before the first put */
};

void idmap_init(struct idmap *m);
void idmap_free(struct idmap *m);
void *idmap_get(const struct idmap *m, uint64_t key);
/* The key must be new. False: out of memory. */
bool idmap_put(struct idmap *m, uint64_t key, void *value);
/* Returns the deleted value, or NULL. */
void *idmap_del(struct idmap *m, uint64_t key);

/* The position of a walk through a map; begins as {0}. */
struct idmap_walk {
	size_t at;
	uint64_t key; /* key of the value that was returned last */
};

/*
 * The next value of a walk; NULL: there is none. During a walk nothing may be put, and only the value returned last may be
 * deleted: an earlier value may then be returned again, but none is left out.
 */
void *idmap_next(const struct idmap *m, struct idmap_walk *w);

#endif
