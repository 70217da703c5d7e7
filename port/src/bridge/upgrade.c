/* SPDX-License-Identifier: Apache-2.0 */
/* UPGRADE: a stream becomes a WebSocket, or a tunnel of bytes. */
#include "bridge/upgrade.h"

#include <stdlib.h>

#include "bridge/orders.h"
#include "bridge/say.h"
#include "bridge/tunnel.h"
#include "bridge/upgrade_options.h"
#include "bridge/websocket.h"
#include "bridge/work.h"
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
	if (x->kind->forget) {
		x->kind->forget(x);
		exchange_drop_chunks(x);
	}
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
	struct config_fault fault;
	uint64_t idle_timeout;

	if (!tunnel_options(m->upgrade.options, &idle_timeout, &fault))
		exchange_break_rule(x, m, fault.field, fault.rule);
	else if (start(x, m->upgrade.protocol, count))
		tunnel_open(x, idle_timeout);
}

/* Adds the fields that answer the handshake; the texts must live until the head is written. */
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
	struct ws_config config;
	struct config_fault fault;

	if (!x->handshake->valid) {
		say_fault(x->b, m, "protocol", "is not what the request asks for", "reset");
		exchange_end(x, x->handshake->refusal, END_ERROR);
	} else if (!websocket_options(m->upgrade.options, &config, &fault)) {
		exchange_break_rule(x, m, fault.field, fault.rule);
	} else {
		open_websocket(x, m, &config, count);
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
