/* SPDX-License-Identifier: Apache-2.0 */
#include "bridge/waiting.h"

#include <stdlib.h>

#include "frames/fields.h"
#include "frames/mp.h"

enum { SPARES_MAX = 512 };

uint8_t *waiting_room(struct exchange *x, size_t n)
{
	x->short_head = n <= WAITING_SHORT;
	x->head = x->short_head ? pool_take(&x->b->heads, WAITING_SHORT) : malloc(n);
	return x->head;
}

void waiting_drop(struct exchange *x)
{
	if (x->head && x->short_head)
		pool_give(&x->b->heads, x->head, SPARES_MAX);
	else
		free(x->head);
	x->head = NULL;
}

void waiting_begin(struct exchange *x, uint32_t len, uint32_t waited_at)
{
	struct bridge *b = x->b;
	uint8_t *shrunk = x->short_head ? NULL : realloc(x->head, len + x->whole.len);

	x->head = shrunk ? shrunk : x->head;
	x->head_len = len;
	x->waited_at = waited_at;
	list_append(&b->queue, &x->queue);
	b->queued++;
	shares_wait(&b->shares, x->share, &x->turn);
}

/* Memory of the store must keep its size. */
static bool make_longer(struct exchange *x, size_t n)
{
	uint8_t *head;

	if (x->short_head && n <= WAITING_SHORT)
		return true;
	head = x->short_head ? malloc(n) : realloc(x->head, n);
	if (!head)
		return false;
	if (x->short_head) {
		memcpy(head, x->head, x->head_len);
		waiting_drop(x);
		x->short_head = false;
	}
	x->head = head;
	return true;
}

bool waiting_ended(struct exchange *x, const struct field *trailers, unsigned count)
{
	uint8_t *end;

	if (!make_longer(x, x->head_len + 1 + fields_bound(trailers, count)))
		return false;
	end = x->head + x->head_len;
	x->end_len = (uint32_t)((count ? fields_encode(end, trailers, count) : mp_nil(end)) - end);
	return true;
}

void waiting_leave(struct exchange *x)
{
	list_remove(&x->queue);
	x->b->queued--;
	shares_leave(&x->b->shares, x->share, &x->turn);
}

void waiting_forget(struct exchange *x)
{
	if (list_linked(&x->queue))
		waiting_leave(x);
	waiting_drop(x);
}

uint64_t waiting_longest(const struct bridge *b)
{
	if (list_empty(&b->queue))
		return 0;
	return b->loop->now_us - container_of(b->queue.next, struct exchange, queue)->whole_us;
}
