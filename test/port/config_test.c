/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "coding/negotiate.h"
#include "support.h"

static struct config config;
static struct config_fault fault;

/* NULL, or "field: rule". */
static const char *read_options(const char *text)
{
	static char complaint[300];
	struct buf bytes = {0};
	uint8_t *copy;
	bool well;

	notation_pack(&bytes, text);
	copy = exact_copy(buf_at(&bytes), buf_len(&bytes));
	well = config_read(&config, slice_of(copy, buf_len(&bytes)), &fault);
	free(copy);
	buf_free(&bytes);
	snprintf(complaint, sizeof complaint, "%s: %s", fault.field, fault.rule);
	return well ? NULL : complaint;
}

/* One option beside a listener, with the other options that it depends on. */
static bool accepts(const char *name, uint64_t value)
{
	char text[300];
	bool line = strcmp(name, "max_header_block") == 0, window = strcmp(name, "window") == 0;

	snprintf(text, sizeof text, "{'listeners': [{'address': '::1', 'port': 0}], '%s': %llu %s %s}", name,
		 (unsigned long long)value,
		 line     ? ", 'max_request_line': 64, 'max_header_line': 64"
		 : window ? ", 'max_frame': 67108864"
			  : "",
		 strcmp(name, "max_frame") == 0 ? ", 'window': 4096" : "");
	return read_options(text) == NULL;
}

static void test_each_option_takes_its_range_and_nothing_beside_it(void **state)
{
	const struct option_def *def;

	(void)state;
	for (unsigned i = 0; (def = option_at(i)); i++) {
		uint64_t least = def->min, most = def->max;
		if (strcmp(def->name, "max_frame") == 0)
			least = 4096 + 65536; /* at least window + 65536 */
		if (strcmp(def->name, "max_request_line") == 0 || strcmp(def->name, "max_header_line") == 0)
			most = 32768; /* the default of max_header_block */
		if (!accepts(def->name, least) || option_value(&config, def) != least)
			fail_msg("%s: its minimum %s: %s", def->name, fault.field, fault.rule);
		if (!accepts(def->name, most) || option_value(&config, def) != most)
			fail_msg("%s: its maximum %s: %s", def->name, fault.field, fault.rule);
		if (def->min > 0 && accepts(def->name, def->min - 1))
			fail_msg("%s: one below its minimum", def->name);
		if (accepts(def->name, def->max + 1))
			fail_msg("%s: one above its maximum", def->name);
		assert_string_equal(fault.field, def->name);
		assert_true(def->value >= def->min && def->value <= def->max);
	}
}

static void test_what_is_not_said_has_its_default(void **state)
{
	const struct option_def *def;

	(void)state;
	assert_null(read_options("{'listeners': [{'address': '127.0.0.1', 'port': 4000}]}"));
	for (unsigned i = 0; (def = option_at(i)); i++)
		assert_true(option_value(&config, def) == def->value);
	assert_string_equal(config.server, "sparx");
	assert_false(config.report);
	assert_int_equal(config.listener_count, 1);
	assert_string_equal(config.listeners[0].address, "127.0.0.1");
	assert_int_equal(config.listeners[0].port, 4000);
	assert_int_equal(config.listeners[0].backlog, 1024);
	assert_false(config.listeners[0].reuse_port);
	assert_false(config.listeners[0].ipv6_only);
}

static void expect_all_refused(const char *options, const char *wanted)
{
	const char *got = read_options(options);

	if (!got)
		fail_msg("was accepted: %s", options);
	assert_string_equal(got, wanted);
}

static void expect_refused(const char *options, const char *wanted)
{
	char text[600];

	snprintf(text, sizeof text, "{'listeners': [{'address': '::1'}], %s}", options);
	expect_all_refused(text, wanted);
}

