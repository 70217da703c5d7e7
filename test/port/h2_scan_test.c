/* SPDX-License-Identifier: Apache-2.0 */
/* The basis of HTTP/2: frame headers, the buckets that count frames, pages; and which protocol the first bytes speak. */
#include <limits.h>

#include "support.h"

#include <nghttp2/nghttp2.h>

#include "base/bucket.h"
#include "platform/pages.h"
#include "proto/detect.h"
#include "proto/h2_scan.h"

static struct config config;
static struct h2_scan scan;
static struct buf bytes;

static int setup(void **state)
{
	(void)state;
	config_defaults(&config);
	h2_scan_init(&scan);
	buf_init(&bytes);
	buf_append(&bytes, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	buf_free(&bytes);
	return 0;
}

static void add(uint8_t type, uint8_t flags, uint32_t id, const char *payload, size_t len)
{
	uint8_t head[9] = {0, (uint8_t)(len >> 8), (uint8_t)len, type, flags};

	for (int i = 0; i < 4; i++)
		head[5 + i] = (uint8_t)(id >> (24 - 8 * i));
	buf_append(&bytes, head, sizeof head);
	buf_append(&bytes, payload, len);
}

/* The verdict, however the bytes are cut. */
static uint32_t verdict(uint64_t now_us)
{
	uint32_t first = 0, fault;
	unsigned most;

	for (size_t piece = 1; piece <= buf_len(&bytes); piece += piece < 30 ? 1 : 97) {
		struct h2_scan s = scan;
		fault = NGHTTP2_NO_ERROR;
		for (size_t at = 0; at < buf_len(&bytes) && !fault; at += piece) {
			size_t n = piece < buf_len(&bytes) - at ? piece : buf_len(&bytes) - at;
			uint8_t *copy = exact_copy(buf_at(&bytes) + at, n);
			size_t fine;
			most = UINT_MAX;
			fine = h2_scan(&s, &config, now_us, copy, n, &most, &fault);
			assert_true(fine == n || fault);
			free(copy);
		}
		if (piece == 1)
			first = fault;
		assert_int_equal(fault, first);
	}
	return first;
}

enum { END = NGHTTP2_FLAG_END_STREAM, HEAD = NGHTTP2_FLAG_END_HEADERS };

static void test_requests_are_fine(void **state)
{
	(void)state;
	add(NGHTTP2_SETTINGS, 0, 0, "", 0);
	for (uint32_t id = 1; id < 400; id += 2) {
		add(NGHTTP2_HEADERS, HEAD, id, "head", 4);
		add(NGHTTP2_DATA, 0, id, "body", 4);
		add(NGHTTP2_HEADERS, HEAD | END, id, "trailers", 8);
	}
	assert_int_equal(verdict(1), NGHTTP2_NO_ERROR);
}

static void test_nothing_comes_behind_the_end(void **state)
{
	(void)state;
	add(NGHTTP2_HEADERS, HEAD | END, 1, "head", 4);
	add(NGHTTP2_HEADERS, HEAD, 3, "head", 4);
	add(NGHTTP2_DATA, 0, 3, "body", 4);
	assert_int_equal(verdict(1), NGHTTP2_NO_ERROR);
	add(NGHTTP2_DATA, 0, 1, "body", 4);
	assert_int_equal(verdict(1), NGHTTP2_STREAM_CLOSED);
}

static void test_nor_behind_a_reset(void **state)
{
	(void)state;
	add(NGHTTP2_HEADERS, HEAD, 1, "head", 4);
	add(NGHTTP2_RST_STREAM, 0, 1, "code", 4);
	add(NGHTTP2_HEADERS, HEAD, 1, "head", 4);
	assert_int_equal(verdict(1), NGHTTP2_STREAM_CLOSED);
}

static void test_streams_open_in_order(void **state)
{
	(void)state;
	add(NGHTTP2_HEADERS, HEAD, 7, "head", 4);
	add(NGHTTP2_HEADERS, HEAD, 5, "head", 4);
	assert_int_equal(verdict(1), NGHTTP2_PROTOCOL_ERROR);
}

static void test_what_was_long_ago_is_not_known(void **state)
{
	(void)state;
	add(NGHTTP2_HEADERS, HEAD | END, 1, "head", 4);
	add(NGHTTP2_HEADERS, HEAD | END, 201, "head", 4);
	add(NGHTTP2_DATA, 0, 1, "late", 4);
	assert_int_equal(verdict(1), NGHTTP2_NO_ERROR);
	add(NGHTTP2_HEADERS, HEAD | END, 0x7fffffff, "head", 4);
	add(NGHTTP2_DATA, 0, 201, "late", 4);
	assert_int_equal(verdict(1), NGHTTP2_NO_ERROR);
}

static void test_a_head_is_over_before_the_next_frame_begins(void **state)
{
	uint32_t fault;
	unsigned most = UINT_MAX;

	(void)state;
	add(NGHTTP2_HEADERS, HEAD | END, 1, "head", 4);
	add(NGHTTP2_PRIORITY, 0, 5, "\0\0\0\3w", 5);
	for (size_t at = 0; at < buf_len(&bytes); at++) { /* nor is it begun again by a part of another frame */
		assert_int_equal(h2_scan(&scan, &config, 1, buf_at(&bytes) + at, 1, &most, &fault), 1);
		if (at + 1 >= NGHTTP2_CLIENT_MAGIC_LEN + 13)
			assert_int_equal(h2_scan_head_since(&scan), 0);
	}
}

/* RFC 9113 6.10: nothing but CONTINUATION may follow, on any stream, even if it has another fault. */
static void test_nothing_comes_inside_of_a_head(void **state)
{
	static const struct {
		uint8_t type, flags;
		uint32_t id;
	} others[] = {{NGHTTP2_DATA, 0, 1},
		      {NGHTTP2_DATA, END, 1},
		      {NGHTTP2_DATA, 0, 3},
		      {NGHTTP2_HEADERS, HEAD, 1},
		      {NGHTTP2_HEADERS, HEAD, 3},
		      {NGHTTP2_RST_STREAM, 0, 1},
		      {NGHTTP2_PING, 0, 0},
		      {NGHTTP2_SETTINGS, 0, 0},
		      {NGHTTP2_WINDOW_UPDATE, 0, 1},
		      {NGHTTP2_PRIORITY, 0, 1},
		      {NGHTTP2_GOAWAY, 0, 0},
		      {NGHTTP2_CONTINUATION, HEAD, 3},
		      {0x42, 0, 0},
		      {NGHTTP2_PRIORITY_UPDATE, 0, 0}};

	(void)state;
	for (unsigned i = 0; i < 2 * sizeof others / sizeof *others; i++) {
		teardown(NULL);
		setup(NULL);
		add(NGHTTP2_HEADERS, i % 2 ? END : 0, 1, "head", 4);
		add(NGHTTP2_CONTINUATION, 0, 1, "more", 4);
		assert_int_equal(verdict(0), NGHTTP2_NO_ERROR);
		add(others[i / 2].type, others[i / 2].flags, others[i / 2].id, "12345", 5);
		assert_int_equal(verdict(0), NGHTTP2_PROTOCOL_ERROR);
	}
}

static void test_a_continuation_continues_a_head(void **state)
{
	(void)state;
	add(NGHTTP2_HEADERS, 0, 1, "head", 4);
	add(NGHTTP2_CONTINUATION, HEAD, 1, "more", 4);
	add(NGHTTP2_DATA, 0, 1, "body", 4);
	assert_int_equal(verdict(0), NGHTTP2_NO_ERROR);
	add(NGHTTP2_CONTINUATION, HEAD, 1, "more", 4);
	assert_int_equal(verdict(0), NGHTTP2_PROTOCOL_ERROR);
}

static void test_priority_is_looked_into(void **state)
{
	(void)state;
	add(NGHTTP2_PRIORITY, 0, 5, "\0\0\0\3w", 5);
	add(NGHTTP2_PRIORITY, 0, 5, "\0\0", 2); /* nghttp2 checks its length */
	assert_int_equal(verdict(1), NGHTTP2_NO_ERROR);
	add(NGHTTP2_PRIORITY, 0, 5, "\x80\0\0\5w", 5);
	assert_int_equal(verdict(1), NGHTTP2_PROTOCOL_ERROR);
}

static void flood(uint8_t type, uint8_t flags, unsigned fine)
{
	teardown(NULL);
	setup(NULL);
	if (type == NGHTTP2_CONTINUATION)
		add(NGHTTP2_HEADERS, 0, 1, "head", 4);
	for (unsigned i = 0; i < fine; i++)
		add(type, flags, type == NGHTTP2_CONTINUATION, "", 0);
	assert_int_equal(verdict(1), NGHTTP2_NO_ERROR);
	add(type, flags, type == NGHTTP2_CONTINUATION, "", 0);
	assert_int_equal(verdict(1), NGHTTP2_ENHANCE_YOUR_CALM);
}

static void test_floods(void **state)
{
	(void)state;
	flood(NGHTTP2_PING, 0, 100);
	flood(NGHTTP2_SETTINGS, 0, 50);
	flood(NGHTTP2_DATA, 0, 100);
	flood(NGHTTP2_RST_STREAM, 0, 100);
	flood(NGHTTP2_CONTINUATION, 0, 8);
	flood(NGHTTP2_WINDOW_UPDATE, 0, 1000);
	flood(NGHTTP2_GOAWAY, 0, 1000);
	flood(0x42, 0, 1000);
}

static void test_requests_earn_other_frames(void **state)
{
	(void)state;
	config.h2_other_frames = 1;
	for (uint32_t id = 1; id < 100; id += 2) {
		add(NGHTTP2_HEADERS, HEAD | END, id, "head", 4);
		for (int i = 0; i < 4; i++)
			add(NGHTTP2_WINDOW_UPDATE, 0, 0, "incr", 4);
	}
	assert_int_equal(verdict(1), NGHTTP2_NO_ERROR);
	add(NGHTTP2_WINDOW_UPDATE, 0, 0, "incr", 4);
	assert_int_equal(verdict(1), NGHTTP2_NO_ERROR);
	add(NGHTTP2_WINDOW_UPDATE, 0, 0, "incr", 4);
	assert_int_equal(verdict(1), NGHTTP2_ENHANCE_YOUR_CALM);
}

/* ---- buckets ---- */

static unsigned taken(struct bucket *b, uint64_t now_us, uint64_t burst, uint64_t period_us)
{
	unsigned n = 0;

	while (n < 1000 && bucket_take(b, now_us, burst, period_us))
		n++;
	return n;
}

static void test_a_bucket_gives_a_burst_and_fills_evenly(void **state)
{
	struct bucket b = {0};

	(void)state;
	assert_int_equal(taken(&b, 5000000, 10, 1000000), 10);
	assert_int_equal(taken(&b, 5000000, 10, 1000000), 0);
	assert_int_equal(taken(&b, 5099999, 10, 1000000), 0);
	assert_int_equal(taken(&b, 5100000, 10, 1000000), 1);
	assert_int_equal(taken(&b, 5500000, 10, 1000000), 4);
	assert_int_equal(taken(&b, 99000000, 10, 1000000), 10);
	assert_int_equal(taken(&b, 99000000, 1, 1000000), 0);
	assert_int_equal(taken(&b, 100000000, 1, 1000000), 1);
	assert_int_equal(taken(&b, 200000000, 0, 1000000), 0);
}

/* ---- pages ---- */

static void test_pages_are_zero_and_come_back(void **state)
{
	enum { COUNT = 200 };
	static const char zeros[PAGE_BYTES];
	char *page[COUNT];
	struct pages p;

	(void)state;
	pages_init(&p);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < COUNT; i++) {
			page[i] = pages_take(&p);
			if (!page[i])
				return; /* this system's pages are larger */
			assert_memory_equal(page[i], zeros, PAGE_BYTES);
			memset(page[i], i + 1, PAGE_BYTES);
		}
		for (int i = 0; i < COUNT; i++) {
			page_trim(page[i]);
			assert_true(pages_own(&p, page[i]) && page[i][0] == (char)(i + 1) &&
				    page[i][PAGE_BYTES - 1] == (char)(i + 1));
			memset(page[i], 0, PAGE_BYTES);
			page_trim(page[i]);
			assert_memory_equal(page[i], zeros, PAGE_BYTES);
			page[i][7] = 1;
			pages_give(&p, page[i]);
		}
	}
	assert_false(pages_own(&p, &p) || pages_own(&p, NULL));
	pages_free(&p);
}

