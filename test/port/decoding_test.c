/* SPDX-License-Identifier: Apache-2.0 */
/* Content codings of request bodies: Content-Encoding, decoded bytes, what is refused, and the limits. */
#include "coding/decoding.h"
#include "coding/encoder.h"

#include "support.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#ifdef WITH_ZSTD
#include <zstd.h>
#endif

/* ---- Content-Encoding (RFC 9110 8.4) ---- */

static const struct {
	const char *values[3];
	enum coding first, second;
	bool unknown;
} plans[] = {
	{{NULL}, 0, 0, false},
	{{""}, 0, 0, false},
	{{" , ,"}, 0, 0, false},
	{{"identity"}, 0, 0, false},
	{{"identity, IDENTITY"}, 0, 0, false},
	{{"gzip"}, CODING_GZIP, 0, false},
	{{"GZip"}, CODING_GZIP, 0, false},
	{{"x-gzip"}, CODING_GZIP, 0, false},
	{{"\tgzip "}, CODING_GZIP, 0, false},
	{{"deflate"}, CODING_DEFLATE, 0, false},
	{{"gzip, deflate"}, CODING_GZIP, CODING_DEFLATE, false},
	{{"deflate,gzip"}, CODING_DEFLATE, CODING_GZIP, false},
	{{"deflate", "gzip"}, CODING_DEFLATE, CODING_GZIP, false},
	{{"gzip, identity, gzip"}, CODING_GZIP, CODING_GZIP, false},
	{{"gzip,,gzip,"}, CODING_GZIP, CODING_GZIP, false},
	{{"gzip, gzip, gzip"}, 0, 0, true},
	{{"gzip", "gzip, gzip"}, 0, 0, true},
	{{"compress"}, 0, 0, true},
	{{"x-compress"}, 0, 0, true},
	{{"gzipx"}, 0, 0, true},
	{{"gzip;q=1"}, 0, 0, true},
	{{"gzip deflate"}, 0, 0, true},
	{{"\"gzip\""}, 0, 0, true},
	{{"gzip, aes128gcm"}, 0, 0, true},
	{{"*"}, 0, 0, true},
#ifdef WITH_BROTLI
	{{"br"}, CODING_BR, 0, false},
	{{"br, gzip"}, CODING_BR, CODING_GZIP, false},
#else
	{{"br"}, 0, 0, true},
#endif
#ifdef WITH_ZSTD
	{{"zstd"}, CODING_ZSTD, 0, false},
#else
	{{"zstd"}, 0, 0, true},
#endif
};

static struct decoding_plan plan_of(const char *const *values)
{
	struct field fields[4] = {{SLICE_LIT("accept-encoding"), SLICE_LIT("compress"), -1}};
	unsigned n = 1;

	for (; n < 4 && values[n - 1]; n++)
		fields[n] = (struct field){SLICE_LIT("content-encoding"), slice_str(values[n - 1]), -1};
	return decoding_plan(fields, n);
}

static void test_fields_say_what_was_done(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
		struct decoding_plan plan = plan_of(plans[i].values);
		unsigned count = plans[i].second ? 2 : plans[i].first ? 1 : 0;

		if (plan.unknown != plans[i].unknown ||
		    (!plan.unknown &&
		     (plan.count != count || plan.coding[0] != plans[i].first || plan.coding[1] != plans[i].second)))
			fail_msg("%s: %u codings, %s", plans[i].values[0], plan.count, plan.unknown ? "unknown" : "known");
	}
}

static void test_the_codings_that_are_there_are_named(void **state)
{
	const char *wanted = "gzip, deflate"
#ifdef WITH_BROTLI
			     ", br"
#endif
#ifdef WITH_ZSTD
			     ", zstd"
#endif
		;

	(void)state;
	assert_true(slice_eq(decoding_accepted(), slice_str(wanted)));
	assert_true(slice_eq(decoding_accepted(), slice_str(wanted)));
}

/* ---- decoded bytes ---- */

enum { TEXT_SIZE = 300000, CODED_SIZE = 2 * TEXT_SIZE };

static uint8_t text[TEXT_SIZE], decoded[TEXT_SIZE + 1], coded[CODED_SIZE], twice[CODED_SIZE];

