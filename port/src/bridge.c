#include "bridge.h"

#include "base/sm.h"
#include "bridge/parts.h"
#include "bridge/queue.h"
#include "bridge/work.h"
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

/* ---- messages out ---- */

/* The beginning of a message of this kind, with room for `body` bytes after it. NULL: no memory; the message is lost. */
uint8_t *bridge_begin(struct bridge *b, enum message_kind kind, size_t body)
{
	uint8_t *at = link_reserve(b->link, MESSAGE_BEGIN_MAX + body);

	if (!at)
		return NULL;
	return message_begin(at, kind);
}

/* Diagnostics are dropped when the host does not keep up. */
bool bridge_no_room_for_talk(struct bridge *b)
{
	if (b->link->queued <= b->link->high)
		return false;
	b->n.logs_dropped++;
	return true;
}

void bridge_send_error(struct bridge *b, const struct message *m, const char *field, const char *rule, const char *consequence)
{
	uint8_t *at;

	b->n.errors++;
	if (bridge_no_room_for_talk(b))
		return;
	at = bridge_begin(b, MSG_ERROR, 2 * MP_MAX_UINT + 3 * MP_MAX_HEAD + strlen(field) + strlen(rule) + strlen(consequence));
	if (!at)
		return;
	at = m->kind == MSG_NONE ? mp_nil(at) : mp_uint(at, m->kind);
	at = m->stream ? mp_uint(at, m->stream) : mp_nil(at);
	at = mp_str(at, slice_str(field));
	at = mp_str(at, slice_str(rule));
	at = mp_str(at, slice_str(consequence));
	link_commit(b->link, at);
}

void bridge_log(void *ctx, enum log_level level, const char *text)
{
	struct bridge *b = ctx;
	struct slice name = slice_str(log_level_name(level));
	uint8_t *at = bridge_no_room_for_talk(b) ? NULL : bridge_begin(b, MSG_LOG, 2 * MP_MAX_HEAD + name.len + strlen(text));

	if (!at)
		return;
	at = mp_str(at, name);
	at = mp_str(at, slice_str(text));
	link_commit(b->link, at);
}

void bridge_send_gone(struct bridge *b, uint64_t id, enum stream_end why)
{
	struct slice reason = slice_str(stream_end_name(why));
	uint8_t *at = bridge_begin(b, MSG_GONE, MP_MAX_UINT + MP_MAX_HEAD + reason.len);

	if (!at)
		return;
	at = mp_uint(at, id);
	at = mp_str(at, reason);
	link_commit(b->link, at);
}

void bridge_send_number(struct bridge *b, enum message_kind kind, uint64_t number)
{
	uint8_t *at = bridge_begin(b, kind, MP_MAX_UINT);

	if (at)
		link_commit(b->link, mp_uint(at, number));
}

/* ---- the life of a stream here ---- */

void bridge_forget(struct bridge *b, struct stream *s)
{
	idmap_del(&b->streams, s->id);
	wheel_cancel(&b->loop->wheel, &s->timer);
	b->n.read_credit -= s->chunks;
	b->n.body_queued -= s->ws ? s->ws->unsent : s->body_out - (s->body_out < s->room_total ? s->body_out : s->room_total);
	bridge_queue_forget(b, s);
	bridge_work_forget(b, s);
	bridge_upgrade_forget(s);
}

/* The host broke a rule, failed, or was too slow: answers with status if nothing was sent, else cuts. */
void bridge_end_stream(struct bridge *b, struct stream *s, unsigned status, enum stream_end why)
{
	uint64_t id = s->id;
	bool known = !s->held, said = bridge_upgrade_says_goodbye(s, why);

	bridge_forget(b, s);
	stream_detach(s);
	if (said)
		s->ops->send_end(s, NULL, 0);
	else
		s->ops->reset(s, status, status == 503 ? (unsigned)b->config->retry_after : 0);
	if (known)
		bridge_send_gone(b, id, why);
}

void bridge_break_rule(struct bridge *b, struct stream *s, const struct message *m, const char *field, const char *rule)
{
	bridge_send_error(b, m, field, rule, "reset");
	bridge_end_stream(b, s, 500, END_ERROR);
}

void bridge_no_memory(struct bridge *b, struct stream *s)
{
	log_line(LOG_ERROR, "out of memory: a stream is cut");
	bridge_end_stream(b, s, 0, END_ERROR);
}

/* ---- the whole ---- */

static uint8_t *put_figure(uint8_t *at, const char *name, uint64_t value)
{
	at = mp_str(at, slice_str(name));
	return mp_uint(at, value);
}

static void take_stats(struct bridge *b, const struct message *m)
{
	uint8_t *at = bridge_begin(b, MSG_FIGURES, 1024);
	struct control_figures f;

	if (!at)
		return;
	b->control.ops->stats(b->control.ctx, &f);
	at = mp_uint(at, m->stats.tag);
	at = mp_map(at, 23);
	at = put_figure(at, "connections", f.connections);
	at = put_figure(at, "idle", f.idle);
	at = put_figure(at, "lingering", f.lingering);
	at = put_figure(at, "streams", b->streams.count);
	at = put_figure(at, "queued", b->queued);
	at = put_figure(at, "held_back", b->demand ? b->queued : 0);
	at = put_figure(at, "peers", b->shares.peers);
	at = put_figure(at, "queue_wait", bridge_queue_longest_wait(b));
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
	link_commit(b->link, at);
}

