/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/rules.h"

static const struct slice refused[] = {
	SLICE_INIT("transfer-encoding"), SLICE_INIT("keep-alive"), SLICE_INIT("proxy-connection"), SLICE_INIT("te"),
	SLICE_INIT("upgrade"),
};
/* RFC 9110 6.5.1: fields for framing, routing, authentication, request control, and content handling. */
static const struct slice refused_in_trailers[] = {
	SLICE_INIT("transfer-encoding"), SLICE_INIT("content-length"),
	SLICE_INIT("trailer"),           SLICE_INIT("te"),
	SLICE_INIT("connection"),        SLICE_INIT("keep-alive"),
	SLICE_INIT("upgrade"),           SLICE_INIT("host"),
	SLICE_INIT("forwarded"),         SLICE_INIT("via"),
	SLICE_INIT("authorization"),     SLICE_INIT("proxy-authorization"),
	SLICE_INIT("proxy-connection"),  SLICE_INIT("cookie"),
	SLICE_INIT("set-cookie"),        SLICE_INIT("expect"),
	SLICE_INIT("max-forwards"),      SLICE_INIT("content-encoding"),
	SLICE_INIT("content-type"),      SLICE_INIT("content-range"),
	SLICE_INIT("cache-control"),     SLICE_INIT("date"),
	SLICE_INIT("x-forwarded-for"),   SLICE_INIT("x-forwarded-host"),
	SLICE_INIT("x-forwarded-proto"), SLICE_INIT("x-real-ip"),
};

/* Whether one of eight bytes is a control character. */
static bool has_control(uint64_t eight)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones << 7, del = eight ^ ones * 0x7f;

	return (((eight - ones * 0x20) & ~eight) | ((del - ones) & ~del)) & highs;
}

static bool is_plain(struct slice text)
{
	for (size_t i = 0; i < text.len; i++)
		if ((text.at[i] < 0x20 && text.at[i] != '\t') || text.at[i] == 0x7f)
			return false;
	return true;
}

bool is_field_value(struct slice value)
{
	uint64_t eight;

	for (; value.len >= sizeof eight; value = slice_of(value.at + sizeof eight, value.len - sizeof eight)) {
		memcpy(&eight, value.at, sizeof eight);
		if (has_control(eight) && !is_plain(slice_of(value.at, sizeof eight))) /* it may be a tab */
			return false;
	}
	return is_plain(value);
}

enum { PROTOCOL_MAX = 128 };

bool is_protocol(struct slice name)
{
	const uint8_t *slash = name.len ? memchr(name.at, '/', name.len) : NULL;
	size_t len = slash ? (size_t)(slash - name.at) : name.len;

	return name.len <= PROTOCOL_MAX && is_token(slice_of(name.at, len)) &&
	       (!slash || is_token(slice_of(slash + 1, name.len - len - 1)));
}

static bool is_one_of(struct slice name, const struct slice *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (slice_eq_nocase(name, names[i]))
			return true;
	return false;
}

static const char *check_field(const struct field *f)
{
	if (f->index < 0 && !is_token(f->name))
		return "has a name that is not a token";
	if (!is_field_value(f->value))
		return "has a value with a control character";
	return NULL;
}

static const char *check_length(struct response_head *head, struct slice value, bool any_length)
{
	int64_t length;

	if (!parse_length(value, &length))
		return "has a content-length that is not a number";
	if (!any_length && head->length != LENGTH_UNKNOWN && head->length != length)
		return "has a content-length that is not the body's";
	head->length = length;
	return NULL;
}

/* The next element of a list (RFC 9110 5.6.1); false at its end. */
static bool next_element(struct slice *list, struct slice *element)
{
	const uint8_t *comma;

	if (!list->at)
		return false;
	comma = list->len ? memchr(list->at, ',', list->len) : NULL;
	*element = slice_of(list->at, comma ? (size_t)(comma - list->at) : list->len);
	*list = comma ? slice_of(comma + 1, list->len - element->len - 1) : (struct slice){0};
	while (element->len && (*element->at == ' ' || *element->at == '\t'))
		*element = slice_of(element->at + 1, element->len - 1);
	while (element->len && (element->at[element->len - 1] == ' ' || element->at[element->len - 1] == '\t'))
		element->len--;
	return true;
}

