/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/http_fields.h"

#include "base/text.h"
#include "frames/names.h"
#include "proto/http.h"
#include "stream/rules.h"

/* State while a head is collected, beyond the request_head. */
struct examined {
	struct request_head *head;
	struct field *fields;
	struct slice scheme, host;
	struct slice path, protocol;
	int64_t length;
};

static void take_pseudo(struct examined *e, struct slice name, struct slice value)
{
	if (slice_eq(name, SLICE_LIT(":method")))
		e->head->method = value;
	else if (slice_eq(name, SLICE_LIT(":path")))
		e->path = value;
	else if (slice_eq(name, SLICE_LIT(":scheme")))
		e->scheme = value;
	else if (slice_eq(name, SLICE_LIT(":authority")))
		e->head->authority = value;
	else if (slice_eq(name, SLICE_LIT(":protocol")))
		e->protocol = value;
}

static unsigned add_field(struct examined *e, struct field f)
{
	if (e->head->field_count == SESSION_FIELDS_MAX)
		return 431;
	e->fields[e->head->field_count++] = f;
	return 0;
}

static unsigned take_field(struct examined *e, const struct http_pairs *pairs, struct field f)
{
	switch (f.index) {
	case NAME_COOKIE:
		if (pairs->cookies.len)
			f.value = pairs->cookies;
		break;
	case NAME_HOST:
		e->host = f.value;
		break;
	case NAME_CONTENT_LENGTH:
		if (!parse_length(f.value, &e->length))
			return 400;
		break;
	case NAME_EXPECT:
		if (!http_expects_continue(f.value))
			return 417;
		e->head->flags |= REQUEST_EXPECTS_CONTINUE;
		break;
	case NAME_TE: /* the libraries allow only this */
		e->head->flags |= REQUEST_TAKES_TRAILERS;
		break;
	default:
		break;
	}
	return add_field(e, f);
}

/* An extended CONNECT (RFC 8441) is shown to the application like its HTTP/1 form, a GET with an upgrade field. */
static bool settle_method(struct examined *e)
{
	struct request_head *head = e->head;

	head->method_index = method_find(head->method);
	if (head->method_index != METHOD_CONNECT)
		return !e->protocol.at;
	head->flags |= REQUEST_MAY_UPGRADE;
	if (!e->protocol.at)
		return e->length == LENGTH_UNKNOWN;
	head->method = SLICE_LIT("GET");
	head->method_index = METHOD_GET;
	return e->length == LENGTH_UNKNOWN && is_protocol(e->protocol) &&
	       add_field(e, (struct field){SLICE_LIT("upgrade"), e->protocol, NAME_UPGRADE}) == 0;
}

static bool settle_target(struct examined *e)
{
	struct request_head *head = e->head;

	if (head->method_index == METHOD_CONNECT) {
		head->path = SLICE_LIT("");
		head->target = head->authority;
		return !e->path.at && http_authority_has_port(head->authority);
	}
	head->https = slice_eq_nocase(e->scheme, SLICE_LIT("https"));
	if (!head->https && !slice_eq_nocase(e->scheme, SLICE_LIT("http")))
		return false;
	if (!http_target_valid(e->path))
		return false;
	if (slice_eq(e->path, SLICE_LIT("*")))
		head->path = e->path;
	if (head->path.at)
		return head->method_index == METHOD_OPTIONS;
	http_split_target(e->path, &head->path, &head->query);
	return e->path.at[0] == '/';
}

static unsigned settle_body(struct examined *e, bool ended, uint64_t max_body)
{
	e->head->body = ended || (e->head->flags & REQUEST_MAY_UPGRADE) ? BODY_NONE : e->length;
	return http_settle_body(e->head, max_body);
}

unsigned http_examine(const struct http_pairs *pairs, bool ended, uint64_t max_body, struct field *fields,
		      struct request_head *head)
{
	struct examined e = {.head = head, .fields = fields, .length = LENGTH_UNKNOWN};
	unsigned status;

	for (unsigned i = 0; i < pairs->count; i++) {
		struct slice name = pairs->at[i].name, value = pairs->at[i].value;
		if (name.at[0] == ':') {
			take_pseudo(&e, name, value);
			continue;
		}
		status = take_field(&e, pairs, (struct field){name, value, name_find(name)});
		if (status)
			return status;
	}
	if (pairs->too_large)
		return 431;
	if (!is_token(head->method) || !settle_method(&e) || http_settle_authority(head, e.host, false) || !settle_target(&e))
		return 400;
	if (head->method.len > HTTP_METHOD_MAX)
		return 501;
	return settle_body(&e, ended, max_body);
}

bool http_asks_head(const struct http_pairs *pairs)
{
	for (unsigned i = 0; i < pairs->count; i++)
		if (slice_eq(pairs->at[i].name, SLICE_LIT(":method")))
			return slice_eq(pairs->at[i].value, SLICE_LIT("HEAD"));
	return false;
}

unsigned http_trailers_of(const struct http_pairs *pairs, struct field *fields, unsigned *count)
{
	*count = 0;
	if (pairs->too_large)
		return 431;
	for (unsigned i = 0; i < pairs->count; i++) {
		struct slice name = pairs->at[i].name;
		fields[(*count)++] = (struct field){name, pairs->at[i].value, name_find(name)};
	}
	return trailers_check(fields, *count, NULL) ? 400 : 0;
}

bool http_is_misdirected(struct session_owner *owner, const struct request_head *head)
{
	struct slice host = head->authority;
	size_t colon = host.len;

	if (!owner->secure || head->method_index == METHOD_CONNECT)
		return false;
	while (colon > 0 && host.at[colon - 1] != ':' && host.at[colon - 1] != ']')
		colon--;
	if (colon > 0 && host.at[colon - 1] == ':')
		host.len = colon - 1;
	if (host.len > 0 && host.at[host.len - 1] == '.') /* an absolute name; a server name has no such dot (RFC 6066 3) */
		host.len--;
	return !owner->covers(owner, host);
}
