/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/limits.h"

#include <assert.h>

/* Limits the values so that no product overflows; the longest wait is a century. */
static const uint64_t longest = UINT64_MAX / 4;

struct limit_rate limit_rate_of(uint64_t count, uint64_t window, uint64_t burst)
{
	struct limit_rate r = {.burst = burst ? burst : count};

	if (count == 0)
		return (struct limit_rate){0};
	r.each = window / count ? window / count : 1;
	if (r.burst > longest / r.each)
		r.burst = longest / r.each;
	return r;
}

uint64_t limit_rate_window(const struct limit_rate *r)
{
	return (r->each * r->burst + 999999999) / 1000000000;
}

/* Counts one more at this rate. False: it must wait for *wait. */
static bool take(const struct limit_rate *r, uint64_t *due, uint64_t now, uint64_t *wait)
{
	uint64_t at = (*due > now ? *due : now) + r->each;

	if (at - now > r->each * r->burst) {
		*wait = at - now - r->each * r->burst;
		return false;
	}
	*due = at;
	return true;
}

static enum limit over(struct limits *l, enum limit which)
{
	l->over[which]++;
	return which;
}

enum limit limits_begin(struct limits *l, struct limit_state *s, uint64_t now, uint64_t *wait)
{
	*wait = 0;
	if (l->concurrent && s->requests >= l->concurrent)
		return over(l, LIMIT_CONCURRENT);
	if (l->requests.each && !take(&l->requests, &s->due[CLOCK_REQUESTS], now, wait))
		return over(l, LIMIT_REQUESTS);
	s->requests++;
	return LIMIT_NONE;
}

void limits_end(struct limit_state *s)
{
	assert(s->requests > 0);
	s->requests--;
}

enum limit limits_connect(struct limits *l, struct limit_state *s, uint64_t now)
{
	uint64_t wait;

	if (l->connections && s->connections >= l->connections)
		return over(l, LIMIT_CONNECTIONS);
	if (l->connection_rate.each && !take(&l->connection_rate, &s->due[CLOCK_CONNECTIONS], now, &wait))
		return over(l, LIMIT_CONNECTION_RATE);
	s->connections++;
	return LIMIT_NONE;
}

void limits_disconnect(struct limit_state *s)
{
	assert(s->connections > 0);
	s->connections--;
}

/* ---- bodies ---- */

/* The time that bytes take at a rate. */
static uint64_t time_of(uint64_t bytes, uint64_t rate)
{
	uint64_t most = longest / 1000000000;

	return (bytes < most ? bytes : most) * 1000000000 / rate;
}

static void charge(uint64_t *due, uint64_t now, uint64_t time)
{
	*due = (*due > now ? *due : now) + time;
}

/* How long it takes until the peer is at most a little ahead of its rate. */
static uint64_t ahead(struct limits *l, uint64_t due, uint64_t now)
{
	if (due <= now + SHAPE_AHEAD)
		return 0;
	l->waits++;
	return due - now - SHAPE_AHEAD;
}

uint64_t limits_came(struct limits *l, struct limit_state *s, uint64_t now, uint64_t bytes)
{
	charge(&s->due[CLOCK_IN], now, time_of(bytes, l->in));
	return ahead(l, s->due[CLOCK_IN], now);
}

uint64_t limits_grant(struct limits *l, struct limit_state *s, uint64_t now, uint64_t *wait)
{
	uint64_t bytes = l->out / 8;

	*wait = ahead(l, s->due[CLOCK_OUT], now);
	if (*wait)
		return 0;
	bytes = bytes < SHAPE_LEAST ? SHAPE_LEAST : bytes > SHAPE_MOST ? SHAPE_MOST : bytes;
	charge(&s->due[CLOCK_OUT], now, time_of(bytes, l->out));
	return bytes;
}

void limits_refund(const struct limits *l, struct limit_state *s, uint64_t bytes)
{
	uint64_t time = time_of(bytes, l->out);

	s->due[CLOCK_OUT] -= time < s->due[CLOCK_OUT] ? time : s->due[CLOCK_OUT];
}

bool limits_remember(const struct limit_state *s, uint64_t now)
{
	for (unsigned i = 0; i < CLOCKS; i++)
		if (s->due[i] > now)
			return true;
	return false;
}
