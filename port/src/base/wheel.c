/* SPDX-License-Identifier: Apache-2.0 */
#include "base/wheel.h"

#include <assert.h>

static unsigned slot_of(uint64_t time)
{
	return (unsigned)(time / WHEEL_SLOT % WHEEL_SLOTS);
}

void wheel_init(struct wheel *w, uint64_t now)
{
	for (unsigned i = 0; i < WHEEL_SLOTS; i++)
		list_init(&w->slots[i]);
	for (unsigned i = 0; i < WHEEL_SLOTS / 64; i++)
		w->used[i] = 0;
	w->now = now;
	w->count = 0;
}

void wheel_set(struct wheel *w, struct wheel_node *n, uint64_t deadline)
{
	unsigned slot;

	if (deadline < w->now)
		deadline = w->now;
	slot = slot_of(deadline);
	if (wheel_pending(n))
		list_remove(&n->link);
	else
		w->count++;
	n->deadline = deadline;
	list_append(&w->slots[slot], &n->link);
	w->used[slot / 64] |= UINT64_C(1) << slot % 64;
}

void wheel_cancel(struct wheel *w, struct wheel_node *n)
{
	if (!wheel_pending(n))
		return;
	assert(w->count > 0);
	list_remove(&n->link);
	w->count--;
}

/* Moves the nodes of this slot that belong to this round to `due`; those of later rounds stay. */
static void take_due(struct wheel *w, unsigned slot, uint64_t end, struct list *due)
{
	struct list *head = &w->slots[slot], *next;

	for (struct list *l = head->next; l != head; l = next) {
		next = l->next;
		if (container_of(l, struct wheel_node, link)->deadline >= end)
			continue;
		list_remove(l);
		list_append(due, l);
	}
	if (list_empty(head))
		w->used[slot / 64] &= ~(UINT64_C(1) << slot % 64);
}

void wheel_fire(struct wheel *w, uint64_t now)
{
	struct list due, *l;

	list_init(&due);
	/* a slot ends with its last ms, so nothing fires early */
	for (; w->now / WHEEL_SLOT < now / WHEEL_SLOT; w->now = (w->now / WHEEL_SLOT + 1) * WHEEL_SLOT)
		take_due(w, slot_of(w->now), (w->now / WHEEL_SLOT + 1) * WHEEL_SLOT, &due);
	while ((l = list_pop(&due))) {
		struct wheel_node *n = container_of(l, struct wheel_node, link);
		w->count--;
		n->fire(n);
	}
}

uint64_t wheel_next(struct wheel *w)
{
	uint64_t base = w->now / WHEEL_SLOT;

	if (w->count == 0)
		return UINT64_MAX;
	for (unsigned i = 0; i < WHEEL_SLOTS;) {
		unsigned slot = (unsigned)((base + i) % WHEEL_SLOTS);
		uint64_t used = w->used[slot / 64] >> slot % 64;
		if (used == 0) {
			i += 64 - slot % 64;
			continue;
		}
		i += (unsigned)__builtin_ctzll(used);
		slot = (unsigned)((base + i) % WHEEL_SLOTS);
		if (i < WHEEL_SLOTS && !list_empty(&w->slots[slot]))
			return (base + i + 1) * WHEEL_SLOT;
		if (i < WHEEL_SLOTS)
			w->used[slot / 64] &= ~(UINT64_C(1) << slot % 64);
	}
	return (base + WHEEL_SLOTS) * WHEEL_SLOT;
}