/* ---- the protocol ---- */

static enum agreed agreed;

static enum detected detect(const char *text)
{
	uint8_t *copy = exact_copy(text, strlen(text));
	enum detected what = detect_protocol(copy, strlen(text), agreed);

	free(copy);
	return what;
}

static void test_the_first_bytes_tell_the_protocol(void **state)
{
	static const char preface[] = NGHTTP2_CLIENT_MAGIC;
	char part[sizeof preface];

	(void)state;
	for (size_t n = 0; n < sizeof preface; n++) {
		snprintf(part, n + 1, "%s", preface);
		assert_int_equal(detect(part), n < NGHTTP2_CLIENT_MAGIC_LEN ? DETECT_MORE : DETECT_H2);
	}
	assert_int_equal(detect(NGHTTP2_CLIENT_MAGIC "more"), DETECT_H2);
	assert_int_equal(detect("G"), DETECT_H1);
	assert_int_equal(detect("PUT"), DETECT_H1);
	assert_int_equal(detect("PRI * HTTP/2.0\r\n\r\nSX"), DETECT_H1);
	assert_int_equal(detect("GET / HTTP/1.1\r\n"), DETECT_H1);
	assert_int_equal(detect("GET / HTTX\r\n"), DETECT_H1);
	assert_int_equal(detect("INVALID CONNECTION PREFACE\r\n\r\n"), DETECT_H1);
	assert_int_equal(detect("GET /\r\n"), DETECT_H1);
	assert_int_equal(detect("\r\n"), DETECT_H1);
}

