/* SPDX-License-Identifier: Apache-2.0 */
/* msgpack, with msgpack-c as an independent judge. */
#include "frames/mp.h"

#include <msgpack.h>

#include "support.h"

static const uint64_t uints[] = {
	0, 1, 127, 128, 255, 256, 65535, 65536, 1 << 20, 4294967295, 4294967296, (uint64_t)INT64_MAX, UINT64_MAX};
static const int64_t ints[] = {-1,     -31,    -32,    -33,         -127,        -128,        -129,
			       -32767, -32768, -32769, -2147483647, -2147483648, -2147483649, INT64_MIN};
static const uint32_t lengths[] = {0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536, 70000};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static uint8_t zeros[70000];

/* What msgpack-c reads from these bytes; it must use all of them. */
static msgpack_object judge(msgpack_unpacked *unpacked, const void *bytes, size_t len)
{
	size_t used = 0;

	msgpack_unpacked_init(unpacked);
	assert_int_equal(msgpack_unpack_next(unpacked, bytes, len, &used), MSGPACK_UNPACK_SUCCESS);
	assert_int_equal(used, len);
	return unpacked->data;
}

static struct mp_value read_all(const void *bytes, size_t len)
{
	struct slice in = slice_of(bytes, len);
	struct mp_value v;

	assert_true(mp_read(&in, &v));
	assert_int_equal(in.len, 0);
	return v;
}

/* We write the same bytes as msgpack-c, which writes the shortest form. */
static void same_as_packer(const uint8_t *ours, size_t len, const msgpack_sbuffer *theirs)
{
	assert_int_equal(len, theirs->size);
	assert_memory_equal(ours, theirs->data, len);
}

static void test_integers_are_written_as_msgpack_c_writes_them(void **state)
{
	msgpack_sbuffer theirs;
	msgpack_packer packer;
	uint8_t ours[16];

	(void)state;
	msgpack_sbuffer_init(&theirs);
	msgpack_packer_init(&packer, &theirs, msgpack_sbuffer_write);
	for (size_t i = 0; i < COUNT(uints); i++) {
		msgpack_sbuffer_clear(&theirs);
		msgpack_pack_uint64(&packer, uints[i]);
		same_as_packer(ours, (size_t)(mp_uint(ours, uints[i]) - ours), &theirs);
		if (uints[i] <= INT64_MAX)
			same_as_packer(ours, (size_t)(mp_int(ours, (int64_t)uints[i]) - ours), &theirs);
	}
	for (size_t i = 0; i < COUNT(ints); i++) {
		msgpack_sbuffer_clear(&theirs);
		msgpack_pack_int64(&packer, ints[i]);
		same_as_packer(ours, (size_t)(mp_int(ours, ints[i]) - ours), &theirs);
	}
	msgpack_sbuffer_destroy(&theirs);
}

static void test_strings_and_containers_are_written_as_msgpack_c_writes_them(void **state)
{
	static uint8_t ours[70010];
	msgpack_sbuffer theirs;
	msgpack_packer packer;

	(void)state;
	msgpack_sbuffer_init(&theirs);
	msgpack_packer_init(&packer, &theirs, msgpack_sbuffer_write);
	for (size_t i = 0; i < COUNT(lengths); i++) {
		struct slice text = slice_of(zeros, lengths[i]);
		msgpack_sbuffer_clear(&theirs);
		msgpack_pack_str_with_body(&packer, zeros, lengths[i]);
		same_as_packer(ours, (size_t)(mp_str(ours, text) - ours), &theirs);
		msgpack_sbuffer_clear(&theirs);
		msgpack_pack_bin_with_body(&packer, zeros, lengths[i]);
		same_as_packer(ours, (size_t)(mp_bin(ours, text) - ours), &theirs);
		msgpack_sbuffer_clear(&theirs);
		msgpack_pack_array(&packer, lengths[i]);
		same_as_packer(ours, (size_t)(mp_array(ours, lengths[i]) - ours), &theirs);
		msgpack_sbuffer_clear(&theirs);
		msgpack_pack_map(&packer, lengths[i]);
		same_as_packer(ours, (size_t)(mp_map(ours, lengths[i]) - ours), &theirs);
	}
	msgpack_sbuffer_clear(&theirs);
	msgpack_pack_nil(&packer);
	msgpack_pack_true(&packer);
	msgpack_pack_false(&packer);
	same_as_packer(ours, (size_t)(mp_bool(mp_bool(mp_nil(ours), true), false) - ours), &theirs);
	msgpack_sbuffer_destroy(&theirs);
}

