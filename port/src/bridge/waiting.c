/* SPDX-License-Identifier: Apache-2.0 */
#include "bridge/waiting.h"

#include <stdlib.h>

#include "frames/fields.h"
#include "frames/mp.h"

void waiting_begin(struct exchange *x, uint8_t *head, uint32_t len, uint32_t waited_at)
{
	struct bridge *b = x->b;
	uint8_t *shrunk = realloc(head, len + x->whole.len);

	x->head = shrunk ? shrunk : head;
	x->head_len = len;
	x->waited_at = waited_at;
	list_append(&b->queue, &x->queue);
	b->queued++;
	shares_wait(&b->shares, x->share, &x->turn);
}

bool waiting_ended(struct exchange *x, const struct field *trailers, unsigned count)
{
	uint8_t *head = realloc(x->head, x->head_len + 1 + fields_bound(trailers, count)), *end;

	if (!head)
		return false;
	x->head = head;
	end = head + x->head_len;
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
	free(x->head);
	x->head = NULL;
}

uint64_t waiting_longest(const struct bridge *b)
{
	if (list_empty(&b->queue))
		return 0;
	return b->loop->now_us - container_of(b->queue.next, struct exchange, queue)->whole_us;
}
