/* SPDX-License-Identifier: Apache-2.0 */
/* names and fields */
#include "frames/fields.h"

#include <ctype.h>

#include "frames/mp.h"
#include "frames/names.h"
#include "support.h"

static void test_each_name_is_found_by_its_text_and_back(void **state)
{
	(void)state;
	for (int i = 0; i < NAMES_COUNT; i++) {
		assert_true(name_text(i).len > 0);
		assert_int_equal(name_find(name_text(i)), i);
		for (size_t k = 0; k < name_text(i).len; k++)
			assert_true(name_text(i).at[k] < 'A' || name_text(i).at[k] > 'Z');
		if (i > 0) /* the table is in alphabetical order, except its last name */
			assert_true(i == 47 || i == 48 || i == NAMES_COUNT - 1 ||
				    strcmp((const char *)name_text(i - 1).at, (const char *)name_text(i).at) < 0);
	}
}

static void test_indices_that_the_code_speaks_of_are_those_of_the_table(void **state)
{
	(void)state;
	EXPECT_SLICE(name_text(NAME_CONNECTION), "connection");
	EXPECT_SLICE(name_text(NAME_CONTENT_LENGTH), "content-length");
	EXPECT_SLICE(name_text(NAME_DATE), "date");
	EXPECT_SLICE(name_text(NAME_EXPECT), "expect");
	EXPECT_SLICE(name_text(NAME_HOST), "host");
	EXPECT_SLICE(name_text(NAME_KEEP_ALIVE), "keep-alive");
	EXPECT_SLICE(name_text(NAME_SERVER), "server");
	EXPECT_SLICE(name_text(NAME_TE), "te");
	EXPECT_SLICE(name_text(NAME_TRAILER), "trailer");
	EXPECT_SLICE(name_text(NAME_TRANSFER_ENCODING), "transfer-encoding");
	EXPECT_SLICE(name_text(NAME_UPGRADE), "upgrade");
}

static void test_other_names_are_not_found(void **state)
{
	(void)state;
	for (int i = 0; i < NAMES_COUNT; i++) {
		uint8_t upper[64];
		for (size_t k = 0; k < name_text(i).len; k++)
			upper[k] = (uint8_t)toupper(name_text(i).at[k]);
		assert_int_equal(name_find_nocase(name_text(i)), i);
		assert_int_equal(name_find_nocase(slice_of(upper, name_text(i).len)), i);
		upper[0] = '@';
		assert_int_equal(name_find_nocase(slice_of(upper, name_text(i).len)), NAME_UNKNOWN);
	}
	assert_int_equal(name_find_nocase(SLICE_LIT("")), NAME_UNKNOWN);
	assert_int_equal(name_find_nocase(SLICE_LIT("X-Own")), NAME_UNKNOWN);
	assert_int_equal(name_find(SLICE_LIT("")), NAME_UNKNOWN);
	assert_int_equal(name_find(SLICE_LIT("a")), NAME_UNKNOWN);
	assert_int_equal(name_find(SLICE_LIT("Host")), NAME_UNKNOWN);
	assert_int_equal(name_find(SLICE_LIT("hosts")), NAME_UNKNOWN);
	assert_int_equal(name_find(SLICE_LIT("x-own")), NAME_UNKNOWN);
	for (int i = 0; i < NAMES_COUNT; i++) {
		struct slice shorter = name_text(i);
		shorter.len--;
		if (!slice_eq(shorter, SLICE_LIT("t")))
			assert_int_equal(name_find(shorter), NAME_UNKNOWN);
	}
}

static struct field fields[8];
static unsigned count;

static const char *decode(const char *text)
{
	static uint8_t *copy;
	struct buf bytes = {0};
	const char *rule;
	bool well;

	notation_pack(&bytes, text);
	free(copy);
	copy = exact_copy(buf_at(&bytes), buf_len(&bytes));
	well = fields_decode(slice_of(copy, buf_len(&bytes)), fields, 8, &count, &rule);
	buf_free(&bytes);
	return well ? NULL : rule;
}

/* HTTP/2 and HTTP/3 forbid it (RFC 9113 8.2.1): clients would refuse the response. */
static void test_white_space_around_values_is_dropped(void **state)
{
	(void)state;
	assert_null(decode("['a', ' \t b c\t ', 'd', b' ', 'e', '']"));
	assert_int_equal(count, 3);
	EXPECT_SLICE(fields[0].value, "b c");
	EXPECT_SLICE(fields[1].value, "");
	EXPECT_SLICE(fields[2].value, "");
}

