/* SPDX-License-Identifier: Apache-2.0 */
#include "frames/message.h"

#include "frames/mp.h"

#define HOST FROM_HOST
#define PORT FROM_PORT
#define STREAM(name) "s"
#define STREAM_OR_NIL(name) "S"
#define UINT(name) "u"
#define UINT_OR_NIL(name) "U"
#define BYTES(name) "b"
#define TEXT(name) "t"
#define FIELDS(name) "f"
#define FIELDS_OR_NIL(name) "F"
#define MAP(name) "m"
#define ARRAY_OR_NIL(name) "A"
#define MESSAGE(NAME, name, kind, direction, fields) static const char format_##name[] = fields;
#include "frames/messages.def"

#define STREAM(name) " " #name
#define STREAM_OR_NIL(name) STREAM(name)
#define UINT(name) STREAM(name)
#define UINT_OR_NIL(name) STREAM(name)
#define BYTES(name) STREAM(name)
#define TEXT(name) STREAM(name)
#define FIELDS(name) STREAM(name)
#define FIELDS_OR_NIL(name) STREAM(name)
#define MAP(name) STREAM(name)
#define ARRAY_OR_NIL(name) STREAM(name)
#define MESSAGE(NAME, name, kind, direction, fields) {#NAME, format_##name, &(fields)[1], kind, sizeof format_##name, direction},
static const struct message_def defs[] = {
#include "frames/messages.def"
};

enum { DEFS = sizeof defs / sizeof *defs };

const struct message_def *message_def_at(unsigned position)
{
	return position < DEFS ? &defs[position] : NULL;
}

const struct message_def *message_def(unsigned kind)
{
#define MESSAGE(NAME, name, kind, direction, fields) POSITION_##NAME,
	enum {
#include "frames/messages.def"
	};
#define MESSAGE(NAME, name, kind, direction, fields) [kind] = &defs[POSITION_##NAME],
	static const struct message_def *const by_kind[] = {
#include "frames/messages.def"
	};

	/* NOLINTNEXTLINE(bugprone-sizeof-expression): it is an array of pointers */
	return kind < sizeof by_kind / sizeof *by_kind ? by_kind[kind] : NULL;
}

/* ---- reading ---- */

struct reader {
	struct slice in;
	uint64_t left; /* fields of the message that are still to be read */
	struct message_fault *fault;
};

static bool fault_at(struct message_fault *fault, const char *field, const char *rule)
{
	fault->field = field;
	fault->rule = rule;
	return false;
}

#define ONE_OF(type) (1u << (type))

/* Takes the next field, which must have one of these types. */
static bool take(struct reader *r, const char *field, unsigned types, const char *rule, struct mp_value *v)
{
	if (r->left == 0 || !mp_read(&r->in, v))
		return fault_at(r->fault, field, "is missing");
	r->left--;
	return types & ONE_OF(v->type) || fault_at(r->fault, field, rule);
}

static bool take_uint(struct reader *r, const char *field, uint64_t *to)
{
	struct mp_value v;

	if (!take(r, field, ONE_OF(MP_UINT), "must be an unsigned integer", &v))
		return false;
	*to = v.u;
	return true;
}

static bool take_uint_or_nil(struct reader *r, const char *field, uint64_t *to, bool *has)
{
	struct mp_value v;

	if (!take(r, field, ONE_OF(MP_UINT) | ONE_OF(MP_NIL), "must be an unsigned integer or nil", &v))
		return false;
	*to = v.u;
	*has = v.type == MP_UINT;
	return true;
}

static bool take_bytes(struct reader *r, const char *field, const char *rule, struct slice *to)
{
	struct mp_value v;

	if (!take(r, field, ONE_OF(MP_BIN) | ONE_OF(MP_STR), rule, &v))
		return false;
	*to = v.bytes;
	return true;
}

/* A complete container; nil becomes an absent slice. */
static bool take_whole(struct reader *r, const char *field, unsigned types, const char *rule, struct slice *to)
{
	const uint8_t *start = r->in.at;
	struct mp_value v;

	if (!take(r, field, types, rule, &v))
		return false;
	if (!mp_skip_values(&r->in, v.type == MP_MAP ? 2 * v.u : v.u))
		return fault_at(r->fault, field, "is cut short");
	*to = v.type == MP_NIL ? (struct slice){0} : slice_of(start, (size_t)(r->in.at - start));
	return true;
}

/* NOLINTBEGIN(bugprone-macro-parentheses): these become statements and names of members */
#define READ(call) \
	if (!(call)) \
		return false;
