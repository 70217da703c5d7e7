#include "frames/message.h"

#include <stdio.h>

#include "frames/mp.h"

#define HOST FROM_HOST
#define PORT FROM_PORT
static const struct message_def defs[] = {
#define MESSAGE(name, kind, direction, format, fields) {#name, format, fields, kind, direction},
#include "frames/messages.def"
#undef MESSAGE
};

enum { DEFS = sizeof defs / sizeof *defs, KINDS = 128 };

const struct message_def *message_def_at(unsigned position)
{
	return position < DEFS ? &defs[position] : NULL;
}

const struct message_def *message_def(unsigned kind)
{
	static const struct message_def *by_kind[KINDS];

	if (!by_kind[0])
		for (unsigned i = 0; i < DEFS; i++)
			by_kind[defs[i].kind] = &defs[i];
	return kind < KINDS ? by_kind[kind] : NULL;
}

void message_field_name(const struct message_def *def, unsigned i, char *text, size_t size)
{
	const char *at = def->fields;

	for (; i > 0 && *at; i--)
		at += strcspn(at, " ") + (at[strcspn(at, " ")] == ' ');
	snprintf(text, size, "%.*s", (int)strcspn(at, " "), at);
}

static bool fault_at(struct message_fault *fault, const char *field, const char *rule)
{
	snprintf(fault->field, sizeof fault->field, "%s", field);
	fault->rule = rule;
	return false;
}

/* The whole value of a container field, checked to be complete. */
static bool whole_value(struct slice *in, const uint8_t *start, struct mp_value *v, struct message_field *field)
{
	uint64_t elements = v->type == MP_MAP ? 2 * v->u : v->u;

	for (; elements > 0; elements--)
		if (!mp_skip(in, NULL))
			return false;
	field->bytes = slice_of(start, (size_t)(in->at - start));
	return true;
}

static const char *rule_of(char letter)
{
	switch (letter) {
	case 's':
	case 'u':
		return "must be an unsigned integer";
	case 'S':
	case 'U':
		return "must be an unsigned integer or nil";
	case 'b':
		return "must be bytes (bin or str)";
	case 't':
		return "must be text (str)";
	case 'f':
		return "must be an array: name, value, name, value, ...";
	case 'F':
		return "must be an array or nil";
	case 'm':
		return "must be a map";
	default:
		return "must be an array or nil";
	}
}

static bool fits(char letter, enum mp_type type)
{
	switch (letter) {
	case 's':
	case 'u':
		return type == MP_UINT;
	case 'S':
	case 'U':
		return type == MP_UINT || type == MP_NIL;
	case 'b':
	case 't':
		return type == MP_BIN || type == MP_STR;
	case 'f':
		return type == MP_ARRAY;
	case 'm':
		return type == MP_MAP;
	default: /* F, A */
		return type == MP_ARRAY || type == MP_NIL;
	}
}

/* 0: well; else the rule that was broken. */
static const char *read_field(struct slice *in, char letter, struct message_field *field)
{
	const uint8_t *start = in->at;
	struct mp_value v;

	if (!mp_read(in, &v))
		return "is cut short";
	if (!fits(letter, v.type))
		return rule_of(letter);
	field->nil = v.type == MP_NIL;
	field->u = v.u;
	field->bytes = v.bytes;
	if (v.type == MP_ARRAY || v.type == MP_MAP)
		return whole_value(in, start, &v, field) ? NULL : "is cut short";
	return NULL;
}

static bool read_fields(struct slice body, uint64_t count, struct message *m, struct message_fault *fault)
{
	unsigned wanted = (unsigned)strlen(m->def->format);

	for (unsigned i = 0; i < wanted; i++) {
		char name[sizeof fault->field];
		const char *rule = i + 1 < count ? read_field(&body, m->def->format[i], &m->field[i]) : "is missing";
		if (rule) {
			message_field_name(m->def, i, name, sizeof name);
			return fault_at(fault, name, rule);
		}
	}
	if (count > wanted + 1)
		return fault_at(fault, "message", "has more fields than its kind");
	return true;
}

bool message_read(struct slice *payload, enum message_direction from, struct message *m, struct message_fault *fault)
{
	struct slice body;
	struct mp_value array, kind;

	m->def = NULL;
	m->kind = MSG_NONE;
	fault->frame_lost = !mp_skip(payload, &body);
	if (fault->frame_lost)
		return fault_at(fault, "message", "is not msgpack, or is cut short");
	if (!mp_read(&body, &array) || array.type != MP_ARRAY || array.u == 0)
		return fault_at(fault, "message", "must be an array that begins with its kind");
	if (!mp_read(&body, &kind) || kind.type != MP_UINT)
		return fault_at(fault, "kind", "must be an unsigned integer");
	m->kind = kind.u < MSG_NONE ? (unsigned)kind.u : MSG_NONE - 1;
	m->def = message_def(m->kind);
	if (!m->def)
		return fault_at(fault, "kind", "is unknown");
	memset(m->field, 0, sizeof m->field);
	if (m->def->direction != from)
		return fault_at(fault, "kind", "is of the other direction");
	return read_fields(body, array.u, m, fault);
}
