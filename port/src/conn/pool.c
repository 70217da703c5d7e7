/* SPDX-License-Identifier: Apache-2.0 */
#include "conn/pool.h"

#include <stdlib.h>
#include <string.h>

#include "conn/conn.h"
#include "file/load.h"
#include "peer/proxied.h"
#include "peer/shares.h"
#include "proto/detect.h"

bool conn_pool_init(struct conn_pool *pool, struct loop *loop, const struct config *config, const struct stream_sink *sink)
{
	memset(pool, 0, sizeof *pool);
	pool->loop = loop;
	pool->env.config = config;
	pool->env.sink = sink;
	pool->env.now = &loop->now;
	pool->env.now_us = &loop->now_us;
	list_init(&pool->all);
	list_init(&pool->dirty);
	list_init(&pool->paused);
	list_init(&pool->closed);
	list_init(&pool->later);
	for (unsigned i = 0; i < CONN_WAITS; i++)
		list_init(&pool->waiting[i].list);
	pool->scratch = malloc(CONN_READ_SIZE);
	return pool->scratch != NULL;
}

void conn_pool_free(struct conn_pool *pool)
{
	conn_pool_reap(pool);
	detect_env_free(&pool->env);
	free(pool->scratch);
	pool->scratch = NULL;
}

/* ---- members ---- */

void member_join(struct member *m, struct conn_pool *pool, const struct member_ops *ops)
{
	m->ops = ops;
	m->pool = pool;
	m->wait = CONN_WORKS;
	m->left = false;
	list_init(&m->link);
	list_init(&m->waits);
	list_append(&pool->all, &m->all);
	pool->open++;
}

void member_leave(struct member *m)
{
	member_waits(m, CONN_WORKS);
	m->left = true;
	list_remove(&m->all);
	list_remove(&m->link);
	list_append(&m->pool->closed, &m->link);
	m->pool->open--;
}

void member_is_dirty(struct member *m)
{
	if (m->left || m->pool->dirty.prev == &m->link)
		return;
	list_remove(&m->link);
	list_append(&m->pool->dirty, &m->link);
}

void conn_pool_later(struct conn_pool *pool, struct member *m)
{
	if (list_linked(&m->link))
		return;
	if (list_empty(&pool->later))
		pool->later_at = pool->loop->now_us + FILE_RETRY_MS * 1000;
	list_append(&pool->later, &m->link);
}

void member_waits(struct member *m, enum conn_wait wait)
{
	struct conn_waiting *waiting = m->pool->waiting;

	if (m->wait == wait)
		return;
	if (m->wait != CONN_WORKS) {
		list_remove(&m->waits);
		waiting[m->wait].count--;
	}
	m->wait = (uint8_t)wait;
	if (wait == CONN_WORKS)
		return;
	m->waits_since = m->pool->loop->now;
	list_append(&waiting[wait].list, &m->waits);
	waiting[wait].count++;
}

static struct member *longest_of(struct conn_pool *pool, enum conn_wait wait)
{
	struct list *head = &pool->waiting[wait].list;

	return list_empty(head) ? NULL : container_of(head->next, struct member, waits);
}

void member_shakes(struct member *m)
{
	struct conn_pool *pool = m->pool;
	struct member *oldest = longest_of(pool, CONN_SHAKES);

	if (oldest && pool->max_handshakes && pool->waiting[CONN_SHAKES].count >= pool->max_handshakes)
		oldest->ops->close(oldest, true, END_CLOSED);
	member_waits(m, CONN_SHAKES);
}

bool conn_pool_may_shake(struct conn_pool *pool)
{
	return pool->handshakes < HANDSHAKES_A_TURN && ++pool->handshakes;
}

/* ---- watchers and peers ---- */

struct conn_record *conn_record_begin(struct conn_pool *pool, const struct peer *peer)
{
	struct conn_record *r;

	if (!pool->watch.wanted || !pool->watch.wanted(pool->watch.ctx))
		return NULL;
	r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	r->id = ++pool->last_id;
	r->opened_us = pool->loop->now_us;
	pool->watch.opened(pool->watch.ctx, r->id, peer);
	return r;
}

void conn_record_secured(struct conn_pool *pool, const struct conn_record *r, const struct secure *s, const char *fault)
{
	if (r)
		pool->watch.secured(pool->watch.ctx, r->id, pool->loop->now_us - r->opened_us, s, fault);
}

void conn_record_end(struct conn_pool *pool, struct conn_record *r, enum stream_end why)
{
	const struct connection_watch *w = &pool->watch;

	if (!r)
		return;
	w->ended(w->ctx, r->id, why, r->bytes_in, r->bytes_out, pool->loop->now_us - r->opened_us);
	free(r);
}

bool conn_pool_trusts(const struct conn_pool *pool, const struct ip *ip)
{
	return cidr_list_contains(&pool->env.config->trusted_proxies, ip);
}

/* Whether its peer may have one more connection. Peers without an address are not limited. */
static bool is_admitted(struct conn_pool *pool, struct peer *peer)
{
	struct limits *limits = &pool->env.shares->limits;

	if (!limits->on || !peer->share->family || peer->exempt)
		return true;
	peer->counted = limits_connect(limits, &peer->share->limit, pool->loop->now_us * 1000) == LIMIT_NONE;
	return peer->counted;
}

