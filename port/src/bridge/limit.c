/* SPDX-License-Identifier: Apache-2.0 */
#include "bridge/limit.h"

#include <inttypes.h>
#include <stdio.h>

#include "frames/names.h"

enum { NS = 1000000000 };

static const char text[] = "429 Too Many Requests\n";

static void put_policies(struct bridge *b)
{
	const struct limits *l = &b->shares.limits;

	snprintf(b->policies[LIMIT_REQUESTS], sizeof b->policies[0], "\"requests\";q=%" PRIu64 ";w=%" PRIu64, l->requests.burst,
		 limit_rate_window(&l->requests));
	snprintf(b->policies[LIMIT_CONCURRENT], sizeof b->policies[0], "\"concurrent\";q=%" PRIu64 ";qu=\"concurrent-requests\"",
		 l->concurrent);
}

void limit_init(struct bridge *b)
{
	const struct config *c = b->config;
	struct limits l = {
		.requests = limit_rate_of(c->limit_requests, c->limit_window * 1000000, c->limit_burst),
		.connection_rate = limit_rate_of(c->limit_connection_rate, NS, c->limit_connection_burst),
		.concurrent = c->limit_concurrent,
		.connections = c->limit_connections,
		.in = c->limit_body_in,
		.out = c->limit_body_out,
	};

	l.on = l.requests.each || l.connection_rate.each || l.concurrent || l.connections || l.in || l.out;
	shares_limit(&b->shares, &l, (unsigned)c->peer_ipv4_bits, (unsigned)c->peer_ipv6_bits, c->limit_peers, &b->loop->now_us);
	b->shares.most_unsent = c->max_unsent;
	put_policies(b);
}

/* Seconds, rounded up, so that a client that waits that long is not too early; at least 1. */
static uint64_t seconds_of(uint64_t ns)
{
	return ns ? (ns + NS - 1) / NS : 1;
}

static struct slice put(char *to, struct slice *all, struct slice with)
{
	memcpy(to + all->len, with.at, with.len);
	all->len += with.len;
	return *all;
}

static struct slice put_number(char *to, uint64_t n)
{
	char digits[20];
	size_t count = 0;

	do
		digits[sizeof digits - ++count] = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	memcpy(to, digits + sizeof digits - count, count);
	return slice_of(to, count);
}

/* The fields are those of draft-ietf-httpapi-ratelimit-headers-10. */
static void answer(struct bridge *b, struct stream *s, enum limit which, uint64_t wait)
{
	char after[24], left[64];
	struct slice seconds = put_number(after, which == LIMIT_REQUESTS ? seconds_of(wait) : b->config->retry_after);
	struct slice service = slice_of(left, 0);
	struct field fields[] = {
		{SLICE_LIT("content-type"), SLICE_LIT("text/plain"), NAME_CONTENT_TYPE},
		{SLICE_LIT("ratelimit-policy"), slice_str(b->policies[which]), NAME_UNKNOWN},
		{SLICE_LIT("ratelimit"), service, NAME_UNKNOWN},
		{SLICE_LIT("retry-after"), seconds, NAME_RETRY_AFTER},
	};
	struct response_head head = {.status = 429, .fields = fields, .field_count = 4, .length = sizeof text - 1};

	put(left, &service, which == LIMIT_REQUESTS ? SLICE_LIT("\"requests\";r=0;t=") : SLICE_LIT("\"concurrent\";r=0"));
	fields[2].value = which == LIMIT_REQUESTS ? put(left, &service, seconds) : service;
	stream_detach(s);
	s->bodiless = s->head_method;
	stream_response_moves(s, RESPONSE_STREAMING);
	if (s->ops->send_head(s, &head) && !s->bodiless)
		s->ops->send_data(s, slice_of(text, sizeof text - 1));
	stream_response_moves(s, RESPONSE_ENDED);
	s->ops->send_end(s, NULL, 0);
}

bool limit_begins(struct bridge *b, struct stream *s, const struct request_head *h, struct share *share, bool exempt, bool *counted)
{
	enum limit which;
	uint64_t wait;

	*counted = false;
	if (!b->shares.limits.on || !h->peer->share || exempt || (h->flags & REQUEST_PUSHED))
		return true;
	which = limits_begin(&b->shares.limits, &share->limit, b->loop->now_us * 1000, &wait);
	*counted = which == LIMIT_NONE;
	if (!*counted)
		answer(b, s, which, wait);
	return *counted;
}

void limit_ends(struct share *share, bool counted)
{
	if (counted)
		limits_end(&share->limit);
}

/* ---- bodies ---- */

static struct limits *limits_of(const struct exchange *x)
{
	return &x->b->shares.limits;
}

static uint64_t now_of(const struct exchange *x)
{
	return x->b->loop->now_us * 1000;
}

/* Tries again after this many ns; both directions share the timer. */
static void wait_for(struct exchange *x, uint64_t ns)
{
	struct loop *loop = x->b->loop;
	uint64_t at = loop->now + ns / 1000000 + 1;

	if (!wheel_pending(&x->resume) || at < x->resume.deadline)
		wheel_set(&loop->wheel, &x->resume, at);
}

static void resume_in(struct exchange *x)
{
	uint64_t wait = limits_came(limits_of(x), &x->share->limit, now_of(x), 0);

	x->waits_in = wait > 0;
	if (wait) {
		wait_for(x, wait);
		return;
	}
	exchange_wants(x);
	if (x->s->wanted)
		x->s->ops->consume(x->s);
}

static void on_resume(struct wheel_node *node)
{
	struct exchange *x = container_of(node, struct exchange, resume);

	if (x->waits_in)
		resume_in(x);
	if (!x->waits_out)
		return;
	x->waits_out = false;
	limit_goes(x);
}

void limit_shapes(struct exchange *x)
{
	const struct limits *l = limits_of(x);

	x->shaped = x->counted && (l->in || l->out);
	x->resume.fire = on_resume;
	if (x->shaped && l->out)
		x->s->allowance = 0;
}

void limit_came(struct exchange *x, size_t n)
{
	uint64_t wait;

	if (!x->shaped || limits_of(x)->in == 0)
		return;
	wait = limits_came(limits_of(x), &x->share->limit, now_of(x), n);
	if (wait == 0 || x->waits_in)
		return;
	x->waits_in = true;
	exchange_wants(x);
	wait_for(x, wait);
}

void limit_goes(struct exchange *x)
{
	uint64_t wait, bytes;

	if (!x->shaped || x->s->allowance > 0 || x->waits_out)
		return;
	bytes = limits_grant(limits_of(x), &x->share->limit, now_of(x), &wait);
	if (bytes) {
		x->s->allowance = bytes;
		x->s->ops->go_on(x->s);
		return;
	}
	x->waits_out = true;
	wait_for(x, wait);
}

void limit_leaves(struct exchange *x)
{
	wheel_cancel(&x->b->loop->wheel, &x->resume);
	if (x->shaped && x->s->allowance != UINT64_MAX)
		limits_refund(limits_of(x), &x->share->limit, x->s->allowance);
}
