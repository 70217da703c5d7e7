/* SPDX-License-Identifier: Apache-2.0 */
/* The request line: RFC 9112 section 3, unless another RFC is named. */
#include "proto/h1_line.h"

#include "proto/http.h"

#include "support.h"

static unsigned parse(const char *text, struct h1_line *line)
{
	static uint8_t *copy;

	free(copy);
	copy = exact_copy(text, strlen(text));
	return h1_line_parse(slice_of(copy, strlen(text)), line);
}

static void add_part(struct text *t, struct slice part)
{
	text_add(t, " ");
	if (part.at)
		text_add_bytes(t, part.at, part.len);
	else
		text_add(t, "-");
}

static void test_valid_lines_are_taken_apart(void **state)
{
	/* version, method index, https, plain; authority, path, query */
	static const char *const lines[][2] = {
		{"GET / HTTP/1.1", "11 0 http plain - / -"},
		{"GET / HTTP/1.0", "10 0 http plain - / -"},
		{"HEAD /a?b HTTP/1.1", "11 1 http plain - /a b"},
		{"POST /a? HTTP/1.1", "11 2 http plain - /a "},
		{"PUT /a?b?c=/d HTTP/1.1", "11 3 http plain - /a b?c=/d"},
		{"DELETE //double//slash HTTP/1.1", "11 4 http plain - //double//slash -"},
		{"TRACE /%00%ff HTTP/1.1", "11 7 http plain - /%00%ff -"},
		{"PATCH /../.. HTTP/1.1", "11 8 http plain - /../.. -"},
		{"PURGE /x HTTP/1.1", "11 -1 http plain - /x -"},
		{"get / HTTP/1.1", "11 -1 http plain - / -"},                     /* RFC 9110 9.1: case-sensitive */
		{"M-SEARCH!#$%&'*+.^_`|~9 / HTTP/1.1", "11 -1 http plain - / -"}, /* RFC 9110 5.6.2: any token */
		{"OPTIONS * HTTP/1.1", "11 6 http plain - * -"},                  /* 3.2.4 */
		{"OPTIONS /a HTTP/1.1", "11 6 http plain - /a -"},
		{"CONNECT example.com:443 HTTP/1.1", "11 5 http target example.com:443  -"}, /* 3.2.3 */
		{"CONNECT [::1]:1 HTTP/1.1", "11 5 http target [::1]:1  -"},
		{"GET http://example.com/a?b HTTP/1.1", "11 0 http target example.com /a b"}, /* 3.2.2 */
		{"GET HTTP://EXAMPLE.com HTTP/1.1", "11 0 http target EXAMPLE.com / -"},
		{"GET https://example.com:8443/ HTTP/1.1", "11 0 https target example.com:8443 / -"},
		{"GET http://example.com?q HTTP/1.1", "11 0 http target example.com / q"},
		{"GET http://[2001:db8::1]:80/ HTTP/1.1", "11 0 http target [2001:db8::1]:80 / -"},
		{"GET http://a%20b/ HTTP/1.1", "11 0 http target a%20b / -"},
		{"GET http://127.0.0.1: HTTP/1.1", "11 0 http target 127.0.0.1: / -"}, /* RFC 3986 3.2.3: the port may be empty */
	};

	(void)state;
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		struct h1_line line;
		struct text got = {0};
		unsigned status = parse(lines[i][0], &line);
		if (status)
			fail_msg("%u for %s", status, lines[i][0]);
		text_add(&got, "%u %d %s %s", line.version, line.method_index, line.https ? "https" : "http",
			 line.plain ? "plain" : "target");
		add_part(&got, line.authority);
		add_part(&got, line.path);
		add_part(&got, line.query);
		EXPECT_TEXT(&got, lines[i][1]);
		text_free(&got);
	}
}

