/* SPDX-License-Identifier: Apache-2.0 */
#include "base/idmap.h"

#include <assert.h>
#include <stdlib.h>

enum { FIRST_SIZE = 64 };

/*
 * Keys are consecutive numbers. They are scattered on purpose: neighbours would form one long run of full slots, and a
 * deletion has to look at the rest of its run.
 */
static size_t home_of(const struct idmap *m, uint64_t key)
{
	return (size_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 32) & m->mask;
}

void idmap_init(struct idmap *m)
{
	*m = (struct idmap){0};
}

void idmap_free(struct idmap *m)
{
	free(m->slots);
	idmap_init(m);
}

static size_t find(const struct idmap *m, uint64_t key)
{
	size_t i = home_of(m, key);

	while (m->slots[i].key != 0 && m->slots[i].key != key)
		i = (i + 1) & m->mask;
	return i;
}

void *idmap_get(const struct idmap *m, uint64_t key)
{
	return m->slots && key ? m->slots[find(m, key)].value : NULL;
}

static bool grow(struct idmap *m)
{
	struct idmap old = *m;
	size_t size = old.slots ? (old.mask + 1) * 2 : FIRST_SIZE;
	struct idmap_slot *slots = calloc(size, sizeof *slots);

	if (!slots)
		return false;
	m->slots = slots;
	m->mask = size - 1;
	for (size_t i = 0; old.slots && i <= old.mask; i++)
		if (old.slots[i].key)
			m->slots[find(m, old.slots[i].key)] = old.slots[i];
	free(old.slots);
	return true;
}

bool idmap_put(struct idmap *m, uint64_t key, void *value)
{
	size_t i;

	assert(key != 0 && value != NULL);
	if ((!m->slots || (m->count + 1) * 2 > m->mask + 1) && !grow(m))
		return false;
	i = find(m, key);
	assert(m->slots[i].key == 0);
	m->slots[i] = (struct idmap_slot){key, value};
	m->count++;
	return true;
}

/* Closes the hole at i: moves up what probing would no longer find. */
static void close_hole(struct idmap *m, size_t i)
{
	size_t hole = i;

	for (i = (i + 1) & m->mask; m->slots[i].key; i = (i + 1) & m->mask) {
		size_t home = home_of(m, m->slots[i].key);
		if (((i - home) & m->mask) >= ((i - hole) & m->mask)) {
			m->slots[hole] = m->slots[i];
			hole = i;
		}
	}
	m->slots[hole] = (struct idmap_slot){0, NULL};
}

void *idmap_del(struct idmap *m, uint64_t key)
{
	size_t i;
	void *value;

	if (!m->slots || key == 0)
		return NULL;
	i = find(m, key);
	value = m->slots[i].value;
	if (value) {
		close_hole(m, i);
		m->count--;
	}
	return value;
}

void *idmap_next(const struct idmap *m, struct idmap_walk *w)
{
	if (w->key && m->slots[w->at - 1].key != w->key)
		w->at--; /* the last value was deleted, and another has moved into its slot */
	while (m->slots && w->at <= m->mask) {
		const struct idmap_slot *slot = &m->slots[w->at++];
		w->key = slot->key;
		if (w->key)
			return slot->value;
	}
	w->key = 0;
	return NULL;
}
