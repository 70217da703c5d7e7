/* UPGRADE: a stream becomes a WebSocket, or a tunnel of bytes. */
#include "bridge/upgrade.h"

#include <stdio.h>
#include <stdlib.h>

#include "bridge/orders.h"
#include "bridge/say.h"
#include "bridge/tunnel.h"
#include "bridge/websocket.h"
#include "bridge/work.h"
#include "frames/mp.h"
#include "frames/names.h"
#include "stream/rules.h"
#include "ws/handshake.h"
#include "ws/ws.h"

enum { ANSWER_FIELDS = 2 };

bool upgrade_note(struct exchange *x, const struct request_head *head)
{
	if (!(head->flags & REQUEST_MAY_UPGRADE))
		return true;
	x->handshake = malloc(sizeof *x->handshake);
	if (x->handshake)
		ws_handshake_read(x->handshake, head);
	return x->handshake;
}

unsigned upgrade_flags(const struct exchange *x)
{
	return x->handshake && x->handshake->valid ? REQUEST_WEBSOCKET : 0;
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

static const char *check_fields(const struct field *fields, unsigned count, bool websocket, struct slice *offender)
{
	const char *rule = upgrade_check(fields, count, offender);

	for (unsigned i = 0; !rule && websocket && i < count; i++) {
		if (!is_of_the_handshake(&fields[i]))
			continue;
		*offender = fields[i].name;
		rule = "has a field that the port writes";
	}
	if (!rule && count + ANSWER_FIELDS > BRIDGE_FIELDS)
		rule = "has too many fields";
	return rule;
}

/* False: there was no memory, which ended the exchange. */
static bool start(struct exchange *x, struct slice protocol, unsigned count)
{
	struct stream *s = x->s;

	exchange_answers(x, protocol.len ? 101 : 200);
	s->upgraded = true;
	stream_response_moves(s, RESPONSE_STREAMING);
	work_yields(x);
	if (!s->ops->upgrade(s, protocol, x->b->fields, count)) {
		exchange_no_memory(x);
		return false;
	}
	exchange_wants(x);
	free(x->handshake);
	x->handshake = NULL;
	return true;
}

static void to_tunnel(struct exchange *x, const struct message *m, unsigned count)
{
	struct options o;

	if (!read_options(&o, m->upgrade.options, false))
		exchange_break_rule(x, m, o.field, o.rule);
	else if (start(x, m->upgrade.protocol, count))
		tunnel_open(x, o.ws.idle_timeout);
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

static void open_websocket(struct exchange *x, const struct message *m, const struct ws_config *config, unsigned count)
{
	const struct ws_handshake *h = x->handshake;
	char accept[WS_ACCEPT_LEN], text[DEFLATE_TEXT_MAX];
	struct deflate_params agreed;
	bool deflate = config->compress.on && deflate_agree(h->offers, h->offered, &config->compress, &agreed);

	count = add_answer(x->b, h, count, accept, deflate ? deflate_answer(&agreed, text) : (struct slice){0});
	if (!websocket_new(x, config, deflate ? &agreed : NULL))
		exchange_no_memory(x);
	else if (start(x, m->upgrade.protocol, count))
		websocket_open(x);
}

static void to_websocket(struct exchange *x, const struct message *m, unsigned count)
{
	struct options o;

	if (!x->handshake->valid) {
		say_fault(x->b, m, "protocol", "is not what the request asks for", "reset");
		exchange_end(x, x->handshake->refusal, END_ERROR);
	} else if (!read_options(&o, m->upgrade.options, true)) {
		exchange_break_rule(x, m, o.field, o.rule);
	} else {
		open_websocket(x, m, &o.ws, count);
	}
}

static const char *check_upgrade(const struct exchange *x, struct slice protocol)
{
	if (x->s->response != RESPONSE_WAITING)
		return "the response has begun already";
	if (!x->handshake)
		return "the request does not ask for an upgrade";
	return protocol.len && !is_protocol(protocol) ? "the protocol is not a token" : NULL;
}

void order_upgrade(struct bridge *b, struct exchange *x, const struct message *m)
{
	const struct msg_upgrade *u = &m->upgrade;
	const char *rule = check_upgrade(x, u->protocol);
	bool websocket = slice_eq_nocase(u->protocol, SLICE_LIT("websocket"));
	struct slice offender = {0};
	unsigned count;

	if (rule) {
		exchange_break_rule(x, m, "message", rule);
		return;
	}
	if (!exchange_fields(x, m, "headers", u->headers, &count))
		return;
	rule = check_fields(b->fields, count, websocket, &offender);
	if (rule)
		exchange_refuse_field(x, m, "headers", rule, offender);
	else if (websocket)
		to_websocket(x, m, count);
	else
		to_tunnel(x, m, count);
}