static size_t encode(enum coding coding, struct slice in, uint8_t *out)
{
	struct encoder_blocks blocks = {0};
	struct encoder *e = encoder_new(coding, 1, &blocks);
	size_t n = 0, used;
	int complete;

	assert_non_null(e);
	do {
		complete = encoder_run(e, ENCODER_FINISH, &in, out + n, CODED_SIZE - n, &used);
		n += used;
	} while (complete == 0);
	assert_int_equal(complete, 1);
	encoder_free(e);
	encoder_blocks_free(&blocks);
	return n;
}

struct outcome {
	enum decoding_result result;
	bool whole;
	size_t size;
};

/* Input in pieces of at most `cut` bytes, output into buffers of at most `room`. */
static struct outcome decode(struct decoding_plan plan, struct slice in, size_t cut, size_t room, uint64_t most, uint64_t ratio)
{
	struct decoding *d = decoding_new(&plan, most, ratio);
	struct outcome o = {DECODING_NEEDS_INPUT, false, 0};
	size_t at = 0;

	assert_non_null(d);
	while (o.result <= DECODING_NEEDS_ROOM && (at < in.len || o.result == DECODING_NEEDS_ROOM) && o.size <= TEXT_SIZE) {
		size_t n = in.len - at < cut ? in.len - at : cut, left = sizeof decoded - o.size, used;
		struct slice piece = slice_of(in.at + at, n);

		o.result = decoding_run(d, &piece, decoded + o.size, left < room ? left : room, &used);
		at += n - piece.len;
		o.size += used;
	}
	o.whole = decoding_is_whole(d);
	decoding_free(d);
	return o;
}

static struct decoding_plan with(enum coding first, enum coding second)
{
	return (struct decoding_plan){.coding = {(uint8_t)first, (uint8_t)second}, .count = second ? 2 : 1};
}

static void fill_text(void)
{
	uint32_t seed = 1;

	for (size_t i = 0; i < TEXT_SIZE; i++) {
		seed = seed * 1103515245 + 12345;
		text[i] = (uint8_t)("etaoin shrdlu\n.,"[(seed >> 16) & 15]);
	}
}

static void expect_text(struct decoding_plan plan, struct slice in, size_t cut, size_t room, size_t size)
{
	struct outcome o = decode(plan, in, cut, room, 0, 100);

	if (o.result > DECODING_NEEDS_ROOM || !o.whole || o.size != size || memcmp(decoded, text, size) != 0)
		fail_msg("%s of %zu bytes in pieces of %zu into %zu: %d, %zu bytes", coding_name((enum coding)plan.coding[0]), size,
			 cut, room, (int)o.result, o.size);
}

static void test_what_was_encoded_is_decoded_however_it_is_cut(void **state)
{
	static const size_t sizes[] = {1, 100, TEXT_SIZE}, cuts[] = {1, 7, 1000, 16384, CODED_SIZE}, rooms[] = {1, 100, 65000};

	(void)state;
	fill_text();
	for (enum coding c = CODING_GZIP; c < CODINGS; c++)
		for (size_t i = 0; encoder_exists(c) && i < 3; i++) {
			size_t n = encode(c, slice_of(text, sizes[i]), coded);

			for (size_t cut = 0; cut < 5; cut++)
				for (size_t room = 0; room < 3; room++)
					expect_text(with(c, 0), slice_of(coded, n), cuts[cut], rooms[room], sizes[i]);
		}
}

static void test_two_codings_are_undone_the_last_one_first(void **state)
{
	static const size_t cuts[] = {1, 1000, CODED_SIZE};

	(void)state;
	fill_text();
	for (enum coding first = CODING_GZIP; first < CODINGS; first++)
		for (enum coding second = CODING_GZIP; second < CODINGS; second++) {
			size_t n;

			if (!encoder_exists(first) || !encoder_exists(second))
				continue;
			n = encode(first, slice_of(text, TEXT_SIZE), twice);
			n = encode(second, slice_of(twice, n), coded);
			for (size_t cut = 0; cut < 3; cut++)
				expect_text(with(first, second), slice_of(coded, n), cuts[cut], 65000, TEXT_SIZE);
		}
}

/* ---- what is refused ---- */

static void test_a_body_that_is_cut_off_is_never_whole(void **state)
{
	(void)state;
	fill_text();
	for (enum coding c = CODING_GZIP; c < CODINGS; c++) {
		size_t n = encoder_exists(c) ? encode(c, slice_of(text, 500), coded) : 0;

		for (size_t len = 1; len < n; len++) {
			struct outcome o = decode(with(c, 0), slice_of(coded, len), CODED_SIZE, 65000, 0, 100);

			if (o.result == DECODING_NEEDS_INPUT && o.whole)
				fail_msg("%zu of %zu bytes of %s are taken for whole", len, n, coding_name(c));
		}
	}
}