void bridge_drain(struct bridge *b, uint64_t deadline)
{
	if (b->state == BRIDGE_OVER)
		return;
	if (b->state == BRIDGE_NEW) {
		bridge_over(b, 0);
		return;
	}
	if (b->state == BRIDGE_SERVING)
		bridge_moves(b, BRIDGE_DRAINING);
	bridge_upgrade_drain(b);
	b->control.ops->drain(b->control.ctx, deadline);
}

void bridge_drained(void *ctx, unsigned cut)
{
	struct bridge *b = ctx;

	if (b->state == BRIDGE_OVER)
		return;
	bridge_send_number(b, MSG_DRAINED, cut);
	bridge_over(b, 0);
}

static void on_message(void *ctx, const struct message *m)
{
	struct bridge *b = ctx;

	if (b->state == BRIDGE_OVER)
		return;
	if (b->state == BRIDGE_NEW) {
		if (m->kind == MSG_HELLO)
			bridge_take_hello(b, m);
		else
			bridge_hello_failed(b, m, "kind", "must be HELLO first", EXIT_FRAMING);
		return;
	}
	switch ((enum message_kind)m->kind) {
	case MSG_DEMAND:
		bridge_take_demand(b, m);
		break;
	case MSG_READ:
		bridge_take_read(b, m);
		break;
	case MSG_DISCARD:
		bridge_take_discard(b, m);
		break;
	case MSG_RESPOND:
		bridge_take_respond(b, m);
		break;
	case MSG_HEAD:
		bridge_take_head(b, m);
		break;
	case MSG_DATA:
		bridge_take_data(b, m);
		break;
	case MSG_END:
		bridge_take_end(b, m);
		break;
	case MSG_INFORM:
		bridge_take_inform(b, m);
		break;
	case MSG_PUSH:
		bridge_take_push(b, m);
		break;
	case MSG_ABORT:
		bridge_take_abort(b, m);
		break;
	case MSG_RELEASE:
		bridge_take_release(b, m);
		break;
	case MSG_YIELD:
		bridge_take_yield(b, m);
		break;
	case MSG_RESUME:
		bridge_take_resume(b, m);
		break;
	case MSG_UPGRADE:
		bridge_take_upgrade(b, m);
		break;
	case MSG_SEND:
		bridge_take_send(b, m);
		break;
	case MSG_CLOSE:
		bridge_take_close(b, m);
		break;
	case MSG_DRAIN:
		bridge_drain(b, m->drain.deadline < 86400000 ? m->drain.deadline : 86400000);
		break;
	case MSG_STATS:
		take_stats(b, m);
		break;
	case MSG_PING:
		bridge_send_number(b, MSG_PONG, m->ping.tag);
		break;
	default: /* HELLO: the kinds of the other direction do not come here */
		bridge_send_error(b, m, "kind", "comes only once", "ignored");
		break;
	}
}

static void on_fault(void *ctx, const struct message *m, const struct message_fault *fault, bool lost)
{
	struct bridge *b = ctx;

	if (b->state == BRIDGE_OVER)
		return;
	if (b->state == BRIDGE_NEW && m->kind == MSG_HELLO)
		bridge_hello_failed(b, m, fault->field, fault->rule, EXIT_CONFIG);
	else if (lost || b->state == BRIDGE_NEW)
		bridge_hello_failed(b, m, fault->field, fault->rule, EXIT_FRAMING);
	else
		bridge_send_error(b, m, fault->field, fault->rule, "ignored");
}

/* What was answered whole may go out; all others are told that nobody is there to answer. */
static void host_gone(struct bridge *b)
{
	size_t i = 0;

	b->host_gone = true;
	bridge_drain(b, b->config->eof_timeout);
	while (b->streams.slots && i <= b->streams.mask) {
		struct stream *s = b->streams.slots[i].value;
		if (s && s->response != RESPONSE_ENDED)
			bridge_end_stream(b, s, 503, END_CLOSED); /* its slot is filled by the next one, or free */
		else
			i++;
	}
}

static void on_eof(void *ctx)
{
	struct bridge *b = ctx;

	if (b->state == BRIDGE_OVER)
		return;
	if (b->state == BRIDGE_NEW)
		bridge_over(b, 0);
	else
		host_gone(b);
}

const struct link_handler bridge_link_handler = {
	.on_message = on_message,
	.on_fault = on_fault,
	.on_eof = on_eof,
};

void bridge_init(struct bridge *b, struct loop *loop, struct link *link, struct config *config, const uint8_t secret[SHARES_SECRET])
{
	memset(b, 0, sizeof *b);
	b->loop = loop;
	b->link = link;
	b->config = config;
	b->ws.now = &loop->now;
	idmap_init(&b->streams);
	idmap_init(&b->owed);
	shares_init(&b->shares, secret);
	bridge_queue_init(b);
	bridge_work_init(b);
	bridge_events_init(b);
}

void bridge_control(struct bridge *b, struct control control)
{
	b->control = control;
}

void bridge_free(struct bridge *b)
{
	bridge_queue_free(b);
	bridge_work_free(b);
	shares_free(&b->shares);
	idmap_free(&b->streams);
	idmap_free(&b->owed);
	ws_env_free(&b->ws);
}