#define STREAM(name) \
	READ(take_uint(r, #name, &m->name)) \
	*stream = m->name;
#define STREAM_OR_NIL(name) UINT_OR_NIL(name)
#define UINT(name) READ(take_uint(r, #name, &m->name))
#define UINT_OR_NIL(name) READ(take_uint_or_nil(r, #name, &m->name, &m->has_##name))
#define BYTES(name) READ(take_bytes(r, #name, "must be bytes (bin or str)", &m->name))
#define TEXT(name) READ(take_bytes(r, #name, "must be text (str)", &m->name))
#define FIELDS(name) READ(take_whole(r, #name, ONE_OF(MP_ARRAY), "must be an array: name, value, name, value, ...", &m->name))
#define FIELDS_OR_NIL(name) ARRAY_OR_NIL(name)
#define MAP(name) READ(take_whole(r, #name, ONE_OF(MP_MAP), "must be a map", &m->name))
#define ARRAY_OR_NIL(name) READ(take_whole(r, #name, ONE_OF(MP_ARRAY) | ONE_OF(MP_NIL), "must be an array or nil", &m->name))
#define MESSAGE(NAME, name, kind, direction, fields) \
	static bool read_##name(struct reader *r, uint64_t *stream, struct msg_##name *m) \
	{ \
		(void)stream; \
		fields return true; \
	}
#include "frames/messages.def"
#undef READ
/* NOLINTEND(bugprone-macro-parentheses) */

static bool read_fields(struct reader *r, struct message *m)
{
	switch ((enum message_kind)m->kind) {
#define MESSAGE(NAME, name, kind, direction, fields) \
	case MSG_##NAME: \
		return read_##name(r, &m->stream, &m->name);
#include "frames/messages.def"
	case MSG_NONE:
		break;
	}
	return false;
}

/* Reads the message at the front of r->in, and moves r->in after it if there is no error. */
static bool read_whole(struct reader *r, enum message_direction from, struct message *m)
{
	struct mp_value array, kind;

	if (!mp_read(&r->in, &array) || array.type != MP_ARRAY || array.u == 0)
		return fault_at(r->fault, "message", "must be an array that begins with its kind");
	if (!mp_read(&r->in, &kind) || kind.type != MP_UINT)
		return fault_at(r->fault, "kind", "must be an unsigned integer");
	m->kind = kind.u < MSG_NONE ? (unsigned)kind.u : MSG_NONE - 1;
	m->def = message_def(m->kind);
	if (!m->def)
		return fault_at(r->fault, "kind", "is unknown");
	if (m->def->direction != from)
		return fault_at(r->fault, "kind", "belongs to the other direction");
	r->left = array.u - 1;
	if (!read_fields(r, m))
		return false;
	return r->left == 0 || fault_at(r->fault, "message", "has more fields than its kind");
}

bool message_read(struct slice *payload, enum message_direction from, struct message *m, struct message_fault *fault)
{
	struct reader r = {.in = *payload, .fault = fault};

	m->def = NULL;
	m->kind = MSG_NONE;
	m->stream = m->left = 0;
	fault->frame_lost = false;
	if (read_whole(&r, from, m)) {
		*payload = r.in;
		return true;
	}
	if (mp_skip(payload, NULL))
		return false;
	m->def = NULL;
	m->kind = MSG_NONE;
	fault->frame_lost = true;
	return fault_at(fault, "message", "is not msgpack, or is truncated");
}

/* ---- writing ---- */

/* `elements`: its fields, and the kind. */
static uint8_t *begin(uint8_t *at, size_t elements, enum message_kind kind)
{
	return mp_uint(mp_array(at, (uint32_t)elements), kind);
}

uint8_t *message_begin(uint8_t *at, enum message_kind kind)
{
	return begin(at, message_def(kind)->elements, kind);
}

static uint8_t *put_uint_or_nil(uint8_t *at, uint64_t value, bool has)
{
	return has ? mp_uint(at, value) : mp_nil(at);
}

/* A value that is msgpack already; absent is nil. */
static uint8_t *put_whole(uint8_t *at, struct slice value)
{
	if (!value.at)
		return mp_nil(at);
	memcpy(at, value.at, value.len);
	return at + value.len;
}

/* NOLINTBEGIN(bugprone-macro-parentheses): terms of a sum, and statements */
#define STREAM(name) +MP_MAX_UINT
#define STREAM_OR_NIL(name) UINT(name)
#define UINT(name) +MP_MAX_UINT
#define UINT_OR_NIL(name) UINT(name)
#define BYTES(name) +MP_MAX_HEAD + m->name.len
#define TEXT(name) BYTES(name)
#define FIELDS(name) +1 + m->name.len
#define FIELDS_OR_NIL(name) FIELDS(name)
#define MAP(name) FIELDS(name)
#define ARRAY_OR_NIL(name) FIELDS(name)
#define MESSAGE(NAME, name, kind, direction, fields) \
	size_t message_bound_##name(const struct msg_##name *m) \
	{ \
		(void)m; \
		return MESSAGE_BEGIN_MAX fields; \
	}
#include "frames/messages.def"

#define STREAM(name) at = mp_uint(at, m->name);
#define STREAM_OR_NIL(name) UINT_OR_NIL(name)
#define UINT(name) at = mp_uint(at, m->name);
#define UINT_OR_NIL(name) at = put_uint_or_nil(at, m->name, m->has_##name);
#define BYTES(name) at = mp_bin(at, m->name);
#define TEXT(name) at = mp_str(at, m->name);
#define FIELDS(name) at = put_whole(at, m->name);
#define FIELDS_OR_NIL(name) FIELDS(name)
#define MAP(name) FIELDS(name)
#define ARRAY_OR_NIL(name) FIELDS(name)
#define MESSAGE(NAME, name, kind, direction, fields) \
	uint8_t *message_put_##name(uint8_t *at, const struct msg_##name *m) \
	{ \
		at = begin(at, sizeof format_##name, MSG_##NAME); \
		fields return at; \
	}

#include "frames/messages.def"
/* NOLINTEND(bugprone-macro-parentheses) */
