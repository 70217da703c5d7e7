/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes both ways, as DATA and BODY. */
#include "bridge/tunnel.h"

static void on_timer(struct wheel_node *node)
{
	struct exchange *x = container_of(node, struct exchange, timer);
	struct loop *loop = x->b->loop;
	uint64_t deadline = x->active + x->idle_timeout;

	if (x->s->response == RESPONSE_ENDED)
		return; /* bytes that are still to be sent have their own deadline */
	if (loop->now < deadline)
		wheel_set(&loop->wheel, &x->timer, deadline);
	else
		exchange_end(x, 0, END_TIMEOUT);
}

/* Passes on as many bytes as there is credit for. */
static size_t take_bytes(struct exchange *x, struct slice bytes)
{
	const struct stream *s = x->s;
	size_t used = 0;

	x->active = x->b->loop->now;
	while (used < bytes.len && !s->detached && x->chunks > 0) {
		size_t n = bytes.len - used < x->chunk ? bytes.len - used : (size_t)x->chunk;
		exchange_body(x, slice_of(bytes.at + used, n));
		used += n;
	}
	return used;
}

static const struct exchange_kind tunnel = {
	.bytes = take_bytes,
	.ended = exchange_body_ended,
	.read = exchange_read,
};

void tunnel_open(struct exchange *x, uint64_t idle_timeout)
{
	x->kind = &tunnel;
	if (idle_timeout == 0)
		return;
	x->active = x->b->loop->now;
	x->idle_timeout = (uint32_t)idle_timeout;
	x->timer.fire = on_timer;
	wheel_set(&x->b->loop->wheel, &x->timer, x->active + x->idle_timeout);
}