static void test_wide_forms_keep_their_width_and_their_value(void **state)
{
	msgpack_unpacked unpacked;
	uint8_t bytes[300] = {0};

	(void)state;
	for (uint32_t value = 0; value < 300; value += 37) {
		msgpack_object o;
		assert_int_equal(mp_uint32_wide(bytes, value) - bytes, 5);
		o = judge(&unpacked, bytes, 5);
		assert_int_equal(o.type, MSGPACK_OBJECT_POSITIVE_INTEGER);
		assert_int_equal(o.via.u64, value);
		msgpack_unpacked_destroy(&unpacked);
		assert_int_equal(mp_bin32_head(bytes, value % 200) - bytes, 5);
		o = judge(&unpacked, bytes, 5 + value % 200);
		assert_int_equal(o.type, MSGPACK_OBJECT_BIN);
		assert_int_equal(o.via.bin.size, value % 200);
		msgpack_unpacked_destroy(&unpacked);
	}
}

static void check_integer(const char *bytes, size_t len, int64_t wanted)
{
	struct mp_value v = read_all(bytes, len);

	assert_int_equal(v.type, wanted < 0 ? MP_INT : MP_UINT);
	assert_true((int64_t)v.u == wanted);
}

static void test_integers_are_read_in_any_width(void **state)
{
	(void)state;
	check_integer("\x07", 1, 7);
	check_integer("\xcc\x07", 2, 7);
	check_integer("\xcd\x00\x07", 3, 7);
	check_integer("\xce\x00\x00\x00\x07", 5, 7);
	check_integer("\xcf\x00\x00\x00\x00\x00\x00\x00\x07", 9, 7);
	check_integer("\xd0\x07", 2, 7);
	check_integer("\xd1\x00\x07", 3, 7);
	check_integer("\xd2\x00\x00\x00\x07", 5, 7);
	check_integer("\xd3\x00\x00\x00\x00\x00\x00\x00\x07", 9, 7);
	check_integer("\xff", 1, -1);
	check_integer("\xe0", 1, -32);
	check_integer("\xd0\x80", 2, -128);
	check_integer("\xd1\xff\xfe", 3, -2);
	check_integer("\xd2\x80\x00\x00\x00", 5, -2147483648LL);
	check_integer("\xd3\x80\x00\x00\x00\x00\x00\x00\x00", 9, INT64_MIN);
}

/* A value of each kind as msgpack-c writes it. */
static void pack_everything(msgpack_packer *packer)
{
	for (size_t i = 0; i < COUNT(uints); i++)
		msgpack_pack_uint64(packer, uints[i]);
	for (size_t i = 0; i < COUNT(ints); i++)
		msgpack_pack_int64(packer, ints[i]);
	for (size_t i = 0; i < COUNT(lengths); i++) {
		msgpack_pack_str_with_body(packer, zeros, lengths[i]);
		msgpack_pack_bin_with_body(packer, zeros, lengths[i]);
		msgpack_pack_ext_with_body(packer, zeros, lengths[i], 5);
	}
	for (size_t i = 1; i <= 16; i *= 2)
		msgpack_pack_ext_with_body(packer, zeros, i, -7);
	msgpack_pack_float(packer, 1.5f);
	msgpack_pack_double(packer, -2.5);
	msgpack_pack_nil(packer);
	msgpack_pack_true(packer);
}

static void same_value(const struct mp_value *v, const msgpack_object *o)
{
	switch (o->type) {
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		assert_int_equal(v->type, MP_UINT);
		assert_true(v->u == o->via.u64);
		break;
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		assert_int_equal(v->type, MP_INT);
		assert_true((int64_t)v->u == o->via.i64);
		break;
	case MSGPACK_OBJECT_STR:
		assert_int_equal(v->type, MP_STR);
		assert_int_equal(v->bytes.len, o->via.str.size);
		break;
	case MSGPACK_OBJECT_BIN:
		assert_int_equal(v->type, MP_BIN);
		assert_int_equal(v->bytes.len, o->via.bin.size);
		break;
	case MSGPACK_OBJECT_EXT:
		assert_int_equal(v->type, MP_EXT);
		assert_int_equal(v->bytes.len, o->via.ext.size + 1);
		break;
	case MSGPACK_OBJECT_BOOLEAN:
		assert_int_equal(v->type, MP_BOOL);
		assert_int_equal(v->u, o->via.boolean);
		break;
	case MSGPACK_OBJECT_NIL:
		assert_int_equal(v->type, MP_NIL);
		break;
	default:
		assert_int_equal(v->type, MP_FLOAT);
		break;
	}
}

