/* SPDX-License-Identifier: Apache-2.0 */
/* The codec: any bytes as values, as messages of either side, as header fields, and as HELLO's configuration. */
#include <stdlib.h>

#include "config.h"
#include "frames/fields.h"
#include "frames/message.h"
#include "frames/mp.h"
#include "parts/rig.h"
#include "parts/target.h"

enum { FIELDS_MAX = 64 };

static void values(struct slice in)
{
	struct slice raw, before = in;
	struct mp_value v;

	while (in.len && mp_skip(&in, &raw)) {
		MUST(raw.at == before.at && raw.len > 0 && raw.len + in.len == before.len);
		MUST(mp_read(&raw, &v));
		before = in;
	}
	while (in.len && mp_read(&in, &v))
		MUST(v.type < MP_STR || v.type == MP_ARRAY || v.type == MP_MAP || v.bytes.len <= before.len);
}

static void inside(struct slice part, struct slice whole)
{
	MUST(part.len == 0 || (part.at >= whole.at && part.at + part.len <= whole.at + whole.len));
}

static void same(struct slice a, struct slice b)
{
	MUST(slice_eq_nocase(a, b));
}

/* Decoded values are encoded and decoded again. */
static void fields(struct slice raw)
{
	struct field list[FIELDS_MAX], again[FIELDS_MAX];
	unsigned count, count_again;
	const char *rule = NULL;
	uint8_t *bytes, *end;

	if (!fields_decode(raw, list, FIELDS_MAX, &count, &rule)) {
		MUST(rule);
		return;
	}
	bytes = malloc(fields_bound(list, count));
	MUST(bytes);
	end = fields_encode(bytes, list, count);
	MUST((size_t)(end - bytes) <= fields_bound(list, count));
	MUST(fields_decode(slice_of(bytes, (size_t)(end - bytes)), again, FIELDS_MAX, &count_again, &rule));
	MUST(count == count_again);
	for (unsigned i = 0; i < count; i++) {
		same(list[i].name, again[i].name);
		MUST(slice_eq(list[i].value, again[i].value));
	}
	free(bytes);
}

static void options(struct slice raw)
{
	struct config_fault fault = {0};
	struct config c;

	if (!config_read(&c, raw, &fault)) {
		MUST(fault.rule[0]);
		return;
	}
	for (unsigned i = 0; option_at(i); i++)
		MUST(option_value(&c, option_at(i)) >= option_at(i)->min && option_value(&c, option_at(i)) <= option_at(i)->max);
}

/* Each part of a message lies in it; header fields can be read. */
#define BYTES(name) inside(part->name, whole);
#define TEXT(name) BYTES(name)
#define FIELDS(name) \
	inside(part->name, whole); \
	fields(part->name);
#define FIELDS_OR_NIL(name) \
	if (part->name.at) { \
		FIELDS(name) \
	}
#define MAP(name) BYTES(name)
#define ARRAY_OR_NIL(name) BYTES(name)
#define STREAM(name)
#define STREAM_OR_NIL(name)
#define UINT(name)
#define UINT_OR_NIL(name)
#define MESSAGE(NAME, name, kind, direction, members) \
	static void parts_of_##name(const struct msg_##name *part, struct slice whole) \
	{ \
		(void)part; \
		(void)whole; \
		members \
	}
#include "frames/messages.def"

static void parts(const struct message *m, struct slice whole)
{
	switch ((enum message_kind)m->kind) {
#define MESSAGE(NAME, name, kind, direction, members) \
	case MSG_##NAME: \
		parts_of_##name(&m->name, whole); \
		break;
#include "frames/messages.def"
	case MSG_NONE:
		break;
	}
}

static void messages(struct slice in, enum message_direction from)
{
	struct slice whole = in;
	struct message_fault fault;
	struct message m;

	while (in.len) {
		size_t before = in.len;
		bool good = message_read(&in, from, &m, &fault);
		if (!good && fault.frame_lost)
			return;
		MUST(in.len < before);
		if (good)
			parts(&m, whole);
		if (good && m.kind == MSG_HELLO)
			options(m.hello.options);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);

	values(in);
	messages(in, FROM_HOST);
	messages(in, FROM_PORT);
	options(in);
	fields(in);
	return 0;
}