static void test_names_are_taken_as_text_in_any_case_or_as_an_index(void **state)
{
	(void)state;
	assert_null(decode("['Content-Type', 'text/plain', 16, b'x', 'X-Own', '', b'ETAG', 'y']"));
	assert_int_equal(count, 4);
	assert_int_equal(fields[0].index, 16);
	EXPECT_SLICE(fields[0].name, "Content-Type");
	EXPECT_SLICE(fields[0].value, "text/plain");
	assert_int_equal(fields[1].index, 16);
	EXPECT_SLICE(fields[1].name, "content-type");
	assert_int_equal(fields[2].index, NAME_UNKNOWN);
	EXPECT_SLICE(fields[2].name, "X-Own");
	EXPECT_SLICE(fields[2].value, "");
	assert_int_equal(fields[3].index, 20);
	assert_null(decode("[]"));
	assert_int_equal(count, 0);
	assert_null(decode("[63, '']"));
	assert_null(decode("['x'*5000, 'y'*5000]"));
}

static void test_what_is_no_list_of_fields_is_refused(void **state)
{
	(void)state;
	assert_string_equal(decode("['a']"), "must be an array of names and values");
	assert_string_equal(decode("{}"), "must be an array of names and values");
	assert_string_equal(decode("nil"), "must be an array of names and values");
	assert_string_equal(decode("[64, 'x']"), "has a name that is neither text nor an index of the table");
	assert_string_equal(decode("[-1, 'x']"), "has a name that is neither text nor an index of the table");
	assert_string_equal(decode("[nil, 'x']"), "has a name that is neither text nor an index of the table");
	assert_string_equal(decode("['a', 5]"), "has a value that is not bytes");
	assert_string_equal(decode("['a', nil]"), "has a value that is not bytes");
	assert_string_equal(decode("['a', 'b', 'c', ['d']]"), "has a value that is not bytes");
	assert_null(decode("[1,'',1,'',1,'',1,'',1,'',1,'',1,'',1,'']"));
	assert_string_equal(decode("[1,'',1,'',1,'',1,'',1,'',1,'',1,'',1,'',1,'']"), "has too many fields");
}

static void test_what_is_encoded_stays_within_its_bound_and_is_decoded_as_the_same(void **state)
{
	static uint8_t big[70000];
	const struct field sent[] = {
		{SLICE_LIT("host"), SLICE_LIT("example"), NAME_HOST},
		{SLICE_LIT("x-own"), SLICE_LIT(""), NAME_UNKNOWN},
		{slice_of(big, 300), slice_of(big, 70000), NAME_UNKNOWN},
		{SLICE_LIT("x-forwarded-for"), SLICE_LIT("\xff"), 63},
	};
	struct field got[4];
	const char *rule;
	unsigned n;

	(void)state;
	memset(big, 'n', sizeof big);
	for (unsigned some = 0; some <= 4; some++) {
		size_t bound = fields_bound(sent, some);
		uint8_t *bytes = malloc(bound), *end = fields_encode(bytes, sent, some);
		assert_true((size_t)(end - bytes) <= bound);
		assert_true(fields_decode(slice_of(bytes, (size_t)(end - bytes)), got, 4, &n, &rule));
		assert_int_equal(n, some);
		for (unsigned i = 0; i < n; i++) {
			assert_int_equal(got[i].index, sent[i].index);
			assert_true(slice_eq(got[i].name, sent[i].name));
			assert_true(slice_eq(got[i].value, sent[i].value));
		}
		free(bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_name_is_found_by_its_text_and_back),
		cmocka_unit_test(test_indices_that_the_code_speaks_of_are_those_of_the_table),
		cmocka_unit_test(test_other_names_are_not_found),
		cmocka_unit_test(test_names_are_taken_as_text_in_any_case_or_as_an_index),
		cmocka_unit_test(test_white_space_around_values_is_dropped),
		cmocka_unit_test(test_what_is_no_list_of_fields_is_refused),
		cmocka_unit_test(test_what_is_encoded_stays_within_its_bound_and_is_decoded_as_the_same),
	};

	return cmocka_run_group_tests_name("fields", tests, NULL, NULL);
}
