/* The bridge's part for streams that are upgraded: WebSockets, and tunnels of bytes. */
#include <stdio.h>
#include <stdlib.h>

#include "bridge/parts.h"
#include "bridge/work.h"
#include "frames/fields.h"
#include "frames/mp.h"
#include "frames/names.h"
#include "stream/rules.h"
#include "ws/handshake.h"
#include "ws/ws.h"

enum { ANSWER_FIELDS = 2 };

bool bridge_upgrade_note(struct stream *s, const struct request_head *head)
{
	if (!(head->flags & REQUEST_MAY_UPGRADE))
		return true;
	s->handshake = malloc(sizeof *s->handshake);
	if (s->handshake)
		ws_handshake_read(s->handshake, head);
	return s->handshake;
}

unsigned bridge_upgrade_flags(const struct stream *s)
{
	return s->handshake && s->handshake->valid ? REQUEST_WEBSOCKET : 0;
}

void bridge_upgrade_forget(struct stream *s)
{
	free(s->handshake);
	ws_free(s->ws);
	s->handshake = NULL;
	s->ws = NULL;
}

/* ---- deadlines ---- */

static void finish(struct bridge *b, struct stream *s);

static void watch(struct bridge *b, struct stream *s)
{
	uint64_t deadline = ws_deadline(s->ws);

	if (deadline)
		wheel_set(&b->loop->wheel, &s->timer, deadline);
	else
		wheel_cancel(&b->loop->wheel, &s->timer);
}

/* Bytes do not move the deadline: it is looked at anew when it is over. */
static void on_ws_timer(struct wheel_node *node)
{
	struct stream *s = container_of(node, struct stream, timer);
	struct bridge *b = s->sink_data;

	if (s->ws->state == WS_LEAVING) {
		finish(b, s);
		return;
	}
	if (!ws_tick(s->ws, stream_reads(s))) {
		bridge_end_stream(b, s, 0, s->ws->closer == WS_CLOSED_BY_DRAIN ? END_DRAINED : END_TIMEOUT);
		return;
	}
	s->thirsty = s->ws->state == WS_CLOSING;
	if (s->thirsty)
		s->ops->consume(s);
	watch(b, s);
}

static void on_tunnel_timer(struct wheel_node *node)
{
	struct stream *s = container_of(node, struct stream, timer);
	struct bridge *b = s->sink_data;
	uint64_t deadline = s->active + s->idle_timeout;

	if (s->response == RESPONSE_ENDED)
		return; /* what is left to send has a deadline of its own */
	if (b->loop->now < deadline)
		wheel_set(&b->loop->wheel, &s->timer, deadline);
	else
		bridge_end_stream(b, s, 0, END_TIMEOUT);
}

/* ---- the options of UPGRADE ---- */

struct options {
	struct ws_config ws;
	char field[32];
	const char *rule;
};

static bool bad_option(struct options *o, struct slice key, const char *rule)
{
	snprintf(o->field, sizeof o->field, "%.*s", (int)(key.len < 30 ? key.len : 30), (const char *)key.at);
	o->rule = rule;
	return false;
}

static bool read_bool(struct options *o, struct slice key, const struct mp_value *v, bool *flag)
{
	*flag = v->u;
	return v->type == MP_BOOL || bad_option(o, key, "must be true or false");
}

static bool read_small(struct options *o, struct slice key, const struct mp_value *v, unsigned min, unsigned max, uint8_t *value)
{
	*value = (uint8_t)v->u;
	return (v->type == MP_UINT && v->u >= min && v->u <= max) ||
	       bad_option(o, key, max == 9 ? "must be 1 to 9" : "must be 9 to 15");
}

static bool read_ratio(struct options *o, struct slice key, const struct mp_value *v)
{
	o->ws.compress.max_ratio = (uint32_t)v->u;
	return (v->type == MP_UINT && v->u >= 1 && v->u <= 1032) || bad_option(o, key, "must be 1 to 1032");
}

