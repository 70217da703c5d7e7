/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deadlines: a hashed wheel. Setting, moving and cancelling are O(1), so a deadline may be moved at every request.
 * A deadline fires at its slot's end: up to WHEEL_SLOT ms late, never early. Times are ms of one monotonic clock.
 */
#ifndef SPARX_BASE_WHEEL_H
#define SPARX_BASE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

enum { WHEEL_SLOT = 32, WHEEL_SLOTS = 1024 };

struct wheel_node {
	struct list link;
	uint64_t deadline;
	void (*fire)(struct wheel_node *node);
};

struct wheel {
	struct list slots[WHEEL_SLOTS];
	uint64_t used[WHEEL_SLOTS / 64]; /* a bit for each slot that may hold nodes */
	uint64_t now;                    /* everything that was due before this time has fired */
	uint64_t count;
};

void wheel_init(struct wheel *w, uint64_t now);
static inline void wheel_node_init(struct wheel_node *n, void (*fire)(struct wheel_node *node))
{
	list_init(&n->link);
	n->deadline = 0;
	n->fire = fire;
}
static inline bool wheel_pending(const struct wheel_node *n)
{
	return list_linked(&n->link);
}
void wheel_set(struct wheel *w, struct wheel_node *n, uint64_t deadline);
void wheel_cancel(struct wheel *w, struct wheel_node *n);
/* Fires what is due. A deadline that `fire` sets in the past fires at the next call. */
void wheel_fire(struct wheel *w, uint64_t now);
/* When to call wheel_fire next, at the latest at the end of the first deadline's slot; UINT64_MAX: nothing is set. */
uint64_t wheel_next(struct wheel *w);

#endif
