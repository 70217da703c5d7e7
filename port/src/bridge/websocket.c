/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of a WebSocket, as SEND and RECV. */
#include "bridge/websocket.h"

#include "base/shared.h"
#include "bridge/descriptors.h"
#include "bridge/limit.h"
#include "bridge/orders.h"
#include "bridge/say.h"

/* ---- deadlines ---- */

static void finish(struct exchange *x);

static void watch(struct exchange *x)
{
	uint64_t deadline = ws_deadline(x->ws);

	if (deadline)
		wheel_set(&x->b->loop->wheel, &x->timer, deadline);
	else
		wheel_cancel(&x->b->loop->wheel, &x->timer);
}

static void set_unheard(struct exchange *x, bool unheard)
{
	x->unheard = unheard;
	exchange_wants(x);
}

/* From now on received bytes are not for the host, and cost no credit. */
static void read_to_the_end(struct exchange *x)
{
	set_unheard(x, true);
	x->s->ops->consume(x->s);
	watch(x);
}

/* If a client does not answer our Close, or leaves instead, the reason is that of the Close. */
static enum stream_end end_of(const struct exchange *x, enum stream_end otherwise)
{
	if (x->ws->closer == WS_CLOSED_FOR_IDLENESS)
		return END_TIMEOUT;
	return x->ws->closer == WS_CLOSED_BY_DRAIN ? END_DRAINED : otherwise;
}

/* Activity does not re-arm the timer; the deadline is recomputed when it fires. */
static void on_timer(struct wheel_node *node)
{
	struct exchange *x = container_of(node, struct exchange, timer);

	if (x->ws->state == WS_LEAVING)
		finish(x);
	else if (!ws_tick(x->ws, stream_reads(x->s)))
		exchange_end(x, 0, end_of(x, END_TIMEOUT));
	else if (x->ws->state == WS_CLOSING)
		read_to_the_end(x);
	else
		watch(x);
}

/* ---- SEND, CLOSE ---- */

/* Whether the message is for a WebSocket that still accepts it; otherwise it is dropped, or ends the exchange. */
static bool takes(struct exchange *x, const struct message *m)
{
	if (!x->ws) {
		exchange_break_rule(x, m, "message", "the stream is not a WebSocket");
		return false;
	}
	if (x->ws->said_close)
		x->b->n.dropped++; /* the message has crossed the client's Close */
	return !x->ws->said_close;
}

static void send_data(struct exchange *x, const struct message *m, uint64_t type, struct slice data, bool more)
{
	unsigned known = type > WS_PONG ? WS_PONG + 1 : (unsigned)type;
	uint64_t cost = data.len + WS_SEND_COST;
	const char *rule = NULL;

	if (!takes(x, m))
		return;
	if (cost > x->window) {
		exchange_break_rule(x, m, "data", "exceeds the window");
		return;
	}
	exchange_spend(x, cost);
	x->body_out += data.len;
	switch (ws_send(x->ws, known, data, more, &rule)) {
	case WS_OK:
		break;
	case WS_REFUSED:
		exchange_refuse(x, m, "data", rule);
		break;
	case WS_OUT_OF_MEMORY:
		exchange_no_memory(x);
		break;
	}
}

void order_send(struct bridge *b, struct exchange *x, const struct message *m)
{
	(void)b;
	send_data(x, m, m->send.type, m->send.data, m->send.left > 0);
}

/* Like SEND, with bytes in slots. */
void order_send_shared(struct bridge *b, struct exchange *x, const struct message *m)
{
	const struct msg_send_shared *s = &m->send_shared;
	struct message_fault fault;
	struct slice bytes = descriptors_share(b, s->slot, s->length, &fault);

	if (!bytes.len) {
		exchange_break_rule(x, m, fault.field, fault.rule);
		return;
	}
	send_data(x, m, s->type, bytes, s->left > 0);
	shared_give(bytes.at, bytes.len);
}

void order_close(struct bridge *b, struct exchange *x, const struct message *m)
{
	uint64_t code = m->close.code;
	const char *rule = NULL;

	(void)b;
	if (!takes(x, m))
		return;
	switch (ws_close(x->ws, WS_CLOSED_BY_HOST, code > UINT16_MAX ? UINT16_MAX : (unsigned)code, m->close.reason, &rule)) {
	case WS_OK:
		if (x->ws->state == WS_LEAVING)
			finish(x); /* the host has nothing more to say */
		else
			read_to_the_end(x);
		break;
	case WS_REFUSED:
		exchange_refuse(x, m, "code", rule);
		break;
	case WS_OUT_OF_MEMORY:
		exchange_no_memory(x);
		break;
	}
}

/* ---- messages of the client ---- */

/* A message in as many RECVs as it needs. False: there is no memory. */
static bool say_message(struct exchange *x, unsigned type, struct slice data)
{
	size_t n;

	do {
		n = data.len < CHUNK_MAX ? data.len : CHUNK_MAX;
		struct msg_recv recv = {.stream = x->id, .type = type, .data = slice_of(data.at, n), .left = data.len - n};
		if (!say_recv(x->b, &recv))
			return false;
		data = slice_of(n ? data.at + n : data.at, data.len - n);
	} while (data.len);
	return true;
}

static void take_message(struct exchange *x, const struct ws_event *event)
{
	if (say_message(x, event->type, event->data))
		exchange_spend_chunk(x);
	else
		exchange_no_memory(x);
}

static void say_end(struct exchange *x, const struct ws_event *event)
{
	say_closed(x->b, &(struct msg_closed){.stream = x->id, .code = event->code, .reason = event->data});
}

