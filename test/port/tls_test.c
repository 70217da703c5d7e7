/* SPDX-License-Identifier: Apache-2.0 */
/* The certificates of a listener, and the first bytes of a client. */
#include "tls_fixture.h"

#include "base/log.h"

static struct text logged;

static void on_log(void *ctx, enum log_level level, const char *text)
{
	(void)ctx;
	text_add(&logged, "%s: %s\n", log_level_name(level), text);
}

static int setup(void **state)
{
	(void)state;
	assert_true(tls_start());
	log_to(on_log, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	log_to(NULL, NULL);
	text_free(&logged);
	return 0;
}

/* ---- the store ---- */

static const char *fault_of(struct buf map)
{
	static char text[sizeof(struct config_fault) + 8];
	struct config_fault fault;
	struct tls_store *store = tls_store_read(slice_of(buf_at(&map), buf_len(&map)), &fault);

	buf_free(&map);
	if (store) {
		tls_store_drop(store);
		return "none";
	}
	snprintf(text, sizeof text, "%s: %s", fault.field, fault.rule);
	return text;
}

static struct buf packed(const char *notation)
{
	struct buf b = {0};

	notation_pack(&b, notation);
	return b;
}

static void test_certificates_of_all_kinds_are_taken(void **state)
{
	struct tls_store *store = tls_store_of("a-ec a-rsa wild ed b", NULL);

	(void)state;
	assert_int_equal(tls_store_certificates(store), 5);
	tls_store_drop(store);
	EXPECT_TEXT(&logged, "");
}

static void test_faults_say_which_and_why(void **state)
{
	static const struct {
		const char *certificates, *more, *fault;
	} cases[] = {
		{"a-ec:b", NULL, "certificates: 0: key does not fit the certificate"},
		{"a-ec a-rsa:b", NULL, "certificates: 1: key does not fit the certificate"},
		{"a-rsa:a-ec", NULL, "certificates: 0: key does not fit the certificate"},
		{"a-ec:a-ec-encrypted", NULL, "certificates: 0: key is encrypted, and there is no password"},
		{"a-ec", "{'min': 11}", "min: must be 12 to 13"},
		{"a-ec", "{'min': 13, 'max': 12}", "min: must be at most max"},
		{"a-ec", "{'ciphers': 2}", "ciphers: must be 0 to 1"},
		{"a-ec", "{'client': 2}", "client_ca: is required, since client is not 0"},
		{"a-ec", "{'client': 1, 'client_ca': 'nothing'}", "client_ca: has no certificate in PEM or DER"},
		{"a-ec", "{'tickets': b'short'}", "tickets: must be nil, false, or 64 bytes"},
		{"a-ec", "{'ticket_lifetime': 0}", "ticket_lifetime: must be 1 to 604800 s"},
		{"a-ec", "{'alpn': ['h3']}", "alpn: may contain only h2 and http/1.1"},
		{"a-ec", "{'strict_sni': 1}", "strict_sni: must be true or false"},
		{"a-ec", "{'trial': 1}", "trial: must be true or false"},
		{"a-ec", "{'colour': 1}", "colour: is unknown in tls"},
		{"a-ec", "{'certificates': []}", "certificates: must be an array of 1 to 1024 maps"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_string_equal(fault_of(tls_map(cases[i].certificates, cases[i].more)), cases[i].fault);
	assert_string_equal(fault_of(packed("{}")), "certificates: is missing");
	assert_string_equal(fault_of(packed("[]")), "tls: must be a map");
	assert_string_equal(fault_of(packed("{'certificates': [{}]}")), "certificates: 0: chain is missing, or too long");
	assert_string_equal(fault_of(packed("{'certificates': [{'chain': 'x'}]}")), "certificates: 0: key is missing");
	assert_string_equal(fault_of(packed("{'certificates': [{'chain': 'x', 'key': 'y'}]}")),
			    "certificates: 0: chain is not a certificate in PEM or DER");
	assert_string_equal(fault_of(packed("{'certificates': [{'chain': 7}]}")),
			    "certificates: 0: each of chain, key and password must be bytes");
	assert_string_equal(fault_of(packed("{'certificates': [{'other': 'x'}]}")),
			    "certificates: 0: a key must be one of chain, key, password and names");
}

static void test_what_is_cut_short_is_a_fault(void **state)
{
	struct buf map = tls_map("a-ec", "{'client': 1, 'client_ca': 'CA:ca', 'alpn': ['h2']}");
	struct config_fault fault;

	(void)state;
	for (size_t n = 0; n < buf_len(&map); n += n < 64 || n + 256 > buf_len(&map) ? 1 : 61) {
		uint8_t *copy = exact_copy(buf_at(&map), n);
		assert_null(tls_store_read(slice_of(copy, n), &fault));
		free(copy);
	}
	buf_free(&map);
}

static void test_other_forms(void **state)
{
	(void)state;
	assert_string_equal(fault_of(tls_map_of_files("a-ec.der", "a-ec.key.der", NULL)), "none");
	assert_string_equal(fault_of(tls_map_of_files("a-ec.der", "a-ec.key", NULL)), "none");
	assert_string_equal(fault_of(tls_map_of_files("a-ec.crt", "a-ec-encrypted.key", "open sesame")), "none");
	assert_string_equal(fault_of(tls_map_of_files("a-ec.crt", "a-ec-encrypted.key", "open barley")),
			    "certificates: 0: key is encrypted with another password");
	assert_string_equal(fault_of(tls_map_of_files("a-ec.key", "a-ec.key", NULL)),
			    "certificates: 0: chain is not a certificate in PEM or DER");
	assert_string_equal(fault_of(tls_map_of_files("a-ec.crt", "a-ec.crt", NULL)),
			    "certificates: 0: key is not a private key in PEM or DER");
}

static void test_a_certificate_of_the_past_is_a_warning(void **state)
{
	(void)state;
	tls_store_drop(tls_store_of("past", NULL));
	EXPECT_TEXT(&logged, "warning: certificate 0 (past.example) has expired\n");
}

/* ---- the first bytes ---- */

/* A ClientHello with a name, in records of at most so many bytes. */
static struct buf hello(const char *name, size_t record)
{
	size_t n = strlen(name);
	struct buf body = {0}, wire = {0};
	uint8_t head[] = {1, 0, 0, 0, 3, 3}, sizes[] = {0, 0, 2, 0x13, 1, 1, 0}, random[32] = {0};
	uint8_t extensions[] = {0, (uint8_t)(n + 9 + 4), 0, 23, 0,         0, 0, 0, 0, (uint8_t)(n + 5),
				0, (uint8_t)(n + 3),     0, 0,  (uint8_t)n};

	buf_append(&body, head, sizeof head);
	buf_append(&body, random, sizeof random);
	buf_append(&body, sizes, sizeof sizes);
	buf_append(&body, extensions, sizeof extensions);
	buf_append(&body, name, n);
	body.data[3] = (uint8_t)(buf_len(&body) - 4);
	while (buf_len(&body) > 0) {
		size_t part = buf_len(&body) < record ? buf_len(&body) : record;
		uint8_t frame[] = {22, 3, 1, (uint8_t)(part >> 8), (uint8_t)part};
		buf_append(&wire, frame, sizeof frame);
		buf_append(&wire, buf_at(&body), part);
		buf_consume(&body, part);
	}
	buf_free(&body);
	return wire;
}

static enum tls_first first_of(const void *bytes, size_t n, struct tls_hello *hello)
{
	uint8_t *copy = exact_copy(bytes, n);
	enum tls_first what = tls_first_bytes(copy, n, hello);

	free(copy);
	return what;
}

static enum tls_first first(const void *bytes, size_t n, char *name)
{
	struct tls_hello hello;
	enum tls_first what = first_of(bytes, n, &hello);

	strcpy(name, hello.name);
	return what;
}

static void test_a_hello_is_waited_for_however_it_is_cut(void **state)
{
	static const size_t records[] = {1, 2, 5, 50, 16384};
	char name[TLS_NAME_MAX];

	(void)state;
	for (unsigned i = 0; i < sizeof records / sizeof *records; i++) {
		struct buf b = hello("A.Example", records[i]);
		for (size_t n = 0; n < buf_len(&b); n++)
			assert_int_equal(first(buf_at(&b), n, name), TLS_FIRST_MORE);
		assert_int_equal(first(buf_at(&b), buf_len(&b), name), TLS_FIRST_WHOLE);
		assert_string_equal(name, "a.example");
		buf_free(&b);
	}
}

static void test_names_that_are_none(void **state)
{
	static const char *const wrong[] = {"", "a b", "a\x01", "a/b", "\xc3\xa4.example"};
	char name[TLS_NAME_MAX];

	(void)state;
	for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		struct buf b = hello(wrong[i], 16384);
		assert_int_equal(first(buf_at(&b), buf_len(&b), name), TLS_FIRST_WHOLE);
		assert_string_equal(name, "");
		buf_free(&b);
	}
}

static void test_other_first_bytes(void **state)
{
	static const struct {
		struct slice bytes;
		enum tls_first what;
	} cases[] = {
		{SLICE_LIT(""), TLS_FIRST_MORE},
		{SLICE_LIT("G"), TLS_FIRST_HTTP},
		{SLICE_LIT("PRI * HTTP/2.0\r\n"), TLS_FIRST_HTTP},
		{SLICE_LIT("\x16"), TLS_FIRST_MORE},
		{SLICE_LIT("\x16\x02"), TLS_FIRST_WHOLE},               /* SSL 2 */
		{SLICE_LIT("\x80\x2e\x01"), TLS_FIRST_WRONG},           /* SSL 2 */
		{SLICE_LIT("\x15\x03\x01\0\2\2\x28"), TLS_FIRST_WRONG}, /* an alert */
		{SLICE_LIT("\x14\x03\x01\0\1\1"), TLS_FIRST_WRONG},     /* ChangeCipherSpec */
		{SLICE_LIT("\0"), TLS_FIRST_WRONG},
		{SLICE_LIT("\x16\x03\x01\0\0"), TLS_FIRST_WHOLE},         /* an empty record */
		{SLICE_LIT("\x16\x03\x01\x40\x01"), TLS_FIRST_WHOLE},     /* one that is too long */
		{SLICE_LIT("\x16\x03\x01\0\1\2"), TLS_FIRST_WHOLE},       /* another message */
		{SLICE_LIT("\x16\x03\x01\0\4\1\1\0\0"), TLS_FIRST_WHOLE}, /* 64 KiB to come */
	};
	char name[TLS_NAME_MAX];

	(void)state;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_int_equal(first(cases[i].bytes.at, cases[i].bytes.len, name), cases[i].what);
}

static void test_no_more_is_kept_than_a_hello(void **state)
{
	enum { MANY = 17000 };
	uint8_t *bytes = malloc(MANY);
	char name[TLS_NAME_MAX];

	(void)state;
	/* one byte per record, and the message is never complete */
	for (size_t i = 0; i < MANY; i++)
		bytes[i] = (uint8_t[]){22, 3, 1, 0, 1, 0}[i % 6];
	for (unsigned i = 0; i < 4; i++)
		bytes[6 * i + 5] = (uint8_t[]){1, 0, 0x3f, 0xff}[i];
	assert_int_equal(first(bytes, 16000, name), TLS_FIRST_MORE);
	assert_int_equal(first(bytes, MANY, name), TLS_FIRST_WHOLE);
	free(bytes);
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_certificates_of_all_kinds_are_taken),
		TEST(test_faults_say_which_and_why),
		TEST(test_what_is_cut_short_is_a_fault),
		TEST(test_other_forms),
		TEST(test_a_certificate_of_the_past_is_a_warning),
		TEST(test_a_hello_is_waited_for_however_it_is_cut),
		TEST(test_names_that_are_none),
		TEST(test_other_first_bytes),
		TEST(test_no_more_is_kept_than_a_hello),
	};

	return cmocka_run_group_tests_name("tls", tests, setup, teardown);
}
