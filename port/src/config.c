/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#include "coding/encoder.h"
#include "frames/mp.h"
#include "peer/forwarded.h"

static const struct option_def defs[] = {
#define OPTION(name, value, min, max, unit, meaning) {#name, unit, meaning, value, min, max, offsetof(struct config, name)},
#include "options.def"
#undef OPTION
};

const struct option_def *option_at(unsigned position)
{
	return position < sizeof defs / sizeof *defs ? &defs[position] : NULL;
}

static uint64_t *option_place(struct config *c, const struct option_def *def)
{
	return (uint64_t *)(void *)((char *)c + def->offset);
}

uint64_t option_value(const struct config *c, const struct option_def *def)
{
	return *(const uint64_t *)(const void *)((const char *)c + def->offset);
}

/* Media types of text, and of formats that are written as text. */
static const char compress_types[] =
	"text/* application/json application/javascript application/xml application/wasm "
	"application/manifest+json application/ld+json application/problem+json "
	"application/xhtml+xml application/rss+xml application/atom+xml image/svg+xml font/ttf font/otf";

void config_defaults(struct config *c)
{
	const struct option_def *def;

	memset(c, 0, sizeof *c);
	c->channel = c->region_fd = -1;
	c->trusted_fields = TRUST_FORWARDED | TRUST_FOR;
	for (unsigned i = 0; (def = option_at(i)); i++)
		*option_place(c, def) = def->value;
	snprintf(c->server, sizeof c->server, "sparx");
	snprintf(c->compress_types, sizeof c->compress_types, "%s", compress_types);
}

static const struct option_def *find(struct slice name)
{
	const struct option_def *def;

	for (unsigned i = 0; (def = option_at(i)); i++)
		if (slice_eq(slice_str(def->name), name))
			return def;
	return NULL;
}

/* Copies text that has no NUL into a C string. */
static bool copy_text(char *to, size_t size, const struct mp_value *v)
{
	if ((v->type != MP_STR && v->type != MP_BIN) || v->bytes.len >= size || memchr(v->bytes.at, 0, v->bytes.len))
		return false;
	memcpy(to, v->bytes.at, v->bytes.len);
	to[v->bytes.len] = 0;
	return true;
}

const char *listener_path(const struct listener_config *l)
{
	return strncmp(l->address, "unix:", 5) == 0 ? l->address + 5 : NULL;
}

/* A listener's `http3`. */
static bool take_http3(void *to, struct slice key, struct slice raw, struct config_fault *fault)
{
	struct listener_config *l = to;
	struct slice in = raw;
	struct mp_value v;
	uint64_t number = 0;
	bool well;

	if (slice_eq(key, SLICE_LIT("place")) || slice_eq(key, SLICE_LIT("places"))) {
		well = option_number(&number, key, raw, 0, UINT8_MAX, "", fault);
		*(slice_eq(key, SLICE_LIT("place")) ? &l->h3_place : &l->h3_places) = (uint8_t)number;
		return well;
	}
	if (slice_eq(key, SLICE_LIT("alt_svc"))) {
		well = option_number(&number, key, raw, 0, UINT32_MAX, "s", fault);
		l->alt_svc_age = (uint32_t)number;
		return well;
	}
	if (!slice_eq(key, SLICE_LIT("key")))
		return option_wrong(fault, key, "is unknown");
	if (!mp_read(&in, &v) || v.type != MP_BIN || v.bytes.len != sizeof l->h3_key)
		return option_wrong(fault, key, "must be %d bytes", (int)sizeof l->h3_key);
	memcpy(l->h3_key, v.bytes.at, sizeof l->h3_key);
	l->h3_key_given = true;
	return true;
}

