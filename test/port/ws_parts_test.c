/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a WebSocket: SHA-1, UTF-8, the handshake, frame headers, permessage-deflate. */
#include "base/sha1.h"
#include "support.h"
#include "ws/deflate.h"
#include "ws/frame.h"
#include "ws/handshake.h"
#include "ws/utf8.h"

/* ---- SHA-1 ---- */

static void add_hex(struct text *t, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		text_add(t, "%02x", bytes[i]);
}

static void expect_sha1(const void *bytes, size_t len, const char *wanted)
{
	uint8_t digest[SHA1_LEN], *copy = exact_copy(bytes, len);
	struct text got = {0};

	sha1(copy, len, digest);
	add_hex(&got, digest, sizeof digest);
	EXPECT_TEXT(&got, wanted);
	text_free(&got);
	free(copy);
}

static void test_sha1_of_known_texts(void **state)
{
	static uint8_t many[1000000];
	static const struct {
		unsigned len;
		const char *digest;
	} of_a[] = {
		/* around where the length no longer fits the block */
		{55, "c1c8bbdc22796e28c0e15163d20899b65621d65a"},
		{56, "c2db330f6083854c99d4b5bfb6e8f29f201be699"},
		{63, "03f09f5b158a7a8cdad920bddc29b81c18a551f5"},
		{64, "0098ba824b5c16427bd7a1122a5a442a25ec644d"},
		{65, "11655326c708d70319be2610e8a57d9a5b959d3b"},
		{1000000, "34aa973cd4c4daa4f61eeb2bdbad27316534016f"}, /* RFC 3174 7.3 */
	};

	(void)state;
	expect_sha1("", 0, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
	expect_sha1("abc", 3, "a9993e364706816aba3e25717850c26c9cd0d89d");
	expect_sha1("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
	memset(many, 'a', sizeof many);
	for (size_t i = 0; i < sizeof of_a / sizeof *of_a; i++)
		expect_sha1(many, of_a[i].len, of_a[i].digest);
}

/* ---- UTF-8 ---- */

/* By table 3-7 of the Unicode standard, one character at a time: 0 if none begins here. */
static size_t character_at(const uint8_t *s, size_t len)
{
	static const struct {
		uint8_t from, to, second_from, second_to;
		size_t len;
	} rows[] = {
		{0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
		{0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (s[0] < rows[i].from || s[0] > rows[i].to || len < rows[i].len)
			continue;
		if (rows[i].len > 1 && (s[1] < rows[i].second_from || s[1] > rows[i].second_to))
			continue;
		for (size_t k = 2; k < rows[i].len; k++)
			if ((s[k] & 0xc0) != 0x80)
				return 0;
		return rows[i].len;
	}
	return 0;
}

static bool is_text(const uint8_t *s, size_t len)
{
	for (size_t n; len > 0; s += n, len -= n)
		if ((n = character_at(s, len)) == 0)
			return false;
	return true;
}

static void test_utf8_agrees_with_the_table_for_all_short_sequences(void **state)
{
	static const uint8_t edges[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0,
					0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf8, 0xfc, 0xfe, 0xff};
	enum { N = sizeof edges };

	(void)state;
	for (unsigned i = 0; i < N * N * N * N; i++) {
		uint8_t s[4] = {edges[i / (N * N * N)], edges[i / (N * N) % N], edges[i / N % N], edges[i % N]};
		for (size_t len = 1; len <= 4; len++) {
			struct utf8 u = {0};
			bool got = utf8_feed(&u, slice_of(s, len)) && utf8_whole(&u);
			if (got != is_text(s, len))
				fail_msg("%02x %02x %02x %02x, %zu bytes: %d", s[0], s[1], s[2], s[3], len, got);
		}
	}
}

static void test_utf8_is_the_same_wherever_it_is_cut(void **state)
{
	static const char text[] =
		"ASCII that is longer than eight bytes, \xce\xba\xe1\xbd\xb9\xcf\x83 \xf0\x9f\x8e\x89 and more of it.";
	size_t len = sizeof text - 1;

	(void)state;
	for (size_t i = 0; i <= len; i++) {
		struct utf8 u = {0};
		assert_true(utf8_feed(&u, slice_of(text, i)));
		assert_true(utf8_feed(&u, slice_of(text + i, len - i)));
		assert_true(utf8_whole(&u));
	}
}

static void test_utf8_fails_at_the_first_byte_that_cannot_be(void **state)
{
	static const struct {
		const char *bytes;
		size_t at;
	} cases[] = {
		{"a\xff", 1},    {"\xc0", 0},     {"\xe0\x9f", 1},     {"\xed\xa0", 1},
		{"\xf4\x90", 1}, {"\xf0\x8f", 1}, {"\xe1\x80\x41", 2}, {"\xf1\x80\x80\xc0", 3},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct utf8 u = {0};
		for (size_t k = 0; k <= cases[i].at; k++)
			assert_int_equal(utf8_feed(&u, slice_of(cases[i].bytes + k, 1)), k < cases[i].at);
	}
}

/* ---- the handshake ---- */

static struct field field_of(const char *line)
{
	const char *colon = strchr(line + 1, ':');
	const char *value = colon + 1 + (colon[1] == ' ');

	return (struct field){slice_of(line, (size_t)(colon - line)), slice_str(value), -1};
}

static unsigned handshake(struct ws_handshake *h, unsigned version, int method, const char *const *lines)
{
	struct field fields[16];
	struct request_head head = {.version = version, .method_index = method, .body = BODY_NONE, .fields = fields};

	for (; lines[head.field_count]; head.field_count++)
		fields[head.field_count] = field_of(lines[head.field_count]);
	ws_handshake_read(h, &head);
	return h->refusal;
}

static void test_accept_value_of_rfc_6455(void **state)
{
	char accept[WS_ACCEPT_LEN];

	(void)state;
	ws_accept_value("dGhlIHNhbXBsZSBub25jZQ==", accept); /* 1.3 */
	EXPECT_SLICE(slice_of(accept, sizeof accept), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#define KEY "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="
#define VERSION "sec-websocket-version: 13"

static void test_handshakes_over_http_1(void **state)
{
	static const struct {
		unsigned refusal;
		const char *lines[8];
	} cases[] = {
		{0, {"upgrade: websocket", "connection: Upgrade", VERSION, KEY}},
		{0, {"upgrade: x, WebSocket", "connection: a ,\tUPGRADE", VERSION, KEY}},
		{0, {"upgrade: x", "upgrade: websocket", "connection: a", "connection: upgrade", VERSION, KEY}},
		{400, {"upgrade: websocketx", "connection: upgrade", VERSION, KEY}},
		{400, {"upgrade: websocket/13", "connection: upgrade", VERSION, KEY}},
		{400, {"upgrade: websocket", "connection: upgraded", VERSION, KEY}},
		{400, {"upgrade: websocket", "connection: upgrade", VERSION}},
		{400, {"upgrade: websocket", "connection: upgrade", VERSION, KEY, KEY}},
		{400, {"upgrade: websocket", "connection: upgrade", VERSION, "sec-websocket-key: "}},
		{400, {"upgrade: websocket", "connection: upgrade", VERSION, "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ="}},
		{400, {"upgrade: websocket", "connection: upgrade", VERSION, "sec-websocket-key: dGhlIHNhbXBsZSBub25j=Q=="}},
		{400, {"upgrade: websocket", VERSION, KEY}},
		{426, {"upgrade: websocket", "connection: upgrade", KEY}},
		{426, {"upgrade: websocket", "connection: upgrade", "sec-websocket-version: 8", KEY}},
		{400, {"upgrade: websocket", "connection: upgrade", VERSION, VERSION, KEY}},
	};
	struct ws_handshake h;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (handshake(&h, 11, 0, cases[i].lines) != cases[i].refusal || h.valid != (cases[i].refusal == 0))
			fail_msg("case %zu: %u", i, h.refusal);
	assert_int_equal(handshake(&h, 10, 0, cases[0].lines), 400);
	assert_int_equal(handshake(&h, 11, 2, cases[0].lines), 400);
	handshake(&h, 11, 0, cases[0].lines);
	assert_true(h.has_key);
	EXPECT_SLICE(slice_of(h.key, sizeof h.key), "dGhlIHNhbXBsZSBub25jZQ==");
}

static void test_handshakes_over_http_2(void **state)
{
	static const char *const lines[] = {"upgrade: websocket", VERSION, NULL};
	static const char *const old[] = {"upgrade: websocket", "sec-websocket-version: 8", NULL};
	static const char *const other[] = {"upgrade: connect-udp", VERSION, NULL};
	struct ws_handshake h;

	(void)state;
	assert_int_equal(handshake(&h, 20, 0, lines), 0); /* RFC 8441 section 5: no key, no connection field */
	assert_false(h.has_key);
	assert_int_equal(handshake(&h, 20, 0, old), 426);
	assert_int_equal(handshake(&h, 20, 0, other), 400);
	assert_int_equal(handshake(&h, 20, 5, lines), 400); /* a plain CONNECT */
}

/* ---- frame headers ---- */

static const struct ws_guard plain = {.max_message = 1000, .max_fragments = 1};

static const char *look(const struct ws_guard *g, const char *bytes, size_t len, struct ws_header *h)
{
	struct ws_fault fault = {0};
	uint8_t *copy = exact_copy(bytes, len);
	enum ws_look got = ws_guard_look(g, slice_of(copy, len), h, &fault);

	free(copy);
	return got == WS_LOOK_MORE ? "more" : got == WS_LOOK_FRAME ? "frame" : fault.rule;
}

#define LOOK(guard, bytes) look(guard, bytes, sizeof bytes - 1, &h)

static void test_headers_are_looked_at_byte_by_byte(void **state)
{
	static const char long_one[] = "\x82\xfe\x03\xe8mask";
	struct ws_guard in_text = plain, deflated = plain;
	struct ws_header h;

	(void)state;
	in_text.type = WS_TEXT;
	deflated.may_compress = true;
	for (size_t i = 0; i < sizeof long_one - 1; i++)
		assert_string_equal(look(&plain, long_one, i, &h), "more");
	assert_string_equal(LOOK(&plain, "\x82\xfe\x03\xe8mask"), "frame");
	assert_int_equal(h.len, 1000);
	assert_int_equal(h.size, 8);
	/* each at the first byte that reveals it */
	assert_string_equal(LOOK(&plain, "\xa1"), "a reserved bit is set");
	assert_string_equal(LOOK(&plain, "\x91"), "a reserved bit is set");
	assert_string_equal(LOOK(&plain, "\xc1"), "RSV1 is set");
	assert_string_equal(LOOK(&deflated, "\xc1"), "more");
	assert_string_equal(LOOK(&deflated, "\xc9"), "RSV1 is set");
	assert_string_equal(LOOK(&plain, "\x83"), "a reserved opcode");
	assert_string_equal(LOOK(&plain, "\x8b"), "a reserved opcode");
	assert_string_equal(LOOK(&plain, "\x09"), "a fragmented control frame");
	assert_string_equal(LOOK(&plain, "\x80"), "a continuation without a message");
	assert_string_equal(LOOK(&in_text, "\x80"), "more");
	assert_string_equal(LOOK(&in_text, "\x81"), "a message inside another");
	assert_string_equal(LOOK(&in_text, "\x89"), "more");
	assert_string_equal(LOOK(&plain, "\x81\x01"), "a frame without a mask");
	assert_string_equal(LOOK(&plain, "\x89\xfe"), "a control frame of more than 125 bytes");
	assert_string_equal(LOOK(&plain, "\x82\xfe\x03\xe9"), "the message is too big");
	assert_string_equal(LOOK(&plain, "\x82\xfe\x00\x7d"), "a length that is not minimal");
	assert_string_equal(LOOK(&plain, "\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff"), "a length that is not minimal");
	assert_string_equal(LOOK(&plain, "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00"), "a length of more than 63 bits");
	assert_string_equal(LOOK(&plain, "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff"), "the message is too big");
}

static void test_only_small_fragments_are_counted(void **state)
{
	struct ws_guard g = {.max_message = 1 << 20, .max_fragments = 2};
	struct ws_header h;

	(void)state;
	assert_string_equal(LOOK(&g, "\x81\xbfmask"), "frame"); /* a message of one frame has none */
	ws_guard_begin(&g, &h);
	ws_guard_end(&g);
	assert_string_equal(LOOK(&g, "\x01\xbfmask"), "frame");
	ws_guard_begin(&g, &h);
	for (unsigned i = 0; i < 1000; i++) {
		assert_string_equal(LOOK(&g, "\x00\xc0mask"), "frame"); /* 64 bytes */
		ws_guard_begin(&g, &h);
	}
	assert_string_equal(LOOK(&g, "\x00\xbfmask"), "frame");
	ws_guard_begin(&g, &h);
	assert_string_equal(LOOK(&g, "\x00\xbf"), "too many small fragments");
	assert_string_equal(LOOK(&g, "\x80\x80"), "too many small fragments");
	assert_string_equal(LOOK(&g, "\x80\xc0mask"), "frame");
}

static void test_fragments_are_counted_and_added_up(void **state)
{
	struct ws_guard g = plain;
	struct ws_header h;

	(void)state;
	assert_string_equal(LOOK(&g, "\x01\xfe\x01\xf4mask"), "frame");
	ws_guard_begin(&g, &h);
	assert_string_equal(LOOK(&g, "\x00\xfe\x01\xf5"), "the message is too big");
	assert_string_equal(LOOK(&g, "\x00\xfe\x01\xf4mask"), "frame");
	ws_guard_begin(&g, &h);
	assert_string_equal(LOOK(&g, "\x00\x80mask"), "frame");
	ws_guard_begin(&g, &h);
	assert_string_equal(LOOK(&g, "\x80\x80"), "too many small fragments");
	ws_guard_end(&g);
	assert_string_equal(LOOK(&g, "\x81\xfe\x03\xe8mask"), "frame");
}

static void test_close_codes(void **state)
{
	static const unsigned ranges[][2] = {{1000, 1003}, {1007, 1014}, {3000, 4999}};
	unsigned valid = 0;

	(void)state;
	for (unsigned code = 0; code < 65536; code++)
		valid += ws_code_valid(code);
	for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
		for (unsigned code = ranges[i][0]; code <= ranges[i][1]; code++, valid--)
			assert_true(ws_code_valid(code));
	assert_int_equal(valid, 0);
}

/* ---- permessage-deflate ---- */

static void expect_offers(const char *value, const char *wanted)
{
	struct deflate_params offers[DEFLATE_OFFERS_MAX];
	uint8_t *copy = exact_copy(value, strlen(value));
	struct text got = {0};
	unsigned count = 0;

	deflate_read_offers(slice_of(copy, strlen(value)), offers, &count);
	text_add(&got, "%u", count);
	for (unsigned i = 0; i < count; i++)
		text_add(&got, " %d%d/%u/%u%s", offers[i].server_no_takeover, offers[i].client_no_takeover, offers[i].server_bits,
			 offers[i].client_bits, offers[i].client_bits_known ? "+" : "");
	EXPECT_TEXT(&got, wanted);
	text_free(&got);
	free(copy);
}

static void test_offers(void **state)
{
	(void)state;
	expect_offers("", "0");
	expect_offers("permessage-deflate", "1 00/0/0");
	expect_offers(" permessage-deflate ; client_max_window_bits ", "1 00/0/0+");
	expect_offers("permessage-deflate; client_max_window_bits=\"9\"; server_max_window_bits=15", "1 00/15/9+");
	expect_offers("permessage-deflate;server_no_context_takeover;client_no_context_takeover", "1 11/0/0");
	expect_offers("x, permessage-deflate; a, permessage-deflate; server_max_window_bits = 8, y", "1 00/8/0");
	expect_offers("x; q=\",permessage-deflate\", permessage-deflate", "1 00/0/0");
	expect_offers("permessage-deflate; server_max_window_bits", "0");
	expect_offers("permessage-deflate; server_max_window_bits=", "0");
	expect_offers("permessage-deflate; server_max_window_bits=10; server_max_window_bits=10", "0");
	expect_offers("permessage-deflate; client_max_window_bits=16", "0");
	expect_offers("permessage-deflate; client_max_window_bits=-9", "0");
	expect_offers("permessage-deflate; =", "0");
	expect_offers("permessage-deflate;", "0");
	expect_offers("permessage-deflate,permessage-deflate,permessage-deflate,permessage-deflate,permessage-deflate",
		      "4 00/0/0 00/0/0 00/0/0 00/0/0");
}

static void round_trip(struct deflater *d, struct inflater *i, const uint8_t *data, size_t len, size_t cut)
{
	struct buf packed = {0}, out = {0};

	assert_true(deflater_feed(d, slice_of(data, cut), false, &packed));
	assert_true(deflater_feed(d, slice_of(data + cut, len - cut), true, &packed));
	for (size_t k = 0; k < buf_len(&packed); k++)
		assert_int_equal(inflater_feed(i, slice_of(buf_at(&packed) + k, 1), &out, len), INFLATE_OK);
	assert_int_equal(inflater_end(i, &out, len), INFLATE_OK);
	assert_int_equal(buf_len(&out), len);
	if (len)
		assert_memory_equal(buf_at(&out), data, len);
	buf_free(&packed);
	buf_free(&out);
}

static void test_what_is_deflated_inflates_again(void **state)
{
	static uint8_t data[20000];
	struct deflater *d = deflater_new(9, 6, 1);
	struct inflater *i = inflater_new();
	uint32_t random = 1;

	(void)state;
	for (size_t k = 0; k < sizeof data; k++)
		data[k] = (uint8_t)((uint8_t) "abcdef"[random_below(&random, 6)] + (k > 15000 ? random_below(&random, 200) : 0));
	for (unsigned k = 0; k < 60; k++) {
		size_t len = k < 20 ? k : random_below(&random, sizeof data);
		round_trip(d, i, data, len, len ? random_below(&random, (uint32_t)len) : 0);
		if (k % 3 == 0) { /* both sides start again */
			deflater_reset(d);
			inflater_reset(i);
		}
	}
	assert_true(deflater_is(d, 9, 6, 1));
	deflater_free(d);
	inflater_free(i);
}

static void test_inflating_stops_at_the_limit(void **state)
{
	static uint8_t zeros[100000];
	struct deflater *d = deflater_new(15, 9, 9);
	struct inflater *i = inflater_new();
	struct buf packed = {0}, out = {0};

	(void)state;
	assert_true(deflater_feed(d, slice_of(zeros, sizeof zeros), true, &packed));
	assert_true(buf_len(&packed) < 200);
	assert_int_equal(inflater_feed(i, slice_of(buf_at(&packed), buf_len(&packed)), &out, 5000), INFLATE_TOO_BIG);
	assert_int_equal(buf_len(&out), 5001); /* enough to show that there is more, and not a byte beyond */
	inflater_reset(i);
	buf_consume(&out, buf_len(&out));
	assert_int_equal(inflater_feed(i, slice_of("\xff\xff", 2), &out, 5000), INFLATE_BAD);
	buf_free(&packed);
	buf_free(&out);
	deflater_free(d);
	inflater_free(i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sha1_of_known_texts),
		cmocka_unit_test(test_utf8_agrees_with_the_table_for_all_short_sequences),
		cmocka_unit_test(test_utf8_is_the_same_wherever_it_is_cut),
		cmocka_unit_test(test_utf8_fails_at_the_first_byte_that_cannot_be),
		cmocka_unit_test(test_accept_value_of_rfc_6455),
		cmocka_unit_test(test_handshakes_over_http_1),
		cmocka_unit_test(test_handshakes_over_http_2),
		cmocka_unit_test(test_headers_are_looked_at_byte_by_byte),
		cmocka_unit_test(test_fragments_are_counted_and_added_up),
		cmocka_unit_test(test_only_small_fragments_are_counted),
		cmocka_unit_test(test_close_codes),
		cmocka_unit_test(test_offers),
		cmocka_unit_test(test_what_is_deflated_inflates_again),
		cmocka_unit_test(test_inflating_stops_at_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
