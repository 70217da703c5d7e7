/* SPDX-License-Identifier: Apache-2.0 */
/* Heads and bodies, whole and cut at every position. */
#include "proto/h1_read.h"

#include "support.h"

static struct config config;
static struct field fields[SPANS_MAX];
static unsigned wrong; /* so that one run shows every fault */

static int setup(void **state)
{
	(void)state;
	config_defaults(&config);
	wrong = 0;
	return 0;
}

static int all_well(void **state)
{
	(void)state;
	return wrong ? -1 : 0;
}

/* The result of reading a head in two pieces, each in its own buffer. */
static void read_head(struct text *got, const char *bytes, size_t len, size_t cut)
{
	struct h1_parse *p = malloc(sizeof *p);
	enum h1_read_result result = H1_MORE;
	struct request_head head;
	struct h1_facts facts;

	h1_parse_init(p, &config);
	for (size_t n = cut; result == H1_MORE; n = len) {
		uint8_t *copy = exact_copy(bytes, n);
		result = h1_read_head(p, copy, n);
		if (result == H1_BAD || (result == H1_DONE && !h1_examine(p, copy, fields, &head, &facts))) {
			text_add(got, "%u", p->status);
		} else if (result == H1_DONE) {
			text_add(got, "%u at %zu body=%lld flags=%u%s%s host=", head.version, len - p->head_len,
				 (long long)head.body, head.flags, facts.close ? " close" : "", facts.keep_alive ? " keep" : "");
			text_add_bytes(got, head.authority.at, head.authority.len);
			for (unsigned i = 0; i < head.field_count; i++) {
				text_add(got, "; %d ", head.fields[i].index);
				text_add_bytes(got, head.fields[i].name.at, head.fields[i].name.len);
				text_add(got, "=");
				text_add_quoted(got, head.fields[i].value);
			}
		}
		free(copy);
		if (n == len)
			break;
	}
	if (result == H1_MORE)
		text_add(got, "more");
	h1_parse_free(p);
	free(p);
}

/* Compares, and clears. Otherwise it says what was read, and counts it. */
static bool is_wanted(struct text *got, const char *wanted, struct slice bytes, size_t cut)
{
	struct text quoted = {0};

	if (strcmp(text_str(got), wanted) == 0) {
		text_clear(got);
		return true;
	}
	text_add_quoted(&quoted, bytes);
	print_error("%s instead of %s, cut at %zu of: %s\n", text_str(got), wanted, cut, text_str(&quoted));
	text_free(&quoted);
	wrong++;
	return false;
}

static void expect_head_n(const char *bytes, size_t len, const char *wanted)
{
	struct text got = {0};

	for (size_t cut = 0; cut <= len; cut += cut > 400 && cut + 400 < len ? 61 : 1) {
		read_head(&got, bytes, len, cut);
		if (!is_wanted(&got, wanted, slice_of(bytes, len), cut))
			break;
	}
	text_free(&got);
}

static void expect_head(const char *bytes, const char *wanted)
{
	expect_head_n(bytes, strlen(bytes), wanted);
}

#define LINE "GET / HTTP/1.1\r\n"
#define HEAD_OF(more) LINE "Host: h\r\n" more "\r\n"
#define EMPTY "11 at 0 body=-2 flags=0 host=h; 25 host=h"