static void test_no_byte_at_all_is_an_empty_body(void **state)
{
	(void)state;
	for (enum coding c = CODING_GZIP; c < CODINGS; c++)
		if (encoder_exists(c))
			assert_true(decode(with(c, 0), SLICE_LIT(""), 1, 100, 0, 100).whole);
	assert_true(decode(with(CODING_GZIP, CODING_DEFLATE), SLICE_LIT(""), 1, 100, 0, 100).whole);
}

static void test_what_follows_the_end_is_refused(void **state)
{
	static const char *const rests[] = {"x", "\0", "\0\0\0\0\0\0\0\0\0\0\0\0", "GET / HTTP/1.1\r\n\r\n"};

	(void)state;
	fill_text();
	for (enum coding c = CODING_GZIP; c < CODINGS; c++)
		for (size_t i = 0; encoder_exists(c) && i < 4; i++) {
			size_t n = encode(c, slice_of(text, 500), coded), rest = (size_t[]){1, 1, 12, 18}[i];
			struct outcome o;

			memcpy(coded + n, rests[i], rest);
			for (size_t cut = 1; cut <= n + rest; cut += n + rest - 1) {
				o = decode(with(c, 0), slice_of(coded, n + rest), cut, 65000, 0, 100);
				if (o.result == DECODING_NEEDS_INPUT && o.whole)
					fail_msg("%s with something behind it is taken", coding_name(c));
			}
		}
}

/* RFC 1952 2.2, RFC 8878 3. */
static void test_members_and_frames_may_follow_each_other(void **state)
{
	static const enum coding codings[] = {CODING_GZIP, CODING_ZSTD};

	(void)state;
	fill_text();
	for (size_t i = 0; i < 2; i++) {
		size_t n;

		if (!encoder_exists(codings[i]))
			continue;
		n = encode(codings[i], slice_of(text, 500), coded);
		n += encode(codings[i], slice_of(text + 500, 0), coded + n);
		n += encode(codings[i], slice_of(text + 500, 700), coded + n);
		for (size_t cut = 1; cut < 40; cut++)
			expect_text(with(codings[i], 0), slice_of(coded, n), cut, 65000, 1200);
		assert_false(decode(with(codings[i], 0), slice_of(coded, n - 1), 10, 65000, 0, 100).whole);
	}
}

static void test_malformed_bytes_are_refused(void **state)
{
	(void)state;
	for (enum coding c = CODING_GZIP; c < CODINGS; c++) {
		struct outcome o;

		if (!encoder_exists(c))
			continue;
		o = decode(with(c, 0), SLICE_LIT("this was never encoded by anybody, and is long enough to tell"), 5, 65000, 0,
			   100);
		if (o.result != DECODING_MALFORMED)
			fail_msg("%s takes plain text: %d", coding_name(c), (int)o.result);
	}
	/* deflate without zlib's wrapper, which RFC 9110 8.4.1.2 does not know */
	assert_int_equal(decode(with(CODING_DEFLATE, 0), SLICE_LIT("\xcbH\xcd\xc9\xc9\x07\x00"), 7, 100, 0, 100).result,
			 DECODING_MALFORMED);
}

/* A wrong bit: gzip and zlib contain a checksum. */
static void test_a_wrong_sum_is_refused(void **state)
{
	static const enum coding codings[] = {CODING_GZIP, CODING_DEFLATE};

	(void)state;
	fill_text();
	for (size_t i = 0; i < 2; i++) {
		size_t n = encode(codings[i], slice_of(text, 500), coded);

		coded[n - (codings[i] == CODING_GZIP ? 5 : 1)] ^= 1;
		assert_int_equal(decode(with(codings[i], 0), slice_of(coded, n), 100, 65000, 0, 100).result, DECODING_MALFORMED);
	}
}

#ifdef WITH_ZSTD
/* Formats from before RFC 8878, which the library may support; cut anywhere. */
static void test_formats_that_are_no_zstd_any_more_are_refused(void **state)
{
	(void)state;
	for (uint8_t version = 0x1e; version < 0x30; version++) {
		uint8_t frame[] = {version, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x13, 0xff, 0x09, 0x00};

		for (size_t cut = 1; cut <= sizeof frame && version != 0x28; cut++)
			assert_int_equal(decode(with(CODING_ZSTD, 0), slice_of(frame, sizeof frame), cut, 100, 0, 100).result,
					 DECODING_MALFORMED);
	}
}

