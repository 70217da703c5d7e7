/* SPDX-License-Identifier: Apache-2.0 */
/* A client that leaves does not stop the handler, so its request keeps counting. */
#include "bridge/work.h"

#include <stdlib.h>

#include "bridge/limit.h"

enum { ABSENTS_MAX = 65536 };

/* A request whose client left while its handler was running. */
struct absent {
	struct list link;
	uint64_t id, until; /* ms */
	struct share *share;
	bool counted; /* by the limits on its peer */
	bool yielded; /* its handler was waiting for the client, so only the limits count it */
};

/*
 * A client can make its proxy's words doubtful by a field of its own. If each connection of the proxy were a peer then, such a client
 * would have no limit at all: so all of them are one peer, that of the proxy's address.
 */
static struct share *doubted(struct bridge *b, const struct peer *proxy)
{
	struct ip ip = ip_of(proxy->address, proxy->address_len);

	return ip.len ? shares_take(&b->shares, &ip) : share_keep(&b->shares.everyone);
}

struct share *work_share(struct bridge *b, const struct request_head *h, bool *exempt)
{
	struct share *named = NULL;
	const struct forwarded *f = &b->named;

	*exempt = h->peer->exempt;
	if (!h->peer->share)
		return share_keep(&b->shares.everyone);
	if (f->client.len) {
		named = shares_take(&b->shares, &f->client);
		*exempt = cidr_list_contains(&b->config->limit_exempt, &f->client);
	} else if (f->doubted) {
		named = doubted(b, h->peer);
		*exempt = false;
	}
	return named ? named : share_keep(h->peer->share);
}

/* ---- a request in progress ---- */

void work_begins(struct exchange *x)
{
	x->work = WORK_GOES_ON;
	shares_began(&x->b->shares, x->share);
}

/* Its peer may begin another. */
static void stop_counting(struct bridge *b, struct share *share)
{
	shares_ended(&b->shares, share);
	b->hand_out(b);
}

void work_ends(struct exchange *x)
{
	uint8_t before = x->work;

	x->work = WORK_IS_OVER;
	if (before == WORK_GOES_ON)
		stop_counting(x->b, x->share);
}

void work_yields(struct exchange *x)
{
	if (x->work != WORK_GOES_ON)
		return;
	x->work = WORK_YIELDS;
	stop_counting(x->b, x->share);
}

void work_resumes(struct exchange *x)
{
	if (x->work == WORK_YIELDS)
		work_begins(x);
}

/* ---- after the client has left ---- */

static void watch(struct bridge *b)
{
	if (list_empty(&b->absents))
		wheel_cancel(&b->loop->wheel, &b->forgets);
	else
		wheel_set(&b->loop->wheel, &b->forgets, container_of(b->absents.next, struct absent, link)->until);
}

static void forget(struct bridge *b, struct absent *a)
{
	struct share *share = a->share;
	bool yielded = a->yielded;

	idmap_del(&b->absent, a->id);
	list_remove(&a->link);
	limit_ends(share, a->counted);
	free(a);
	if (!yielded)
		stop_counting(b, share);
	shares_give(&b->shares, share);
}

static void on_forgets(struct wheel_node *node)
{
	struct bridge *b = container_of(node, struct bridge, forgets);

	while (!list_empty(&b->absents)) {
		struct absent *first = container_of(b->absents.next, struct absent, link);
		if (first->until > b->loop->now)
			break;
		forget(b, first);
	}
	watch(b);
}

/* Takes over the stream's share and its count there. False: out of memory. */
static bool outlives(const struct exchange *x)
{
	struct bridge *b = x->b;
	struct absent *a = b->config->h2_reset_hold ? malloc(sizeof *a) : NULL;

	if (!a)
		return false;
	*a = (struct absent){.id = x->id,
			     .until = b->loop->now + b->config->h2_reset_hold,
			     .share = x->share,
			     .counted = x->counted,
			     .yielded = x->work == WORK_YIELDS};
	if (!idmap_put(&b->absent, a->id, a)) {
		free(a);
		return false;
	}
	list_append(&b->absents, &a->link);
	if (b->absent.count > ABSENTS_MAX)
		forget(b, container_of(b->absents.next, struct absent, link));
	watch(b);
	return true;
}

/* A handler that has yielded goes on when it learns that its client has left: the limits count it until then. */
static bool is_handled(const struct exchange *x)
{
	return x->work == WORK_GOES_ON || (x->work == WORK_YIELDS && x->counted);
}

void work_forget(struct exchange *x)
{
	struct share *share = x->share;

	if (!share)
		return;
	if (!is_handled(x) || !outlives(x)) {
		work_ends(x);
		limit_ends(share, x->counted);
		shares_give(&x->b->shares, share);
	}
	x->work = WORK_IS_OVER;
	x->share = NULL;
}

void work_released(struct bridge *b, uint64_t id)
{
	struct absent *a = idmap_get(&b->absent, id);

	if (!a)
		return;
	forget(b, a);
	watch(b);
}

void work_init(struct bridge *b)
{
	idmap_init(&b->absent);
	list_init(&b->absents);
	wheel_node_init(&b->forgets, on_forgets);
}

void work_free(struct bridge *b)
{
	while (!list_empty(&b->absents))
		forget(b, container_of(b->absents.next, struct absent, link));
	wheel_cancel(&b->loop->wheel, &b->forgets);
	idmap_free(&b->absent);
}
