/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/shares.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/siphash.h"

enum { SLOTS_MIN = 64, LAST = SHARE_LEVELS - 1, TRIES = 8, SWEEP = 2 };

/* ---- the table ---- */

static void share_init(struct share *s)
{
	*s = (struct share){.refs = 1};
	list_init(&s->queue);
	list_init(&s->waiters);
	list_init(&s->idle);
}

void shares_init(struct shares *t, const uint8_t secret[SHARES_SECRET])
{
	memset(t, 0, sizeof *t);
	memcpy(t->secret, secret, SHARES_SECRET);
	share_init(&t->everyone);
	list_init(&t->idle);
	list_init(&t->full);
	t->bits4 = 32;
	t->bits6 = 64;
	for (unsigned i = 0; i < SHARE_LEVELS; i++)
		list_init(&t->levels[i]);
}

void shares_limit(struct shares *t, const struct limits *limits, unsigned bits4, unsigned bits6, uint64_t most,
		  const uint64_t *now_us)
{
	assert(t->in_table == 0);
	t->limits = *limits;
	t->bits4 = (uint8_t)bits4;
	t->bits6 = (uint8_t)bits6;
	t->most = most;
	t->now_us = now_us;
}

static void forget(struct shares *t, struct share *s);

void shares_free(struct shares *t)
{
	while (!list_empty(&t->idle))
		forget(t, container_of(t->idle.next, struct share, idle));
	assert(t->peers == 0 && t->in_table == 0);
	free(t->slots);
	t->slots = NULL;
	t->mask = 0;
}

/* The first half of an IPv6 address is its network, which belongs to one client. */
static void put_key(const struct shares *t, uint8_t key[16], const struct ip *ip)
{
	unsigned bits = ip->len == 4 ? t->bits4 : t->bits6, whole = bits / 8;

	memset(key, 0, 16);
	memcpy(key, ip->bytes, whole);
	if (bits % 8)
		key[whole] = (uint8_t)(ip->bytes[whole] & (0xff00 >> bits % 8));
}

static struct share **slot_of(const struct shares *t, const uint8_t key[16], uint8_t family)
{
	uint8_t bytes[16 + 1];

	memcpy(bytes, key, 16);
	bytes[16] = family;
	return &t->slots[siphash(t->secret, bytes, sizeof bytes) & t->mask];
}

static void insert(struct shares *t, struct share *s)
{
	struct share **slot = slot_of(t, s->key, s->family);

	s->next = *slot;
	*slot = s;
}

/* If memory runs out, the old table remains, with longer chains. False: there is no table at all. */
static bool grow(struct shares *t)
{
	uint64_t count = t->slots ? t->mask + 1 : 0, more = count ? count * 2 : SLOTS_MIN;
	struct share **old = t->slots, **slots;

	if (t->in_table < count)
		return true;
	slots = calloc(more, sizeof(struct share *));
	if (!slots)
		return old;
	t->slots = slots;
	t->mask = more - 1;
	for (uint64_t i = 0; i < count; i++)
		for (struct share *s = old[i], *next; s; s = next) {
			next = s->next;
			insert(t, s);
		}
	free(old);
	return true;
}

static struct share *find(const struct shares *t, const uint8_t key[16], uint8_t family)
{
	struct share *s = t->slots ? *slot_of(t, key, family) : NULL;

	while (s && (s->family != family || memcmp(s->key, key, sizeof s->key) != 0))
		s = s->next;
	return s;
}

struct share *share_keep(struct share *s)
{
	s->refs++;
	return s;
}

struct share *shares_own(struct shares *t)
{
	struct share *s = malloc(sizeof *s);

	if (!s)
		return NULL;
	share_init(s);
	t->peers++;
	return s;
}

/* A share without references is in use again. */
static struct share *wake(struct shares *t, struct share *s)
{
	list_remove(&s->idle);
	t->idle_count--;
	t->peers++;
	s->refs = 1;
	return s;
}

static uint64_t now_of(const struct shares *t)
{
	return t->now_us ? *t->now_us * 1000 : 0;
}

/* Frees shares that have been idle longest, if no count is lost with them. Two at a time are faster than new ones arrive. */
static void sweep(struct shares *t)
{
	for (unsigned i = 0; i < SWEEP && !list_empty(&t->idle); i++) {
		struct share *s = container_of(t->idle.next, struct share, idle);
		if (limits_remember(&s->limit, now_of(t)))
			return;
		forget(t, s);
	}
}

struct share *shares_take(struct shares *t, const struct ip *ip)
{
	uint8_t key[16];
	struct share *s;