static bool read_http3(struct listener_config *l, struct slice key, struct slice raw, struct config_fault *fault)
{
	struct slice in = raw;
	struct mp_value v;

	l->alt_svc_age = 86400;
	l->http3 = mp_read(&in, &v) && (v.type == MP_MAP || (v.type == MP_BOOL && v.u));
	if (v.type != MP_MAP)
		return v.type == MP_NIL || v.type == MP_BOOL || option_wrong(fault, key, "must be nil, true, false or a map");
	if (!options_read(raw, "http3", "must be nil, true, false or a map", take_http3, l, fault))
		return false;
	return l->h3_place == 0 || l->h3_place < l->h3_places ||
	       option_wrong(fault, SLICE_LIT("place"), "must be less than places");
}

const char *listener_file(const struct listener_config *l)
{
	const char *path = listener_path(l);

	return path && *path != '@' && !l->descriptor ? path : NULL;
}

static bool take_id(int64_t *to, struct slice key, struct slice raw, struct config_fault *fault)
{
	struct mp_value v;

	if (!mp_read(&raw, &v) || (v.type != MP_NIL && (v.type != MP_UINT || v.u >= UINT32_MAX)))
		return option_wrong(fault, key, "must be nil, or a number up to 4294967294");
	*to = v.type == MP_UINT ? (int64_t)v.u : -1;
	return true;
}

static bool take_listener(void *to, struct slice key, struct slice raw, struct config_fault *fault)
{
	struct listener_config *l = to;
	struct slice in = raw;
	struct mp_value v;
	uint64_t number = 0;
	bool well;

	if (slice_eq(key, SLICE_LIT("tls"))) {
		if (!mp_read(&in, &v) || (v.type != MP_MAP && v.type != MP_NIL))
			return option_wrong(fault, key, "must be nil or a map");
		if (v.type == MP_MAP)
			l->tls = raw;
		return true;
	}
	if (slice_eq(key, SLICE_LIT("address")))
		return (mp_read(&in, &v) && copy_text(l->address, sizeof l->address, &v)) ||
		       option_wrong(fault, key, "must be an IPv4 or IPv6 address, or unix: and a path");
	if (slice_eq(key, SLICE_LIT("http3")))
		return read_http3(l, key, raw, fault);
	if (slice_eq(key, SLICE_LIT("descriptor")))
		return option_number(&l->descriptor, key, raw, 0, TOKEN_MAX, "", fault);
	if (slice_eq(key, SLICE_LIT("reuse_port")))
		return option_flag(&l->reuse_port, key, raw, fault);
	if (slice_eq(key, SLICE_LIT("shared")))
		return option_flag(&l->shared, key, raw, fault);
	if (slice_eq(key, SLICE_LIT("ipv6_only")))
		return option_flag(&l->ipv6_only, key, raw, fault);
	if (slice_eq(key, SLICE_LIT("port"))) {
		well = option_number(&number, key, raw, 0, UINT16_MAX, "", fault);
		l->port = (uint16_t)number;
		return well;
	}
	if (slice_eq(key, SLICE_LIT("hsts"))) {
		well = mp_read(&in, &v) && (v.type == MP_NIL || (v.type == MP_UINT && v.u <= UINT32_MAX));
		l->hsts[0] = 0;
		if (well && v.type == MP_UINT)
			snprintf(l->hsts, sizeof l->hsts, "max-age=%" PRIu64, v.u);
		return well || option_wrong(fault, key, "must be nil, or seconds up to 4294967295");
	}
	if (slice_eq(key, SLICE_LIT("proxy_protocol"))) {
		well = mp_read(&in, &v) && v.type == MP_UINT && v.u <= PROXY_REQUIRED;
		l->proxy_protocol = well ? (uint8_t)v.u : PROXY_OFF;
		return well || option_wrong(fault, key, "must be 0 (no header), 1 (optional) or 2 (required)");
	}
	if (slice_eq(key, SLICE_LIT("redirect"))) {
		well = mp_read(&in, &v) && (v.type == MP_NIL || (v.type == MP_UINT && v.u >= 1 && v.u <= UINT16_MAX));
		l->redirect = well && v.type == MP_UINT ? (uint16_t)v.u : 0;
		return well || option_wrong(fault, key, "must be nil, or 1 to 65535");
	}
	if (slice_eq(key, SLICE_LIT("mode"))) {
		well = option_number(&number, key, raw, 0, 0777, "", fault);
		l->mode = (uint32_t)number;
		return well;
	}
	if (slice_eq(key, SLICE_LIT("owner")))
		return take_id(&l->owner, key, raw, fault);
	if (slice_eq(key, SLICE_LIT("group")))
		return take_id(&l->group, key, raw, fault);
	if (slice_eq(key, SLICE_LIT("backlog"))) {
		well = option_number(&number, key, raw, 1, UINT16_MAX, "", fault);
		l->backlog = (int)number;
		return well;
	}
	return option_wrong(fault, key, "is unknown");
}

