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
/* What it held, or NULL. */
void *idmap_del(struct idmap *m, uint64_t key);

/* Where a walk through a map is: {0} at its beginning. */
struct idmap_walk {
	size_t at;
	uint64_t key; /* of the value that was given last */
};

/*
 * The next value of a walk; NULL: there is none. Meanwhile nothing may be put, and only what was given last be deleted: then one
 * that was given before may be given again, but none is left out.
 */
void *idmap_next(const struct idmap *m, struct idmap_walk *w);

#endif
