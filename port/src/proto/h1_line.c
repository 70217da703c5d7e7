/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h1_line.h"

#include "base/text.h"
#include "frames/names.h"
#include "proto/http.h"

/* Takes the characters of this class, and the space after them. False: there are none, or something else follows. */
static bool take_word(struct slice *in, unsigned class, struct slice *word)
{
	size_t n = 0;

	while (n < in->len && text_classes[in->at[n]] & class)
		n++;
	if (n == 0 || n == in->len || in->at[n] != ' ')
		return false;
	*word = slice_of(in->at, n);
	*in = slice_of(in->at + n + 1, in->len - n - 1);
	return true;
}

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

/* 0, 400, 505 */
static unsigned parse_version(struct slice text, unsigned *version)
{
	if (slice_eq(text, SLICE_LIT("HTTP/1.1"))) {
		*version = 11;
		return 0;
	}
	if (text.len != 8 || memcmp(text.at, "HTTP/", 5) != 0 || !is_digit(text.at[5]) || text.at[6] != '.' ||
	    !is_digit(text.at[7]))
		return 400;
	*version = (unsigned)(text.at[5] - '0') * 10 + (unsigned)(text.at[7] - '0');
	return *version == 10 || *version == 11 ? 0 : 505;
}

/* http://authority/path?query (RFC 9112 3.2.2) */
static bool parse_absolute(struct h1_line *line)
{
	struct slice in = line->target, rest;
	size_t scheme;

	line->https = in.len > 8 && strncasecmp((const char *)in.at, "https://", 8) == 0;
	scheme = line->https ? 8 : 7;
	if (!line->https && (in.len <= 7 || strncasecmp((const char *)in.at, "http://", 7) != 0))
		return false;
	rest = slice_of(in.at + scheme, in.len - scheme);
	line->authority = rest;
	line->authority.len = 0;
	while (line->authority.len < rest.len && rest.at[line->authority.len] != '/' && rest.at[line->authority.len] != '?')
		line->authority.len++;
	http_split_target(slice_of(rest.at + line->authority.len, rest.len - line->authority.len), &line->path, &line->query);
	/* an empty path means a slash; for OPTIONS, the whole server: RFC 9110 4.2.3 */
	if (line->path.len == 0)
		line->path = line->method_index == METHOD_OPTIONS && !line->query.at ? SLICE_LIT("*") : SLICE_LIT("/");
	return http_authority_valid(line->authority);
}

static bool parse_connect(struct h1_line *line)
{
	line->authority = line->target;
	line->path = SLICE_LIT("");
	return http_authority_has_port(line->target);
}

static bool parse_target(struct h1_line *line)
{
	if (line->method_index == METHOD_CONNECT)
		return parse_connect(line);
	if (line->target.at[0] == '/') {
		line->plain = true;
		http_split_target(line->target, &line->path, &line->query);
		return true;
	}
	if (line->method_index == METHOD_OPTIONS && slice_eq(line->target, SLICE_LIT("*"))) {
		line->plain = true;
		line->path = line->target;
		return true;
	}
	return parse_absolute(line);
}

unsigned h1_line_parse(struct slice text, struct h1_line *line)
{
	unsigned status;

	*line = (struct h1_line){0};
	if (!take_word(&text, CHAR_TOKEN, &line->method) || !take_word(&text, CHAR_TARGET, &line->target))
		return 400;
	status = parse_version(text, &line->version);
	if (status)
		return status;
	line->method_index = method_find(line->method);
	return parse_target(line) ? 0 : 400;
}

bool h1_line_foreign(struct slice text)
{
	const uint8_t *space = text.len ? memchr(text.at, ' ', text.len) : NULL;
	unsigned blanks = 0;

	for (size_t i = space ? (size_t)(space - text.at) : text.len; i < text.len; i++) {
		if (text.at[i] == '/' || text.at[i] == ':' || text.at[i] == '*')
			return false;
		blanks += text.at[i] == ' ';
	}
	return blanks == 2;
}