static bool read_listener(struct listener_config *l, struct slice raw, struct config_fault *fault)
{
	*l = (struct listener_config){.backlog = 1024, .owner = -1, .group = -1, .fd = -1, .udp = -1};
	if (!options_read(raw, "listeners", "must be an array of maps", take_listener, l, fault))
		return false;
	if (l->hsts[0] && !l->tls.at) /* RFC 6797 7.2 */
		return option_wrong(fault, SLICE_LIT("hsts"), "needs a listener with tls");
	if (l->http3 && l->proxy_protocol)
		return option_wrong(fault, SLICE_LIT("http3"), "needs a listener without proxy_protocol");
	if (l->http3 && (!l->tls.at || listener_path(l)))
		return option_wrong(fault, SLICE_LIT("http3"), "needs a listener with tls and a port");
	if ((l->mode || l->owner >= 0 || l->group >= 0) && !listener_file(l))
		return option_wrong(fault, SLICE_LIT("mode"), "(like owner and group) needs a unix socket that this program binds");
	return l->address[0] || l->descriptor || option_wrong(fault, SLICE_LIT("address"), "is missing");
}

static bool tokens_differ(const struct config *c, struct config_fault *fault)
{
	for (unsigned i = 0; i < c->listener_count; i++)
		for (unsigned k = 0; k < i && c->listeners[i].descriptor; k++)
			if (c->listeners[k].descriptor == c->listeners[i].descriptor)
				return option_wrong(fault, SLICE_LIT("descriptor"), "must be different for each listener");
	return true;
}

static bool read_listeners(struct config *c, struct slice raw, struct config_fault *fault)
{
	struct slice key = SLICE_LIT("listeners"), map;
	struct mp_value array;

	if (!mp_read(&raw, &array) || array.type != MP_ARRAY)
		return option_wrong(fault, key, "must be an array of maps");
	if (array.u > LISTENERS_MAX)
		return option_wrong(fault, key, "must be at most %d", LISTENERS_MAX);
	for (c->listener_count = 0; c->listener_count < array.u; c->listener_count++)
		if (!mp_skip(&raw, &map) || !read_listener(&c->listeners[c->listener_count], map, fault))
			return false;
	return tokens_differ(c, fault);
}

static bool printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
			return false;
	return true;
}

static bool read_server(struct config *c, struct slice key, const struct mp_value *v, struct config_fault *fault)
{
	c->server[0] = 0;
	if (v->type == MP_NIL)
		return true;
	return (copy_text(c->server, sizeof c->server, v) && printable(c->server)) ||
	       option_wrong(fault, key, "must be nil, or text of at most %d visible characters", SERVER_NAME_MAX - 1);
}

static const char *const sandbox_modes[] = {
	[SANDBOX_BEST_EFFORT] = "best_effort",
	[SANDBOX_STRICT] = "strict",
	[SANDBOX_OFF] = "off",
};

const char *sandbox_mode_name(enum sandbox_mode mode)
{
	return sandbox_modes[mode];
}

static bool read_sandbox(struct config *c, struct slice key, const struct mp_value *v, struct config_fault *fault)
{
	if (v->type == MP_STR)
		for (c->sandbox = 0; c->sandbox < sizeof sandbox_modes / sizeof *sandbox_modes; c->sandbox++)
			if (slice_eq(slice_str(sandbox_modes[c->sandbox]), v->bytes))
				return true;
	return option_wrong(fault, key, "must be strict, best_effort or off");
}

