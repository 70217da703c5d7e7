/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/http.h"

#include <stdio.h>

#include "base/text.h"
#include "frames/names.h"

/* ---- requests ---- */

bool http_target_valid(struct slice text)
{
	return text.len > 0 && text_is(text, CHAR_TARGET);
}

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool valid_port(struct slice port)
{
	unsigned n = 0;

	for (size_t i = 0; i < port.len; i++) {
		unsigned digit = (uint8_t)(port.at[i] - '0');
		n = n * 10 + digit;
		if (digit > 9 || n > 65535)
			return false;
	}
	return true;
}

static bool is_hex(uint8_t c)
{
	return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* RFC 3986 3.2.2: reg-name or IPv4 address: unreserved, sub-delims, percent-encoded. */
static bool valid_name(struct slice host)
{
	for (size_t i = 0; i < host.len; i++) {
		if (text_classes[host.at[i]] & CHAR_HOST)
			continue;
		if (host.at[i] != '%' || i + 2 >= host.len || !is_hex(host.at[i + 1]) || !is_hex(host.at[i + 2]))
			return false;
		i += 2;
	}
	return host.len > 0;
}

static bool valid_ip_literal(struct slice host)
{
	size_t colons = 0;

	for (size_t i = 1; i + 1 < host.len; i++) {
		if (!is_hex(host.at[i]) && host.at[i] != ':' && host.at[i] != '.')
			return false;
		colons += host.at[i] == ':';
	}
	return host.len > 3 && colons >= 2;
}

bool http_authority_valid(struct slice authority)
{
	struct slice host, rest;
	size_t plain = 0;

	if (!authority.at)
		return false;
	while (plain < authority.len && text_classes[authority.at[plain]] & CHAR_HOST)
		plain++;
	if (plain > 0 && plain == authority.len)
		return true;
	if (plain > 0 && authority.at[plain] == ':')
		return valid_port(slice_of(authority.at + plain + 1, authority.len - plain - 1));
	if (authority.len && authority.at[0] == '[') {
		host = text_cut(authority, ']', &rest);
		if (!rest.at)
			return false;
		host.len++; /* the bracket */
		if (!valid_ip_literal(host))
			return false;
		return rest.len == 0 || (rest.at[0] == ':' && valid_port(slice_of(rest.at + 1, rest.len - 1)));
	}
	host = text_cut(authority, ':', &rest);
	return valid_name(host) && valid_port(rest);
}

bool http_authority_has_port(struct slice authority)
{
	return http_authority_valid(authority) && is_digit(authority.at[authority.len - 1]) && !valid_name(authority);
}

const char *http_settle_authority(struct request_head *head, struct slice host, bool may_be_empty)
{
	if (head->authority.at && host.at && !slice_eq_nocase(head->authority, host))
		return "the Host field and the target do not agree";
	if (!head->authority.at)
		head->authority = host;
	if (may_be_empty && host.at && host.len == 0)
		return NULL;
	return http_authority_valid(head->authority) ? NULL : "the authority is not valid";
}

void http_split_target(struct slice target, struct slice *path, struct slice *query)
{
	*path = text_cut(target, '?', query);
}

bool http_expects_continue(struct slice expectation)
{
	return slice_eq_nocase(expectation, SLICE_LIT("100-continue"));
}

unsigned http_settle_body(struct request_head *head, uint64_t max_body)
{
	if (head->body == 0)
		head->body = BODY_NONE;
	if (head->body == BODY_NONE)
		head->flags &= ~(unsigned)REQUEST_EXPECTS_CONTINUE;
	return max_body && head->body > 0 && (uint64_t)head->body > max_body ? 413 : 0;
}

/* ---- responses ---- */

static const struct {
	unsigned status;
	const char *reason;
} reasons[] = {
	{100, "Continue"},
	{101, "Switching Protocols"},
	{102, "Processing"},
	{103, "Early Hints"},
	{200, "OK"},
	{201, "Created"},
	{202, "Accepted"},
	{203, "Non-Authoritative Information"},
	{204, "No Content"},
	{205, "Reset Content"},
	{206, "Partial Content"},
	{207, "Multi-Status"},
	{208, "Already Reported"},
	{226, "IM Used"},
	{300, "Multiple Choices"},
	{301, "Moved Permanently"},
	{302, "Found"},
	{303, "See Other"},
	{304, "Not Modified"},
	{305, "Use Proxy"},
	{307, "Temporary Redirect"},
	{308, "Permanent Redirect"},
	{400, "Bad Request"},
	{401, "Unauthorized"},
	{402, "Payment Required"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{406, "Not Acceptable"},
	{407, "Proxy Authentication Required"},
	{408, "Request Timeout"},
	{409, "Conflict"},
	{410, "Gone"},
	{411, "Length Required"},
	{412, "Precondition Failed"},
	{413, "Content Too Large"},
	{414, "URI Too Long"},
	{415, "Unsupported Media Type"},
	{416, "Range Not Satisfiable"},
	{417, "Expectation Failed"},
	{418, "I'm a teapot"},
	{421, "Misdirected Request"},
	{422, "Unprocessable Content"},
	{423, "Locked"},
	{424, "Failed Dependency"},
	{425, "Too Early"},
	{426, "Upgrade Required"},
	{428, "Precondition Required"},
	{429, "Too Many Requests"},
	{431, "Request Header Fields Too Large"},
	{451, "Unavailable For Legal Reasons"},
	{500, "Internal Server Error"},
	{501, "Not Implemented"},
	{502, "Bad Gateway"},
	{503, "Service Unavailable"},
	{504, "Gateway Timeout"},
	{505, "HTTP Version Not Supported"},
	{506, "Variant Also Negotiates"},
	{507, "Insufficient Storage"},
	{508, "Loop Detected"},
	{511, "Network Authentication Required"},
};

const char *http_reason(unsigned status)
{
	size_t low = 0, high = sizeof reasons / sizeof *reasons;

	while (low < high) {
		size_t middle = (low + high) / 2;
		if (reasons[middle].status == status)
			return reasons[middle].reason;
		if (reasons[middle].status < status)
			low = middle + 1;
		else
			high = middle;
	}
	return ""; /* RFC 9112 section 4: the phrase may be empty */
}

bool http_is_ours(const struct field *f)
{
	return f->index == NAME_CONTENT_LENGTH || f->index == NAME_CONNECTION;
}

/* For a response without a body: HEAD and 304 may state the length of what was not sent, 205 states 0, 204 and tunnels nothing. */
int64_t http_length_to_say(const struct response_head *head, bool tunnel)
{
	if (head->status == 204 || tunnel)
		return LENGTH_UNKNOWN;
	return head->status == 205 ? 0 : head->length;
}

void http_error_make(struct http_error *e, unsigned status, unsigned retry_after)
{
	int len = snprintf(e->text, sizeof e->text, "%u %s\n", status, http_reason(status));
	int digits = snprintf(e->seconds, sizeof e->seconds, "%u", retry_after);

	e->body = slice_of(e->text, (size_t)len);
	e->fields[0] = (struct field){SLICE_LIT("Content-Type"), SLICE_LIT("text/plain"), NAME_UNKNOWN};
	e->fields[1] = (struct field){SLICE_LIT("Retry-After"), slice_of(e->seconds, (size_t)digits), NAME_UNKNOWN};
	e->head = (struct response_head){.status = status, .fields = e->fields, .field_count = retry_after ? 2 : 1, .length = len};
}
