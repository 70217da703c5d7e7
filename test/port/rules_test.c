/* SPDX-License-Identifier: Apache-2.0 */
/* stream and rules */
#include "stream/rules.h"

#include "support.h"

static struct field fields[4];

static const char *check(struct response_head *head, const char *name, const char *value, bool any_length)
{
	fields[0] = (struct field){slice_str(name), slice_str(value), -1};
	head->fields = fields;
	head->field_count = 1;
	return response_check(head, any_length, NULL);
}

static const char *check_one(const char *name, const char *value)
{
	struct response_head head = {.status = 200, .length = 5};

	return check(&head, name, value, false);
}

static void test_tokens(void **state)
{
	(void)state;
	for (unsigned c = 0; c < 256; c++) {
		bool wanted = c > 0x20 && c < 0x7f && !strchr("\"(),/:;<=>?@[\\]{}", (int)c);
		assert_int_equal(is_token_char((uint8_t)c), wanted);
	}
	assert_true(is_token(SLICE_LIT("x-a")));
	assert_false(is_token(SLICE_LIT("")));
	assert_false(is_token(SLICE_LIT("a b")));
	assert_false(is_token(slice_of("a\0", 2)));
}

static void test_values(void **state)
{
	(void)state;
	for (unsigned c = 0; c < 256; c++) {
		uint8_t byte = (uint8_t)c;
		assert_int_equal(is_field_value(slice_of(&byte, 1)), c == '\t' || (c >= 0x20 && c != 0x7f));
	}
	assert_true(is_field_value(SLICE_LIT("")));
	for (size_t len = 1; len <= 20; len++) /* eight bytes are looked at together */
		for (size_t at = 0; at < len; at++)
			for (unsigned c = 0; c < 256; c++) {
				uint8_t text[20];
				memset(text, (at + c) % 3 ? 0x80 : ' ', sizeof text);
				text[at] = (uint8_t)c;
				assert_int_equal(is_field_value(slice_of(text, len)), c == '\t' || (c >= 0x20 && c != 0x7f));
			}
	assert_false(is_field_value(slice_of("\t2345678\t234\n678", 16)));
	assert_true(is_field_value(slice_of("\t2345678\t234\t678", 16)));
}

static void test_lengths(void **state)
{
	int64_t n = 0;

	(void)state;
	assert_true(parse_length(SLICE_LIT("0"), &n) && n == 0);
	assert_true(parse_length(SLICE_LIT("007"), &n) && n == 7);
	assert_true(parse_length(SLICE_LIT("9007199254740991"), &n) && n == 9007199254740991);
	assert_false(parse_length(SLICE_LIT(""), &n));
	assert_false(parse_length(SLICE_LIT("-1"), &n));
	assert_false(parse_length(SLICE_LIT("+1"), &n));
	assert_false(parse_length(SLICE_LIT("1 "), &n));
	assert_false(parse_length(SLICE_LIT("1,1"), &n));
	assert_false(parse_length(SLICE_LIT("9223372036854775808"), &n));
	assert_false(parse_length(SLICE_LIT("99999999999999999999999"), &n));
}

static void test_what_a_response_may_say(void **state)
{
	(void)state;
	assert_null(check_one("X-Own", "\xff\t!"));
	assert_null(check_one("Content-Length", "5"));
	assert_null(check_one("Connection", "Close"));
	assert_null(check_one("Connection", "Keep-Alive"));
	assert_null(check_one("Connection", "keep-alive,\t close "));
	assert_null(check_one("trailer", "x"));
	assert_non_null(check_one("a:b", "x"));
	assert_non_null(check_one("", "x"));
	assert_non_null(check_one("a", "x\ny"));
	assert_non_null(check_one("Content-Length", "6"));
	assert_non_null(check_one("Content-Length", ""));
	assert_non_null(check_one("Connection", "upgrade"));
	assert_non_null(check_one("Connection", "close, x"));
	assert_non_null(check_one("Connection", "keep-alive, upgrade"));
	assert_non_null(check_one("Connection", ""));
	assert_non_null(check_one("Connection", "close,"));
	assert_non_null(check_one("Transfer-Encoding", "chunked"));
	assert_non_null(check_one("KEEP-ALIVE", "x"));
	assert_non_null(check_one("Proxy-Connection", "x"));
	assert_non_null(check_one("TE", "x"));
	assert_non_null(check_one("Upgrade", "x"));
}

static void test_what_its_fields_say_is_filled_in(void **state)
{
	struct response_head head = {.status = 200, .length = LENGTH_UNKNOWN, .close = true};

	(void)state;
	assert_null(check(&head, "Server", "x", false));
	assert_true(head.has_server && !head.has_date && !head.close);
	assert_null(check(&head, "DATE", "x", false));
	assert_true(!head.has_server && head.has_date);
	assert_null(check(&head, "connection", "close", false));
	assert_true(head.close);
	assert_null(check(&head, "connection", "keep-alive", false));
	assert_false(head.close);
	assert_null(check(&head, "content-length", "7", false));
	assert_int_equal(head.length, 7);
	assert_null(check(&head, "content-length", "8", true));
	assert_int_equal(head.length, 8);
}