static bool read_ranges(struct cidr_list *list, struct slice key, struct slice raw, struct config_fault *fault)
{
	struct mp_value array, v;
	const char *rule;

	if (!mp_read(&raw, &array) || array.type != MP_ARRAY)
		return option_wrong(fault, key, "must be an array of text");
	if (array.u > CIDR_LIST_MAX)
		return option_wrong(fault, key, "must be at most %d", CIDR_LIST_MAX);
	for (list->count = 0; list->count < array.u; list->count++) {
		if (!mp_read(&raw, &v) || v.type != MP_STR)
			return option_wrong(fault, key, "must be an array of text");
		rule = cidr_parse(v.bytes, &list->at[list->count]);
		if (rule)
			return option_wrong(fault, key, "%.*s %s", (int)(v.bytes.len < 60 ? v.bytes.len : 60),
					    (const char *)v.bytes.at, rule);
	}
	return true;
}

static bool read_trusted_fields(struct config *c, struct slice key, struct slice raw, struct config_fault *fault)
{
	static const char *const names[] = {"forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"};
	struct mp_value array, v;
	unsigned i;

	if (!mp_read(&raw, &array) || array.type != MP_ARRAY)
		return option_wrong(fault, key, "must be an array of text");
	for (c->trusted_fields = 0; array.u > 0; array.u--) {
		if (!mp_read(&raw, &v) || v.type != MP_STR)
			return option_wrong(fault, key, "must be an array of text");
		for (i = 0; i < 4 && !slice_eq(v.bytes, slice_str(names[i])); i++)
			;
		if (i == 4)
			return option_wrong(fault, key,
					    "may contain only forwarded, x-forwarded-for, x-forwarded-proto and x-forwarded-host");
		c->trusted_fields |= 1u << i;
	}
	return true;
}

static bool read_user(struct config *c, struct slice key, const struct mp_value *v, struct config_fault *fault)
{
	c->user[0] = 0;
	if (v->type == MP_NIL)
		return true;
	return (copy_text(c->user, sizeof c->user, v) && c->user[0]) ||
	       option_wrong(fault, key, "must be nil, or a name of at most %d bytes", USER_NAME_MAX - 1);
}

static bool read_descriptors(struct config *c, struct slice key, const struct mp_value *v, struct config_fault *fault)
{
	c->descriptors[0] = 0;
	if (v->type == MP_NIL)
		return true;
	return (copy_text(c->descriptors, sizeof c->descriptors, v) && c->descriptors[0] == '/') ||
	       option_wrong(fault, key, "must be nil, or an absolute path of at most %d bytes", SOCKET_PATH_MAX - 1);
}

/* Those that have a place, in that order. */
static void all_codings(struct config *c, bool on)
{
	c->coding_count = 0;
	for (unsigned place = 1; on && place < CODINGS; place++)
		for (enum coding coding = CODING_IDENTITY; coding < CODINGS; coding++)
			if (coding_place(coding) == place && encoder_exists(coding))
				c->codings[c->coding_count++] = (uint8_t)coding;
}

static bool read_codings(struct config *c, struct slice raw, struct config_fault *fault)
{
	struct slice key = SLICE_LIT("compress");
	struct mp_value array, name;

	if (!mp_read(&raw, &array))
		return false;
	if (array.type == MP_BOOL) {
		all_codings(c, array.u);
		return true;
	}
	if (array.type != MP_ARRAY || array.u > CODINGS_MAX)
		return option_wrong(fault, key, "must be true, false, or an array of at most %d names", CODINGS_MAX);
	for (c->coding_count = 0; c->coding_count < array.u; c->coding_count++) {
		enum coding coding = CODING_IDENTITY;

		if (mp_read(&raw, &name) && name.type == MP_STR)
			coding = coding_by_name(name.bytes);
		if (coding == CODING_IDENTITY)
			return option_wrong(fault, key, "has another name than those of codings:%s", coding_names);
		if (!encoder_exists(coding))
			return option_wrong(fault, key, "names %s, which this program was built without", coding_name(coding));
		c->codings[c->coding_count] = (uint8_t)coding;
	}
	return true;
}