/* RFC 8878 3.1.2: skippable frames produce nothing. */
static void test_frames_that_are_to_be_skipped_are_nothing(void **state)
{
	static const uint8_t frames[] = {0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 'a', 'b', 0x5f, 0x2a, 0x4d, 0x18, 0, 0, 0, 0};

	(void)state;
	for (size_t cut = 1; cut <= sizeof frames; cut++)
		assert_true(decode(with(CODING_ZSTD, 0), slice_of(frames, sizeof frames), cut, 100, 0, 100).whole);
	assert_false(decode(with(CODING_ZSTD, 0), slice_of(frames, sizeof frames - 1), 3, 100, 0, 100).whole);
}

/* RFC 9659: no window of more than 8 MiB. */
static void test_a_window_that_is_too_large_is_refused(void **state)
{
	static const uint8_t frame_of_16_mib[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x70, 0x01, 0x00, 0x00};
	static const uint8_t frame_of_8_mib[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68, 0x01, 0x00, 0x00};

	(void)state;
	assert_int_equal(decode(with(CODING_ZSTD, 0), slice_of(frame_of_16_mib, 9), 9, 100, 0, 100).result, DECODING_MALFORMED);
	assert_true(decode(with(CODING_ZSTD, 0), slice_of(frame_of_8_mib, 9), 9, 100, 0, 100).whole);
}
#endif

/* ---- too much ---- */

enum { BOMB = 64 << 20 };

/* Many times the same byte. */
static size_t make_bomb(enum coding coding, uint8_t *out)
{
	static const uint8_t zeros[65536];
	struct encoder_blocks blocks = {0};
	struct encoder *e = encoder_new(coding, coding == CODING_BR ? 5 : 1, &blocks);
	size_t n = 0, used;

	for (size_t made = 0; made < BOMB; made += sizeof zeros) {
		struct slice in = slice_of(zeros, sizeof zeros);
		int complete;

		do {
			complete = encoder_run(e, ENCODER_TAKE, &in, out + n, CODED_SIZE - n, &used);
			n += used;
		} while (complete == 0);
	}
	for (int complete = 0; complete == 0; n += used) {
		struct slice none = SLICE_LIT("");
		complete = encoder_run(e, ENCODER_FINISH, &none, out + n, CODED_SIZE - n, &used);
	}
	encoder_free(e);
	encoder_blocks_free(&blocks);
	return n;
}

static size_t most_memory;

/* How many bytes are decoded in chunks of 65,000 before the body is refused. */
static uint64_t defuse(struct decoding_plan plan, struct slice in, uint64_t most, uint64_t ratio, enum decoding_result *result)
{
	struct decoding *d = decoding_new(&plan, most, ratio);
	uint64_t came = 0;
	size_t used;

	most_memory = 0;
	do {
		*result = decoding_run(d, &in, decoded, 65000, &used);
		came += used;
		if (decoding_memory(d) > most_memory)
			most_memory = decoding_memory(d);
	} while (*result == DECODING_NEEDS_ROOM);
	decoding_free(d);
	return came;
}

static void test_a_bomb_ends_where_its_ratio_does(void **state)
{
	(void)state;
	for (enum coding c = CODING_GZIP; c < CODINGS; c++) {
		enum decoding_result result;
		size_t n = encoder_exists(c) ? make_bomb(c, coded) : 0;
		uint64_t came;

		if (n == 0)
			continue;
		came = defuse(with(c, 0), slice_of(coded, n), 0, 100, &result);
		if (result != DECODING_TOO_LARGE || came > 2 * DECODING_FREE || most_memory > 2 << 20)
			fail_msg("%s: %d after %llu bytes, with %zu of memory", coding_name(c), (int)result,
				 (unsigned long long)came, most_memory);
		assert_int_equal(defuse(with(c, 0), slice_of(coded, n), 0, UINT32_MAX, &result), BOMB);
		assert_int_equal(result, DECODING_NEEDS_INPUT);
	}
}