/* A proxy's connection carries many clients, and clients of unix sockets cannot be distinguished: neither is limited. */
bool conn_pool_share(struct conn_pool *pool, struct peer *peer)
{
	struct shares *shares = pool->env.shares;
	struct ip ip = ip_of(peer->address, peer->address_len);

	/* Unix sockets on a proxy's machine are not our unix sockets. */
	peer->trusted = conn_pool_trusts(pool, &ip) && (ip.len > 0 || !peer->proxied || peer->proxied->silent);
	if (!shares || (pool->env.config->share == 0 && !shares->limits.on))
		return true;
	peer->exempt = cidr_list_contains(&pool->env.config->limit_exempt, &ip);
	peer->share = peer->trusted || ip.len == 0 ? shares_own(shares) : shares_take(shares, &ip);
	return peer->share && is_admitted(pool, peer);
}

void conn_pool_unshare(struct conn_pool *pool, struct peer *peer)
{
	if (peer->counted)
		limits_disconnect(&peer->share->limit);
	if (peer->share)
		shares_give(pool->env.shares, peer->share);
	peer->share = NULL;
	peer->counted = false;
}

/* ---- all of them ---- */

static bool spare(struct member *m)
{
	if (m)
		m->ops->close(m, false, END_CLOSED);
	return m;
}

static bool is_new(const struct conn_pool *pool, const struct member *m)
{
	unsigned count = 0;

	for (enum conn_wait wait = 0; wait < CONN_STALLED; wait++)
		count += pool->waiting[wait].count;
	return m->wait != CONN_LINGERS && m->waits_since + NEW_GRACE > pool->loop->now && count <= pool->open / NEW_SHARE;
}

bool conn_pool_spare(struct conn_pool *pool)
{
	struct member *longest = longest_of(pool, CONN_SHAKES), *stalled = longest_of(pool, CONN_STALLED);

	if (longest && longest->waits_since + HANDSHAKE_GRACE <= pool->loop->now)
		return spare(longest);
	longest = NULL;
	for (enum conn_wait wait = 0; wait < CONN_STALLED; wait++) {
		struct member *m = longest_of(pool, wait);
		if (m && (!longest || m->waits_since <= longest->waits_since))
			longest = m;
	}
	if (stalled && stalled->waits_since + STALL_GRACE > pool->loop->now)
		stalled = NULL;
	if (longest && (!stalled || !is_new(pool, longest)))
		return spare(longest);
	if (stalled)
		stalled->ops->close(stalled, true, END_TIMEOUT); /* what the kernel holds for it goes too */
	return stalled;
}

void conn_pool_wake(struct conn_pool *pool)
{
	for (struct list *l = pool->all.next; l != &pool->all; l = l->next)
		member_is_dirty(container_of(l, struct member, all));
}

void conn_pool_thin_out(struct conn_pool *pool, uint64_t idle_ms)
{
	struct member *m;

	while ((m = longest_of(pool, CONN_IDLE)) && m->waits_since + idle_ms <= pool->loop->now)
		m->ops->close(m, false, END_CLOSED);
}

unsigned conn_pool_cut(struct conn_pool *pool)
{
	unsigned count = 0;

	for (; !list_empty(&pool->all); count++) {
		struct member *m = container_of(pool->all.next, struct member, all);
		m->ops->close(m, true, END_DRAINED);
	}
	return count;
}

void conn_pool_drain(struct conn_pool *pool)
{
	struct list *l, *next;

	pool->env.draining = true;
	for (l = pool->all.next; l != &pool->all; l = next) {
		struct member *m = container_of(l, struct member, all);
		next = l->next;
		m->ops->drain(m);
	}
}

bool conn_pool_run(struct conn_pool *pool)
{
	struct list now, *l;
	bool more = false;

	pool->handshakes = 0;
	if (pool->loop->now_us >= pool->later_at)
		list_splice(&pool->dirty, &pool->later);
	list_init(&now);
	list_splice(&now, &pool->dirty);
	while ((l = list_pop(&now))) {
		struct member *m = container_of(l, struct member, link);
		more |= m->ops->run(m);
	}
	if (!list_empty(&pool->later))
		loop_soon(pool->loop, FILE_RETRY_MS);
	return more || !list_empty(&pool->dirty);
}

static void wake_paused(struct conn_pool *pool)
{
	list_splice(&pool->dirty, &pool->paused);
}

void conn_pool_pause(struct conn_pool *pool, bool pause)
{
	if (pool->env.read_paused && !pause)
		wake_paused(pool);
	pool->env.read_paused = pause;
}

void conn_pool_hold(struct conn_pool *pool, bool hold)
{
	if (pool->env.paused && !hold)
		wake_paused(pool);
	pool->env.paused = hold;
}

void conn_pool_reap(struct conn_pool *pool)
{
	struct list *l;

	while ((l = list_pop(&pool->closed))) {
		struct member *m = container_of(l, struct member, link);
		m->ops->release(m);
	}
}