/* Visible characters, and no spaces, which separate the types. */
static bool is_type(struct slice text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.at[i] <= 0x20 || text.at[i] >= 0x7f)
			return false;
	return text.len > 0;
}

static bool read_types(struct config *c, struct slice raw, struct config_fault *fault)
{
	struct slice key = SLICE_LIT("compress_types");
	struct mp_value array, type;
	size_t len = 0;

	if (!mp_read(&raw, &array) || array.type != MP_ARRAY)
		return option_wrong(fault, key, "must be an array of media types");
	for (c->compress_types[0] = 0; array.u > 0; array.u--) {
		if (!mp_read(&raw, &type) || type.type != MP_STR || !is_type(type.bytes))
			return option_wrong(fault, key, "must be an array of media types");
		if (len + type.bytes.len + 2 > sizeof c->compress_types)
			return option_wrong(fault, key, "must be shorter than %d bytes in all", TYPES_MAX);
		memcpy(c->compress_types + len, type.bytes.at, type.bytes.len);
		len += type.bytes.len;
		c->compress_types[len++] = ' ';
		c->compress_types[len] = 0;
	}
	return true;
}

static bool take_option(void *to, struct slice key, struct slice raw, struct config_fault *fault)
{
	struct config *c = to;
	const struct option_def *def = find(key);
	struct slice in = raw;
	struct mp_value v;

	mp_read(&in, &v);
	if (slice_eq(key, SLICE_LIT("region")))
		return option_number(&c->region, key, raw, 0, TOKEN_MAX, "", fault);
	if (slice_eq(key, SLICE_LIT("listeners")))
		return read_listeners(c, raw, fault);
	if (slice_eq(key, SLICE_LIT("server")))
		return read_server(c, key, &v, fault);
	if (slice_eq(key, SLICE_LIT("report")))
		return option_flag(&c->report, key, raw, fault);
	if (slice_eq(key, SLICE_LIT("compress")))
		return read_codings(c, raw, fault);
	if (slice_eq(key, SLICE_LIT("compress_types")))
		return read_types(c, raw, fault);
	if (slice_eq(key, SLICE_LIT("sandbox")))
		return read_sandbox(c, key, &v, fault);
	if (slice_eq(key, SLICE_LIT("trusted_proxies")))
		return read_ranges(&c->trusted_proxies, key, raw, fault);
	if (slice_eq(key, SLICE_LIT("trusted_fields")))
		return read_trusted_fields(c, key, raw, fault);
	if (slice_eq(key, SLICE_LIT("limit_exempt")))
		return read_ranges(&c->limit_exempt, key, raw, fault);
	if (slice_eq(key, SLICE_LIT("user")))
		return read_user(c, key, &v, fault);
	if (slice_eq(key, SLICE_LIT("descriptors")))
		return read_descriptors(c, key, &v, fault);
	if (!def)
		return option_wrong(fault, key, "is unknown");
	return option_number(option_place(c, def), key, raw, def->min, def->max, def->unit, fault);
}

static bool check_whole(const struct config *c, struct config_fault *fault)
{
	if (c->listener_count == 0)
		return option_wrong(fault, SLICE_LIT("listeners"), "must name at least one listener");
	if (c->max_frame < c->window + 65536)
		return option_wrong(fault, SLICE_LIT("max_frame"), "must be at least window + 65536");
	if (c->max_header_block < c->max_request_line || c->max_header_block < c->max_header_line)
		return option_wrong(fault, SLICE_LIT("max_header_block"), "must be at least max_request_line and max_header_line");
	return true;
}

bool config_read(struct config *c, struct slice options, struct config_fault *fault)
{
	config_defaults(c);
	return options_read(options, "options", "must be a map", take_option, c, fault) && check_whole(c, fault);
}