/* The outer coding yields, bit by bit, input from which the inner one decodes nothing. */
static void test_a_bomb_in_a_bomb_ends_too(void **state)
{
	enum decoding_result result;

	(void)state;
	for (enum coding c = CODING_GZIP; c < CODINGS; c++) {
		size_t n = encoder_exists(c) ? make_bomb(c, twice) : 0;

		if (n == 0)
			continue;
		n = encode(CODING_GZIP, slice_of(twice, n), coded);
		assert_true(defuse(with(c, CODING_GZIP), slice_of(coded, n), 0, 100, &result) <= 2 * DECODING_FREE);
		assert_int_equal(result, DECODING_TOO_LARGE);
	}
#ifdef WITH_ZSTD
	{
		/* a skippable frame with 60 MB of zeros: the second coding never yields a byte */
		static uint8_t skipped[BOMB];
		static uint8_t small[1 << 20];
		size_t n;

		memcpy(skipped, "\x50\x2a\x4d\x18\x00\x00\x90\x03", 8);
		n = ZSTD_compress(small, sizeof small, skipped, sizeof skipped, 1);
		assert_int_equal(defuse(with(CODING_ZSTD, CODING_ZSTD), slice_of(small, n), 0, 100, &result), 0);
		assert_int_equal(result, DECODING_TOO_LARGE);
	}
#endif
}

static void test_a_limit_holds_to_the_byte(void **state)
{
	(void)state;
	fill_text();
	for (enum coding c = CODING_GZIP; c < CODINGS; c++) {
		size_t n = encoder_exists(c) ? encode(c, slice_of(text, 1000), coded) : 0;

		if (n == 0)
			continue;
		assert_int_equal(decode(with(c, 0), slice_of(coded, n), 10, 65000, 999, 100).result, DECODING_TOO_LARGE);
		assert_int_equal(decode(with(c, 0), slice_of(coded, n), 10, 65000, 1000, 100).result, DECODING_NEEDS_INPUT);
	}
}

#ifdef __GLIBC__
/* In the middle of a long body, decoding_memory equals what malloc has allocated. */
static void test_memory_is_what_it_is_said_to_be(void **state)
{
	(void)state;
	fill_text();
	for (enum coding c = CODING_GZIP; c < CODINGS; c++) {
		struct decoding_plan plan = with(c, 0);
		size_t n = encoder_exists(c) ? encode(c, slice_of(text, TEXT_SIZE), coded) : 0, before, used, said;
		struct slice in = slice_of(coded, n / 2);
		struct mallinfo2 info;
		struct decoding *d;

		if (n == 0)
			continue;
		info = mallinfo2();
		before = info.uordblks + info.hblkhd;
		d = decoding_new(&plan, 0, 100);
		while (decoding_run(d, &in, decoded, 65000, &used) == DECODING_NEEDS_ROOM)
			;
		said = decoding_memory(d);
		info = mallinfo2();
		if (info.uordblks + info.hblkhd - before > said + said / 8 + 4096)
			fail_msg("%s holds %zu bytes, not %zu", coding_name(c), info.uordblks + info.hblkhd - before, said);
		decoding_free(d);
	}
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields_say_what_was_done),
		cmocka_unit_test(test_the_codings_that_are_there_are_named),
		cmocka_unit_test(test_what_was_encoded_is_decoded_however_it_is_cut),
		cmocka_unit_test(test_two_codings_are_undone_the_last_one_first),
		cmocka_unit_test(test_a_body_that_is_cut_off_is_never_whole),
		cmocka_unit_test(test_no_byte_at_all_is_an_empty_body),
		cmocka_unit_test(test_what_follows_the_end_is_refused),
		cmocka_unit_test(test_members_and_frames_may_follow_each_other),
		cmocka_unit_test(test_malformed_bytes_are_refused),
		cmocka_unit_test(test_a_wrong_sum_is_refused),
#ifdef WITH_ZSTD
		cmocka_unit_test(test_formats_that_are_no_zstd_any_more_are_refused),
		cmocka_unit_test(test_frames_that_are_to_be_skipped_are_nothing),
		cmocka_unit_test(test_a_window_that_is_too_large_is_refused),
#endif
		cmocka_unit_test(test_a_bomb_ends_where_its_ratio_does),
		cmocka_unit_test(test_a_bomb_in_a_bomb_ends_too),
		cmocka_unit_test(test_a_limit_holds_to_the_byte),
#ifdef __GLIBC__
		cmocka_unit_test(test_memory_is_what_it_is_said_to_be),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