static void test_invalid_lines_are_refused(void **state)
{
	static const struct {
		unsigned status;
		const char *line;
	} lines[] = {
		{400, ""},
		{400, " "},
		{400, "GET"},
		{400, "GET "},
		{400, "GET /"}, /* HTTP/0.9 */
		{400, "GET / "},
		{400, "GET  / HTTP/1.1"}, /* 3: exactly one SP */
		{400, "GET /  HTTP/1.1"},
		{400, "GET / HTTP/1.1 "},
		{400, " GET / HTTP/1.1"},
		{400, "GET\t/ HTTP/1.1"},
		{400, "GET / a HTTP/1.1"},
		{400, "G(T / HTTP/1.1"}, /* RFC 9110 5.6.2 */
		{400, "G\x80T / HTTP/1.1"},
		{400, "GET a HTTP/1.1"}, /* 3.2: none of the four forms */
		{400, "GET * HTTP/1.1"}, /* 3.2.4: OPTIONS only */
		{400, "OPTIONS ** HTTP/1.1"},
		{400, "GET /a#b HTTP/1.1"}, /* RFC 3986 3.5: no fragment in a target */
		{400, "GET /\x7f HTTP/1.1"},
		{400, "GET /\x80 HTTP/1.1"},
		{400, "GET /\x01 HTTP/1.1"},
		{400, "GET http:// HTTP/1.1"}, /* RFC 9110 4.2.1: no empty host */
		{400, "GET http:///a HTTP/1.1"},
		{400, "GET http://:80/ HTTP/1.1"},
		{400, "GET https:// HTTP/1.1"},
		{400, "GET http://user@example.com/ HTTP/1.1"}, /* RFC 9110 4.2.4 */
		{400, "GET http://example.com:65536/ HTTP/1.1"},
		{400, "GET http://example.com:8x/ HTTP/1.1"},
		{400, "GET http://[::1/ HTTP/1.1"},
		{400, "GET http://[]/ HTTP/1.1"},
		{400, "GET http://[::1]x/ HTTP/1.1"},
		{400, "GET http://[g::1]/ HTTP/1.1"},
		{400, "GET http://a%2/ HTTP/1.1"},
		{400, "GET http://a%zz/ HTTP/1.1"},
		{400, "GET http://a\\b/ HTTP/1.1"},
		{400, "GET ftp://example.com/ HTTP/1.1"},
		{400, "GET http:/a HTTP/1.1"},
		{400, "CONNECT example.com HTTP/1.1"},  /* 3.2.3: the port is required */
		{400, "CONNECT example.com: HTTP/1.1"}, /* RFC 9110 9.3.6: MUST reject an empty port */
		{400, "CONNECT [::1] HTTP/1.1"},
		{400, "CONNECT [::1]: HTTP/1.1"},
		{400, "CONNECT / HTTP/1.1"},
		{400, "CONNECT http://example.com:80 HTTP/1.1"},
		{400, "GET / HTTP/1"},
		{400, "GET / HTTP/11"},
		{400, "GET / HTTP/1.10"},
		{400, "GET / HTTP/1,1"},
		{400, "GET / http/1.1"}, /* 2.3: case-sensitive */
		{400, "GET / HTTPS/1.1"},
		{400, "GET / HTTP/x.1"},
		{400, "GET / HTTP/-.1"},
		{505, "GET / HTTP/2.0"}, /* RFC 9110 15.6.6 */
		{505, "GET / HTTP/1.2"},
		{505, "GET / HTTP/0.9"},
		{505, "GET / HTTP/9.9"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		struct h1_line line;
		unsigned status = parse(lines[i].line, &line);
		if (status != lines[i].status)
			fail_msg("%u for '%s'", status, lines[i].line);
	}
}

static void test_authorities(void **state)
{
	static const char *const valid[] = {"a",       "a.b",       "127.0.0.1",       "a:0",     "a:65535",
					    "a:",      "[::]",      "[::1]:",          "[::1]:8", "a_b~c-d",
					    "!$&'()*", "%41%5a%ff", "[::ffff:1.2.3.4]"};
	static const char *const invalid[] = {
		"",    ":",   ":80", "a:b",     "a:65536", "a:99999999999", "a b", "a/b", "a?b", "a#b", "a@b", "[",      "[]",
		"[:]", "[::", "::1", "[::1]80", "[::1]a",  "a:1:2",         "%",   "%4",  "%4g", "a\"", "<a>", "[%31::]"};

	(void)state;
	for (size_t i = 0; i < sizeof valid / sizeof *valid; i++)
		if (!http_authority_valid(slice_str(valid[i])))
			fail_msg("refused: %s", valid[i]);
	for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++)
		if (http_authority_valid(slice_str(invalid[i])))
			fail_msg("accepted: %s", invalid[i]);
	assert_false(http_authority_valid(slice_of("a\0b", 3)));
}

static bool foreign(const char *text)
{
	return h1_line_foreign(slice_str(text));
}

static void test_lines_of_another_protocol(void **state)
{
	(void)state;
	assert_true(foreign("INVALID CONNECTION PREFACE"));
	assert_true(foreign("a b c"));
	assert_false(foreign("a b c d"));
	assert_false(foreign("a b"));
	assert_false(foreign("GET"));
	assert_false(foreign(""));
	assert_false(foreign("PRI * HTTP/2.0"));
	assert_false(foreign("GET / HTTX"));
	assert_false(foreign("CONNECT a:1 b"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_valid_lines_are_taken_apart),
		cmocka_unit_test(test_invalid_lines_are_refused),
		cmocka_unit_test(test_authorities),
		cmocka_unit_test(test_lines_of_another_protocol),
	};

	return cmocka_run_group_tests_name("h1_line", tests, NULL, NULL);
}