	put_key(t, key, ip);
	s = find(t, key, ip->len);
	if (s)
		return s->refs ? share_keep(s) : wake(t, s);
	sweep(t);
	if (t->in_table >= t->most && !list_empty(&t->idle))
		forget(t, container_of(t->idle.next, struct share, idle));
	if (!grow(t) || !(s = shares_own(t)))
		return NULL;
	memcpy(s->key, key, sizeof s->key);
	s->family = ip->len;
	insert(t, s);
	t->in_table++;
	return s;
}

static void take_out(struct shares *t, const struct share *s)
{
	struct share **at = slot_of(t, s->key, s->family);

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	t->in_table--;
}

static void forget(struct shares *t, struct share *s)
{
	list_remove(&s->idle);
	t->idle_count--;
	take_out(t, s);
	free(s);
}

/* Whether a share without references is kept anyway. */
static bool rests(struct shares *t, struct share *s)
{
	if (!s->family || t->in_table > t->most || !limits_remember(&s->limit, now_of(t)))
		return false;
	list_append(&t->idle, &s->idle);
	t->idle_count++;
	return true;
}

void shares_give(struct shares *t, struct share *s)
{
	assert(s->refs > 0);
	if (--s->refs > 0)
		return;
	assert(s->in_progress == 0 && s->waiting == 0 && s->unsent == 0 && s->limit.requests == 0 && s->limit.connections == 0);
	t->peers--;
	if (rests(t, s))
		return;
	if (s->family)
		take_out(t, s);
	free(s);
}

/* ---- turns ---- */

static unsigned level_of(const struct share *s)
{
	return s->in_progress < LAST ? (unsigned)s->in_progress : LAST;
}

static void enter_level(struct shares *t, struct share *s)
{
	unsigned level = level_of(s);

	list_append(&t->levels[level], &s->waiters);
	s->is_full = false;
	t->occupied |= UINT64_C(1) << level;
}

static void leave_level(struct shares *t, struct share *s, unsigned level)
{
	list_remove(&s->waiters);
	s->is_full = false;
	if (list_empty(&t->levels[level]))
		t->occupied &= ~(UINT64_C(1) << level);
}

static void change(struct shares *t, struct share *s, uint64_t in_progress)
{
	unsigned before = level_of(s);

	s->in_progress = in_progress;
	if (!list_linked(&s->waiters))
		return;
	leave_level(t, s, before);
	enter_level(t, s);
}

void shares_began(struct shares *t, struct share *s)
{
	change(t, s, s->in_progress + 1);
}

void shares_ended(struct shares *t, struct share *s)
{
	assert(s->in_progress > 0);
	change(t, s, s->in_progress - 1);
}

void shares_wait(struct shares *t, struct share *s, struct list *node)
{
	list_append(&s->queue, node);
	if (s->waiting++ == 0)
		enter_level(t, s);
}

void shares_leave(struct shares *t, struct share *s, struct list *node)
{
	list_remove(node);
	if (--s->waiting == 0)
		leave_level(t, s, level_of(s));
}

/* Peers on the last level are in no order; one that has used up its share moves to the end, and is tried again later. */
static struct share *next_of_last(struct shares *t, uint64_t left, uint64_t factor)
{
	struct list *level = &t->levels[LAST], *last = level->prev, *tried = NULL;

	for (unsigned i = 0; i < TRIES && tried != last; i++) {
		struct share *s = container_of(level->next, struct share, waiters);
		if (share_allows(s->in_progress, left, factor))
			return s;
		tried = &s->waiters;
		list_remove(tried);
		list_append(level, tried);
	}
	return NULL;
}

/* The one with the least in progress, if that is less than its share. */
static struct share *first(struct shares *t, uint64_t left, uint64_t factor)
{
	unsigned level = (unsigned)__builtin_ctzll(t->occupied);
	struct share *s;

	if (level == LAST)
		return next_of_last(t, left, factor);
	s = container_of(t->levels[level].next, struct share, waiters);
	return share_allows(s->in_progress, left, factor) ? s : NULL;
}

struct list *shares_next(struct shares *t, uint64_t left, uint64_t factor)
{
	struct share *s;

	while (left > 0 && t->occupied && (s = first(t, left, factor))) {
		if (share_may_begin(t, s, left, factor))
			return s->queue.next;
		leave_level(t, s, level_of(s));
		list_append(&t->full, &s->waiters);
		s->is_full = true;
	}
	return NULL;
}

bool shares_look_again(struct shares *t, struct share *s, uint64_t factor)
{
	/* it may be the last to be tried, and nothing else may change any more */
	if (s->is_full && share_may_begin(t, s, UINT64_MAX, factor))
		change(t, s, s->in_progress);
	for (unsigned i = 0; i < TRIES && !list_empty(&t->full);) {
		struct share *one = container_of(list_pop(&t->full), struct share, waiters);
		if (share_may_begin(t, one, UINT64_MAX, factor)) {
			enter_level(t, one);
		} else {
			list_append(&t->full, &one->waiters);
			i++;
		}
	}
	return t->occupied;
}
