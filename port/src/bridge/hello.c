/* SPDX-License-Identifier: Apache-2.0 */
/* The start of the bridge: HELLO brings the configuration, READY is the answer. */
#include "bridge/hello.h"

#include <unistd.h>

#include "base/shared.h"
#include "bridge/descriptors.h"
#include "bridge/limit.h"
#include "bridge/orders.h"
#include "bridge/say.h"
#include "bridge/secure.h"
#include "frames/mp.h"
#include "version.h"

static uint8_t *put_limits(struct bridge *b, uint8_t *at)
{
	const struct option_def *def;
	uint32_t count = 0;

	while (option_at(count))
		count++;
	at = mp_map(at, count);
	for (unsigned i = 0; (def = option_at(i)); i++) {
		at = mp_str(at, slice_str(def->name));
		at = mp_uint(at, option_value(b->config, def));
	}
	return at;
}

static uint8_t *put_listeners(struct bridge *b, uint8_t *at)
{
	struct listener_name name;

	at = mp_array(at, b->config->listener_count);
	for (unsigned i = 0; i < b->config->listener_count; i++) {
		b->control.ops->name(b->control.ctx, i, &name);
		at = mp_map(at, 2);
		at = mp_str(at, SLICE_LIT("address"));
		at = mp_str(at, slice_str(name.address));
		at = mp_str(at, SLICE_LIT("port"));
		at = mp_uint(at, name.port);
	}
	return at;
}

static uint8_t *put_parts(uint8_t *at, const struct sandbox *s)
{
	at = mp_str(at, SLICE_LIT("parts"));
	at = mp_array(at, (uint32_t)__builtin_popcount(s->in_force));
	for (enum sandbox_part part = 0; part < SANDBOX_PARTS; part++)
		if (sandbox_has(s->in_force, part))
			at = mp_str(at, slice_str(sandbox_part_name(part)));
	at = mp_str(at, SLICE_LIT("missing"));
	at = mp_map(at, (uint32_t)__builtin_popcount(s->missing));
	for (enum sandbox_part part = 0; part < SANDBOX_PARTS; part++)
		if (sandbox_has(s->missing, part)) {
			at = mp_str(at, slice_str(sandbox_part_name(part)));
			at = mp_str(at, slice_str(s->why[part]));
		}
	return at;
}

static uint8_t *put_sandbox(uint8_t *at, const struct sandbox *s)
{
	at = mp_map(at, 4);
	at = mp_str(at, SLICE_LIT("mode"));
	at = mp_str(at, slice_str(sandbox_mode_name((enum sandbox_mode)s->mode)));
	at = put_parts(at, s);
	at = mp_str(at, SLICE_LIT("landlock_abi"));
	return mp_uint(at, s->landlock_abi);
}

