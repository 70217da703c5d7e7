/* SPDX-License-Identifier: Apache-2.0 */
/* A closed connection (RFC 9000 10.2), which still recognizes packets that were on their way to it. */
#include <stdlib.h>
#include <string.h>

#include "quic/parts.h"

enum { GHOSTS_MAX = 4096 };

struct ghost {
	struct quic_end end;
	struct quic *quic;
	struct list link; /* quic->ghosts */
	struct wheel_node timer;
	unsigned heard; /* packets */
	size_t count, n;
	uint8_t *packet; /* after the ids */
	ngtcp2_cid ids[];
};

static void ghost_free(struct ghost *g)
{
	struct quic *q = g->quic;

	for (size_t i = 0; i < g->count; i++)
		quic_route_remove(q, &g->ids[i]);
	wheel_cancel(&q->pool->loop->wheel, &g->timer);
	list_remove(&g->link);
	q->ghost_count--;
	free(g);
}

static void on_timer(struct wheel_node *node)
{
	ghost_free(container_of(node, struct ghost, timer));
}

/* Answers the first packet, the second, the fourth, the eighth, and so on, never with more bytes than it received. */
static void on_packet(struct quic_end *end, const struct quic_datagram *d)
{
	struct ghost *g = container_of(end, struct ghost, end);
	ngtcp2_path path = quic_path_of(d);
	size_t sent;

	g->heard++;
	if (g->n > 0 && g->n <= d->n && (g->heard & (g->heard - 1)) == 0)
		quic_socket_send(g->quic, &path, 0, g->packet, g->n, g->n, &sent);
}

void quic_ghost_make(struct quic *q, const ngtcp2_cid *ids, size_t count, const uint8_t *packet, size_t n, uint64_t ms)
{
	struct ghost *g = malloc(sizeof *g + count * sizeof *ids + n);

	if (q->ghost_count >= GHOSTS_MAX)
		ghost_free(container_of(q->ghosts.next, struct ghost, link));
	if (!g) {
		for (size_t i = 0; i < count; i++)
			quic_route_remove(q, &ids[i]);
		return;
	}
	*g = (struct ghost){.end = {on_packet}, .quic = q, .n = n, .packet = (uint8_t *)&g->ids[count]};
	list_append(&q->ghosts, &g->link);
	q->ghost_count++;
	wheel_node_init(&g->timer, on_timer);
	wheel_set(&q->pool->loop->wheel, &g->timer, q->pool->loop->now + ms);
	if (n)
		memcpy(g->packet, packet, n);
	for (size_t i = 0; i < count; i++)
		if (quic_route_move(q, &ids[i], &g->end))
			g->ids[g->count++] = ids[i];
}

void quic_ghosts_free(struct quic *q)
{
	for (struct list *l = q->ghosts.next, *next; l != &q->ghosts; l = next) {
		next = l->next;
		ghost_free(container_of(l, struct ghost, link));
	}
}
