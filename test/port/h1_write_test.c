/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/h1_write.h"

#include "frames/names.h"
#include "support.h"

static struct config config;
static struct session_env env;
static struct bufq out;

static int setup(void **state)
{
	(void)state;
	config_defaults(&config);
	memset(&env, 0, sizeof env);
	env.config = &config;
	memcpy(env.date, "Thu, 01 Jan 1970 00:00:00 GMT", DATE_LEN);
	bufq_init(&out);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bufq_free(&out);
	return 0;
}

static void expect_out_at(const char *wanted, int line)
{
	struct iovec iov[64];
	struct text got = {0};
	int count = bufq_iov(&out, iov, 64);

	for (int i = 0; i < count; i++)
		text_add_bytes(&got, iov[i].iov_base, iov[i].iov_len);
	bufq_consume(&out, out.len);
	expect_text_at(&got, wanted, __FILE__, line);
	text_free(&got);
}
#define EXPECT_OUT(wanted) expect_out_at(wanted, __LINE__)
#define DATE "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"

static void head(struct response_head what, enum h1_framing framing, int64_t length, bool close, bool keep)
{
	struct h1_frame_plan plan = {framing, length, close, keep};

	assert_true(h1_write_head(&out, &env, &what, &plan));
}

static void test_a_head_says_its_framing_and_what_the_port_adds(void **state)
{
	(void)state;
	head((struct response_head){.status = 200}, FRAMING_LENGTH, 0, false, false);
	EXPECT_OUT("HTTP/1.1 200 OK\r\n" DATE "Server: sparx\r\nContent-Length: 0\r\n\r\n");
	head((struct response_head){.status = 599}, FRAMING_CHUNKED, LENGTH_UNKNOWN, true, true);
	EXPECT_OUT("HTTP/1.1 599 \r\n" DATE "Server: sparx\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
	config.server[0] = 0;
	head((struct response_head){.status = 404}, FRAMING_LENGTH, INT64_MAX, false, true);
	EXPECT_OUT("HTTP/1.1 404 Not Found\r\n" DATE "Content-Length: 9223372036854775807\r\nConnection: keep-alive\r\n\r\n");
	head((struct response_head){.status = 200}, FRAMING_NONE, LENGTH_UNKNOWN, false, false);
	EXPECT_OUT("HTTP/1.1 200 OK\r\n" DATE "\r\n");
	head((struct response_head){.status = 304}, FRAMING_NONE, 12, false, false);
	EXPECT_OUT("HTTP/1.1 304 Not Modified\r\n" DATE "Content-Length: 12\r\n\r\n");
	head((struct response_head){.status = 200, .has_date = true}, FRAMING_CLOSE, LENGTH_UNKNOWN, true, false);
	EXPECT_OUT("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
}

static void test_fields_keep_their_order_and_those_of_the_plan_are_not_said_twice(void **state)
{
	static const struct field fields[] = {
		{SLICE_LIT("Server"), SLICE_LIT("mine"), NAME_SERVER},
		{SLICE_LIT("Content-Length"), SLICE_LIT("3"), NAME_CONTENT_LENGTH},
		{SLICE_LIT("set-cookie"), SLICE_LIT("a=b"), 55},
		{SLICE_LIT("connection"), SLICE_LIT("close"), NAME_CONNECTION},
		{SLICE_LIT("set-cookie"), SLICE_LIT(""), 55},
	};

	(void)state;
	head((struct response_head){.status = 200, .fields = fields, .field_count = 5, .has_server = true}, FRAMING_LENGTH, 3, true,
	     false);
	EXPECT_OUT("HTTP/1.1 200 OK\r\n" DATE
		   "Server: mine\r\nset-cookie: a=b\r\nset-cookie: \r\nContent-Length: 3\r\nConnection: close\r\n\r\n");
}

static void test_the_longest_of_all_fits(void **state)
{
	static struct field fields[256];
	static uint8_t big[3000];

	(void)state;
	memset(config.server, 's', SERVER_NAME_MAX - 1);
	memset(big, 'v', sizeof big);
	for (unsigned i = 0; i < 256; i++)
		fields[i] = (struct field){slice_of(big, 300), slice_of(big, sizeof big), -1};
	head((struct response_head){.status = 511, .fields = fields, .field_count = 256}, FRAMING_LENGTH, INT64_MAX, true, false);
	assert_int_equal(out.len, 256 * 3304 +
					  strlen("HTTP/1.1 511 Network Authentication Required\r\n" DATE "Server: \r\n"
						 "Content-Length: 9223372036854775807\r\nConnection: close\r\n\r\n") +
					  SERVER_NAME_MAX - 1);
}

static void test_chunks(void **state)
{
	static uint8_t big[0x10001];
	const struct field trailer = {SLICE_LIT("X-A"), SLICE_LIT("b"), -1};

	(void)state;
	assert_true(h1_write_chunk(&out, SLICE_LIT("x")));
	EXPECT_OUT("1\r\nx\r\n");
	assert_true(h1_write_chunk(&out, SLICE_LIT("0123456789abcdef")));
	EXPECT_OUT("10\r\n0123456789abcdef\r\n");
	assert_true(h1_write_chunk(&out, slice_of(big, sizeof big)));
	assert_int_equal(out.len, sizeof big + strlen("10001\r\n\r\n"));
	bufq_consume(&out, out.len);
	assert_true(h1_write_last_chunk(&out, NULL, 0));
	EXPECT_OUT("0\r\n\r\n");
	assert_true(h1_write_last_chunk(&out, &trailer, 1));
	EXPECT_OUT("0\r\nX-A: b\r\n\r\n");
}

static void test_interim_responses(void **state)
{
	const struct field link = {SLICE_LIT("link"), SLICE_LIT("</a>"), 33};

	(void)state;
	assert_true(h1_write_info(&out, 103, &link, 1));
	EXPECT_OUT("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
	assert_true(h1_write_info(&out, 199, NULL, 0));
	EXPECT_OUT("HTTP/1.1 199 \r\n\r\n");
}

static void test_errors_say_their_status(void **state)
{
	struct h1_error error = {.status = 503, .retry_after = 86400, .keep = true};

	(void)state;
	assert_true(h1_write_error(&out, &env, &error));
	EXPECT_OUT("HTTP/1.1 503 Service Unavailable\r\n" DATE "Server: sparx\r\nContent-Type: text/plain\r\nRetry-After: 86400\r\n"
		   "Content-Length: 24\r\nConnection: keep-alive\r\n\r\n503 Service Unavailable\n");
	error = (struct h1_error){.status = 400, .close = true, .no_body = true};
	assert_true(h1_write_error(&out, &env, &error));
	EXPECT_OUT("HTTP/1.1 400 Bad Request\r\n" DATE "Server: sparx\r\nContent-Type: text/plain\r\nContent-Length: 16\r\n"
		   "Connection: close\r\n\r\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_head_says_its_framing_and_what_the_port_adds),
		TEST(test_fields_keep_their_order_and_those_of_the_plan_are_not_said_twice),
		TEST(test_the_longest_of_all_fits),
		TEST(test_chunks),
		TEST(test_interim_responses),
		TEST(test_errors_say_their_status),
	};

	return cmocka_run_group_tests_name("h1_write", tests, NULL, NULL);
}