/* An application may say close. keep-alive has no meaning, but many programs set it, so it is dropped. */
static const char *check_connection(struct slice value, bool *close)
{
	struct slice option;

	while (next_element(&value, &option)) {
		if (slice_eq_nocase(option, SLICE_LIT("close")))
			*close = true;
		else if (!slice_eq_nocase(option, SLICE_LIT("keep-alive")))
			return "has a connection field other than close or keep-alive";
	}
	return NULL;
}

static const char *check_response_field(struct response_head *head, const struct field *f, bool any_length)
{
	const char *rule = check_field(f);

	if (rule)
		return rule;
	if (slice_eq_nocase(f->name, SLICE_LIT("server")))
		head->has_server = true;
	else if (slice_eq_nocase(f->name, SLICE_LIT("date")))
		head->has_date = true;
	else if (slice_eq_nocase(f->name, SLICE_LIT("content-length")))
		return check_length(head, f->value, any_length);
	else if (slice_eq_nocase(f->name, SLICE_LIT("connection")))
		return check_connection(f->value, &head->close);
	else if (is_one_of(f->name, refused, sizeof refused / sizeof *refused))
		return "has a framing or hop-by-hop field";
	return NULL;
}

/* Returns the first rule that is broken, and the field that breaks it. */
static const char *broken(const char *rule, const struct field *f, struct slice *offender)
{
	if (rule && offender)
		*offender = f->name;
	return rule;
}

static const char *no_offender(const char *rule, struct slice *offender)
{
	if (offender)
		*offender = (struct slice){0};
	return rule;
}

const char *response_check(struct response_head *head, bool any_length, struct slice *offender)
{
	if (head->status < 200 || head->status > 599)
		return no_offender("must have a status of 200 to 599", offender);
	head->close = head->has_server = head->has_date = false;
	for (unsigned i = 0; i < head->field_count; i++) {
		const struct field *f = &head->fields[i];
		const char *rule = broken(check_response_field(head, f, any_length), f, offender);
		if (rule)
			return rule;
	}
	return NULL;
}

/* keep_alive: `connection: keep-alive` is accepted, and not sent. */
static const char *check_unframed(const struct field *f, bool keep_alive)
{
	const char *rule = check_field(f);
	bool close = false;

	if (rule)
		return rule;
	if (keep_alive && slice_eq_nocase(f->name, SLICE_LIT("connection")) && !check_connection(f->value, &close) && !close)
		return NULL;
	if (slice_eq_nocase(f->name, SLICE_LIT("content-length")) || slice_eq_nocase(f->name, SLICE_LIT("connection")) ||
	    is_one_of(f->name, refused, sizeof refused / sizeof *refused))
		return "has a framing or hop-by-hop field";
	return NULL;
}

static const char *check_all_unframed(const struct field *fields, unsigned count, bool keep_alive, struct slice *offender)
{
	const char *rule = NULL;

	for (unsigned i = 0; i < count && !rule; i++)
		rule = broken(check_unframed(&fields[i], keep_alive), &fields[i], offender);
	return rule;
}

const char *upgrade_check(const struct field *fields, unsigned count, struct slice *offender)
{
	return check_all_unframed(fields, count, true, offender);
}

const char *info_check(unsigned status, const struct field *fields, unsigned count, struct slice *offender)
{
	if (status < 100 || status > 199 || status == 101)
		return no_offender("must have a status of 100 to 199, and not 101", offender);
	return check_all_unframed(fields, count, true, offender);
}

const char *push_check(const struct field *fields, unsigned count, struct slice *offender)
{
	return check_all_unframed(fields, count, false, offender);
}

static const char *check_trailer(const struct field *f)
{
	const char *rule = check_field(f);

	if (!rule && is_one_of(f->name, refused_in_trailers, sizeof refused_in_trailers / sizeof *refused_in_trailers))
		rule = "has a field that is not allowed in trailers";
	return rule;
}

const char *trailers_check(const struct field *fields, unsigned count, struct slice *offender)
{
	const char *rule = NULL;

	for (unsigned i = 0; i < count && !rule; i++)
		rule = broken(check_trailer(&fields[i]), &fields[i], offender);
	return rule;
}
