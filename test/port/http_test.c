/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/http.h"

#include "frames/names.h"
#include "support.h"

static void test_what_CONNECT_names_has_a_host_and_a_port(void **state)
{
	static const char *const good[] = {"a:80", "a.example:1", "[::1]:443", "1.2.3.4:5"};
	static const char *const bad[] = {"", "a", "a:", ":80", "[::1]", "[::1]:", "a:65536", "a:8x", "u@a:80", "[::1]x:80"};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		if (!http_authority_has_port(slice_str(good[i])))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (http_authority_has_port(slice_str(bad[i])))
			fail_msg("accepted: %s", bad[i]);
}

static bool agrees(const char *target, const char *field, bool may_be_empty, const char *settled)
{
	struct request_head head = {.authority = target ? slice_str(target) : (struct slice){0}};
	struct slice host = field ? slice_str(field) : (struct slice){0};
	bool well = !http_settle_authority(&head, host, may_be_empty);

	if (well)
		EXPECT_SLICE(head.authority, settled);
	return well;
}

static void test_the_target_and_host_agree_on_the_authority(void **state)
{
	(void)state;
	assert_true(agrees(NULL, "a.example:8", false, "a.example:8"));
	assert_true(agrees("a.example", NULL, false, "a.example"));
	assert_true(agrees("a.example", "A.Example", false, "a.example"));
	assert_false(agrees("a.example", "b.example", false, ""));
	assert_false(agrees("a.example", "a.example:80", false, ""));
	assert_false(agrees("u@a.example", NULL, false, ""));
	assert_false(agrees(NULL, "u@a.example", true, ""));
	assert_false(agrees(NULL, NULL, false, ""));
	/* Host may be empty if the target has no authority, but not in HTTP/2 and HTTP/3 */
	assert_true(agrees(NULL, "", true, ""));
	assert_false(agrees(NULL, "", false, ""));
	assert_false(agrees("a.example", "", true, ""));
	assert_false(agrees("", NULL, false, ""));
}

static void test_a_target_is_split_at_its_first_question_mark(void **state)
{
	struct slice path, query;

	(void)state;
	http_split_target(SLICE_LIT("/a?b?c"), &path, &query);
	EXPECT_SLICE(path, "/a");
	EXPECT_SLICE(query, "b?c");
	http_split_target(SLICE_LIT("/a?"), &path, &query);
	assert_non_null(query.at);
	assert_int_equal(query.len, 0);
	http_split_target(SLICE_LIT("/a"), &path, &query);
	EXPECT_SLICE(path, "/a");
	assert_null(query.at);
}

static void test_an_empty_body_is_none_and_expects_nothing(void **state)
{
	struct request_head head = {.body = 0, .flags = REQUEST_EXPECTS_CONTINUE | REQUEST_TAKES_TRAILERS};

	(void)state;
	assert_int_equal(http_settle_body(&head, 10), 0);
	assert_int_equal(head.body, BODY_NONE);
	assert_int_equal(head.flags, REQUEST_TAKES_TRAILERS);
	head.body = LENGTH_UNKNOWN;
	head.flags = REQUEST_EXPECTS_CONTINUE;
	assert_int_equal(http_settle_body(&head, 10), 0);
	assert_int_equal(head.flags, REQUEST_EXPECTS_CONTINUE);
	head.body = 10;
	assert_int_equal(http_settle_body(&head, 10), 0);
	head.body = 11;
	assert_int_equal(http_settle_body(&head, 10), 413);
	assert_int_equal(http_settle_body(&head, 0), 0);
}

static void test_the_length_that_a_response_says(void **state)
{
	struct response_head head = {.status = 200, .length = 5};

	(void)state;
	assert_int_equal(http_length_to_say(&head, false), 5);
	assert_int_equal(http_length_to_say(&head, true), LENGTH_UNKNOWN);
	head.status = 304;
	assert_int_equal(http_length_to_say(&head, false), 5);
	head.status = 205;
	assert_int_equal(http_length_to_say(&head, false), 0);
	head.status = 204;
	assert_int_equal(http_length_to_say(&head, false), LENGTH_UNKNOWN);
}

static void test_an_answer_of_the_ports_own_says_its_status(void **state)
{
	struct http_error e;

	(void)state;
	http_error_make(&e, 503, 7);
	EXPECT_SLICE(e.body, "503 Service Unavailable\n");
	assert_int_equal(e.head.length, e.body.len);
	assert_int_equal(e.head.field_count, 2);
	EXPECT_SLICE(e.head.fields[1].value, "7");
	http_error_make(&e, 404, 0);
	assert_int_equal(e.head.field_count, 1);
	EXPECT_SLICE(e.head.fields[0].value, "text/plain");
	assert_string_equal(http_reason(599), "");
	assert_true(http_is_ours(&(struct field){.index = NAME_CONTENT_LENGTH}));
	assert_false(http_is_ours(&(struct field){.index = NAME_CONTENT_TYPE}));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_CONNECT_names_has_a_host_and_a_port),
		cmocka_unit_test(test_the_target_and_host_agree_on_the_authority),
		cmocka_unit_test(test_a_target_is_split_at_its_first_question_mark),
		cmocka_unit_test(test_an_empty_body_is_none_and_expects_nothing),
		cmocka_unit_test(test_the_length_that_a_response_says),
		cmocka_unit_test(test_an_answer_of_the_ports_own_says_its_status),
	};

	return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