static void send_ready(struct bridge *b)
{
	uint8_t *at = say_begin(b, MSG_READY, 8192 + LISTENERS_MAX * (ADDRESS_MAX + 32));
	uint32_t codings = 0;

	if (!at)
		return;
	for (enum coding c = CODING_GZIP; c < CODINGS; c++)
		codings += encoder_exists(c);
	at = mp_uint(at, SPARX_PROTOCOL_VERSION);
	at = mp_map(at, 7);
	at = mp_str(at, SLICE_LIT("version"));
	at = mp_str(at, SLICE_LIT(SPARX_VERSION));
	at = mp_str(at, SLICE_LIT("pid"));
	at = mp_uint(at, (uint64_t)getpid());
	at = mp_str(at, SLICE_LIT("features"));
	at = mp_array(at, 10 + codings + b->channel.open + (shared_slots() > 0) + b->control.ops->http3);
	at = mp_str(at, SLICE_LIT("http/1.1"));
	at = mp_str(at, SLICE_LIT("http/2"));
	if (b->control.ops->http3)
		at = mp_str(at, SLICE_LIT("http/3"));
	at = mp_str(at, SLICE_LIT("push"));
	at = mp_str(at, SLICE_LIT("upgrade"));
	at = mp_str(at, SLICE_LIT("websocket"));
	at = mp_str(at, SLICE_LIT("shares"));
	at = mp_str(at, SLICE_LIT("tls"));
	if (b->channel.open)
		at = mp_str(at, SLICE_LIT("descriptors"));
	if (shared_slots() > 0)
		at = mp_str(at, SLICE_LIT("region"));
	at = mp_str(at, SLICE_LIT("decode"));
	at = mp_str(at, SLICE_LIT("proxy"));
	at = mp_str(at, SLICE_LIT("limits"));
	for (enum coding c = CODING_GZIP; c < CODINGS; c++)
		if (encoder_exists(c))
			at = mp_str(at, slice_str(coding_name(c)));
	at = mp_str(at, SLICE_LIT("listeners"));
	at = put_listeners(b, at);
	at = mp_str(at, SLICE_LIT("limits"));
	at = put_limits(b, at);
	at = mp_str(at, SLICE_LIT("max_frame"));
	at = mp_uint(at, b->config->max_frame);
	at = mp_str(at, SLICE_LIT("sandbox"));
	at = put_sandbox(at, &b->sandbox);
	link_commit(b->link, at);
}

static void tell_missing(const struct sandbox *s)
{
	for (enum sandbox_part part = 0; part < SANDBOX_PARTS; part++)
		if (sandbox_has(s->missing, part))
			log_line(LOG_WARNING, "the sandbox lacks %s: %s", sandbox_part_name(part), s->why[part]);
}

static void set_codings(struct bridge *b)
{
	const struct config *c = b->config;

	b->codings.options = (struct coding_options){
		.offered = c->codings,
		.offers = c->coding_count,
		.types = c->compress_types,
		.least = c->compress_min,
		.memory = c->compress_memory,
		.levels =
			{
				[CODING_GZIP] = (int)c->compress_gzip_level,
				[CODING_DEFLATE] = (int)c->compress_gzip_level,
				[CODING_BR] = (int)c->compress_br_level,
				[CODING_ZSTD] = (int)c->compress_zstd_level,
			},
	};
}

void hello_failed(struct bridge *b, const struct message *m, const char *field, const char *rule, int status)
{
	say_fault(b, m, field, rule, "exit");
	bridge_over(b, status);
}

void order_hello(struct bridge *b, struct exchange *x, const struct message *m)
{
	struct config_fault fault;

	(void)x;
	if (b->state != BRIDGE_NEW) {
		say_fault(b, m, "kind", "must come only once", "ignored");
		return;
	}
	if (m->hello.version != SPARX_PROTOCOL_VERSION) {
		hello_failed(b, m, "version", "must be 1", EXIT_CONFIG);
		return;
	}
	if (!config_read(b->config, m->hello.options, &fault)) {
		hello_failed(b, m, fault.field, fault.rule, EXIT_CONFIG);
		return;
	}
	if (!secure_certify(b, &fault)) {
		hello_failed(b, m, fault.field, fault.rule, EXIT_CONFIG);
		return;
	}
	descriptors_begin(b);
	if (!descriptors_await(b, &fault)) {
		hello_failed(b, m, fault.field, fault.rule, EXIT_CONFIG);
		return;
	}
	if (!b->control.ops->listen(b->control.ctx, &fault)) {
		hello_failed(b, m, fault.field, fault.rule, EXIT_LISTEN);
		return;
	}
	if (b->shut_in && !b->shut_in(&b->sandbox, b->config, &fault)) {
		hello_failed(b, m, fault.field, fault.rule, EXIT_SANDBOX);
		return;
	}
	set_codings(b);
	limit_init(b);
	link_limits(b->link, (size_t)b->config->max_frame, (size_t)b->config->max_link);
	bridge_moves(b, BRIDGE_SERVING);
	send_ready(b);
	tell_missing(&b->sandbox);
}