static void test_what_msgpack_c_writes_is_read_as_the_same_values(void **state)
{
	msgpack_sbuffer bytes;
	msgpack_packer packer;
	msgpack_unpacked unpacked;
	struct slice in;
	size_t at = 0;

	(void)state;
	msgpack_sbuffer_init(&bytes);
	msgpack_packer_init(&packer, &bytes, msgpack_sbuffer_write);
	pack_everything(&packer);
	msgpack_unpacked_init(&unpacked);
	in = slice_of(bytes.data, bytes.size);
	while (msgpack_unpack_next(&unpacked, bytes.data, bytes.size, &at) == MSGPACK_UNPACK_SUCCESS) {
		struct mp_value v;
		assert_true(mp_read(&in, &v));
		same_value(&v, &unpacked.data);
		assert_int_equal(in.len, bytes.size - at);
	}
	assert_int_equal(at, bytes.size);
	assert_int_equal(in.len, 0);
	msgpack_unpacked_destroy(&unpacked);
	msgpack_sbuffer_destroy(&bytes);
}

static void test_input_cut_at_any_byte_is_refused_and_not_read_beyond(void **state)
{
	static const char whole[] =
		"[1, 200, 70000, 5000000000, -5, -500, 'abc', 'x'*40, b'x'*300, nil, true, {'k': [1, {'l': []}]}, 'y'*70000]";
	struct buf bytes = {0};

	(void)state;
	notation_pack(&bytes, whole);
	for (size_t n = 0; n <= buf_len(&bytes); n += n > 500 && n + 500 < buf_len(&bytes) ? 97 : 1) {
		uint8_t *copy = exact_copy(buf_at(&bytes), n);
		struct slice in = slice_of(copy, n), raw;
		assert_int_equal(mp_skip(&in, &raw), n == buf_len(&bytes));
		if (n == buf_len(&bytes))
			assert_int_equal(raw.len, n);
		free(copy);
	}
	buf_free(&bytes);
}

static void test_every_mark_cut_short_is_refused(void **state)
{
	(void)state;
	for (unsigned mark = 0; mark < 256; mark++)
		for (size_t n = 0; n < 20; n++) {
			uint8_t bytes[20];
			uint8_t *copy;
			struct slice in;
			struct mp_value v;
			memset(bytes, 0xff, sizeof bytes);
			bytes[0] = (uint8_t)mark;
			copy = exact_copy(bytes, n);
			in = slice_of(copy, n);
			if (mp_read(&in, &v)) {
				assert_int_not_equal(mark, 0xc1);
				assert_true(in.at > copy && in.at + in.len == copy + n);
			}
			in = slice_of(copy, n);
			mp_skip(&in, NULL);
			free(copy);
		}
}

static void test_skip_takes_one_whole_value_and_leaves_the_rest(void **state)
{
	struct buf bytes = {0};
	struct slice in, raw;
	struct text got = {0};

	(void)state;
	notation_pack(&bytes, "[1, [2, {'a': [3]}], []] {'b': 'c'} 7");
	in = slice_of(buf_at(&bytes), buf_len(&bytes));
	while (in.len) {
		assert_true(mp_skip(&in, &raw));
		notation_print(&got, &raw, false);
		text_add(&got, ";");
	}
	EXPECT_TEXT(&got, "[1, [2, {'a': [3]}], []];{'b': 'c'};7;");
	text_free(&got);
	buf_free(&bytes);
}