static bool read_compress_key(struct options *o, struct slice key, const struct mp_value *v)
{
	struct deflate_want *want = &o->ws.compress;

	if (slice_eq(key, SLICE_LIT("server_no_context_takeover")))
		return read_bool(o, key, v, &want->server_no_takeover);
	if (slice_eq(key, SLICE_LIT("client_no_context_takeover")))
		return read_bool(o, key, v, &want->client_no_takeover);
	if (slice_eq(key, SLICE_LIT("server_max_window_bits")))
		return read_small(o, key, v, 9, 15, &want->server_bits);
	if (slice_eq(key, SLICE_LIT("client_max_window_bits")))
		return read_small(o, key, v, 9, 15, &want->client_bits);
	if (slice_eq(key, SLICE_LIT("level")))
		return read_small(o, key, v, 1, 9, &want->level);
	if (slice_eq(key, SLICE_LIT("mem_level")))
		return read_small(o, key, v, 1, 9, &want->mem_level);
	if (slice_eq(key, SLICE_LIT("max_ratio")))
		return read_ratio(o, key, v);
	return bad_option(o, key, "is unknown");
}

/* nil, or a map, which may be empty. */
static bool read_compress(struct options *o, struct slice raw)
{
	struct mp_value map, key, value;

	mp_read(&raw, &map);
	if (map.type == MP_NIL)
		return true;
	if (map.type != MP_MAP)
		return bad_option(o, SLICE_LIT("compress"), "must be a map or nil");
	o->ws.compress.on = true;
	for (; map.u > 0; map.u--) {
		if (!mp_read(&raw, &key) || key.type != MP_STR || !mp_read(&raw, &value))
			return bad_option(o, SLICE_LIT("compress"), "has a key that is not text");
		if (!read_compress_key(o, key.bytes, &value))
			return false;
	}
	return true;
}

static bool read_option(struct options *o, struct slice key, struct slice raw)
{
	const struct ws_option_def *def;
	struct mp_value v;

	if (slice_eq(key, SLICE_LIT("compress")))
		return read_compress(o, raw);
	mp_read(&raw, &v);
	for (unsigned i = 0; (def = ws_option_at(i)); i++) {
		if (!slice_eq(key, slice_str(def->name)))
			continue;
		*(uint64_t *)(void *)((char *)&o->ws + def->offset) = v.u;
		return (v.type == MP_UINT && v.u >= def->min && v.u <= def->max) || bad_option(o, key, "is out of its range");
	}
	return bad_option(o, key, "is unknown");
}

static bool read_tunnel_option(struct options *o, struct slice key, struct slice raw)
{
	if (slice_eq(key, SLICE_LIT("idle_timeout")))
		return read_option(o, key, raw);
	return bad_option(o, key, "is none that a tunnel has");
}

static bool read_options(struct options *o, struct slice raw, bool websocket)
{
	struct mp_value map, key;
	struct slice value;

	ws_config_defaults(&o->ws);
	mp_read(&raw, &map);
	for (; map.u > 0; map.u--) {
		if (!mp_read(&raw, &key) || key.type != MP_STR || !mp_skip(&raw, &value))
			return bad_option(o, SLICE_LIT("options"), "has a key that is not text");
		if (!(websocket ? read_option(o, key.bytes, value) : read_tunnel_option(o, key.bytes, value)))
			return false;
	}
	return true;
}

/* ---- UPGRADE ---- */

static bool is_of_the_handshake(const struct field *f)
{
	return slice_eq_nocase(f->name, SLICE_LIT("sec-websocket-accept")) ||
	       slice_eq_nocase(f->name, SLICE_LIT("sec-websocket-extensions"));
}

static const char *check_fields(const struct field *fields, unsigned count, bool websocket)
{
	const char *rule = upgrade_check(fields, count);

	for (unsigned i = 0; !rule && websocket && i < count; i++)
		if (is_of_the_handshake(&fields[i]))
			rule = "has a field that the port writes";
	return rule;
}

static bool start(struct bridge *b, struct stream *s, const struct message *m, unsigned count)
{
	bridge_first_answer(b, s, m->upgrade.protocol.len ? 101 : 200);
	s->upgraded = true;
	stream_response_moves(s, RESPONSE_STREAMING);
	bridge_work_yields(b, s);
	if (s->ops->upgrade(s, m->upgrade.protocol, b->fields, count))
		return true;
	bridge_no_memory(b, s);
	return false;
}

