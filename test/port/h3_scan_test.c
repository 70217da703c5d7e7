/* SPDX-License-Identifier: Apache-2.0 */
/* The check of HTTP/3 frames before nghttp3 gets them: whole or byte by byte, with the same verdict. */
#include "proto/h3_scan.h"

#include <nghttp3/nghttp3.h>
#include <string.h>

#include "support.h"

/* The verdict, which must not depend on how the bytes are cut. */
static uint64_t request(const char *bytes, size_t n, bool end, struct h3_scan *whole)
{
	struct h3_scan cut = {0};
	uint64_t fault, first = 0;

	memset(whole, 0, sizeof *whole);
	fault = h3_scan_request(whole, (const uint8_t *)bytes, n, end);
	for (size_t i = 0; i < n && !first; i++)
		first = h3_scan_request(&cut, (const uint8_t *)bytes + i, 1, end && i + 1 == n);
	assert_int_equal(first, fault);
	if (!fault)
		assert_int_equal(cut.last_lines, whole->last_lines);
	return fault;
}

static uint64_t control(const char *bytes, size_t n)
{
	struct h3_scan whole = {0}, cut = {0};
	uint64_t fault = h3_scan_control(&whole, (const uint8_t *)bytes, n), first = 0;

	for (size_t i = 0; i < n && !first; i++)
		first = h3_scan_control(&cut, (const uint8_t *)bytes + i, 1);
	assert_int_equal(first, fault);
	return fault;
}

#define REQUEST(text, end) request(text, sizeof(text) - 1, end, &scan)
#define CONTROL(text) control(text, sizeof(text) - 1)

static void test_lines_are_counted(void **state)
{
	struct h3_scan scan;

	(void)state;
	/* two numbers, an index of the static table, one of two bytes, a name by index, a name as text */
	assert_int_equal(REQUEST("\x01\x0e\0\0\xd1\xff\x01\x51\x02/a\x23xyz\x01", true), 0);
	assert_int_equal(scan.head_lines, 4);
	assert_int_equal(REQUEST("\x01\x0e\0\0\xd1\xff\x01\x51\x02/a\x23xyz\0", true), 0);
	assert_int_equal(scan.head_lines, 4);
	/* after the base: an index, and a name by index with an empty value */
	assert_int_equal(REQUEST("\x01\x05\x02\x80\x10\x00\x00", true), 0);
	assert_int_equal(scan.head_lines, 2);
	/* a name of 7 + 3 letters, whose length takes two bytes */
	assert_int_equal(REQUEST("\x01\x0f\0\0\x27\x03"
				 "abcdefghij\0",
				 true),
			 0);
	assert_int_equal(scan.head_lines, 1);
}

static void test_sections_are_told_apart(void **state)
{
	struct h3_scan scan;

	(void)state;
	assert_int_equal(REQUEST("\x01\x04\0\0\xd1\xd7\0\x03"
				 "abc\x21\x01x\x01\x03\0\0\xd1",
				 true),
			 0);
	assert_int_equal(scan.head_lines, 2);
	assert_int_equal(scan.last_lines, 1);
}

static void test_what_is_cut(void **state)
{
	struct h3_scan scan;

	(void)state;
	assert_int_equal(REQUEST("\x01\x04\0\0\xd1", false), 0);
	assert_int_equal(REQUEST("\x01\x04\0\0\xd1", true), NGHTTP3_H3_FRAME_ERROR);
	assert_int_equal(REQUEST("\x01\x03\0\0\xd1\0\x05x", true), NGHTTP3_H3_FRAME_ERROR);
	assert_int_equal(REQUEST("\x01\x03\0\0\xd1\x40", true), NGHTTP3_H3_FRAME_ERROR);
	assert_int_equal(REQUEST("\x01\x03\0\0\xd1\x00", true), NGHTTP3_H3_FRAME_ERROR);
	assert_int_equal(REQUEST("\x01\x00", false), NGHTTP3_QPACK_DECOMPRESSION_FAILED);
}

static void test_numbers_that_never_end(void **state)
{
	struct h3_scan scan;

	(void)state;
	assert_int_equal(REQUEST("\x01\x13\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", false),
			 0);
}

static void test_control(void **state)
{
	(void)state;
	assert_int_equal(CONTROL("\x04\0\x07\x01\x05\x21\x03"
				 "abc\x0d\x02\x40\x05\x0d\x01\x05"),
			 0);
	assert_int_equal(CONTROL("\x07\x01\0"), NGHTTP3_H3_MISSING_SETTINGS);
	assert_int_equal(CONTROL("\x04\0\x07\x02\0x"), NGHTTP3_H3_FRAME_ERROR);
	assert_int_equal(CONTROL("\x04\0\x07\0"), NGHTTP3_H3_FRAME_ERROR);
	assert_int_equal(CONTROL("\x04\0\x0d\x01\x40"), NGHTTP3_H3_FRAME_ERROR);
	assert_int_equal(CONTROL("\x04\0\x0d\x01\x05\x0d\x01\x04"), NGHTTP3_H3_ID_ERROR);
	assert_int_equal(CONTROL("\x04\0\x03\x01\x05"), NGHTTP3_H3_ID_ERROR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines_are_counted), cmocka_unit_test(test_sections_are_told_apart),
		cmocka_unit_test(test_what_is_cut),       cmocka_unit_test(test_numbers_that_never_end),
		cmocka_unit_test(test_control),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