static void test_what_was_agreed_is_what_is_spoken(void **state)
{
	(void)state;
	assert_int_equal(detect_agreed(NULL), AGREED_NOT);
	assert_int_equal(detect_agreed(&(struct secure){0}), AGREED_H1);
	assert_int_equal(detect_agreed(&(struct secure){.alpn = SLICE_LIT("http/1.1")}), AGREED_H1);
	assert_int_equal(detect_agreed(&(struct secure){.alpn = SLICE_LIT("h2")}), AGREED_H2);
	agreed = AGREED_H2;
	assert_int_equal(detect("GET / HTTP/1.1\r\n"), DETECT_WRONG);
	assert_int_equal(detect("PRI * H"), DETECT_MORE);
	assert_int_equal(detect("PRI * HTTP/2.0\r\n\r\nSX"), DETECT_WRONG);
	assert_int_equal(detect(NGHTTP2_CLIENT_MAGIC), DETECT_H2);
	agreed = AGREED_H1;
	assert_int_equal(detect("PRI * H"), DETECT_H1);
	assert_int_equal(detect(NGHTTP2_CLIENT_MAGIC), DETECT_H1);
	agreed = AGREED_NOT;
}

static bool all_are_over(void *ctx, int32_t id)
{
	(void)ctx;
	return id > 401;
}

