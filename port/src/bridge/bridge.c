/* SPDX-License-Identifier: Apache-2.0 */
#include "bridge/bridge.h"

#include "base/sm.h"
#include "bridge/decode.h"
#include "bridge/descriptors.h"
#include "bridge/events.h"
#include "bridge/orders.h"
#include "bridge/queue.h"
#include "bridge/say.h"
#include "bridge/waiting.h"
#include "bridge/work.h"
#include "file/load.h"
#include "frames/mp.h"

static const char *const state_names[] = {"new", "serving", "draining", "over"};
static const uint32_t state_next[] = {
	[BRIDGE_NEW] = SM_BIT(BRIDGE_SERVING) | SM_BIT(BRIDGE_OVER),
	[BRIDGE_SERVING] = SM_BIT(BRIDGE_DRAINING) | SM_BIT(BRIDGE_OVER),
	[BRIDGE_DRAINING] = SM_BIT(BRIDGE_OVER),
	[BRIDGE_OVER] = 0,
};
static const struct sm machine = {"bridge", state_names, state_next};

void bridge_moves(struct bridge *b, enum bridge_state to)
{
	sm_move(&machine, &b->state, (uint8_t)to);
}

void bridge_over(struct bridge *b, int status)
{
	if (b->state != BRIDGE_OVER)
		bridge_moves(b, BRIDGE_OVER);
	b->control.ops->stop(b->control.ctx, status);
}

/* ---- figures ---- */

static uint8_t *put_figure(uint8_t *at, const char *name, uint64_t value)
{
	at = mp_str(at, slice_str(name));
	return mp_uint(at, value);
}

void order_stats(struct bridge *b, struct exchange *x, const struct message *m)
{
	uint8_t *at = say_begin(b, MSG_FIGURES, 1024);
	struct control_figures f;

	(void)x;
	if (!at)
		return;
	b->control.ops->stats(b->control.ctx, &f);
	at = mp_uint(at, m->stats.tag);
	at = mp_map(at, 38);
	at = put_figure(at, "connections", f.connections);
	at = put_figure(at, "idle", f.idle);
	at = put_figure(at, "lingering", f.lingering);
	at = put_figure(at, "half_open", f.half_open);
	at = put_figure(at, "handshakes", f.handshakes);
	at = put_figure(at, "resumed", f.resumed);
	at = put_figure(at, "tls_failed", f.tls_failed);
	at = put_figure(at, "misproxied", f.misproxied);
	at = put_figure(at, "remembered", b->shares.idle_count);
	at = put_figure(at, "over_requests", b->shares.limits.over[LIMIT_REQUESTS]);
	at = put_figure(at, "over_concurrent", b->shares.limits.over[LIMIT_CONCURRENT]);
	at = put_figure(at, "over_connections", b->shares.limits.over[LIMIT_CONNECTIONS]);
	at = put_figure(at, "over_connection_rate", b->shares.limits.over[LIMIT_CONNECTION_RATE]);
	at = put_figure(at, "shaped", b->shares.limits.waits);
	at = put_figure(at, "h3_connections", f.h3_connections);
	at = put_figure(at, "h3_retries", f.h3_retries);
	at = put_figure(at, "h3_dropped", f.h3_dropped);
	at = put_figure(at, "streams", b->exchanges.count);
	at = put_figure(at, "queued", b->queued);
	at = put_figure(at, "held_back", b->demand ? b->queued : 0);
	at = put_figure(at, "peers", b->shares.peers);
	at = put_figure(at, "queue_wait", waiting_longest(b));
	at = put_figure(at, "demand", b->demand);
	at = put_figure(at, "accepted", f.accepted);
	at = put_figure(at, "requests", b->n.requests);
	at = put_figure(at, "responses", b->n.responses);
	at = put_figure(at, "shed", b->n.shed);
	at = put_figure(at, "timeouts", b->n.timeouts);
	at = put_figure(at, "rejected", f.rejected + b->n.refused);
	at = put_figure(at, "dropped", b->n.dropped);
	at = put_figure(at, "errors", b->n.errors);
	at = put_figure(at, "logs_dropped", b->n.logs_dropped);
	at = put_figure(at, "bytes_in", f.bytes_in);
	at = put_figure(at, "bytes_out", f.bytes_out);
	at = put_figure(at, "link_queued", b->link->queued);
	at = put_figure(at, "body_queued", b->n.body_queued);
	at = put_figure(at, "read_credit", b->n.read_credit);
	at = put_figure(at, "files", b->handed.count);
	link_commit(b->link, at);
}