static void to_tunnel(struct bridge *b, struct stream *s, const struct message *m, unsigned count)
{
	struct options o;

	if (!read_options(&o, m->upgrade.options, false)) {
		bridge_break_rule(b, s, m, o.field, o.rule);
		return;
	}
	if (!start(b, s, m, count) || o.ws.idle_timeout == 0)
		return;
	s->active = b->loop->now;
	s->idle_timeout = (uint32_t)o.ws.idle_timeout;
	s->timer.fire = on_tunnel_timer;
	wheel_set(&b->loop->wheel, &s->timer, s->active + s->idle_timeout);
}

/* Adds what answers the handshake; the texts must live until the head is written. */
static unsigned add_answer(struct bridge *b, const struct ws_handshake *h, unsigned count, char *accept, struct slice extension)
{
	if (h->has_key) {
		ws_accept_value(h->key, accept);
		b->fields[count++] = (struct field){SLICE_LIT("Sec-WebSocket-Accept"), slice_of(accept, WS_ACCEPT_LEN),
						    NAME_UNKNOWN};
	}
	if (extension.len)
		b->fields[count++] = (struct field){SLICE_LIT("Sec-WebSocket-Extensions"), extension, NAME_UNKNOWN};
	return count;
}

static void open_ws(struct bridge *b, struct stream *s, const struct message *m, const struct ws_config *config, unsigned count)
{
	const struct ws_handshake *h = s->handshake;
	char accept[WS_ACCEPT_LEN], text[DEFLATE_TEXT_MAX];
	struct deflate_params agreed;
	bool deflate = config->compress.on && deflate_agree(h->offers, h->offered, &config->compress, &agreed);

	count = add_answer(b, h, count, accept, deflate ? deflate_answer(&agreed, text) : (struct slice){0});
	s->ws = ws_new(&b->ws, s, config, deflate ? &agreed : NULL);
	if (!s->ws) {
		bridge_no_memory(b, s);
		return;
	}
	if (!start(b, s, m, count))
		return;
	s->timer.fire = on_ws_timer;
	watch(b, s);
}

static void to_websocket(struct bridge *b, struct stream *s, const struct message *m, unsigned count)
{
	struct options o;

	if (!s->handshake->valid) {
		bridge_send_error(b, m, "protocol", "is not what the request asks for", "reset");
		bridge_end_stream(b, s, s->handshake->refusal, END_ERROR);
	} else if (!read_options(&o, m->upgrade.options, true)) {
		bridge_break_rule(b, s, m, o.field, o.rule);
	} else {
		open_ws(b, s, m, &o.ws, count);
	}
}

static const char *check_upgrade(const struct stream *s, const struct message *m)
{
	if (s->response != RESPONSE_WAITING)
		return "the response has begun already";
	if (!s->handshake)
		return "the request does not ask for an upgrade";
	return m->upgrade.protocol.len && !is_protocol(m->upgrade.protocol) ? "the protocol is not a token" : NULL;
}

void bridge_take_upgrade(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);
	const char *rule = s ? check_upgrade(s, m) : NULL;
	bool websocket = slice_eq_nocase(m->upgrade.protocol, SLICE_LIT("websocket"));
	unsigned count;

	if (!s)
		return;
	if (rule) {
		bridge_break_rule(b, s, m, "message", rule);
		return;
	}
	if (!bridge_read_fields(b, s, m, "headers", m->upgrade.headers, &count))
		return;
	rule = check_fields(b->fields, count, websocket);
	if (!rule && count + ANSWER_FIELDS > sizeof b->fields / sizeof *b->fields)
		rule = "has too many fields";
	if (rule)
		bridge_refuse(b, s, m, "headers", rule);
	else if (websocket)
		to_websocket(b, s, m, count);
	else
		to_tunnel(b, s, m, count);
	if (s->upgraded && s->handshake) {
		free(s->handshake);
		s->handshake = NULL;
	}
}

/* ---- SEND, CLOSE ---- */

/* The stream of a message that only a WebSocket takes; NULL: it is none, or it is over. */
static struct stream *find_ws(struct bridge *b, const struct message *m)
{
	struct stream *s = bridge_find(b, m);

