/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/forwarded.h"

#include "base/text.h"
#include "frames/names.h"

enum { HOPS_MAX = 16, PORT_DIGITS = 5, HOST_MAX = 255 };

enum step { STEP_NAMED, STEP_END, STEP_BAD };

/* The elements of all lines of a field, from the last to the first. */
struct walk {
	const struct field *fields;
	unsigned next;     /* the lines before this one are still to be read */
	int index;         /* index of the field's name, */
	struct slice name; /* or its name, if it has none */
	struct slice rest;
};

/* ---- text ---- */

/* The length of s before its last element, including the comma. Quotes are matched from the right, since the rest may be
 * anything. */
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
		if (f->index != w->index || (w->name.at && !slice_eq_nocase(f->name, w->name)))
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

/* The digits after a colon; a hidden port (RFC 7239 6.3) becomes 0, like a missing one. */
static bool read_port(struct slice s, uint16_t *port)
{
	unsigned n = 0;

	for (size_t i = 0; i < s.len; i++) {
		if (s.at[i] < '0' || s.at[i] > '9')
			return false;
		n = n * 10 + (unsigned)(s.at[i] - '0');
		if (i == PORT_DIGITS)
			return false;
	}
	*port = n <= UINT16_MAX ? (uint16_t)n : 0;
	return s.len >= 1;
}

/* An obfuscated port, which RFC 7239 6.3 allows, and which is ignored. */
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
static bool ends_well(struct slice s, size_t at, uint16_t *port)
{
	struct slice rest;

	if (at == s.len)
		return true;
	rest = slice_of(s.at + at + 1, s.len - at - 1);
	return s.at[at] == ':' && (read_port(rest, port) || is_hidden_port(rest));
}

/* IPv4, IPv4:port, [IPv6], [IPv6]:port; in X-Forwarded-For, which has no standard, also IPv6 without brackets. */
static bool read_node(struct slice s, bool bare, struct forwarded *f)
{
	const uint8_t *mark;
	size_t n;

	f->port = 0;
	if (s.len && s.at[0] == '[') {
		mark = memchr(s.at, ']', s.len);
		n = mark ? (size_t)(mark - s.at) : 0;
		return n > 1 && memchr(s.at, ':', n) && ip_parse(slice_of(s.at + 1, n - 1), &f->client) &&
		       ends_well(s, n + 1, &f->port);
	}
	if (bare && ip_parse(s, &f->client))
		return true;
	mark = s.len ? memchr(s.at, ':', s.len) : NULL;
	n = mark ? (size_t)(mark - s.at) : s.len;
	return ip_parse(slice_of(s.at, n), &f->client) && ends_well(s, n, &f->port);
}

/* A value without its quotes. Neither addresses nor hosts need quoted pairs. */
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

/* The value of a parameter, which must occur exactly once. */
static bool find_parameter(struct slice element, struct slice name, struct slice *value)
{
	bool found = false;

	while (element.len) {
		struct slice pair = cut_pair(&element);
		const uint8_t *mark = pair.len ? memchr(pair.at, '=', pair.len) : NULL;
		size_t n = mark ? (size_t)(mark - pair.at) : 0;
		if (!slice_eq_nocase(slice_of(pair.at, n), name))
			continue;
		if (found)
			return false;
		found = true;
		*value = slice_of(mark + 1, pair.len - n - 1);
	}
	return found && unquote(value);
}

static void read_scheme(struct slice text, struct forwarded *f)
{
	if (slice_eq_nocase(text, SLICE_LIT("https")))
		f->https = 1;
	else if (slice_eq_nocase(text, SLICE_LIT("http")))
		f->https = 0;
}

/* The octets that an authority without userinfo may have (RFC 3986 3.2); users of the value check its grammar. */
static bool is_host(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.at[i], letter = c | 0x20;
		bool well = (letter >= 'a' && letter <= 'z') || (c >= '0' && c <= '9') || (c && strchr("-._~:[]%!$&'()*+;=", c));
		if (!well)
			return false;
	}
	return s.len > 0 && s.len <= HOST_MAX;
}

