/* SPDX-License-Identifier: Apache-2.0 */
#include "frames/options.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "frames/mp.h"

/* ERROR is ASCII, and the host may have chosen these characters. */
static void keep_ascii(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
			*text = '?';
}

bool option_wrong(struct config_fault *fault, struct slice field, const char *format, ...)
{
	va_list args;

	snprintf(fault->field, sizeof fault->field, "%.*s", (int)(field.len < 60 ? field.len : 60), (const char *)field.at);
	va_start(args, format);
	vsnprintf(fault->rule, sizeof fault->rule, format, args);
	va_end(args);
	keep_ascii(fault->field);
	keep_ascii(fault->rule);
	return false;
}

bool options_read(struct slice raw, const char *name, const char *rule, option_fn *take, void *to, struct config_fault *fault)
{
	struct mp_value map, key;
	struct slice value;

	if (!mp_read(&raw, &map) || map.type != MP_MAP)
		return option_wrong(fault, slice_str(name), "%s", rule);
	for (; map.u > 0; map.u--) {
		if (!mp_read(&raw, &key) || key.type != MP_STR || !mp_skip(&raw, &value))
			return option_wrong(fault, slice_str(name), "has a key that is not text");
		if (!take(to, key.bytes, value, fault))
			return false;
	}
	return true;
}

bool option_flag(bool *to, struct slice key, struct slice raw, struct config_fault *fault)
{
	struct mp_value v;

	if (!mp_read(&raw, &v) || v.type != MP_BOOL)
		return option_wrong(fault, key, "must be true or false");
	*to = v.u;
	return true;
}

bool option_number(uint64_t *to, struct slice key, struct slice raw, uint64_t min, uint64_t max, const char *unit,
		   struct config_fault *fault)
{
	struct mp_value v;

	if (!mp_read(&raw, &v) || v.type != MP_UINT || v.u < min || v.u > max)
		return option_wrong(fault, key, "must be %" PRIu64 " to %" PRIu64 "%s%s", min, max, *unit ? " " : "", unit);
	*to = v.u;
	return true;
}