	if (s && !s->ws) {
		bridge_break_rule(b, s, m, "message", "the stream is not a WebSocket");
		return NULL;
	}
	if (s && s->ws->said_close) {
		b->n.dropped++; /* it has crossed the client's Close */
		return NULL;
	}
	return s;
}

void bridge_take_send(struct bridge *b, const struct message *m)
{
	struct stream *s = find_ws(b, m);
	struct slice data = m->send.data;
	uint64_t cost = data.len + WS_SEND_COST;
	const char *rule = NULL;

	if (!s)
		return;
	if (cost > s->window) {
		bridge_break_rule(b, s, m, "data", "is more than the window");
		return;
	}
	s->window -= cost;
	s->body_out += data.len;
	b->n.body_queued += cost;
	switch (ws_send(s->ws, (unsigned)m->send.type, data, m->send.left > 0, &rule)) {
	case WS_OK:
		break;
	case WS_REFUSED:
		bridge_refuse(b, s, m, "data", rule);
		break;
	case WS_OUT_OF_MEMORY:
		bridge_no_memory(b, s);
		break;
	}
}

/* What comes from now on is not for the host, and costs no credit. */
static void read_to_the_end(struct bridge *b, struct stream *s)
{
	s->thirsty = true;
	s->ops->consume(s);
	watch(b, s);
}

void bridge_take_close(struct bridge *b, const struct message *m)
{
	struct stream *s = find_ws(b, m);
	uint64_t code = m->close.code;
	const char *rule = NULL;

	if (!s)
		return;
	switch (ws_close(s->ws, WS_CLOSED_BY_HOST, code > UINT16_MAX ? UINT16_MAX : (unsigned)code, m->close.reason, &rule)) {
	case WS_OK:
		if (s->ws->state == WS_LEAVING)
			finish(b, s); /* the host has nothing more to say */
		else
			read_to_the_end(b, s);
		break;
	case WS_REFUSED:
		bridge_refuse(b, s, m, "code", rule);
		break;
	case WS_OUT_OF_MEMORY:
		bridge_no_memory(b, s);
		break;
	}
}

/* ---- what comes in ---- */

/* A message in as many RECVs as it needs. False: there is no memory. */
static bool send_recv(struct bridge *b, const struct stream *s, unsigned type, struct slice data)
{
	size_t n;

	do {
		uint8_t *at;
		n = data.len < CHUNK_MAX ? data.len : CHUNK_MAX;
		at = bridge_begin(b, MSG_RECV, 3 * MP_MAX_UINT + MP_MAX_HEAD + n);
		if (!at)
			return false;
		at = mp_uint(at, s->id);
		at = mp_uint(at, type);
		at = mp_bin(at, slice_of(data.at, n));
		link_commit(b->link, mp_uint(at, data.len - n));
		data = slice_of(n ? data.at + n : data.at, data.len - n);
	} while (data.len);
	return true;
}

static void take_message(struct bridge *b, struct stream *s, const struct ws_event *event)
{
	if (!send_recv(b, s, event->type, event->data)) {
		bridge_no_memory(b, s);
		return;
	}
	s->chunks--;
	b->n.read_credit--;
}

static void send_closed(struct bridge *b, const struct stream *s, const struct ws_event *event)
{
	uint8_t *at = bridge_begin(b, MSG_CLOSED, 2 * MP_MAX_UINT + MP_MAX_HEAD + event->data.len);

	if (!at)
		return;
	at = mp_uint(at, s->id);
	at = mp_uint(at, event->code);
	link_commit(b->link, mp_bin(at, event->data));
}

/* The closing handshake is complete: when our part of it has left, that is the end. */
static void take_closed(struct bridge *b, struct stream *s, const struct ws_event *event)
{
	send_closed(b, s, event);
	if (s->ws->closer == WS_CLOSED_FOR_IDLENESS || s->ws->closer == WS_CLOSED_BY_DRAIN) {
		bridge_end_stream(b, s, 0, s->ws->closer == WS_CLOSED_BY_DRAIN ? END_DRAINED : END_TIMEOUT);
		return;
	}
	b->n.read_credit -= s->chunks;
	s->chunks = 0;
	s->thirsty = false;
	wheel_cancel(&b->loop->wheel, &s->timer);
	stream_response_moves(s, RESPONSE_ENDED);
	s->ops->send_end(s, NULL, 0);
}

