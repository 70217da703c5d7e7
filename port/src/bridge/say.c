/* SPDX-License-Identifier: Apache-2.0 */
#include "bridge/say.h"

static bool is_of_connections(enum message_kind kind)
{
	return kind == MSG_OPENED || kind == MSG_SECURED || kind == MSG_ENDED;
}

/* These messages are not urgent and may wait for others, unless they carry a report, whose reader may measure time. */
static bool is_lazy(const struct bridge *b, enum message_kind kind)
{
	return (kind == MSG_DONE && !b->config->report) || kind == MSG_UNUSED || is_of_connections(kind);
}

/* These are dropped when the host does not keep up. */
static bool is_diagnostic(enum message_kind kind)
{
	return kind == MSG_ERROR || kind == MSG_LOG || is_of_connections(kind);
}

static bool drops(struct bridge *b, enum message_kind kind)
{
	if (!is_diagnostic(kind) || b->link->queued <= b->link->high)
		return false;
	b->n.logs_dropped++;
	return true;
}

static void commit(struct bridge *b, enum message_kind kind, const uint8_t *end)
{
	if (is_lazy(b, kind))
		link_commit_lazy(b->link, end);
	else
		link_commit(b->link, end);
}

#define PORT(NAME, name) \
	bool say_##name(struct bridge *b, const struct msg_##name *m) \
	{ \
		uint8_t *at = drops(b, MSG_##NAME) ? NULL : link_reserve(b->link, message_bound_##name(m)); \
		if (at) \
			commit(b, MSG_##NAME, message_put_##name(at, m)); \
		return at; \
	}
#define HOST(NAME, name)
#define MESSAGE(NAME, name, kind, direction, fields) direction(NAME, name)
#include "frames/messages.def"
#undef PORT
#undef HOST

void say_fault(struct bridge *b, const struct message *m, const char *field, const char *rule, const char *consequence)
{
	b->n.errors++;
	say_error(b, &(struct msg_error){
			     .kind = m->kind,
			     .has_kind = m->kind != MSG_NONE,
			     .stream = m->stream,
			     .has_stream = m->stream > 0,
			     .field = slice_str(field),
			     .rule = slice_str(rule),
			     .consequence = slice_str(consequence),
		     });
}

void bridge_log(void *ctx, enum log_level level, const char *text)
{
	say_log(ctx, &(struct msg_log){.level = slice_str(log_level_name(level)), .text = slice_str(text)});
}

uint8_t *say_begin(struct bridge *b, enum message_kind kind, size_t body)
{
	uint8_t *at = link_reserve(b->link, MESSAGE_BEGIN_MAX + body);

	return at ? message_begin(at, kind) : NULL;
}