static void test_heads_give_the_same_wherever_they_are_cut(void **state)
{
	(void)state;
	expect_head(HEAD_OF(""), EMPTY);
	expect_head(HEAD_OF("X-Own:a\r\nACCEPT:   */*  \r\nX-Own: \r\n"), EMPTY "; -1 x-own=a; 0 accept=*/*; -1 x-own=");
	expect_head(HEAD_OF("Cookie: a=b; c=\xff\xfe\t d\r\n"), EMPTY "; 17 cookie=a=b; c=\\xff\\xfe\\x09 d");
	expect_head(HEAD_OF("Content-Length: 5\r\n") "Hello", "11 at 5 body=5 flags=0 host=h; 25 host=h; 14 content-length=5");
	expect_head(HEAD_OF("Content-Length: 0\r\n"), "11 at 0 body=-2 flags=0 host=h; 25 host=h; 14 content-length=0");
	expect_head(HEAD_OF("Transfer-Encoding: Chunked\r\n"),
		    "11 at 0 body=-1 flags=0 host=h; 25 host=h; 58 transfer-encoding=Chunked");
	expect_head(HEAD_OF("Connection: x, CLOSE ,y\r\nConnection: Keep-Alive\r\n"),
		    "11 at 0 body=-2 flags=0 close keep host=h; 25 host=h; 10 connection=x, CLOSE ,y; 10 connection=Keep-Alive");
	expect_head(HEAD_OF("TE: gzip, Trailers\r\n"), "11 at 0 body=-2 flags=1 host=h; 25 host=h; 56 te=gzip, Trailers");
	expect_head(HEAD_OF("Expect: 100-Continue\r\nContent-Length: 1\r\n"),
		    "11 at 0 body=1 flags=2 host=h; 25 host=h; 21 expect=100-Continue; 14 content-length=1");
	expect_head(HEAD_OF("Expect: 100-continue\r\n"), EMPTY "; 21 expect=100-continue"); /* nothing to wait for */
	expect_head(HEAD_OF("Upgrade: websocket\r\nConnection: upgrade\r\n"),
		    "11 at 0 body=-2 flags=4 host=h; 25 host=h; 59 upgrade=websocket; 10 connection=upgrade");
	expect_head(LINE "hOsT:\r\n\r\n", "11 at 0 body=-2 flags=0 host=; 25 host=");
	expect_head("GET http://H/ HTTP/1.1\r\nHost: h\r\n\r\n", "11 at 0 body=-2 flags=0 host=H; 25 host=h");
	expect_head("GET / HTTP/1.0\r\n\r\n", "10 at 0 body=-2 flags=0 host=");
	expect_head("POST / HTTP/1.0\r\nExpect: 100-continue\r\nTE: trailers\r\nContent-Length: 3\r\n\r\n",
		    "10 at 0 body=3 flags=0 host=; 21 expect=100-continue; 56 te=trailers; 14 content-length=3");
	expect_head("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", "11 at 0 body=-2 flags=4 host=h:1; 25 host=h:1");
	expect_head(LINE "Host: h\r\n", "more");
	expect_head(LINE "Host: h\r\n\r", "more");
	expect_head("GET / HTTP", "more");
	expect_head("", "more");
}

/* RFC 9112 5.1: spaces and tabs are equal, and not part of the value. */
static void test_white_space_around_a_value_is_of_both_kinds(void **state)
{
	static const char *const blanks[] = {"", " ", "\t", " \t", "\t ", "\t\t  \t"};
	enum { BLANKS = sizeof blanks / sizeof *blanks };
	struct text bytes = {0};

	(void)state;
	for (unsigned i = 0; i < BLANKS * BLANKS; i++) {
		const char *before = blanks[i / BLANKS], *behind = blanks[i % BLANKS];
		text_add(&bytes, LINE "Host:%sh%s\r\nContent-Length:%s5%s\r\n\r\n", before, behind, before, behind);
		expect_head(text_str(&bytes), "11 at 0 body=5 flags=0 host=h; 25 host=h; 14 content-length=5");
		text_clear(&bytes);
		text_add(&bytes, HEAD_OF("Transfer-Encoding:%schunked%s\r\nX:%sa\tb%s\r\n"), before, behind, before, behind);
		expect_head(text_str(&bytes),
			    "11 at 0 body=-1 flags=0 host=h; 25 host=h; 58 transfer-encoding=chunked; -1 x=a\\x09b");
		text_clear(&bytes);
	}
	expect_head(HEAD_OF("Connection: a\t,\tclose\t\r\nTE:\ttrailers\t\r\n"),
		    "11 at 0 body=-2 flags=1 close host=h; 25 host=h; 10 connection=a\\x09,\\x09close; 56 te=trailers");
	expect_head(HEAD_OF("Content-Length: 5\t\r\nExpect:\t100-continue\t\r\n"),
		    "11 at 0 body=5 flags=2 host=h; 25 host=h; 14 content-length=5; 21 expect=100-continue");
	expect_head(HEAD_OF("Content-Length: 5\t5\r\n"), "400");
	expect_head(HEAD_OF("Content-Length: 5\t\n"), "400");
	expect_head(HEAD_OF("Transfer-Encoding: chunked\tx\r\n"), "400");
	expect_head(HEAD_OF("Content-Length: 5\t\r\n\t\r\n"), "400");
	text_free(&bytes);
}

/* Only the head is changed; white space at the end of a piece does not end a value. */
static void test_what_follows_a_head_is_not_touched(void **state)
{
	static const char bytes[] = LINE "Host: h\r\nContent-Length: 9\t\r\n\r\n\t\r\na\t \r\n\t";
	enum { LEN = sizeof bytes - 1, BODY = 9 };

	(void)state;
	for (size_t cut = 0; cut <= LEN; cut++) {
		struct h1_parse *p = malloc(sizeof *p);
		uint8_t *copy = exact_copy(bytes, LEN);
		h1_parse_init(p, &config);
		if (h1_read_head(p, copy, cut) == H1_MORE)
			assert_int_equal(h1_read_head(p, copy, LEN), H1_DONE);
		assert_int_equal(p->head_len, LEN - BODY);
		assert_memory_equal(copy + p->head_len, bytes + LEN - BODY, BODY);
		h1_parse_free(p);
		free(p);
		free(copy);
	}
}