/* The report names the field, not only the rule. */
static void test_who_breaks_a_rule_is_named(void **state)
{
	struct response_head head = {.status = 200, .length = LENGTH_UNKNOWN, .fields = fields, .field_count = 2};
	struct slice offender = SLICE_LIT("x");

	(void)state;
	fields[0] = (struct field){SLICE_LIT("x-own"), SLICE_LIT("5"), -1};
	fields[1] = (struct field){SLICE_LIT("Keep-Alive"), SLICE_LIT("timeout=5"), -1};
	assert_non_null(response_check(&head, false, &offender));
	assert_true(slice_eq(offender, SLICE_LIT("Keep-Alive")));
	fields[1].name = SLICE_LIT("TE");
	assert_non_null(info_check(103, fields, 2, &offender));
	assert_true(slice_eq(offender, SLICE_LIT("TE")));
	fields[1].name = SLICE_LIT("cookie");
	assert_non_null(trailers_check(fields, 2, &offender));
	assert_true(slice_eq(offender, SLICE_LIT("cookie")));
	fields[0].name = SLICE_LIT("connection");
	fields[0].value = SLICE_LIT("keep-alive");
	assert_null(info_check(103, fields, 2, &offender));
	assert_null(upgrade_check(fields, 2, &offender));
	assert_non_null(push_check(fields, 2, &offender));
	assert_true(slice_eq(offender, SLICE_LIT("connection")));
	head.status = 99;
	assert_non_null(response_check(&head, false, &offender));
	assert_int_equal(offender.len, 0);
}

static void test_two_lengths_must_agree(void **state)
{
	struct response_head head = {.status = 200, .length = LENGTH_UNKNOWN, .fields = fields, .field_count = 2};

	(void)state;
	fields[0] = (struct field){SLICE_LIT("content-length"), SLICE_LIT("5"), 14};
	fields[1] = (struct field){SLICE_LIT("content-length"), SLICE_LIT("6"), 14};
	assert_non_null(response_check(&head, false, NULL));
}

static void test_statuses(void **state)
{
	struct response_head head = {.length = LENGTH_UNKNOWN};

	(void)state;
	for (head.status = 0; head.status < 1000; head.status++)
		assert_int_equal(response_check(&head, false, NULL) == NULL, head.status >= 200 && head.status <= 599);
	for (unsigned status = 0; status < 300; status++)
		assert_int_equal(info_check(status, NULL, 0, NULL) == NULL, status >= 100 && status <= 199 && status != 101);
	for (unsigned status = 100; status < 600; status++) {
		assert_int_equal(never_has_body(status, false), status < 200 || status == 204 || status == 205 || status == 304);
		assert_true(never_has_body(status, true));
	}
}

static void test_interim_responses_and_trailers_may_not_frame(void **state)
{
	static const char *const never[] = {"transfer-encoding", "Content-Length", "connection", "TE", "upgrade", "keep-alive"};
	static const char *const not_in_trailers[] = {"Host", "authorization", "content-type", "set-cookie", "trailer", "date"};
	struct field f = {.value = SLICE_LIT("x"), .index = -1};

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		f.name = slice_str(never[i]);
		assert_non_null(info_check(103, &f, 1, NULL));
		assert_non_null(trailers_check(&f, 1, NULL));
		f.name = slice_str(not_in_trailers[i]);
		assert_null(info_check(103, &f, 1, NULL));
		assert_non_null(trailers_check(&f, 1, NULL));
	}
	f.name = SLICE_LIT("X-Sum");
	assert_null(info_check(103, &f, 1, NULL));
	assert_null(trailers_check(&f, 1, NULL));
	f.value = SLICE_LIT("\n");
	assert_non_null(info_check(103, &f, 1, NULL));
	assert_non_null(trailers_check(&f, 1, NULL));
}

static void test_a_stream_begins_open_and_waiting_and_wants_what_was_granted(void **state)
{
	struct stream s;

	(void)state;
	stream_init(&s, NULL);
	assert_int_equal(s.request, REQUEST_OPEN);
	assert_int_equal(s.response, RESPONSE_WAITING);
	assert_int_equal(stream_wanted(&s), 0);
	s.wanted = 100;
	assert_int_equal(stream_wanted(&s), 100);
	stream_request_moves(&s, REQUEST_ENDED);
	assert_int_equal(stream_wanted(&s), 0);
	stream_response_moves(&s, RESPONSE_STREAMING);
	stream_response_moves(&s, RESPONSE_ENDED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_what_a_response_may_say),
		cmocka_unit_test(test_what_its_fields_say_is_filled_in),
		cmocka_unit_test(test_who_breaks_a_rule_is_named),
		cmocka_unit_test(test_two_lengths_must_agree),
		cmocka_unit_test(test_statuses),
		cmocka_unit_test(test_interim_responses_and_trailers_may_not_frame),
		cmocka_unit_test(test_a_stream_begins_open_and_waiting_and_wants_what_was_granted),
	};

	return cmocka_run_group_tests_name("rules", tests, NULL, NULL);
}
