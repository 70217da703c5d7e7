/* SPDX-License-Identifier: Apache-2.0 */
#include "bridge/upgrade_options.h"

#include <stddef.h>

#include "frames/mp.h"

enum { RATIO_MAX = 1032 }; /* zlib's */

static bool take_compress(void *to, struct slice key, struct slice raw, struct config_fault *fault)
{
	static const struct {
		const char *name;
		size_t offset;
	} flags[] = {
		{"server_no_context_takeover", offsetof(struct deflate_want, server_no_takeover)},
		{"client_no_context_takeover", offsetof(struct deflate_want, client_no_takeover)},
	};
	static const struct {
		const char *name;
		size_t offset;
		uint8_t min, max;
	} bytes[] = {
		{"server_max_window_bits", offsetof(struct deflate_want, server_bits), 9, 15},
		{"client_max_window_bits", offsetof(struct deflate_want, client_bits), 9, 15},
		{"level", offsetof(struct deflate_want, level), 1, 9},
		{"mem_level", offsetof(struct deflate_want, mem_level), 1, 9},
	};
	struct deflate_want *want = to;
	uint64_t number = 0;

	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
		if (slice_eq(key, slice_str(flags[i].name)))
			return option_flag((bool *)((char *)want + flags[i].offset), key, raw, fault);
	for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++)
		if (slice_eq(key, slice_str(bytes[i].name))) {
			bool well = option_number(&number, key, raw, bytes[i].min, bytes[i].max, "", fault);
			*((uint8_t *)want + bytes[i].offset) = (uint8_t)number;
			return well;
		}
	if (!slice_eq(key, SLICE_LIT("max_ratio")))
		return option_wrong(fault, key, "is unknown");
	if (!option_number(&number, key, raw, 1, RATIO_MAX, "", fault))
		return false;
	want->max_ratio = (uint32_t)number;
	return true;
}

/* nil, or a map, which may be empty. */
static bool read_compress(struct deflate_want *want, struct slice raw, struct config_fault *fault)
{
	struct slice in = raw;
	struct mp_value v;

	if (mp_read(&in, &v) && v.type == MP_NIL)
		return true;
	want->on = true;
	return options_read(raw, "compress", "must be a map or nil", take_compress, want, fault);
}

static bool take_websocket(void *to, struct slice key, struct slice raw, struct config_fault *fault)
{
	struct ws_config *config = to;
	const struct ws_option_def *def;

	if (slice_eq(key, SLICE_LIT("compress")))
		return read_compress(&config->compress, raw, fault);
	for (unsigned i = 0; (def = ws_option_at(i)); i++)
		if (slice_eq(key, slice_str(def->name)))
			return option_number((uint64_t *)(void *)((char *)config + def->offset), key, raw, def->min, def->max,
					     def->unit, fault);
	return option_wrong(fault, key, "is unknown");
}

static bool take_tunnel(void *to, struct slice key, struct slice raw, struct config_fault *fault)
{
	if (slice_eq(key, SLICE_LIT("idle_timeout")))
		return take_websocket(to, key, raw, fault);
	return option_wrong(fault, key, "is not a tunnel option");
}

bool websocket_options(struct slice raw, struct ws_config *config, struct config_fault *fault)
{
	ws_config_defaults(config);
	return options_read(raw, "options", "must be a map", take_websocket, config, fault);
}

bool tunnel_options(struct slice raw, uint64_t *idle_timeout, struct config_fault *fault)
{
	struct ws_config config;
	bool well;

	ws_config_defaults(&config);
	well = options_read(raw, "options", "must be a map", take_tunnel, &config, fault);
	*idle_timeout = config.idle_timeout;
	return well;
}