static void read_host(struct slice text, struct forwarded *f)
{
	if (is_host(text))
		f->host = text;
}

static bool read_element(int index, struct slice element, struct forwarded *f)
{
	struct slice node = element;

	if (index == NAME_FORWARDED)
		return find_parameter(element, SLICE_LIT("for"), &node) && read_node(node, false, f);
	return read_node(node, true, f);
}

/* ---- the lists ---- */

/* *element: the element that names the client; *place: how many elements are to the right of it. */
static enum step find_client(struct walk *w, const struct cidr_list *trusted, struct forwarded *f, struct slice *element,
			     unsigned *place)
{
	bool any = false;

	for (unsigned hops = 0; next_element(w, element); hops++) {
		if (hops == HOPS_MAX || !read_element(w->index, *element, f))
			return STEP_BAD;
		any = true;
		*place = hops;
		if (!cidr_list_contains(trusted, &f->client))
			return STEP_NAMED;
	}
	return any ? STEP_NAMED : STEP_END;
}

/* The element at this place from the right of a list, or else the leftmost. False: the list is empty. */
static bool element_at(struct walk *w, unsigned place, struct slice *element)
{
	struct slice next;
	bool any = false;

	for (unsigned i = 0; i <= place && next_element(w, &next); i++) {
		*element = next;
		any = true;
	}
	return any;
}

static bool same_client(const struct forwarded *a, const struct forwarded *b)
{
	return a->client.len == b->client.len && memcmp(a->client.bytes, b->client.bytes, a->client.len) == 0;
}

/* Reads a field whose name has no index. */
static void read_list(const struct field *fields, unsigned count, struct slice name, unsigned place, struct forwarded *f,
		      void (*take)(struct slice, struct forwarded *))
{
	struct walk w = {.fields = fields, .next = count, .index = NAME_UNKNOWN, .name = name};
	struct slice element;

	if (element_at(&w, place, &element))
		take(element, f);
}

/* Reads the client, and the other values in Forwarded. Returns the client's place. */
static unsigned read_client(struct forwarded *f, const struct field *fields, unsigned count, const struct cidr_list *trusted,
			    unsigned which)
{
	struct walk standard_walk = {.fields = fields, .next = count, .index = NAME_FORWARDED};
	struct walk usual_walk = {.fields = fields, .next = count, .index = NAME_X_FORWARDED_FOR};
	enum step standard = STEP_END, usual = STEP_END;
	struct forwarded other = *f;
	struct slice element, value;
	unsigned place = 0, other_place = 0;

	if (which & TRUST_FORWARDED)
		standard = find_client(&standard_walk, trusted, f, &element, &place);
	if (standard == STEP_NAMED) {
		if (find_parameter(element, SLICE_LIT("proto"), &value))
			read_scheme(value, f);
		if (find_parameter(element, SLICE_LIT("host"), &value))
			read_host(value, f);
	}
	if (which & TRUST_FOR)
		usual = find_client(&usual_walk, trusted, &other, &element, &other_place);
	if (standard == STEP_BAD || usual == STEP_BAD || (standard == STEP_NAMED && usual == STEP_NAMED && !same_client(f, &other)))
		*f = (struct forwarded){.https = -1, .doubted = true}; /* no client, and no other values either */
	else if (standard == STEP_END && usual == STEP_NAMED)
		*f = other;
	return standard == STEP_NAMED ? place : other_place;
}

void forwarded_read(struct forwarded *f, const struct field *fields, unsigned count, const struct cidr_list *trusted,
		    unsigned fields_trusted)
{
	unsigned place;

	*f = (struct forwarded){.https = -1};
	place = read_client(f, fields, count, trusted, fields_trusted);
	if ((fields_trusted & TRUST_PROTO) && f->https < 0)
		read_list(fields, count, SLICE_LIT("x-forwarded-proto"), place, f, read_scheme);
	if ((fields_trusted & TRUST_HOST) && !f->host.at)
		read_list(fields, count, SLICE_LIT("x-forwarded-host"), place, f, read_host);
	f->told = f->client.len || f->https >= 0 || f->host.at;
}
