/* SPDX-License-Identifier: Apache-2.0 */
/* TLS as the host sees it: HELLO and CERTIFICATES bring certificates; REQUEST reports what a connection negotiated. */
#include "bridge/secure.h"

#include "base/wipe.h"
#include "bridge/orders.h"
#include "bridge/say.h"
#include "frames/mp.h"

/* The port keeps no copy of a key that came over the pipe. */
static void forget(struct bridge *b, struct slice secret)
{
	if (secret.len)
		wipe((void *)(uintptr_t)secret.at, secret.len);
	link_wipe(b->link);
}

bool secure_certify(struct bridge *b, struct config_fault *fault)
{
	bool well = true;

	for (unsigned i = 0; i < b->config->listener_count && well; i++) {
		struct listener_config *l = &b->config->listeners[i];
		if (!l->tls.at)
			continue;
		well = b->control.ops->certify(b->control.ctx, i, l->tls, fault) > 0;
		forget(b, l->tls);
		l->tls = (struct slice){0};
	}
	return well;
}

static bool find_listener(struct bridge *b, const struct message *m, uint64_t listener)
{
	if (listener < b->config->listener_count && b->control.ops->is_secure(b->control.ctx, (unsigned)listener))
		return true;
	say_fault(b, m, "listener", "must be one with tls", "ignored");
	return false;
}

void order_certificates(struct bridge *b, struct exchange *x, const struct message *m)
{
	const struct msg_certificates *c = &m->certificates;
	struct config_fault fault;
	unsigned count;

	(void)x;
	if (!find_listener(b, m, c->listener)) {
		forget(b, c->tls);
		return;
	}
	count = b->control.ops->certify(b->control.ctx, (unsigned)c->listener, c->tls, &fault);
	if (count == 0)
		say_fault(b, m, fault.field, fault.rule, "ignored");
	forget(b, c->tls);
	if (count)
		say_certified(b, &(struct msg_certified){.tag = c->tag, .count = count});
}

void order_tickets(struct bridge *b, struct exchange *x, const struct message *m)
{
	const struct msg_tickets *t = &m->tickets;

	(void)x;
	if (find_listener(b, m, t->listener) && !b->control.ops->tickets(b->control.ctx, (unsigned)t->listener, t->key))
		say_fault(b, m, "key", "must be 64 bytes", "ignored");
	forget(b, t->key);
}

/* ---- with a request ---- */

size_t secure_bound(const struct secure *s)
{
	return s ? 4 * MP_MAX_UINT + 4 * MP_MAX_HEAD + s->sni.len + s->alpn.len + s->client.len : 0;
}

static uint8_t *put_text_or_nil(uint8_t *at, struct slice text)
{
	return text.at ? mp_str(at, text) : mp_nil(at);
}

uint8_t *secure_put(uint8_t *at, const struct secure *s)
{
	at = mp_array(at, 6);
	at = mp_uint(at, s->version);
	at = mp_uint(at, s->cipher);
	at = put_text_or_nil(at, s->sni);
	at = put_text_or_nil(at, s->alpn);
	at = mp_bool(at, s->resumed);
	return s->client.at ? mp_bin(at, s->client) : mp_nil(at);
}

struct slice secure_pack(const struct secure *s)
{
	static uint8_t room[1024]; /* names have at most 255 bytes */
	struct secure brief = *s;

	brief.client = (struct slice){0};
	if (secure_bound(&brief) > sizeof room)
		return (struct slice){0};
	return slice_of(room, (size_t)(secure_put(room, &brief) - room));
}
