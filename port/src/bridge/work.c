/* Whose requests the host is at work on. That a client has left does not free who works for it, so it counts on. */
#include "bridge/work.h"

#include <stdlib.h>

#include "bridge/queue.h"
#include "peer/forwarded.h"

enum { WORK_NONE, WORK_GOES_ON, WORK_YIELDS, WORK_IS_OVER };
enum { ABSENTS_MAX = 65536 };

/* A request whose client has gone while somebody worked on it. */
struct absent {
	struct list link;
	uint64_t id, until; /* ms */
	struct share *share;
};

struct share *bridge_share_of(struct bridge *b, const struct request_head *h)
{
	struct share *named = NULL;
	struct ip client;

	if (!h->peer->share)
		return share_keep(&b->shares.everyone);
	if (h->peer->trusted && forwarded_client(h->fields, h->field_count, &b->config->trusted_proxies, &client))
		named = shares_take(&b->shares, &client);
	return named ? named : share_keep(h->peer->share);
}

/* ---- a request in progress ---- */

void bridge_work_begins(struct bridge *b, struct stream *s)
{
	s->work = WORK_GOES_ON;
	shares_began(&b->shares, s->share);
}

/* Its peer may begin another. */
static void stop_counting(struct bridge *b, struct share *share)
{
	shares_ended(&b->shares, share);
	bridge_send_queued(b);
}

void bridge_work_ends(struct bridge *b, struct stream *s)
{
	uint8_t before = s->work;

	s->work = WORK_IS_OVER;
	if (before == WORK_GOES_ON)
		stop_counting(b, s->share);
}

void bridge_work_yields(struct bridge *b, struct stream *s)
{
	if (s->work != WORK_GOES_ON)
		return;
	s->work = WORK_YIELDS;
	stop_counting(b, s->share);
}

void bridge_work_resumes(struct bridge *b, struct stream *s)
{
	if (s->work == WORK_YIELDS)
		bridge_work_begins(b, s);
}

/* ---- when the client has gone ---- */

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

	idmap_del(&b->absent, a->id);
	list_remove(&a->link);
	free(a);
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

/* Takes over the stream's share, and what it counts there. False: out of memory. */
static bool outlives(struct bridge *b, const struct stream *s)
{
	struct absent *a = b->config->h2_reset_hold ? malloc(sizeof *a) : NULL;

	if (!a)
		return false;
	*a = (struct absent){.id = s->id, .until = b->loop->now + b->config->h2_reset_hold, .share = s->share};
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

void bridge_work_forget(struct bridge *b, struct stream *s)
{
	struct share *share = s->share;

	if (!share)
		return;
	if (s->work != WORK_GOES_ON || !outlives(b, s)) {
		bridge_work_ends(b, s);
		shares_give(&b->shares, share);
	}
	s->work = WORK_IS_OVER;
	s->share = NULL;
}

void bridge_work_released(struct bridge *b, uint64_t id)
{
	struct absent *a = idmap_get(&b->absent, id);

	if (!a)
		return;
	forget(b, a);
	watch(b);
}

void bridge_work_init(struct bridge *b)
{
	idmap_init(&b->absent);
	list_init(&b->absents);
	wheel_node_init(&b->forgets, on_forgets);
}

void bridge_work_free(struct bridge *b)
{
	while (!list_empty(&b->absents))
		forget(b, container_of(b->absents.next, struct absent, link));
	wheel_cancel(&b->loop->wheel, &b->forgets);
	idmap_free(&b->absent);
}
