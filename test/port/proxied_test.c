/* SPDX-License-Identifier: Apache-2.0 */
/* The PROXY protocol: a corpus of raw headers, cut at each byte. */
#include "peer/proxied.h"

#include <arpa/inet.h>

#include "proxied_corpus.h"
#include "support.h"

enum { BOUND = 4096 };

static void put_end(struct text *t, const struct proxied_end *end)
{
	char address[INET6_ADDRSTRLEN];

	if (end->ip.len == 0) {
		text_add(t, "unix:%.*s", (int)end->path.len, end->path.at ? (const char *)end->path.at : "");
		return;
	}
	inet_ntop(end->ip.len == 4 ? AF_INET : AF_INET6, end->ip.bytes, address, sizeof address);
	text_add(t, "%s:%u", address, end->port);
}

static void put_named(struct text *t, const char *name, struct slice value)
{
	if (!value.at)
		return;
	text_add(t, " %s=", name);
	text_add_quoted(t, value);
}

static void put_tls(struct text *t, const struct proxied_tls *tls)
{
	const struct slice parts[] = {tls->version, tls->name, tls->cipher, tls->signature, tls->key};

	if (!tls->there)
		return;
	text_add(t, " tls=%u/%u", tls->client, tls->verify);
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (parts[i].at)
			text_add(t, "%s%.*s", i ? "," : " ", (int)parts[i].len, (const char *)parts[i].at);
}

/* What was read, in the notation of the corpus. */
static void describe(struct text *t, enum proxied_step step, const struct proxied *p, const char *why)
{
	if (step == PROXIED_BAD || step == PROXIED_NOT || step == PROXIED_MORE) {
		text_add(t, "%s%s",
			 step == PROXIED_BAD   ? "bad: "
			 : step == PROXIED_NOT ? "not"
					       : "more",
			 step == PROXIED_BAD ? why : "");
		return;
	}
	text_add(t, "%u ", p->version);
	if (p->silent) {
		text_add(t, "silent");
		return;
	}
	put_end(t, &p->source);
	text_add(t, " > ");
	put_end(t, &p->target);
	put_named(t, "authority", p->authority);
	put_named(t, "alpn", p->alpn);
	put_named(t, "unique", p->unique);
	put_tls(t, &p->tls);
}

/* Reads so many bytes, with nothing readable behind them. */
static enum proxied_step read_part(struct slice bytes, size_t len, struct text *says, size_t *used)
{
	uint8_t *copy = exact_copy(bytes.at, len);
	struct proxied p;
	const char *why = NULL;
	enum proxied_step step = proxied_read(slice_of(copy, len), BOUND, &p, used, &why);

	text_clear(says);
	describe(says, step, &p, why);
	free(copy);
	return step;
}

static void test_each_header_says_what_it_says(void **state)
{
	struct text says = {0};
	size_t used;

	(void)state;
	assert_true(PROXIED_CORPUS >= 60);
	for (size_t i = 0; i < PROXIED_CORPUS; i++) {
		const struct raw_header *h = &proxied_corpus[i];
		enum proxied_step step = read_part(h->bytes, h->bytes.len, &says, &used);
		if (strcmp(text_str(&says), h->says) != 0)
			fail_msg("number %zu: %s instead of %s", i, text_str(&says), h->says);
		if (step == PROXIED_DONE)
			assert_int_equal(used, h->bytes.len);
	}
	text_free(&says);
}

/* An incomplete header gives no result; once there is a result, later bytes do not change it. */
static void test_cut_at_each_byte_it_is_the_same(void **state)
{
	struct text says = {0};
	size_t used;

	(void)state;
	for (size_t i = 0; i < PROXIED_CORPUS; i++) {
		const struct raw_header *h = &proxied_corpus[i];
		bool whole = h->says[0] == '1' || h->says[0] == '2', decided = false;
		for (size_t n = 0; n <= h->bytes.len; n++) {
			enum proxied_step step = read_part(h->bytes, n, &says, &used);
			if (step == PROXIED_MORE) {
				assert_false(decided);
				continue;
			}
			decided = true;
			assert_true(!whole || n == h->bytes.len);
			assert_string_equal(text_str(&says), h->says);
		}
		assert_true(decided);
	}
	text_free(&says);
}

static void test_what_stands_behind_a_header_is_not_looked_at(void **state)
{
	static const char *const behind[] = {"G", "\r\n", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "\x16\x03\x01"};
	struct text says = {0}, all = {0};
	size_t used;

	(void)state;
	for (size_t i = 0; i < PROXIED_CORPUS; i++)
		for (size_t k = 0; k < sizeof behind / sizeof *behind; k++) {
			const struct raw_header *h = &proxied_corpus[i];
			if (h->says[0] != '1' && h->says[0] != '2')
				continue;
			text_clear(&all);
			text_add_bytes(&all, h->bytes.at, h->bytes.len);
			text_add_bytes(&all, behind[k], strlen(behind[k]));
			read_part(slice_of(buf_at(&all.buf), buf_len(&all.buf)), buf_len(&all.buf), &says, &used);
			assert_string_equal(text_str(&says), h->says);
			assert_int_equal(used, h->bytes.len);
		}
	text_free(&all);
	text_free(&says);
}

static enum proxied_step read_bounded(size_t len, size_t max, const char **why)
{
	uint8_t bytes[32] = SIG "\x21\x11";
	struct proxied p;
	size_t used;

	bytes[14] = (uint8_t)(len >> 8);
	bytes[15] = (uint8_t)len;
	return proxied_read(slice_of(bytes, sizeof bytes), max, &p, &used, why);
}

static void test_the_bound_counts_before_more_is_read(void **state)
{
	const char *why = NULL;

	(void)state;
	assert_int_equal(read_bounded(BOUND - 16, BOUND, &why), PROXIED_MORE);
	assert_int_equal(read_bounded(BOUND - 15, BOUND, &why), PROXIED_BAD);
	assert_string_equal(why, "it is longer than max_proxy_header");
	assert_int_equal(read_bounded(UINT16_MAX, 65551, &why), PROXIED_MORE);
}

/* Whatever follows a signature, nothing beyond the bytes is read (checked by sanitizers), and the result is one of the four. */
static void test_any_bytes_can_be_read(void **state)
{
	static const uint8_t kinds[] = {1, 2, 3, 4, 5, 0x20, 0x21, 0x22, 0};
	uint32_t seed = 4;
	struct text says = {0};

	(void)state;
	for (unsigned n = 0; n < 50000; n++) {
		uint8_t bytes[80] = SIG;
		size_t len = 12 + random_below(&seed, sizeof bytes - 12), used;
		for (size_t i = 12; i < len; i++)
			bytes[i] = random_below(&seed, 3) ? (uint8_t)random_below(&seed, 8)
							  : kinds[random_below(&seed, sizeof kinds)];
		if (len > 16) {
			bytes[12] = 0x21;
			bytes[13] = (uint8_t)(0x11 + 0x10 * random_below(&seed, 2));
			bytes[14] = 0;
			bytes[15] = (uint8_t)(len - 16);
		}
		if (read_part(slice_of(bytes, len), len, &says, &used) == PROXIED_DONE)
			assert_int_equal(used, len);
	}
	text_free(&says);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_header_says_what_it_says),
		cmocka_unit_test(test_cut_at_each_byte_it_is_the_same),
		cmocka_unit_test(test_what_stands_behind_a_header_is_not_looked_at),
		cmocka_unit_test(test_the_bound_counts_before_more_is_read),
		cmocka_unit_test(test_any_bytes_can_be_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