void order_ping(struct bridge *b, struct exchange *x, const struct message *m)
{
	(void)x;
	say_pong(b, &(struct msg_pong){.tag = m->ping.tag});
}

void order_report(struct bridge *b, struct exchange *x, const struct message *m)
{
	(void)x;
	b->config->report = m->report.on != 0;
}

/* ---- the end ---- */

enum { DRAIN_MAX_MS = 86400000 };

void order_drain(struct bridge *b, struct exchange *x, const struct message *m)
{
	(void)x;
	bridge_drain(b, m->drain.deadline < DRAIN_MAX_MS ? m->drain.deadline : DRAIN_MAX_MS);
}

void bridge_drain(struct bridge *b, uint64_t deadline)
{
	struct exchange *x;

	if (b->state == BRIDGE_OVER)
		return;
	if (b->state == BRIDGE_NEW) {
		bridge_over(b, 0);
		return;
	}
	if (b->state == BRIDGE_SERVING)
		bridge_moves(b, BRIDGE_DRAINING);
	for (struct idmap_walk walk = {0}; (x = idmap_next(&b->exchanges, &walk));)
		if (x->kind->drain)
			x->kind->drain(x);
	b->control.ops->drain(b->control.ctx, deadline);
}

void bridge_drained(void *ctx, unsigned cut)
{
	struct bridge *b = ctx;

	if (b->state == BRIDGE_OVER)
		return;
	say_drained(b, &(struct msg_drained){.cut = cut});
	bridge_over(b, 0);
}

void bridge_host_gone(struct bridge *b)
{
	struct idmap_walk walk = {0};
	struct exchange *x;

	b->host_gone = true;
	b->control.ops->leave(b->control.ctx);
	bridge_drain(b, b->config->eof_timeout);
	while ((x = idmap_next(&b->exchanges, &walk)))
		if (x->s->response != RESPONSE_ENDED && !coding_ends(x->s))
			exchange_end(x, 503, END_CLOSED); /* the host, which would answer, is gone */
}

void bridge_init(struct bridge *b, struct loop *loop, struct link *link, struct config *config, const uint8_t secret[SHARES_SECRET])
{
	memset(b, 0, sizeof *b);
	b->loop = loop;
	b->link = link;
	b->config = config;
	b->ws.now = &loop->now;
	channel_init(&b->channel);
	idmap_init(&b->handed);
	list_init(&b->open_files);
	exchange_init(b);
	shares_init(&b->shares, secret);
	queue_init(b);
	work_init(b);
	decode_init(b);
	events_init(b);
}

void bridge_run(struct bridge *b)
{
	codings_run(&b->codings);
	decode_run(b);
	if (codings_wait(&b->codings))
		loop_soon(b->loop, FILE_RETRY_MS);
}

bool bridge_has_work(struct bridge *b)
{
	return !list_empty(&b->codings.active) || decode_has_work(b);
}

void bridge_control(struct bridge *b, struct control control)
{
	b->control = control;
}

void bridge_free(struct bridge *b)
{
	queue_free(b);
	work_free(b);
	shares_free(&b->shares);
	codings_free(&b->codings);
	exchange_free(b);
	descriptors_end(b);
	ws_env_free(&b->ws);
}
