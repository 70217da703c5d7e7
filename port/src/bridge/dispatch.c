/* SPDX-License-Identifier: Apache-2.0 */
/* Passes each message of the host to its order_ function. */
#include "bridge/descriptors.h"
#include "bridge/hello.h"
#include "bridge/orders.h"
#include "bridge/say.h"

typedef void order_fn(struct bridge *b, struct exchange *x, const struct message *m);

#define HOST(NAME, name) [MSG_##NAME] = order_##name,
#define PORT(NAME, name)
#define MESSAGE(NAME, name, kind, direction, fields) direction(NAME, name)
static order_fn *const orders[] = {
#include "frames/messages.def"
};
#undef HOST
#undef PORT

/* Whether the message is for a live exchange; a RELEASE is for an ended one. */
static bool needs_exchange(const struct message *m)
{
	return m->def->format[0] == 's' && m->kind != MSG_RELEASE;
}

static void on_message(void *ctx, const struct message *m)
{
	struct bridge *b = ctx;
	struct exchange *x = NULL;

	if (b->state == BRIDGE_OVER)
		return;
	if (b->state == BRIDGE_NEW && m->kind != MSG_HELLO) {
		hello_failed(b, m, "kind", "must be HELLO first", EXIT_FRAMING);
		return;
	}
	if (needs_exchange(m) && !(x = exchange_find(b, m))) {
		if (m->kind == MSG_SHARED)
			descriptors_unused(b, m->shared.slot, m->shared.length);
		if (m->kind == MSG_SEND_SHARED)
			descriptors_unused(b, m->send_shared.slot, m->send_shared.length);
		return;
	}
	orders[m->kind](b, x, m);
}

static void on_fault(void *ctx, const struct message *m, const struct message_fault *fault, bool lost)
{
	struct bridge *b = ctx;

	if (b->state == BRIDGE_OVER)
		return;
	if (b->state == BRIDGE_NEW && m->kind == MSG_HELLO)
		hello_failed(b, m, fault->field, fault->rule, EXIT_CONFIG);
	else if (lost || b->state == BRIDGE_NEW)
		hello_failed(b, m, fault->field, fault->rule, EXIT_FRAMING);
	else
		say_fault(b, m, fault->field, fault->rule, "ignored");
}

static void on_eof(void *ctx)
{
	struct bridge *b = ctx;

	if (b->state == BRIDGE_OVER)
		return;
	if (b->state == BRIDGE_NEW)
		bridge_over(b, 0);
	else
		bridge_host_gone(b);
}

const struct link_handler bridge_link_handler = {
	.on_message = on_message,
	.on_fault = on_fault,
	.on_eof = on_eof,
};