static void test_wrong_options_are_named(void **state)
{
	(void)state;
	expect_refused("'colour': 5", "colour: is unknown");
	expect_refused("'window ': 5000", "window : is unknown");
	expect_refused("'c\xc3\xb6lour\n': 5", "c??lour?: is unknown");
	expect_refused("'window': 'x'", "window: must be 4096 to 16777216 bytes");
	expect_refused("'window': nil", "window: must be 4096 to 16777216 bytes");
	expect_refused("'window': -1", "window: must be 4096 to 16777216 bytes");
	expect_refused("'window': [5000]", "window: must be 4096 to 16777216 bytes");
	expect_refused("'report': 1", "report: must be true or false");
	expect_refused("'report': nil", "report: must be true or false");
	expect_refused("'server': 5", "server: must be nil, or text of at most 127 visible characters");
	expect_refused("'server': 'x'*128", "server: must be nil, or text of at most 127 visible characters");
	expect_refused("'server': 'a\r\nb: c'", "server: must be nil, or text of at most 127 visible characters");
	expect_refused("'server': 'a\x7f'", "server: must be nil, or text of at most 127 visible characters");
	expect_refused("5: 5", "options: has a key that is not text");
	expect_refused("'window': 1048576, 'max_frame': 1048576", "max_frame: must be at least window + 65536");
	expect_refused("'max_header_block': 8191", "max_header_block: must be at least max_request_line and max_header_line");
	expect_refused("'max_header_line': 32768, 'max_header_block': 32767",
		       "max_header_block: must be at least max_request_line and max_header_line");
	expect_refused("'x'*200: 5", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: is unknown");
}

static void test_options_that_are_no_map_are_refused(void **state)
{
	(void)state;
	assert_string_equal(read_options("[]"), "options: must be a map");
	assert_string_equal(read_options("nil"), "options: must be a map");
	assert_string_equal(read_options("{}"), "listeners: must name at least one listener");
	assert_string_equal(read_options("{'listeners': []}"), "listeners: must name at least one listener");
}

static void test_server_and_report_are_taken(void **state)
{
	(void)state;
	assert_null(read_options("{'listeners': [{'address': 'unix:/x'}], 'server': nil, 'report': true}"));
	assert_string_equal(config.server, "");
	assert_true(config.report);
	assert_null(read_options("{'listeners': [{'address': 'unix:/x'}], 'server': 'x'*127, 'report': false}"));
	assert_int_equal(strlen(config.server), 127);
	assert_false(config.report);
}

static void test_trusted_proxies_are_taken(void **state)
{
	struct text many = {0};

	(void)state;
	assert_null(read_options("{'listeners': [{'address': '::1'}]}"));
	assert_int_equal(config.trusted_proxies.count, 0);
	assert_null(read_options("{'listeners': [{'address': '::1'}], 'trusted_proxies': ['10.0.0.0/8', '::1', 'unix']}"));
	assert_int_equal(config.trusted_proxies.count, 3);
	assert_int_equal(config.trusted_proxies.at[0].bits, 8);
	assert_int_equal(config.trusted_proxies.at[1].bits, 128);
	assert_int_equal(config.trusted_proxies.at[2].ip.len, 0);
	expect_refused("'trusted_proxies': '10.0.0.0/8'", "trusted_proxies: must be an array of text");
	expect_refused("'trusted_proxies': [7]", "trusted_proxies: must be an array of text");
	expect_refused("'trusted_proxies': ['10.0.0.1/8']", "trusted_proxies: 10.0.0.1/8 has bits after its prefix");
	expect_refused("'trusted_proxies': ['::1', 'proxy']", "trusted_proxies: proxy must be an address, a range or unix");
	text_add(&many, "'trusted_proxies': ['::1'");
	for (unsigned i = 0; i < CIDR_LIST_MAX; i++)
		text_add(&many, ", '::1'");
	text_add(&many, "]");
	expect_refused(text_str(&many), "trusted_proxies: must be at most 64");
	text_free(&many);
}

static void test_codings_are_taken(void **state)
{
	(void)state;
	assert_null(read_options("{'listeners': [{'address': '::1'}]}"));
	assert_int_equal(config.coding_count, 0);
	assert_null(read_options("{'listeners': [{'address': '::1'}], 'compress': true}"));
	assert_true(config.coding_count >= 1);
	assert_int_equal(config.codings[config.coding_count - 1], CODING_GZIP);
	assert_null(read_options("{'listeners': [{'address': '::1'}], 'compress': false}"));
	assert_int_equal(config.coding_count, 0);
	assert_null(read_options("{'listeners': [{'address': '::1'}], 'compress': ['deflate', 'gzip']}"));
	assert_int_equal(config.coding_count, 2);
	assert_int_equal(config.codings[0], CODING_DEFLATE);
	assert_int_equal(config.codings[1], CODING_GZIP);
	expect_refused("'compress': 1", "compress: must be true, false, or an array of at most 8 names");
	expect_refused("'compress': ['gzip','gzip','gzip','gzip','gzip','gzip','gzip','gzip','gzip']",
		       "compress: must be true, false, or an array of at most 8 names");
	expect_refused("'compress': ['lzma']", "compress: has another name than those of codings: gzip deflate br zstd");
	expect_refused("'compress': ['identity']", "compress: has another name than those of codings: gzip deflate br zstd");
	expect_refused("'compress': [1]", "compress: has another name than those of codings: gzip deflate br zstd");
	assert_null(read_options("{'listeners': [{'address': '::1'}], 'compress_types': ['text/*', 'a/b']}"));
	assert_string_equal(config.compress_types, "text/* a/b ");
	assert_null(read_options("{'listeners': [{'address': '::1'}], 'compress_types': []}"));
	assert_string_equal(config.compress_types, "");
	assert_null(read_options("{'listeners': [{'address': '::1'}], 'compress_types': ['x'*1022]}"));
	expect_refused("'compress_types': ['x'*1023]", "compress_types: must be shorter than 1024 bytes in all");
	expect_refused("'compress_types': 'text/*'", "compress_types: must be an array of media types");
	expect_refused("'compress_types': ['a b']", "compress_types: must be an array of media types");
	expect_refused("'compress_types': ['']", "compress_types: must be an array of media types");
	expect_refused("'compress_types': [nil]", "compress_types: must be an array of media types");
}

static void test_the_sandbox_and_the_user_are_taken(void **state)
{
	(void)state;
	assert_null(read_options("{'listeners': [{'address': '::1'}]}"));
	assert_int_equal(config.sandbox, SANDBOX_BEST_EFFORT);
	assert_string_equal(config.user, "");
	assert_null(read_options("{'listeners': [{'address': '::1'}], 'sandbox': 'strict', 'user': 'www-data'}"));
	assert_int_equal(config.sandbox, SANDBOX_STRICT);
	assert_string_equal(config.user, "www-data");
	assert_null(read_options("{'listeners': [{'address': '::1'}], 'sandbox': 'off', 'user': nil}"));
	assert_int_equal(config.sandbox, SANDBOX_OFF);
	assert_string_equal(config.user, "");
	assert_null(read_options("{'listeners': [{'address': '::1'}], 'sandbox': 'best_effort'}"));
	assert_string_equal(sandbox_mode_name((enum sandbox_mode)config.sandbox), "best_effort");
	expect_refused("'sandbox': 'stric'", "sandbox: must be strict, best_effort or off");
	expect_refused("'sandbox': true", "sandbox: must be strict, best_effort or off");
	expect_refused("'user': ''", "user: must be nil, or a name of at most 63 bytes");
	expect_refused("'user': 0", "user: must be nil, or a name of at most 63 bytes");
	expect_refused("'user': 'x'*64", "user: must be nil, or a name of at most 63 bytes");
}

static void test_listeners_are_taken_in_their_order(void **state)
{
	(void)state;
	assert_null(read_options(
		"{'listeners': [{'address': '::', 'port': 65535, 'backlog': 65535, 'reuse_port': true, 'ipv6_only': true},"
		" {'port': 1, 'address': '0.0.0.0', 'backlog': 1}]}"));
	assert_int_equal(config.listener_count, 2);
	assert_int_equal(config.listeners[0].port, 65535);
	assert_int_equal(config.listeners[0].backlog, 65535);
	assert_true(config.listeners[0].reuse_port);
	assert_true(config.listeners[0].ipv6_only);
	assert_string_equal(config.listeners[1].address, "0.0.0.0");
	assert_int_equal(config.listeners[1].backlog, 1);
	assert_false(config.listeners[1].reuse_port);
}

static void expect_listener_refused(const char *listeners, const char *wanted)
{
	char text[600];

	snprintf(text, sizeof text, "{'listeners': %s}", listeners);
	expect_all_refused(text, wanted);
}

static void test_wrong_listeners_are_named(void **state)
{
	(void)state;
	expect_listener_refused("{}", "listeners: must be an array of maps");
	expect_listener_refused("nil", "listeners: must be an array of maps");
	expect_listener_refused("['::1']", "listeners: must be an array of maps");
	expect_listener_refused("[{1: 2}]", "listeners: has a key that is not text");
	expect_listener_refused("[{}]", "address: is missing");
	expect_listener_refused("[{'address': ''}]", "address: is missing");
	expect_listener_refused("[{'address': 5}]", "address: must be an IPv4 or IPv6 address, or unix: and a path");
	expect_listener_refused("[{'address': 'x'*128}]", "address: must be an IPv4 or IPv6 address, or unix: and a path");
	expect_listener_refused("[{'address': '::1', 'port': 65536}]", "port: must be 0 to 65535");
	expect_listener_refused("[{'address': '::1', 'port': -1}]", "port: must be 0 to 65535");
	expect_listener_refused("[{'address': '::1', 'port': [1]}]", "port: must be 0 to 65535");
	expect_listener_refused("[{'address': '::1', 'backlog': 0}]", "backlog: must be 1 to 65535");
	expect_listener_refused("[{'address': '::1', 'backlog': 65536}]", "backlog: must be 1 to 65535");
	expect_listener_refused("[{'address': '::1', 'backlog': 4294967297}]", "backlog: must be 1 to 65535");
	expect_listener_refused("[{'address': '::1', 'reuse_port': 1}]", "reuse_port: must be true or false");
	expect_listener_refused("[{'address': '::1', 'ipv6_only': 'x'}]", "ipv6_only: must be true or false");
	expect_listener_refused("[{'address': '::1', 'colour': 'x'}]", "colour: is unknown");
	expect_listener_refused("[{'address': '::1', 'http3': true}]", "http3: needs a listener with tls and a port");
	expect_listener_refused("[{'address': 'unix:/x', 'tls': {}, 'http3': true}]",
				"http3: needs a listener with tls and a port");
	expect_listener_refused("[{'address': '::1', 'tls': {}, 'http3': 1}]", "http3: must be nil, true, false or a map");
	expect_listener_refused("[{'address': '::1', 'tls': {}, 'http3': {'retry': 1}}]", "retry: is unknown");
	expect_listener_refused("[{'address': '::1', 'tls': {}, 'http3': {'key': 'x'}}]", "key: must be 32 bytes");
	expect_listener_refused("[{'address': '::1', 'tls': {}, 'http3': {'places': 256}}]", "places: must be 0 to 255");
	expect_listener_refused("[{'address': '::1', 'tls': {}, 'http3': {'places': 2, 'place': 2}}]",
				"place: must be less than places");
	expect_listener_refused("[{'address': '::1', 'tls': {}, 'http3': {'alt_svc': 4294967296}}]",
				"alt_svc: must be 0 to 4294967295 s");
}

static void test_http3_beside_a_listener_is_taken(void **state)
{
	const struct listener_config *l = config.listeners;

	(void)state;
	assert_null(read_options("{'listeners': [{'address': '::1', 'tls': {}, 'http3': true}, {'address': '::1', 'http3': nil},"
				 " {'address': '::1', 'tls': {}, 'http3': {'alt_svc': 0, 'place': 1, 'places': 3}}]}"));
	assert_true(l[0].http3);
	assert_int_equal(l[0].alt_svc_age, 86400);
	assert_false(l[0].h3_key_given);
	assert_int_equal(l[0].h3_places, 0);
	assert_false(l[1].http3);
	assert_true(l[2].http3);
	assert_int_equal(l[2].alt_svc_age, 0);
	assert_int_equal(l[2].h3_place, 1);
	assert_int_equal(l[2].h3_places, 3);
}

static void test_an_address_with_a_nul_is_refused(void **state)
{
	static const uint8_t bytes[] = "\x81\xa9listeners\x91\x81\xa7"
				       "address\xa4"
				       "::1\0";

	(void)state;
	assert_false(config_read(&config, slice_of(bytes, sizeof bytes - 1), &fault));
	assert_string_equal(fault.field, "address");
}

static void test_sixty_four_listeners_are_the_most(void **state)
{
	for (unsigned n = 64; n <= 65; n++) {
		struct text t = {0};
		text_add(&t, "{'listeners': [");
		for (unsigned i = 0; i < n; i++)
			text_add(&t, "{'address': '::1', 'port': %u},", i);
		text_add(&t, "]}");
		if (n == 64)
			assert_null(read_options(text_str(&t)));
		else
			assert_string_equal(read_options(text_str(&t)), "listeners: must be at most 64");
		text_free(&t);
	}
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_option_takes_its_range_and_nothing_beside_it),
		cmocka_unit_test(test_what_is_not_said_has_its_default),
		cmocka_unit_test(test_wrong_options_are_named),
		cmocka_unit_test(test_options_that_are_no_map_are_refused),
		cmocka_unit_test(test_server_and_report_are_taken),
		cmocka_unit_test(test_trusted_proxies_are_taken),
		cmocka_unit_test(test_codings_are_taken),
		cmocka_unit_test(test_the_sandbox_and_the_user_are_taken),
		cmocka_unit_test(test_listeners_are_taken_in_their_order),
		cmocka_unit_test(test_wrong_listeners_are_named),
		cmocka_unit_test(test_http3_beside_a_listener_is_taken),
		cmocka_unit_test(test_an_address_with_a_nul_is_refused),
		cmocka_unit_test(test_sixty_four_listeners_are_the_most),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