static void expect_past_is_counted(uint8_t type, const char *payload, size_t len)
{
	uint32_t fault;
	unsigned most = UINT_MAX, count = 0;

	setup(NULL);
	scan.is_open = all_are_over;
	for (uint32_t id = 1; id <= 401; id += 2)
		add(NGHTTP2_HEADERS, END | HEAD, id, "head", 4);
	assert_int_equal(h2_scan(&scan, &config, 1, buf_at(&bytes), buf_len(&bytes), &most, &fault), buf_len(&bytes));
	assert_int_equal(UINT_MAX - most, 201);
	buf_consume(&bytes, buf_len(&bytes));
	add(type, END | (type == NGHTTP2_HEADERS ? HEAD : 0), 7, payload, len);
	do
		h2_scan(&scan, &config, 1, buf_at(&bytes), buf_len(&bytes), &most, &fault);
	while (!fault && ++count < 5000);
	assert_int_equal(fault, NGHTTP2_ENHANCE_YOUR_CALM);
	assert_int_equal(count, 201 * H2_EARNED_EACH + 1000);
	teardown(NULL);
}

/* Streams that are forgotten: their frames are ignored, which costs work. */
static void test_frames_for_streams_of_long_ago_are_counted(void **state)
{
	(void)state;
	teardown(NULL);
	expect_past_is_counted(NGHTTP2_DATA, "", 0);
	expect_past_is_counted(NGHTTP2_DATA, "x", 1);
	expect_past_is_counted(NGHTTP2_HEADERS, "head", 4);
	setup(NULL);
}