/* RFC 9112 3 */
static void test_a_method_longer_than_any_gets_501(void **state)
{
	struct text bytes = {0};

	(void)state;
	config.max_request_line = 128;
	text_add(&bytes, "%064d / HTTP/1.1\r\nHost: h\r\n\r\n", 1);
	expect_head(text_str(&bytes), "11 at 0 body=-2 flags=0 host=h; 25 host=h");
	text_clear(&bytes);
	text_add(&bytes, "%065d / HTTP/1.1\r\nHost: h\r\n\r\n", 1);
	expect_head(text_str(&bytes), "501");
	text_clear(&bytes);
	text_add(&bytes, "%0200d / HTTP/1.1\r\nHost: h\r\n\r\n", 1);
	expect_head(text_str(&bytes), "501");
	text_clear(&bytes);
	text_add(&bytes, "%065d", 1);
	expect_head(text_str(&bytes), "501");
	text_clear(&bytes);
	text_add(&bytes, "GET /%0200d HTTP/1.1\r\nHost: h\r\n\r\n", 1);
	expect_head(text_str(&bytes), "414");
	text_free(&bytes);
}

static void test_malformed_heads_are_refused_wherever_they_are_cut(void **state)
{
	(void)state;
	expect_head(LINE "\r\n", "400"); /* RFC 9112 3.2: no Host */
	expect_head(HEAD_OF("Host: h\r\n"), "400");
	expect_head(LINE "Host: a b\r\n\r\n", "400");
	expect_head(LINE "Host: a,b\r\nHost:\r\n\r\n", "400");
	expect_head(LINE "Host: user@h\r\n\r\n", "400");
	expect_head("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "400");
	expect_head(HEAD_OF("A : b\r\n"), "400"); /* 5.1: no white space before the colon */
	expect_head(HEAD_OF(" a: b\r\n"), "400"); /* 5.2: folding */
	expect_head(HEAD_OF("a: b\r\n c\r\n"), "400");
	expect_head(HEAD_OF("a:\r\n b\r\n"), "400");
	expect_head(HEAD_OF("a: b\r\n\tc\r\n"), "400");
	expect_head(HEAD_OF("a:\r\n \r\n"), "400");
	expect_head(HEAD_OF("a: b\r\n \r\n"), "400");
	expect_head(HEAD_OF("a: b\r\n\t\r\nc: d\r\n"), "400");
	expect_head(LINE "\n", "400");
	expect_head(LINE " Host: h\r\n\r\n", "400"); /* 2.2 */
	expect_head(LINE "\tHost: h\r\n\r\n", "400");
	expect_head(HEAD_OF(": b\r\n"), "400");
	expect_head(HEAD_OF(":\r\n"), "400");
	expect_head(LINE ": b\r\nHost: h\r\n\r\n", "400");
	expect_head(HEAD_OF("nocolon\r\n"), "400");
	expect_head(HEAD_OF("a\x80: b\r\n"), "400");
	expect_head(HEAD_OF("a(: b\r\n"), "400");
	expect_head(HEAD_OF("a: b\x01\r\n"), "400"); /* RFC 9110 5.5 */
	expect_head(HEAD_OF("a: b\x7f\r\n"), "400");
	expect_head(HEAD_OF("a: b\rc\r\n"), "400"); /* 2.2: a bare CR */
	expect_head(HEAD_OF("a: b\r\r\n"), "400");
	expect_head(HEAD_OF("a: b\n"), "400"); /* a bare LF */
	expect_head(LINE "Host: h\n\n", "400");
	expect_head(LINE "Host: h\r\n\n", "400");
	expect_head("GET / HTTP/1.1\nHost: h\r\n\r\n", "400");
	expect_head("GET / HTTP/1.1\rHost: h\r\n\r\n", "400");
	expect_head("GET / HTTP/1.1\r\r\nHost: h\r\n\r\n", "400");
	expect_head("GET /\xc3\xa4 HTTP/1.1\r\nHost: h\r\n\r\n", "400");
	expect_head("\x16\x03\x01\x02", "400"); /* TLS */
	expect_head("\n", "400");
	expect_head("GET / HTTP/2.0\r\nHost: h\r\n\r\n", "505");
	expect_head("GET / HTTP/1.1 \r\nHost: h\r\n\r\n", "400");
	expect_head_n(LINE "Host: h\r\na: b\0c\r\n\r\n", sizeof LINE "Host: h\r\na: b0c\r\n\r\n" - 1, "400");
}

/* RFC 9112 6.3: the length of a body must not be ambiguous. */
static void test_ambiguous_framing_is_refused_wherever_it_is_cut(void **state)
{
	(void)state;
	expect_head(HEAD_OF("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), "400");
	expect_head(HEAD_OF("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), "400");
	expect_head(HEAD_OF("Content-Length: 5\r\nContent-Length: 5\r\n"), "400");
	expect_head(HEAD_OF("Content-Length: 0\r\nContent-Length: 0\r\n"), "400");
	expect_head(HEAD_OF("Content-Length: 5, 5\r\n"), "400");
	expect_head(HEAD_OF("Content-Length: +5\r\n"), "400");
	expect_head(HEAD_OF("Content-Length: -5\r\n"), "400");
	expect_head(HEAD_OF("Content-Length: 5 5\r\n"), "400");
	expect_head(HEAD_OF("Content-Length: 0x5\r\n"), "400");
	expect_head(HEAD_OF("Content-Length: 5a\r\n"), "400");
	expect_head(HEAD_OF("Content-Length:\r\n"), "400");
	expect_head(HEAD_OF("Content-Length: 99999999999999999999\r\n"), "400");
	expect_head(HEAD_OF("Content-Length: 18446744073709551621\r\n"), "400");
	expect_head(HEAD_OF("Content-Length: 9223372036854775808\r\n"), "400");
	expect_head(HEAD_OF("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "400");
	expect_head(HEAD_OF("Transfer-Encoding: chunked, chunked\r\n"), "400");
	expect_head(HEAD_OF("Transfer-Encoding: chunked, gzip\r\n"), "400");
	expect_head(HEAD_OF("Transfer-Encoding: \"chunked\"\r\n"), "400");
	expect_head(HEAD_OF("Transfer-Encoding: chunked;a=b\r\n"), "400");
	expect_head(HEAD_OF("Transfer-Encoding: \x0b"
			    "chunked\r\n"),
		    "400");
	expect_head(HEAD_OF("Transfer-Encoding:\r\n"), "400");
	expect_head("POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "400");
	expect_head(HEAD_OF("Expect: 200-ok\r\nContent-Length: 1\r\n"), "417");
}

static void test_a_transfer_coding_that_is_unknown_gets_501(void **state)
{
	(void)state;
	expect_head(HEAD_OF("Transfer-Encoding: identity\r\n"), "501");
	expect_head(HEAD_OF("Transfer-Encoding: gzip\r\n"), "501");
}

/* A head of `before`, n times the filler, and `after`. */
static void expect_filled(const char *before, size_t n, const char *after, const char *wanted)
{
	struct text head = {0}, got = {0};

	text_add(&head, "%s", before);
	for (size_t i = 0; i < n; i++)
		text_add_bytes(&head, "x", 1);
	text_add(&head, "%s", after);
	for (size_t cut = 0; cut <= buf_len(&head.buf); cut += buf_len(&head.buf) - cut < 5 || cut < 5 ? 1 : 41) {
		read_head(&got, text_str(&head), buf_len(&head.buf), cut);
		if (strncmp(text_str(&got), wanted, strlen(wanted)) != 0) {
			print_error("%.20s instead of %s, cut at %zu, filled with %zu: %s\n", text_str(&got), wanted, cut, n,
				    after);
			wrong++;
			break;
		}
		text_clear(&got);
	}
	text_free(&head);
	text_free(&got);
}

static void test_limits_hold_to_the_byte(void **state)
{
	(void)state;
	config.max_request_line = 100;
	config.max_header_line = 200;
	config.max_header_block = 400;
	config.max_header_count = 3;
	expect_filled("GET /", 100 - 14, " HTTP/1.1\r\nHost: h\r\n\r\n", "11 at 0");
	expect_filled("GET /", 101 - 14, " HTTP/1.1\r\nHost: h\r\n\r\n", "414");
	expect_filled("GET /", 5000, "", "414");
	expect_filled(LINE "Host: h\r\na: ", 197, "\r\n\r\n", "11 at 0");
	expect_filled(LINE "Host: h\r\na: ", 198, "\r\n\r\n", "431");
	expect_filled(LINE "Host: h\r\na: ", 198, "\x01\r\n\r\n", "431"); /* of two faults, the first is reported */
	expect_filled(LINE "Host: h\r\na: ", 197, "\x01\r\n\r\n", "400");
	expect_filled(LINE "Host: h\r\na: ", 300, "\x01\r\n\r\n", "431");
	expect_filled(LINE "Host: h\r\n", 197, ":\r\n\r\n", "11 at 0");
	expect_filled(LINE "Host: h\r\n", 201, ":\r\n\r\n", "431");
	expect_filled(
		LINE "Host: h\r\na: ", 150,
		"\r\nb: "
		"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
		"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
		"yyyy\r\n\r\n",
		"431");
	expect_head(HEAD_OF("a: b\r\nc: d\r\n"), EMPTY "; -1 a=b; -1 c=d");
	expect_head(HEAD_OF("a: b\r\nc: d\r\ne: f\r\n"), "431");
	expect_head(HEAD_OF("a: b\r\nc: d\r\ne@f: g\r\n"), "400"); /* the fault that comes first */
	config.max_header_block = 256;
	config.max_header_line = 256;
	for (size_t more = 0; more < 3; more++) /* 16 + 9 + 3 + n + 4 bytes */
		expect_filled(LINE "Host: h\r\na: ", 256 - 32 + more, "\r\n\r\n", more ? "431" : "11 at 0");
}

static void test_max_body_refuses_a_length_that_is_said(void **state)
{
	(void)state;
	config.max_body = 5;
	expect_head(HEAD_OF("Content-Length: 5\r\n"), "11 at 0 body=5 flags=0 host=h; 25 host=h; 14 content-length=5");
	expect_head(HEAD_OF("Content-Length: 6\r\n"), "413");
	expect_head(HEAD_OF("Content-Length: 9000000000000000000\r\n"), "413");
}

/* ---- bodies ---- */

/* Reads the body of a chunked request in two pieces; returns the body, trailers, and what follows. */
static void read_body(struct text *got, const char *bytes, size_t len, size_t cut)
{
	static const char head_bytes[] = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
	struct h1_parse *p = malloc(sizeof *p);
	uint8_t *head_copy = exact_copy(head_bytes, sizeof head_bytes - 1);
	enum h1_read_result result = H1_MORE;
	struct request_head head;
	struct h1_facts facts;
	size_t from = 0, to = cut;
	unsigned count;

	h1_parse_init(p, &config);
	assert_int_equal(h1_read_head(p, head_copy, sizeof head_bytes - 1), H1_DONE);
	assert_true(h1_examine(p, head_copy, fields, &head, &facts));
	free(head_copy);
	for (; result == H1_MORE; to = len) {
		uint8_t *copy = exact_copy(bytes + from, to - from);
		struct slice body = {0};
		size_t used = 0;
		result = from < to ? h1_read_body(p, copy, to - from, &used, &body) : H1_MORE;
		if (result != H1_BAD && body.len) {
			assert_true(body.at == copy);
			text_add_bytes(got, body.at, body.len);
		}
		if (result == H1_MORE)
			assert_int_equal(used, to - from);
		from += used;
		free(copy);
		if (to == len)
			break;
	}
	if (result == H1_DONE && !h1_trailers(p, fields, &count))
		text_add(got, " refused");
	else if (result == H1_DONE)
		for (unsigned i = 0; i < count; i++) {
			text_add(got, " ");
			text_add_bytes(got, fields[i].name.at, fields[i].name.len);
			text_add(got, "=");
			text_add_bytes(got, fields[i].value.at, fields[i].value.len);
		}
	if (result == H1_DONE)
		text_add(got, " +%zu", len - from);
	if (result == H1_MORE)
		text_add(got, " more");
	if (result == H1_BAD) {
		text_clear(got); /* the bytes before the fault depend on the cut */
		text_add(got, "%u", p->status);
	}
	h1_parse_free(p);
	free(p);
}

static void expect_body(const char *bytes, const char *wanted)
{
	struct text got = {0};
	size_t len = strlen(bytes);

	for (size_t cut = 0; cut <= len; cut++) {
		read_body(&got, bytes, len, cut);
		if (!is_wanted(&got, wanted, slice_of(bytes, len), cut))
			break;
	}
	text_free(&got);
}

static void test_chunked_bodies_give_the_same_wherever_they_are_cut(void **state)
{
	(void)state;
	expect_body("0\r\n\r\n", " +0");
	expect_body("5\r\nHello\r\n0\r\n\r\n", "Hello +0");
	expect_body("00005\r\nHello\r\n6\r\n world\r\n000\r\n\r\n", "Hello world +0");
	expect_body("a\r\n0123456789\r\nB\r\n0\r\n\r\n123456\r\n0\r\n\r\n", "01234567890\r\n\r\n123456 +0");
	expect_body("5;a;b=\"d e\"\r\nHello\r\n0;x\r\n\r\n", "Hello +0");
	expect_body("1\r\nx\r\n0\r\nX-Sum: 12 \r\nETag:\"e\"\r\n\r\n", "x x-sum=12 etag=\"e\" +0");
	expect_body("1\r\nx\r\n0\r\nA:\r\n\r\n", "x a= +0");
	expect_body("5\r\nHel", "Hel more");
	expect_body("5\r\nHello\r\n0\r\n", "Hello more");
	expect_body("5\r\nHello\r\n0\r\nA: b\r\n", "Hello more");
}

/* RFC 9112 7.1.1 */
static void test_chunk_extensions_are_read_by_the_grammar(void **state)
{
	static const char *const valid[] = {
		";foo",
		";foo=bar",
		";foo=bar;baz;q=1",
		";a=1;c=2",
		";foo=\"b\\\"c\"",
		";foo=\"b;a\\\"r\"",
		";foo=\"\"",
		";foo=\"\\\\\";b",
		";foo=\"a\tb \xe9\\\t\\\xff\"",
		" ; foo = bar",
		"\t;\tfoo\t=\tbar\t;\tbaz",
		" \t ; \t foo \t ; \t bar = \t \"x\" ;y",
		";!#$%&'*+-.^_`|~=!#$%&'*+-.^_`|~",
	};
	static const char *const wrong_ones[] = {
		";",          ";a=",         ";=b",         ";=\"b\"",       ";;a",       ";a;",       ";a==b",
		";a=b=c",     ";a b",        ";a=b c",      ";a \"b\"",      ";a=\"b",    ";a=\"b\"c", ";a=b\"c\"",
		";a=\"b\\\"", ";a=\"\x01\"", ";a=\"\x7f\"", ";a=\"\\\x7f\"", ";a=\"\r\"", ";a=\"\n\"", ";a=\"\\\r\n\"",
		";a=\xe9",    ";\xe9",       ";a[",         ";a=(",          ",a",        "=a",        " ",
		"\t",         ";a ",         ";a\t",        ";a=b ",         ";a=b\t",    ";a=\"b\" ", " a",
		" ; ",        "; ",          ";a= ",        ";a = ",         ";a\n",      ";a\r",      ";a\rb",
		";a=b\r\r",   "\r",          ";\r",
	};

	struct text bytes = {0};

	(void)state;
	for (unsigned i = 0; i < sizeof valid / sizeof *valid; i++) {
		text_add(&bytes, "5%s\r\nHello\r\n0%s\r\nA: b\r\n\r\nx", valid[i], valid[i]);
		expect_body(text_str(&bytes), "Hello a=b +1");
		text_clear(&bytes);
	}
	for (unsigned i = 0; i < sizeof wrong_ones / sizeof *wrong_ones; i++) {
		text_add(&bytes, "5%s\r\nHello\r\n0\r\n\r\n", wrong_ones[i]);
		expect_body(text_str(&bytes), "400");
		text_clear(&bytes);
		text_add(&bytes, "5\r\nHello\r\n0%s\r\n\r\n", wrong_ones[i]);
		expect_body(text_str(&bytes), "400");
		text_clear(&bytes);
	}
	text_free(&bytes);
}

static void test_a_nul_is_in_no_chunk_extension(void **state)
{
	static const char nul[] = "5;a=\"b\0c\"\r\nHello\r\n0\r\n\r\n", bare[] = "5;\0\r\nHello\r\n0\r\n\r\n";
	struct text got = {0};

	(void)state;
	for (size_t cut = 0; cut < sizeof nul - 1; cut++) {
		read_body(&got, nul, sizeof nul - 1, cut);
		EXPECT_TEXT(&got, "400");
	}
	for (size_t cut = 0; cut < sizeof bare - 1; cut++) {
		read_body(&got, bare, sizeof bare - 1, cut);
		EXPECT_TEXT(&got, "400");
	}
	text_free(&got);
}

static void test_what_follows_a_chunked_body_is_left_and_not_looked_at(void **state)
{
	(void)state;
	expect_body("5\r\nHello\r\n0\r\n\r\nGET / HTTP/1.1\r\n", "Hello +16");
	expect_body("0\r\nA: b\r\n\r\n\r\n", " a=b +2");
	expect_body("0\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 6\r\n\r\n{\n  1}", " +44");
	expect_body("0\r\nA: b\r\n\r\nx\n\ty", " a=b +4");
}

static void test_malformed_chunks_are_refused_wherever_they_are_cut(void **state)
{
	(void)state;
	expect_body("\r\n", "400");
	expect_body("g\r\n", "400");
	expect_body("-1\r\n", "400");
	expect_body("+1\r\nx\r\n", "400");
	expect_body("0x5\r\nHello\r\n0\r\n\r\n", "400");
	expect_body(" 5\r\nHello\r\n0\r\n\r\n", "400");
	expect_body("5 \r\nHello\r\n0\r\n\r\n", "400");
	expect_body("5\nHello\r\n0\r\n\r\n", "400");
	expect_body("5\rHello\r\n0\r\n\r\n", "400");
	expect_body("5\r\nHello0\r\n\r\n", "400");
	expect_body("5\r\nHello!\r\n0\r\n\r\n", "400");
	expect_body("5\r\nHello\n0\r\n\r\n", "400");
	expect_body("5\r\nHelloXX0\r\n\r\n", "400");
	expect_body("5;\r\r\nHello\r\n0\r\n\r\n", "400");
	expect_body("5;a=b\nHello\r\n0\r\n\r\n", "400");
	expect_body("ffffffffffffffff0\r\n", "400");
	expect_body("10000000000000005\r\nHello\r\n0\r\n\r\n", "400");
	expect_body("0\r\nA : b\r\n\r\n", "400");
	expect_body("0\r\n: b\r\n\r\n", "400");
	expect_body("0\r\nA: b\r\n c\r\n\r\n", "400");
	expect_body("0\r\n A: b\r\n\r\n", "400");
	expect_body("0\r\nA:\r\n b\r\n\r\n", "400");
	expect_body("0\r\nA: b\n\r\n", "400");
	expect_body("0\r\nA: b\rc\r\n\r\n", "400");
	expect_body("0\r\n\rX", "400");
	expect_body("0\r\n\n", "400");
}

static void test_trailers_that_would_change_the_message_are_refused(void **state)
{
	(void)state;
	expect_body("0\r\nContent-Length: 5\r\n\r\n", " refused +0");
	expect_body("0\r\nHost: x\r\n\r\n", " refused +0");
	expect_body("0\r\nAuthorization: x\r\n\r\n", " refused +0");
	expect_body("0\r\nConnection: close\r\n\r\n", " refused +0");
}

static void test_limits_of_chunked_bodies(void **state)
{
	struct text long_one = {0}, wanted = {0};

	(void)state;
	config.max_body = 10;
	expect_body("5\r\nHello\r\n5\r\nHello\r\n0\r\n\r\n", "HelloHello +0");
	expect_body("5\r\nHello\r\n6\r\nHello!\r\n0\r\n\r\n", "413");
	config.max_header_count = 2;
	expect_body("0\r\nA: b\r\nC: d\r\n\r\n", " a=b c=d +0");
	expect_body("0\r\nA: b\r\nC: d\r\nE: f\r\n\r\n", "431");
	expect_body("0\r\nA: b\r\nC: d\r\nE: f\n\r\n", "431"); /* of two faults, the first is reported */
	expect_body("0\r\nA: b\r\nC: d\nE: f\r\n\r\n", "400");
	expect_body("5\r\nHello\r\n6\r\nHello!XX", "413");
	config.max_header_line = 64;
	text_add(&long_one, "0\r\nA: %070d\r\n\r\n", 1);
	expect_body(text_str(&long_one), "431");
	text_clear(&long_one);
	text_add(&long_one, "0\r\nA: %061d\r\n\r\n", 1);
	text_add(&wanted, " a=%061d +0", 1);
	expect_body(text_str(&long_one), text_str(&wanted));
	text_free(&wanted);
	text_clear(&long_one);
	text_add(&long_one, "0\r\nA: %062d\r\n\r\n", 1);
	expect_body(text_str(&long_one), "431");
	text_clear(&long_one);
	text_add(&long_one, "0\r\nA: %070d\x01\r\n\r\n", 1);
	expect_body(text_str(&long_one), "431");
	text_clear(&long_one);
	text_add(&long_one, "0\r\nA: %050d\x01%070d\r\n\r\n", 1, 1);
	expect_body(text_str(&long_one), "400");
	text_clear(&long_one);
	config.max_chunk_extension = 20;
	text_add(&long_one, "1;%019d\r\nx\r\n0\r\n\r\n", 1);
	expect_body(text_str(&long_one), "x +0");
	text_clear(&long_one);
	text_add(&long_one, "1;%030d\r\nx\r\n0\r\n\r\n", 1);
	expect_body(text_str(&long_one), "400");
	text_free(&long_one);
}

static void test_zeros_before_a_chunk_size_do_not_go_on_for_ever(void **state)
{
	struct text zeros = {0}, got = {0};

	(void)state;
	for (unsigned i = 0; i < 60000; i++)
		text_add_bytes(&zeros, "0", 1);
	for (size_t cut = 1; cut < 60000; cut += 5000) {
		read_body(&got, text_str(&zeros), 60000, cut);
		EXPECT_TEXT(&got, "400");
	}
	text_free(&zeros);
	text_free(&got);
}

static void test_many_small_extensions_are_refused_by_their_average(void **state)
{
	struct text body = {0}, got = {0};

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		text_add(&body, "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n");
	read_body(&got, text_str(&body), buf_len(&body.buf), 7);
	EXPECT_TEXT(&got, "400");
	text_clear(&body);
	for (unsigned i = 0; i < 100; i++)
		text_add(&body, "1;aaaaaaaa\r\nx\r\n");
	text_add(&body, "0\r\n\r\n");
	read_body(&got, text_str(&body), buf_len(&body.buf), 7);
	assert_int_equal(strlen(text_str(&got)), 103);
	text_free(&body);
	text_free(&got);
}

static void test_a_length_body_ends_at_its_last_byte(void **state)
{
	static const char head_bytes[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\n";
	uint8_t data[] = "HelloABC";

	(void)state;
	for (size_t cut = 1; cut < 7; cut++) {
		struct h1_parse *p = malloc(sizeof *p);
		uint8_t *head_copy = exact_copy(head_bytes, sizeof head_bytes - 1);
		struct request_head head;
		struct h1_facts facts;
		struct slice body;
		size_t used;
		unsigned count = 9;
		h1_parse_init(p, &config);
		assert_int_equal(h1_read_head(p, head_copy, sizeof head_bytes - 1), H1_DONE);
		assert_true(h1_examine(p, head_copy, fields, &head, &facts));
		assert_int_equal(h1_read_body(p, data, cut, &used, &body), H1_MORE);
		assert_int_equal(used, cut);
		assert_int_equal(h1_read_body(p, data + cut, 8 - cut, &used, &body), H1_DONE);
		assert_int_equal(used, 7 - cut);
		assert_int_equal(body.len, 7 - cut);
		assert_true(h1_trailers(p, fields, &count));
		assert_int_equal(count, 0);
		h1_parse_free(p);
		free(p);
		free(head_copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_heads_give_the_same_wherever_they_are_cut, setup, all_well),
		cmocka_unit_test_setup_teardown(test_white_space_around_a_value_is_of_both_kinds, setup, all_well),
		cmocka_unit_test_setup_teardown(test_what_follows_a_head_is_not_touched, setup, all_well),
		cmocka_unit_test_setup_teardown(test_a_method_longer_than_any_gets_501, setup, all_well),
		cmocka_unit_test_setup_teardown(test_malformed_heads_are_refused_wherever_they_are_cut, setup, all_well),
		cmocka_unit_test_setup_teardown(test_ambiguous_framing_is_refused_wherever_it_is_cut, setup, all_well),
		cmocka_unit_test_setup_teardown(test_a_transfer_coding_that_is_unknown_gets_501, setup, all_well),
		cmocka_unit_test_setup_teardown(test_limits_hold_to_the_byte, setup, all_well),
		cmocka_unit_test_setup_teardown(test_max_body_refuses_a_length_that_is_said, setup, all_well),
		cmocka_unit_test_setup_teardown(test_chunked_bodies_give_the_same_wherever_they_are_cut, setup, all_well),
		cmocka_unit_test_setup_teardown(test_chunk_extensions_are_read_by_the_grammar, setup, all_well),
		cmocka_unit_test_setup_teardown(test_a_nul_is_in_no_chunk_extension, setup, all_well),
		cmocka_unit_test_setup_teardown(test_what_follows_a_chunked_body_is_left_and_not_looked_at, setup, all_well),
		cmocka_unit_test_setup_teardown(test_malformed_chunks_are_refused_wherever_they_are_cut, setup, all_well),
		cmocka_unit_test_setup_teardown(test_trailers_that_would_change_the_message_are_refused, setup, all_well),
		cmocka_unit_test_setup_teardown(test_limits_of_chunked_bodies, setup, all_well),
		cmocka_unit_test_setup_teardown(test_zeros_before_a_chunk_size_do_not_go_on_for_ever, setup, all_well),
		cmocka_unit_test_setup_teardown(test_many_small_extensions_are_refused_by_their_average, setup, all_well),
		cmocka_unit_test_setup_teardown(test_a_length_body_ends_at_its_last_byte, setup, all_well),
	};

	return cmocka_run_group_tests_name("h1_read", tests, NULL, NULL);
}