/* The closing handshake is complete: the stream ends when our Close has left. */
static void take_closed(struct exchange *x, const struct ws_event *event)
{
	struct stream *s = x->s;

	say_end(x, event);
	if (x->ws->closer == WS_CLOSED_FOR_IDLENESS || x->ws->closer == WS_CLOSED_BY_DRAIN) {
		exchange_end(x, 0, end_of(x, END_TIMEOUT));
		return;
	}
	exchange_drop_chunks(x);
	set_unheard(x, false);
	wheel_cancel(&x->b->loop->wheel, &x->timer);
	stream_response_moves(s, RESPONSE_ENDED);
	s->ops->send_end(s, NULL, 0);
}

static void finish(struct exchange *x)
{
	struct ws_event event = ws_finish(x->ws);

	if (event.kind == WS_CLOSED) {
		take_closed(x, &event);
	} else if (event.kind == WS_FAILED) {
		say_end(x, &event);
		exchange_end(x, 0, END_ERROR);
	} else {
		exchange_no_memory(x);
	}
}

/* A host grants the credit of a message again after its answer, so with all credit back everything is answered. */
static bool all_answered(const struct exchange *x)
{
	return x->ws->said_close || x->chunks >= x->ws->credit;
}

/* Answers to earlier messages go first; close_timeout bounds how long the host may take. */
static void take_leave(struct exchange *x)
{
	if (all_answered(x))
		finish(x);
	else
		read_to_the_end(x);
}

static void take_event(struct exchange *x, const struct ws_event *event)
{
	switch (event->kind) {
	case WS_MESSAGE:
		take_message(x, event);
		break;
	case WS_LEAVES:
		take_leave(x);
		break;
	case WS_NO_MEMORY:
		exchange_no_memory(x);
		break;
	case WS_NOTHING:
	case WS_CLOSED: /* the results of ws_finish */
	case WS_FAILED:
		break;
	}
}

static size_t take_bytes(struct exchange *x, struct slice bytes)
{
	const struct stream *s = x->s;
	size_t used = 0, n;

	while (used < bytes.len && stream_reads(s)) {
		struct ws_event event = ws_next(x->ws, slice_of(bytes.at + used, bytes.len - used), &n);
		used += n;
		take_event(x, &event);
		if (event.kind == WS_NOTHING)
			break;
	}
	if (s->detached || s->response == RESPONSE_ENDED)
		return bytes.len;
	limit_came(x, used);
	return used;
}

static void take_credit(struct exchange *x, uint64_t chunks, uint64_t max)
{
	struct ws *w = x->ws;

	exchange_grant(x, chunks, max);
	if (w->credit_grows && x->chunks > w->credit)
		w->credit = x->chunks;
	if (w->state == WS_LEAVING && all_answered(x))
		finish(x);
	else if (!x->waits_in)
		x->s->ops->consume(x->s);
}

/* ---- ends ---- */

/* A client that has sent a Close can still receive the answers that it waits for. */
static void client_ended(struct exchange *x, const struct field *trailers, unsigned count)
{
	(void)trailers;
	(void)count;
	if (x->ws->state != WS_LEAVING)
		exchange_end(x, 0, end_of(x, END_CLOSED));
}

/* If the client has sent a Close, the host gets its code and reason. */
static enum stream_end lost(struct exchange *x, enum stream_end why)
{
	struct ws_event event;

	if (x->ws->state == WS_LEAVING) {
		event = ws_last_event(x->ws);
		say_end(x, &event);
	}
	return end_of(x, why);
}

static bool says_goodbye(struct exchange *x, enum stream_end why)
{
	struct stream *s = x->s;

	if (x->ws->state == WS_OVER && s->response == RESPONSE_STREAMING)
		stream_response_moves(s, RESPONSE_ENDED); /* both sides have sent a Close */
	if (s->response == RESPONSE_ENDED)
		return true;
	if (why == END_TIMEOUT)
		return false;
	if (s->request != REQUEST_OPEN && s->response == RESPONSE_STREAMING)
		return false; /* the client has left */
	ws_fail(x->ws, why == END_CLOSED || why == END_DRAINED ? WS_GOING_AWAY : WS_INTERNAL_ERROR, "");
	if (s->response == RESPONSE_STREAMING)
		stream_response_moves(s, RESPONSE_ENDED);
	return s->response == RESPONSE_ENDED;
}

static void asks_to_leave(struct exchange *x)
{
	const char *rule;

	if (ws_close(x->ws, WS_CLOSED_BY_DRAIN, WS_GOING_AWAY, (struct slice){0}, &rule) == WS_OK && x->ws->state == WS_CLOSING)
		read_to_the_end(x);
}

static uint64_t sent(struct exchange *x, uint64_t n)
{
	return ws_sent(x->ws, n);
}

static const struct exchange_kind websocket = {
	.no_data = "the stream is a WebSocket",
	.bytes = take_bytes,
	.ended = client_ended,
	.read = take_credit,
	.sent = sent,
	.lost = lost,
	.goodbye = says_goodbye,
	.drain = asks_to_leave,
};

bool websocket_new(struct exchange *x, const struct ws_config *config, const struct deflate_params *deflate)
{
	x->ws = ws_new(&x->b->ws, x->s, config, deflate);
	if (x->ws)
		x->kind = &websocket;
	return x->ws;
}

void websocket_open(struct exchange *x)
{
	x->timer.fire = on_timer;
	watch(x);
	if (x->b->state == BRIDGE_DRAINING)
		asks_to_leave(x);
}