static void test_frames_for_a_stream_that_is_open_are_not(void **state)
{
	unsigned most = UINT_MAX;
	uint32_t fault;

	(void)state;
	scan.is_open = all_are_over;
	add(NGHTTP2_HEADERS, HEAD, 403, "head", 4);
	for (unsigned i = 0; i < 5000; i++)
		add(NGHTTP2_DATA, 0, 403, "x", 1);
	assert_int_equal(h2_scan(&scan, &config, 1, buf_at(&bytes), buf_len(&bytes), &most, &fault), buf_len(&bytes));
	buf_consume(&bytes, buf_len(&bytes));
	for (unsigned i = 0; i < 5000; i++)
		add(NGHTTP2_DATA, 0, 403, "x", 1);
	assert_int_equal(h2_scan(&scan, &config, 1, buf_at(&bytes), buf_len(&bytes), &most, &fault), buf_len(&bytes));
}

static void test_no_more_frames_than_are_asked_for(void **state)
{
	unsigned most = 3;
	uint32_t fault;
	size_t n;

	(void)state;
	for (uint32_t id = 1; id <= 9; id += 2)
		add(NGHTTP2_HEADERS, END | HEAD, id, "head", 4);
	n = h2_scan(&scan, &config, 1, buf_at(&bytes), buf_len(&bytes), &most, &fault);
	assert_int_equal(fault, NGHTTP2_NO_ERROR);
	assert_int_equal(most, 0);
	buf_consume(&bytes, n);
	assert_int_equal(buf_len(&bytes), 2 * (9 + 4));
	assert_int_equal(h2_scan(&scan, &config, 1, buf_at(&bytes), buf_len(&bytes), &most, &fault), 0);
	most = 3;
	assert_int_equal(h2_scan(&scan, &config, 1, buf_at(&bytes), buf_len(&bytes), &most, &fault), 2 * (9 + 4));
	assert_int_equal(most, 1);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_requests_are_fine),
		CASE(test_frames_for_streams_of_long_ago_are_counted),
		CASE(test_frames_for_a_stream_that_is_open_are_not),
		CASE(test_no_more_frames_than_are_asked_for),
		CASE(test_nothing_comes_behind_the_end),
		CASE(test_nor_behind_a_reset),
		CASE(test_streams_open_in_order),
		CASE(test_what_was_long_ago_is_not_known),
		CASE(test_a_head_is_over_before_the_next_frame_begins),
		CASE(test_nothing_comes_inside_of_a_head),
		CASE(test_a_continuation_continues_a_head),
		CASE(test_priority_is_looked_into),
		CASE(test_floods),
		CASE(test_requests_earn_other_frames),
		CASE(test_a_bucket_gives_a_burst_and_fills_evenly),
		CASE(test_pages_are_zero_and_come_back),
		CASE(test_the_first_bytes_tell_the_protocol),
		CASE(test_what_was_agreed_is_what_is_spoken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