static void finish(struct bridge *b, struct stream *s)
{
	struct ws_event event = ws_finish(s->ws);

	if (event.kind == WS_CLOSED) {
		take_closed(b, s, &event);
	} else if (event.kind == WS_FAILED) {
		send_closed(b, s, &event);
		bridge_end_stream(b, s, 0, END_ERROR);
	} else {
		bridge_no_memory(b, s);
	}
}

/* A host grants the credit of a message anew when it has answered it; so when all is there again, all is answered. */
static bool all_answered(const struct stream *s)
{
	return s->ws->said_close || s->chunks >= s->ws->credit;
}

void bridge_upgrade_credit(struct bridge *b, struct stream *s)
{
	if (s->ws->credit_grows && s->chunks > s->ws->credit)
		s->ws->credit = s->chunks;
	if (s->ws->state == WS_LEAVING && all_answered(s))
		finish(b, s);
	else
		s->ops->consume(s);
}

/* First the answers to what came before; but close_timeout bounds how long a host may take. */
static void take_leave(struct bridge *b, struct stream *s)
{
	if (all_answered(s))
		finish(b, s);
	else
		read_to_the_end(b, s);
}

static void take_event(struct bridge *b, struct stream *s, const struct ws_event *event)
{
	switch (event->kind) {
	case WS_MESSAGE:
		take_message(b, s, event);
		break;
	case WS_LEAVES:
		take_leave(b, s);
		break;
	case WS_NO_MEMORY:
		bridge_no_memory(b, s);
		break;
	case WS_NOTHING:
	case WS_CLOSED: /* those of ws_finish */
	case WS_FAILED:
		break;
	}
}

size_t bridge_upgrade_bytes(struct bridge *b, struct stream *s, struct slice bytes)
{
	size_t used = 0, n;

	while (used < bytes.len && stream_reads(s)) {
		struct ws_event event = ws_next(s->ws, slice_of(bytes.at + used, bytes.len - used), &n);
		used += n;
		take_event(b, s, &event);
		if (event.kind == WS_NOTHING)
			return used;
	}
	return s->detached || s->response == RESPONSE_ENDED ? bytes.len : used;
}

/* ---- ends ---- */

/* One that has said why it leaves can still get the answers that it waits for. */
void bridge_upgrade_end(struct bridge *b, struct stream *s)
{
	if (s->ws->state != WS_LEAVING)
		bridge_end_stream(b, s, 0, END_CLOSED);
}

void bridge_upgrade_lost(struct bridge *b, struct stream *s)
{
	struct ws_event event;

	if (!s->ws || s->ws->state != WS_LEAVING)
		return;
	event = ws_last_event(s->ws);
	send_closed(b, s, &event);
}

bool bridge_upgrade_says_goodbye(struct stream *s, enum stream_end why)
{
	if (!s->ws)
		return false;
	if (s->ws->state == WS_OVER && s->response == RESPONSE_STREAMING)
		stream_response_moves(s, RESPONSE_ENDED); /* both sides know */
	if (s->response == RESPONSE_ENDED)
		return true;
	if (why == END_TIMEOUT)
		return false;
	if (s->request != REQUEST_OPEN && s->response == RESPONSE_STREAMING)
		return false; /* the client has left */
	ws_fail(s->ws, why == END_CLOSED || why == END_DRAINED ? WS_GOING_AWAY : WS_INTERNAL_ERROR, "");
	if (s->response == RESPONSE_STREAMING)
		stream_response_moves(s, RESPONSE_ENDED);
	return s->response == RESPONSE_ENDED;
}

void bridge_upgrade_drain(struct bridge *b)
{
	for (size_t i = 0; b->streams.slots && i <= b->streams.mask; i++) {
		struct stream *s = b->streams.slots[i].value;
		const char *rule;
		if (!s || !s->ws)
			continue;
		if (ws_close(s->ws, WS_CLOSED_BY_DRAIN, WS_GOING_AWAY, (struct slice){0}, &rule) == WS_OK &&
		    s->ws->state == WS_CLOSING)
			read_to_the_end(b, s);
	}
}
