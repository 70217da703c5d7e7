/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/forwarded.h"

#include "base/text.h"
#include "frames/names.h"

enum { HOPS_MAX = 16, PORT_DIGITS = 5 };

enum step { STEP_NAMED, STEP_END, STEP_BAD };

/* The elements of all lines of a field, from the last to the first. */
struct walk {
	const struct field *fields;
	unsigned next; /* the lines before this one have not been begun */
	int index;     /* the field's */
	struct slice rest;
};

/* ---- text ---- */

/* How long s is before its last element, the comma included. Quotes are matched from the right: what is left may be anything. */
static size_t before_last(struct slice s)
{
	bool quoted = false;

	for (size_t i = s.len; i > 0; i--) {
		if (s.at[i - 1] == '"')
			quoted = !quoted;
		else if (s.at[i - 1] == ',' && !quoted)
			return i;
	}
	return 0;
}

static bool next_line(struct walk *w)
{
	while (w->next > 0) {
		const struct field *f = &w->fields[--w->next];
		if (f->index != w->index)
			continue;
		w->rest = f->value;
		return true;
	}
	return false;
}

/* The next element that is not empty. */
static bool next_element(struct walk *w, struct slice *element)
{
	do {
		size_t n;
		while (w->rest.len == 0)
			if (!next_line(w))
				return false;
		n = before_last(w->rest);
		*element = text_trim(slice_of(w->rest.at + n, w->rest.len - n));
		w->rest.len = n ? n - 1 : 0;
	} while (element->len == 0);
	return true;
}

/* ---- one element ---- */

static bool is_port(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.at[i] < '0' || s.at[i] > '9')
			return false;
	return s.len >= 1 && s.len <= PORT_DIGITS;
}

/* An obfuscated port, as RFC 7239 6.3 allows: nobody needs it. */
static bool is_hidden_port(struct slice s)
{
	for (size_t i = 1; i < s.len; i++) {
		uint8_t c = s.at[i], letter = c | 0x20;
		if (!(letter >= 'a' && letter <= 'z') && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-')
			return false;
	}
	return s.len >= 2 && s.at[0] == '_';
}

/* The address ends before `at`; what follows must be nothing, or a port. */
static bool ends_well(struct slice s, size_t at)
{
	struct slice port;

	if (at == s.len)
		return true;
	port = slice_of(s.at + at + 1, s.len - at - 1);
	return s.at[at] == ':' && (is_port(port) || is_hidden_port(port));
}

/* IPv4, IPv4:port, [IPv6], [IPv6]:port; in X-Forwarded-For, which nobody defined, IPv6 without brackets too. */
static bool read_node(struct slice s, bool bare, struct ip *ip)
{
	const uint8_t *mark;
	size_t n;

	if (s.len && s.at[0] == '[') {
		mark = memchr(s.at, ']', s.len);
		n = mark ? (size_t)(mark - s.at) : 0;
		return n > 1 && memchr(s.at, ':', n) && ip_parse(slice_of(s.at + 1, n - 1), ip) && ends_well(s, n + 1);
	}
	if (bare && ip_parse(s, ip))
		return true;
	mark = s.len ? memchr(s.at, ':', s.len) : NULL;
	n = mark ? (size_t)(mark - s.at) : s.len;
	return ip_parse(slice_of(s.at, n), ip) && ends_well(s, n);
}

/* A value without its quotes. No address needs a quoted pair in it. */
static bool unquote(struct slice *value)
{
	if (value->len == 0 || value->at[0] != '"')
		return value->len > 0 && !memchr(value->at, '"', value->len);
	if (value->len < 2 || value->at[value->len - 1] != '"')
		return false;
	*value = slice_of(value->at + 1, value->len - 2);
	return !memchr(value->at, '"', value->len) && !memchr(value->at, '\\', value->len);
}

/* Cuts the next pair off: up to a semicolon that is not quoted. */
static struct slice cut_pair(struct slice *rest)
{
	struct slice pair;
	bool quoted = false;
	size_t i;

	for (i = 0; i < rest->len && (quoted || rest->at[i] != ';'); i++)
		quoted = quoted != (rest->at[i] == '"');
	pair = slice_of(rest->at, i);
	*rest = i < rest->len ? slice_of(rest->at + i + 1, rest->len - i - 1) : (struct slice){0};
	return text_trim(pair);
}

/* The value of `for`, which must be there once. */
static bool find_for(struct slice element, struct slice *value)
{
	bool found = false;

	while (element.len) {
		struct slice pair = cut_pair(&element);
		const uint8_t *mark = pair.len ? memchr(pair.at, '=', pair.len) : NULL;
		size_t n = mark ? (size_t)(mark - pair.at) : 0;
		if (!slice_eq_nocase(slice_of(pair.at, n), SLICE_LIT("for")))
			continue;
		if (found)
			return false;
		found = true;
		*value = slice_of(mark + 1, pair.len - n - 1);
	}
	return found && unquote(value);
}

static bool read_element(int index, struct slice element, struct ip *ip)
{
	struct slice node = element;

	if (index == NAME_FORWARDED)
		return find_for(element, &node) && read_node(node, false, ip);
	return read_node(node, true, ip);
}

/* ---- the lists ---- */

static enum step find_client(struct walk *w, const struct cidr_list *trusted, struct ip *client)
{
	struct slice element;
	bool any = false;

	for (unsigned hops = 0; next_element(w, &element); hops++) {
		if (hops == HOPS_MAX || !read_element(w->index, element, client))
			return STEP_BAD;
		any = true;
		if (!cidr_list_contains(trusted, client))
			return STEP_NAMED;
	}
	return any ? STEP_NAMED : STEP_END;
}

static enum step client_of(const struct field *fields, unsigned count, int index, const struct cidr_list *trusted, struct ip *ip)
{
	struct walk w = {.fields = fields, .next = count, .index = index};

	return find_client(&w, trusted, ip);
}

bool forwarded_client(const struct field *fields, unsigned count, const struct cidr_list *trusted, struct ip *client)
{
	struct ip other;
	enum step standard = client_of(fields, count, NAME_FORWARDED, trusted, client);
	enum step usual = client_of(fields, count, NAME_X_FORWARDED_FOR, trusted, &other);

	if (standard == STEP_BAD || usual == STEP_BAD)
		return false;
	if (standard == STEP_END) {
		*client = other;
		return usual == STEP_NAMED;
	}
	return usual == STEP_END || (client->len == other.len && memcmp(client->bytes, other.bytes, client->len) == 0);
}