static void test_skip_takes_several_values_or_says_that_they_are_cut_short(void **state)
{
	struct buf bytes = {0};
	struct slice in;

	(void)state;
	notation_pack(&bytes,
		      "1 'abc' [1, {'a': 2}] 70000 'a text that is longer than thirty-one bytes, so it has another head' 9");
	for (size_t n = 0; n <= buf_len(&bytes); n++) {
		in = slice_of(buf_at(&bytes), n);
		assert_int_equal(mp_skip_values(&in, 6), n == buf_len(&bytes));
	}
	in = slice_of(buf_at(&bytes), buf_len(&bytes));
	assert_true(mp_skip_values(&in, 0));
	assert_int_equal(in.len, buf_len(&bytes));
	assert_true(mp_skip_values(&in, 5));
	assert_int_equal(in.len, 1);
	assert_false(mp_skip_values(&in, 2));
	in = slice_of(buf_at(&bytes), buf_len(&bytes));
	assert_false(mp_skip_values(&in, UINT64_MAX));
	buf_free(&bytes);
}

/* Each would cost time or stack if it were believed. */
static void test_bombs_are_refused_by_what_is_there_not_by_what_is_announced(void **state)
{
	static const char *const heads[] = {"\xdd\xff\xff\xff\xff", "\xdf\xff\xff\xff\xff", "\xdf\x80\x00\x00\x00",
					    "\xdb\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff", "\xc9\xff\xff\xff\xff"};
	static uint8_t deep[1 << 20];
	struct slice in;

	(void)state;
	for (size_t i = 0; i < COUNT(heads); i++) {
		memset(deep, 0xc0, sizeof deep);
		memcpy(deep, heads[i], 5);
		in = slice_of(deep, sizeof deep);
		assert_false(mp_skip(&in, NULL));
	}
	memset(deep, 0x91, sizeof deep); /* a million nested arrays */
	in = slice_of(deep, sizeof deep);
	assert_false(mp_skip(&in, NULL));
	deep[sizeof deep - 1] = 0xc0;
	in = slice_of(deep, sizeof deep);
	assert_true(mp_skip(&in, NULL));
	for (size_t i = 0; i + 5 <= sizeof deep; i += 5) /* each announces four thousand million more */
		memcpy(deep + i, heads[0], 5);
	in = slice_of(deep, sizeof deep);
	assert_false(mp_skip(&in, NULL));
}

static void test_random_bytes_are_judged_as_msgpack_c_judges_them(void **state)
{
	uint32_t seed = 99;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t bytes[24], *copy;
		size_t n = 1 + random_below(&seed, sizeof bytes), used = 0;
		msgpack_unpacked unpacked;
		struct slice in;
		bool ours, theirs;
		for (size_t k = 0; k < n; k++) {
			bytes[k] = (uint8_t)(random_below(&seed, 3) ? random_next(&seed) : 0x90 | random_below(&seed, 4));
			if (bytes[k] == 0xdd || bytes[k] == 0xdf) /* msgpack-c allocates what they announce */
				bytes[k] = 0xc0;
		}
		copy = exact_copy(bytes, n);
		in = slice_of(copy, n);
		msgpack_unpacked_init(&unpacked);
		ours = mp_skip(&in, NULL);
		theirs = msgpack_unpack_next(&unpacked, (const char *)bytes, n, &used) == MSGPACK_UNPACK_SUCCESS;
		assert_int_equal(ours, theirs);
		if (ours)
			assert_int_equal(n - in.len, used);
		msgpack_unpacked_destroy(&unpacked);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_integers_are_written_as_msgpack_c_writes_them),
		cmocka_unit_test(test_strings_and_containers_are_written_as_msgpack_c_writes_them),
		cmocka_unit_test(test_wide_forms_keep_their_width_and_their_value),
		cmocka_unit_test(test_integers_are_read_in_any_width),
		cmocka_unit_test(test_what_msgpack_c_writes_is_read_as_the_same_values),
		cmocka_unit_test(test_input_cut_at_any_byte_is_refused_and_not_read_beyond),
		cmocka_unit_test(test_every_mark_cut_short_is_refused),
		cmocka_unit_test(test_skip_takes_one_whole_value_and_leaves_the_rest),
		cmocka_unit_test(test_skip_takes_several_values_or_says_that_they_are_cut_short),
		cmocka_unit_test(test_bombs_are_refused_by_what_is_there_not_by_what_is_announced),
		cmocka_unit_test(test_random_bytes_are_judged_as_msgpack_c_judges_them),
	};

	return cmocka_run_group_tests_name("mp", tests, NULL, NULL);
}
