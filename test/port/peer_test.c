/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, ranges, the clients that proxies name, and fair shares, without a socket. */
#include <arpa/inet.h>

#include "base/siphash.h"
#include "frames/names.h"
#include "peer/cidr.h"
#include "peer/forwarded.h"
#include "peer/shares.h"
#include "support.h"

static const uint8_t secret[SHARES_SECRET] = {1, 2, 3};

/* ---- the hash ---- */

/* The vectors of its paper, appendix A, and of its reference implementation: the key 00 01 .. 0f, the bytes 00 01 .. */
static void test_siphash_is_what_its_authors_say(void **state)
{
	uint8_t key[16], bytes[64];

	(void)state;
	for (uint8_t i = 0; i < 64; i++)
		bytes[i] = i;
	memcpy(key, bytes, sizeof key);
	assert_true(siphash(key, bytes, 15) == UINT64_C(0xa129ca6149be45e5));
	assert_true(siphash(key, bytes, 0) == UINT64_C(0x726fdb47dd0e0e31));
	assert_true(siphash(key, bytes, 1) == UINT64_C(0x74f839c593dc67fd));
	assert_true(siphash(key, bytes, 8) == UINT64_C(0x93f5f5799a932462));
}

/* ---- addresses ---- */

static void test_addresses_are_read_as_written_and_nothing_else_is_one(void **state)
{
	static const char *const wrong[] = {
		"",         " ",   "1.2.3",   "1.2.3.4.5", "256.1.1.1", "1.2.3.4 ",   "1.2.3.4:80",   "[::1]",
		"::1%eth0", ":::", "1::2::3", "g::1",      "unix",      "1.2.3.4/32", "01.02.03.04x", "::ffff:1.2.3.4.5"};
	struct ip ip, same;

	(void)state;
	assert_true(ip_parse(SLICE_LIT("192.0.2.1"), &ip));
	assert_int_equal(ip.len, 4);
	assert_memory_equal(ip.bytes, ((uint8_t[]){192, 0, 2, 1}), 4);
	assert_true(ip_parse(SLICE_LIT("::ffff:192.0.2.1"), &same));
	assert_memory_equal(&ip, &same, sizeof ip);
	assert_true(ip_parse(SLICE_LIT("2001:DB8::1"), &ip));
	assert_int_equal(ip.len, 16);
	assert_true(ip_parse(SLICE_LIT("0000:0000:0000:0000:0000:ffff:192.168.100.228"), &ip));
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		if (ip_parse(slice_str(wrong[i]), &ip))
			fail_msg("is no address: %s", wrong[i]);
	assert_false(ip_parse(slice_of("1.2.3.4\0", 8), &ip));
}

static struct cidr_list trusted(const char *const *texts, unsigned count)
{
	struct cidr_list list = {.count = count};

	for (unsigned i = 0; i < count; i++)
		assert_null(cidr_parse(slice_str(texts[i]), &list.at[i]));
	return list;
}

static bool within(const char *range, const char *address)
{
	struct cidr_list list = trusted(&range, 1);
	struct ip ip = {.len = 0};

	if (*address)
		assert_true(ip_parse(slice_str(address), &ip));
	return cidr_list_contains(&list, &ip);
}

static void test_a_range_holds_what_begins_like_it(void **state)
{
	(void)state;
	assert_true(within("10.0.0.0/8", "10.255.1.2"));
	assert_false(within("10.0.0.0/8", "11.0.0.0"));
	assert_true(within("10.8.0.0/13", "10.15.255.255"));
	assert_false(within("10.8.0.0/13", "10.16.0.0"));
	assert_true(within("192.0.2.1", "192.0.2.1"));
	assert_false(within("192.0.2.1", "192.0.2.2"));
	assert_true(within("192.0.2.1", "::ffff:192.0.2.1"));
	assert_true(within("0.0.0.0/0", "8.8.8.8"));
	assert_false(within("0.0.0.0/0", "::1"));
	assert_true(within("::/0", "2001:db8::1"));
	assert_true(within("2001:db8::/33", "2001:db8:7fff::1"));
	assert_false(within("2001:db8::/33", "2001:db8:8000::1"));
	assert_true(within("::1/128", "::1"));
	assert_true(within("unix", ""));
	assert_false(within("unix", "127.0.0.1"));
	assert_false(within("::/0", ""));
}

static void expect_no_range(const char *text, const char *rule)
{
	struct cidr c;
	const char *got = cidr_parse(slice_str(text), &c);

	assert_non_null(got);
	assert_string_equal(got, rule);
}

static void test_a_range_that_is_none_says_why(void **state)
{
	(void)state;
	expect_no_range("10.0.0/8", "must be an address, a range or unix");
	expect_no_range("", "must be an address, a range or unix");
	expect_no_range("/8", "must be an address, a range or unix");
	expect_no_range("10.0.0.0/", "has a prefix length that is not 0 to 32, or 0 to 128 for IPv6");
	expect_no_range("10.0.0.0/33", "has a prefix length that is not 0 to 32, or 0 to 128 for IPv6");
	expect_no_range("::/129", "has a prefix length that is not 0 to 32, or 0 to 128 for IPv6");
	expect_no_range("::/-1", "has a prefix length that is not 0 to 32, or 0 to 128 for IPv6");
	expect_no_range("::/0128", "has a prefix length that is not 0 to 32, or 0 to 128 for IPv6");
	expect_no_range("10.1.0.0/8", "has bits after its prefix");
	expect_no_range("2001:db8::1/64", "has bits after its prefix");
}

/* ---- the client that proxies name ---- */

static const char *const proxies[] = {"10.0.0.0/8", "2001:db8:f::/48"};

static struct field field_of(const char *line)
{
	const char *colon = strchr(line, ':');
	bool standard = strncmp(line, "f:", 2) == 0;

	return (struct field){.value = slice_str(colon + 1), .index = standard ? NAME_FORWARDED : NAME_X_FORWARDED_FOR};
}

static bool forwarded_client(const struct field *fields, unsigned count, const struct cidr_list *list, struct ip *client)
{
	struct forwarded f;

	forwarded_read(&f, fields, count, list, TRUST_FORWARDED | TRUST_FOR);
	*client = f.client;
	return f.client.len > 0;
}

/* Lines "f:…" are Forwarded, "x:…" X-Forwarded-For. The address as text, or "-". */
static void expect_client(const char *const *lines, unsigned count, const char *wanted)
{
	struct cidr_list list = trusted(proxies, 2);
	struct field fields[8];
	struct ip got, want;

	for (unsigned i = 0; i < count; i++)
		fields[i] = field_of(lines[i]);
	if (strcmp(wanted, "-") == 0) {
		if (forwarded_client(fields, count, &list, &got))
			fail_msg("a client is named: %s", lines[0]);
		return;
	}
	assert_true(ip_parse(slice_str(wanted), &want));
	if (!forwarded_client(fields, count, &list, &got) || memcmp(&got, &want, sizeof got) != 0)
		fail_msg("%s is not named: %s", wanted, count ? lines[0] : "nothing");
}

#define CLIENT(wanted, ...) \
	expect_client((const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), wanted)

static void test_the_client_is_the_last_that_no_trusted_proxy_is(void **state)
{
	(void)state;
	CLIENT("192.0.2.7", "f:for=192.0.2.7");
	CLIENT("192.0.2.7", "f:proto=https;For=192.0.2.7;by=10.0.0.1");
	CLIENT("192.0.2.7", "f:for=\"192.0.2.7:4711\"");
	CLIENT("192.0.2.7", "f:for=\"192.0.2.7:_hidden.1-x\"");
	CLIENT("2001:db8::7", "f:for=\"[2001:db8::7]\"");
	CLIENT("2001:db8::7", "f:for=\"[2001:db8::7]:443\";host=\"a,b;c\"");
	CLIENT("192.0.2.7", "f:for=203.0.113.1, for=192.0.2.7");
	CLIENT("192.0.2.7", "f:for=203.0.113.1 ,\tfor=192.0.2.7 , for=10.1.2.3,for=\"[2001:db8:f::1]:80\"");
	CLIENT("192.0.2.7", "f:for=192.0.2.7", "f:for=10.0.0.9");
	CLIENT("192.0.2.7", "f:for=203.0.113.1, for=192.0.2.7", "f:", "f: , ,", "f:for=10.0.0.9,,");
	CLIENT("10.0.0.8", "f:for=10.0.0.8, for=10.0.0.9"); /* nobody else: the first sender */
	CLIENT("192.0.2.7", "x:192.0.2.7");
	CLIENT("192.0.2.7", "x:192.0.2.7:4711");
	CLIENT("2001:db8::7", "x:2001:db8::7");
	CLIENT("2001:db8::7", "x:[2001:db8::7]:443");
	CLIENT("192.0.2.7", "x:203.0.113.1, 192.0.2.7, 10.0.0.9");
	CLIENT("192.0.2.7", "x:203.0.113.1", "x:::ffff:192.0.2.7,10.0.0.9");
}

static void test_what_clients_wrote_themselves_is_not_looked_at(void **state)
{
	(void)state;
	CLIENT("192.0.2.7", "f:for=\"unterminated, for=192.0.2.7");
	CLIENT("192.0.2.7", "f:for=\"a\\\", for=192.0.2.7");
	CLIENT("192.0.2.7", "f:\",\"\",\\,\", for=\"192.0.2.7:1\"");
	CLIENT("192.0.2.7", "f:for=_hidden, for=192.0.2.7");
	CLIENT("192.0.2.7", "f:\x01\xff;;==, for=192.0.2.7");
	CLIENT("192.0.2.7", "f:for=\"", "f:for=192.0.2.7");
	CLIENT("192.0.2.7", "x:unknown, 192.0.2.7");
	CLIENT("192.0.2.7", "x:\"\"\", 192.0.2.7");
}

static void test_who_is_hidden_or_malformed_is_nobody(void **state)
{
	(void)state;
	expect_client((const char *const[]){""}, 0, "-");
	CLIENT("-", "f:");
	CLIENT("-", "f:for=unknown");
	CLIENT("-", "f:for=_secret");
	CLIENT("-", "f:for=\"unknown:80\"");
	CLIENT("-", "f:for=");
	CLIENT("-", "f:for");
	CLIENT("-", "f:proto=http");
	CLIENT("-", "f:for=192.0.2.7;for=192.0.2.8");
	CLIENT("-", "f:for =192.0.2.7");
	CLIENT("-", "f:for= 192.0.2.7");
	CLIENT("-", "f:for=2001:db8::7");
	CLIENT("-", "f:for=\"2001:db8::7\"");
	CLIENT("-", "f:for=\"[192.0.2.7]\"");
	CLIENT("-", "f:for=\"[2001:db8::7\"");
	CLIENT("-", "f:for=\"[2001:db8::7]x\"");
	CLIENT("-", "f:for=\"[]\"");
	CLIENT("-", "f:for=\"192.0.2.7:\"");
	CLIENT("-", "f:for=\"192.0.2.7:123456\"");
	CLIENT("-", "f:for=\"192.0.2.7:_\"");
	CLIENT("-", "f:for=\"192.0.2\\.7\"");
	CLIENT("-", "f:for=\"192.0.2.7");
	CLIENT("-", "f:for=192.0.2.7\"");
	CLIENT("-", "f:for=192.0.2.7, proto=http");
	CLIENT("-", "f:for=192.0.2.7, for=unknown, for=10.0.0.1");
	CLIENT("-", "x:unknown");
	CLIENT("-", "x:192.0.2.7, nonsense");
	CLIENT("-", "x:for=192.0.2.7");
	CLIENT("-", "x:2001:db8::7%eth0");
}

/* "p:…" is X-Forwarded-Proto, "h:…" X-Forwarded-Host. The result is "client:port scheme host", with "-" for a missing part. */
static void expect_told(unsigned which, const char *const *lines, unsigned count, const char *wanted)
{
	struct cidr_list list = trusted(proxies, 2);
	struct field fields[8];
	struct forwarded f;
	char address[INET6_ADDRSTRLEN] = "-", got[400];

	for (unsigned i = 0; i < count; i++) {
		fields[i] = field_of(lines[i]);
		if (*lines[i] == 'p' || *lines[i] == 'h')
			fields[i] = (struct field){.name = *lines[i] == 'p' ? SLICE_LIT("x-forwarded-proto")
									    : SLICE_LIT("x-forwarded-host"),
						   .value = slice_str(lines[i] + 2),
						   .index = NAME_UNKNOWN};
	}
	forwarded_read(&f, fields, count, &list, which);
	if (f.client.len)
		inet_ntop(f.client.len == 4 ? AF_INET : AF_INET6, f.client.bytes, address, sizeof address);
	snprintf(got, sizeof got, "%s:%u %s %.*s", address, f.port,
		 f.https < 0 ? "-"
		 : f.https   ? "https"
			     : "http",
		 f.host.at ? (int)f.host.len : 1, f.host.at ? (const char *)f.host.at : "-");
	assert_string_equal(got, wanted);
	assert_true(f.told == (strcmp(got, "-:0 - -") != 0));
}

enum { ALL = TRUST_FORWARDED | TRUST_FOR | TRUST_PROTO | TRUST_HOST, USUAL = TRUST_FORWARDED | TRUST_FOR };
#define TOLD(which, wanted, ...) \
	expect_told(which, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), wanted)

static void test_scheme_and_host_are_those_of_the_element_that_names_the_client(void **state)
{
	(void)state;
	TOLD(USUAL, "192.0.2.7:0 https a.example", "f:for=192.0.2.7;proto=https;host=a.example");
	TOLD(USUAL, "192.0.2.7:4711 http a.example:8080", "f:host=\"a.example:8080\";for=\"192.0.2.7:4711\";proto=HTTP");
	TOLD(USUAL, "2001:db8::7:443 - [2001:db8::1]:1", "f:for=\"[2001:db8::7]:443\";host=\"[2001:db8::1]:1\"");
	TOLD(USUAL, "192.0.2.7:0 https a",
	     "f:for=evil;proto=http;host=evil, for=192.0.2.7;proto=https;host=a, for=10.0.0.9;proto=http;host=b");
	TOLD(USUAL, "192.0.2.7:0 - -", "f:for=192.0.2.7, for=10.0.0.9;proto=https;host=b"); /* about the way between proxies */
	TOLD(USUAL, "192.0.2.7:0 - -", "f:for=192.0.2.7;proto=ftp;host=\"a b\"");
	TOLD(USUAL, "192.0.2.7:0 - -", "f:for=192.0.2.7;proto=http;proto=https;host=a;host=b");
	TOLD(USUAL, "192.0.2.7:0 - -", "f:for=192.0.2.7;host=\"user@a\";proto=\"http");
	TOLD(USUAL, "192.0.2.7:0 - -", "x:192.0.2.7", "p:https", "h:a"); /* these are not trusted */
	TOLD(ALL, "192.0.2.7:4711 https a", "x:192.0.2.7:4711", "p:https", "h:a");
	TOLD(ALL, "192.0.2.7:0 https a", "x:evil, 192.0.2.7, 10.0.0.9", "p:ftp, https, http", "h:evil, a, b");
	TOLD(ALL, "192.0.2.7:0 https a", "x:192.0.2.7, 10.0.0.9", "p:https", "h:a"); /* a proxy that passes them on */
	TOLD(ALL, "192.0.2.7:0 - -", "x:192.0.2.7", "p:spdy", "h:a/b");
	TOLD(ALL, "192.0.2.7:0 http a", "f:for=192.0.2.7;proto=http;host=a", "p:https", "h:b");
	TOLD(ALL, "-:0 https a", "p:https", "h:a");
	TOLD(ALL, "-:0 - -", "f:for=unknown;proto=https;host=a");
	TOLD(ALL, "-:0 - -", "f:for=192.0.2.7;proto=https;host=a", "x:192.0.2.8");
	TOLD(TRUST_FOR, "192.0.2.7:0 - -", "f:for=evil;proto=https;host=evil", "x:192.0.2.7"); /* the client's own Forwarded */
	TOLD(TRUST_FORWARDED, "192.0.2.7:0 - -", "f:for=192.0.2.7", "x:evil");
	TOLD(0, "-:0 - -", "f:for=192.0.2.7", "x:192.0.2.7", "p:https", "h:a");
}

static void test_a_host_has_a_bound(void **state)
{
	struct text line = {0}, wanted = {0};

	(void)state;
	text_add(&line, "h:");
	text_add_run(&line, 255);
	text_add(&wanted, "-:0 - %s", text_str(&line) + 2);
	TOLD(ALL, text_str(&wanted), text_str(&line));
	text_add(&line, "x");
	TOLD(ALL, "-:0 - -", text_str(&line));
	text_free(&line);
	text_free(&wanted);
}

/* A proxy that writes one of the fields passes the other on as its client wrote it. */
static void test_two_fields_must_agree(void **state)
{
	(void)state;
	CLIENT("192.0.2.7", "f:for=192.0.2.7", "x:192.0.2.7");
	CLIENT("2001:db8::7", "x:2001:db8::7", "f:for=\"[2001:db8::7]:1\"");
	CLIENT("-", "f:for=203.0.113.1", "x:192.0.2.7");
	CLIENT("-", "f:for=192.0.2.7", "x:unknown");
	CLIENT("-", "f:for=unknown", "x:192.0.2.7");
	CLIENT("192.0.2.7", "f:", "x:192.0.2.7");
}

static void test_a_chain_of_proxies_has_an_end(void **state)
{
	struct text line = {0};

	(void)state;
	text_add(&line, "x:192.0.2.7");
	for (unsigned i = 0; i < 15; i++)
		text_add(&line, ",10.0.0.%u", i);
	CLIENT("192.0.2.7", text_str(&line));
	text_add(&line, ",10.0.0.15");
	CLIENT("-", text_str(&line));
	text_free(&line);
}

/* Whatever a client writes before a proxy's own element, in however many lines, changes nothing. */
static void test_nothing_in_front_of_it_hides_what_a_proxy_wrote(void **state)
{
	static const char letters[] = "\",;=\\ \tfor:[]_.192unkow\x80";
	static const char *const own[] = {"for=192.0.2.7", "for=\"192.0.2.7:80\";by=_x", "proto=https;for=192.0.2.7"};
	uint32_t seed = 1;

	(void)state;
	for (unsigned n = 0; n < 20000; n++) {
		struct text front = {0}, line = {0}, alone = {0};
		text_add(&front, "f:");
		for (uint32_t i = random_below(&seed, 30); i > 0; i--)
			text_add_bytes(&front, &letters[random_below(&seed, sizeof letters - 1)], 1);
		text_add(&line, "%s%s%s", text_str(&front), n & 1 ? ", " : ",", own[n % 3]);
		CLIENT("192.0.2.7", text_str(&line));
		text_add(&alone, "f:%s", own[n % 3]);
		CLIENT("192.0.2.7", text_str(&front), text_str(&alone));
		text_free(&front);
		text_free(&line);
		text_free(&alone);
	}
}

/* Whatever the value contains, nothing beyond it is read. */
static void test_any_value_can_be_read(void **state)
{
	static const char letters[] = "\",;=\\ for:[]_.192unkow:0x";
	struct cidr_list list = trusted(proxies, 2);
	uint32_t seed = 2;

	(void)state;
	for (unsigned n = 0; n < 20000; n++) {
		char text[40];
		size_t len = random_below(&seed, sizeof text);
		uint8_t *copy;
		struct field f = {.index = n % 2 ? NAME_FORWARDED : NAME_X_FORWARDED_FOR};
		struct forwarded told;
		struct ip ip;
		for (size_t i = 0; i < len; i++)
			text[i] = letters[random_below(&seed, sizeof letters - 1)];
		copy = exact_copy(text, len);
		f.value = slice_of(copy, len);
		forwarded_client(&f, 1, &list, &ip);
		f = (struct field){.index = NAME_UNKNOWN,
				   .name = n % 3 ? SLICE_LIT("x-forwarded-host") : SLICE_LIT("x-forwarded-proto"),
				   .value = f.value};
		forwarded_read(&told, &f, 1, &list, ALL);
		free(copy);
	}
}

/* ---- shares ---- */

static struct ip v4(uint32_t n)
{
	return ip_of((const uint8_t[]){10, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n}, 4);
}

static void test_an_address_has_one_share_for_as_long_as_it_is_referred_to(void **state)
{
	struct shares t;
	struct ip a = v4(1), b = v4(2);
	struct share *s;

	(void)state;
	shares_init(&t, secret);
	s = shares_take(&t, &a);
	assert_ptr_equal(shares_take(&t, &a), s);
	assert_ptr_not_equal(shares_take(&t, &b), s);
	assert_int_equal(t.peers, 2);
	shares_give(&t, s);
	assert_int_equal(t.peers, 2);
	shares_give(&t, s);
	assert_int_equal(t.peers, 1);
	shares_give(&t, shares_take(&t, &a));
	s = shares_take(&t, &b);
	shares_give(&t, s);
	shares_give(&t, s);
	assert_int_equal(t.peers, 0);
	shares_free(&t);
}

static struct share *share_of_text(struct shares *t, const char *text)
{
	struct ip ip;

	assert_true(ip_parse(slice_str(text), &ip));
	return shares_take(t, &ip);
}

static void test_a_network_of_ipv6_is_one_peer(void **state)
{
	struct shares t;
	struct share *s, *other[3];

	(void)state;
	shares_init(&t, secret);
	s = share_of_text(&t, "2001:db8:1:2::1");
	assert_ptr_equal(share_of_text(&t, "2001:db8:1:2:ffff:ffff:ffff:ffff"), s);
	other[0] = share_of_text(&t, "2001:db8:1:3::1");
	assert_ptr_not_equal(other[0], s);
	other[1] = share_of_text(&t, "192.0.2.1");
	assert_ptr_equal(share_of_text(&t, "::ffff:192.0.2.1"), other[1]);
	other[2] = share_of_text(&t, "c000:201::"); /* the same octets in the other family */
	assert_ptr_not_equal(other[2], other[1]);
	assert_int_equal(t.peers, 4);
	shares_give(&t, s);
	shares_give(&t, s);
	shares_give(&t, other[1]);
	for (unsigned i = 0; i < 3; i++)
		shares_give(&t, other[i]);
	shares_free(&t);
}

static void test_many_addresses_come_and_go(void **state)
{
	enum { MANY = 5000 };
	static struct share *s[MANY];
	struct shares t;

	(void)state;
	shares_init(&t, secret);
	for (uint32_t i = 0; i < MANY; i++) {
		struct ip ip = v4(i);
		s[i] = shares_take(&t, &ip);
	}
	assert_int_equal(t.in_table, MANY);
	for (uint32_t i = 0; i < MANY; i++) {
		struct ip ip = v4(i);
		assert_ptr_equal(shares_take(&t, &ip), s[i]);
		shares_give(&t, s[i]);
	}
	for (uint32_t i = 0; i < MANY; i++)
		shares_give(&t, s[(i * 7) % MANY]);
	assert_int_equal(t.peers, 0);
	shares_free(&t);
}

/* How many of `places` each peer gets if all peers ask in turns until nobody gets another one. */
static void expect_shared(uint64_t places, uint64_t factor, unsigned peers, uint64_t each, uint64_t left)
{
	uint64_t has[8] = {0}, free_places = places;
	bool more = true;

	while (more) {
		more = false;
		for (unsigned i = 0; i < peers; i++)
			if (share_allows(has[i], free_places, factor)) {
				has[i]++;
				free_places--;
				more = true;
			}
	}
	assert_int_equal(has[peers - 1], each);
	assert_int_equal(free_places, left);
}

static void test_what_peers_get_who_want_everything(void **state)
{
	(void)state;
	expect_shared(128, 2, 1, 86, 42); /* alone: two thirds */
	expect_shared(128, 2, 2, 51, 25); /* two: two fifths each */
	expect_shared(128, 2, 5, 23, 11);
	expect_shared(128, 1, 1, 64, 64);
	expect_shared(128, 0, 1, 128, 0);
	expect_shared(1, 2, 1, 1, 0); /* somebody is always served */
	expect_shared(1, 1, 1, 1, 0);
	expect_shared(2, 2, 1, 2, 0);
	expect_shared(3, 2, 1, 2, 1);
	assert_true(share_allows(0, 1, 1));
	assert_false(share_allows(0, 0, 2));
	assert_false(share_allows(2, 1, 2));
	assert_true(share_allows(UINT64_MAX - 1, UINT64_MAX, 2)); /* no product that wraps around */
}

struct waiter {
	struct list node;
	unsigned peer, number;
};

static struct waiter *next_waiter(struct shares *t, uint64_t left, uint64_t factor)
{
	struct list *node = shares_next(t, left, factor);

	return node ? container_of(node, struct waiter, node) : NULL;
}

static void test_who_has_least_in_progress_goes_first_and_equals_take_turns(void **state)
{
	struct waiter w[6] = {{.peer = 0}, {.peer = 0}, {.peer = 0}, {.peer = 1}, {.peer = 1}, {.peer = 2}};
	static const unsigned order[] = {5, 0, 3, 1, 4, 2}; /* the peer with none; then in turns */
	struct share *s[3];
	struct shares t;

	(void)state;
	shares_init(&t, secret);
	for (unsigned i = 0; i < 3; i++)
		s[i] = shares_own(&t);
	shares_began(&t, s[0]);
	shares_began(&t, s[1]);
	for (unsigned i = 0; i < 6; i++)
		shares_wait(&t, s[w[i].peer], &w[i].node);
	for (unsigned i = 0; i < 6; i++) {
		struct waiter *next = next_waiter(&t, 100, 2);
		assert_int_equal(next - w, order[i]);
		shares_leave(&t, s[next->peer], &next->node);
		shares_began(&t, s[next->peer]);
	}
	assert_null(shares_next(&t, 100, 2));
	while (s[0]->in_progress)
		shares_ended(&t, s[0]);
	while (s[1]->in_progress)
		shares_ended(&t, s[1]);
	shares_ended(&t, s[2]);
	for (unsigned i = 0; i < 3; i++)
		shares_give(&t, s[i]);
	shares_free(&t);
}

static void test_who_has_more_than_there_are_levels_is_not_forgotten(void **state)
{
	struct waiter w[12] = {{.number = 0}};
	struct share *s[12];
	struct shares t;
	unsigned looked = 0;

	(void)state;
	shares_init(&t, secret);
	for (unsigned i = 0; i < 12; i++) {
		s[i] = shares_own(&t);
		for (unsigned n = 0; n < 70 + 10 * (11 - i); n++)
			shares_began(&t, s[i]);
		shares_wait(&t, s[i], &w[i].node);
	}
	while (!shares_next(&t, 36, 2)) /* lets peers with less than 72 pass */
		looked++;
	assert_ptr_equal(next_waiter(&t, 36, 2), &w[11]);
	assert_int_equal(looked, 1);
	for (unsigned i = 0; i < 12; i++) {
		shares_leave(&t, s[i], &w[i].node);
		while (s[i]->in_progress)
			shares_ended(&t, s[i]);
		shares_give(&t, s[i]);
	}
	shares_free(&t);
}

static void test_who_holds_too_much_begins_nothing(void **state)
{
	struct shares t;
	struct share *greedy, *modest;
	struct waiter of_greedy = {.peer = 0}, of_modest = {.peer = 1};

	(void)state;
	shares_init(&t, secret);
	t.most_unsent = 90;
	greedy = shares_own(&t);
	modest = shares_own(&t);
	shares_began(&t, modest); /* so that it comes second */
	shares_wait(&t, greedy, &of_greedy.node);
	shares_wait(&t, modest, &of_modest.node);
	shares_hold(&t, greedy, 59);
	assert_ptr_equal(next_waiter(&t, 9, 2), &of_greedy); /* 59 is less than twice the 31 that are free */
	shares_hold(&t, greedy, 1);
	assert_ptr_equal(next_waiter(&t, 9, 2), &of_modest);
	assert_false(share_may_begin(&t, greedy, 9, 2));
	shares_hold(&t, modest, 20); /* that is twice the ten that are free */
	assert_null(next_waiter(&t, 9, 2));
	assert_true(shares_let_go(&t, greedy, 1, 2)); /* now there are eleven */
	assert_ptr_equal(next_waiter(&t, 9, 2), &of_modest);
	assert_true(shares_let_go(&t, modest, 20, 2));
	assert_ptr_equal(next_waiter(&t, 9, 2), &of_greedy);
	shares_hold(&t, greedy, 31); /* all of it, and nobody may begin anything */
	assert_null(next_waiter(&t, 9, 2));
	assert_false(share_may_begin(&t, modest, 9, 0));
	shares_leave(&t, modest, &of_modest.node);
	shares_leave(&t, greedy, &of_greedy.node);
	assert_false(shares_let_go(&t, greedy, 90, 2)); /* nobody waits any more */
	assert_int_equal(t.unsent, 0);
	shares_ended(&t, modest);
	shares_give(&t, greedy);
	shares_give(&t, modest);
	shares_free(&t);
}

static void test_who_has_taken_its_bytes_begins_however_many_have_not(void **state)
{
	enum { STALLED = 12 };
	struct shares t;
	struct share *s[STALLED + 1];
	struct waiter w[STALLED + 1];

	(void)state;
	shares_init(&t, secret);
	t.most_unsent = 1000;
	for (unsigned i = 0; i <= STALLED; i++) {
		s[i] = shares_own(&t);
		w[i] = (struct waiter){.peer = i};
		shares_wait(&t, s[i], &w[i].node);
		shares_hold(&t, s[i], i < STALLED ? 80 : 30);
	}
	assert_null(next_waiter(&t, 9, 2)); /* ten are free, and nobody has less than twenty */
	assert_true(shares_let_go(&t, s[STALLED], 30, 2));
	assert_ptr_equal(next_waiter(&t, 9, 2), &w[STALLED]);
	for (unsigned i = 0; i <= STALLED; i++) {
		shares_leave(&t, s[i], &w[i].node);
		shares_let_go(&t, s[i], s[i]->unsent, 2);
		shares_give(&t, s[i]);
	}
	assert_true(t.occupied == 0 && t.unsent == 0 && list_empty(&t.full));
	shares_free(&t);
}

/* ---- shares compared with a model that looks at everything ---- */

enum { PEERS = 5, WAITERS = 40, STEPS = 200000, MOST_UNSENT = 100 };

struct model {
	struct shares t;
	struct share *s[PEERS];
	struct waiter w[WAITERS];
	bool waits[WAITERS];
	unsigned last; /* numbers in the order of arrival */
};

static bool same_peer_waits_longer(const struct model *m, const struct waiter *w)
{
	for (unsigned i = 0; i < WAITERS; i++)
		if (m->waits[i] && m->w[i].peer == w->peer && m->w[i].number < w->number)
			return true;
	return false;
}

static void judge_next(const struct model *m, const struct waiter *next, uint64_t left)
{
	bool anybody = false;

	for (unsigned i = 0; i < WAITERS; i++) {
		const struct share *s = m->s[m->w[i].peer];
		uint64_t has = s->in_progress, room = m->t.unsent < MOST_UNSENT ? MOST_UNSENT - m->t.unsent : 0;
		if (!m->waits[i] || has >= 2 * left || s->unsent >= 2 * room)
			continue;
		anybody = true;
		if (next)
			assert_true(m->s[next->peer]->in_progress <= has);
	}
	assert_true(anybody == (next != NULL));
	if (next)
		assert_false(same_peer_waits_longer(m, next));
}

static void leave(struct model *m, unsigned i)
{
	shares_leave(&m->t, m->s[m->w[i].peer], &m->w[i].node);
	m->waits[i] = false;
}

static void step(struct model *m, uint32_t *seed)
{
	unsigned i = random_below(seed, WAITERS), peer = random_below(seed, PEERS);
	uint64_t left = random_below(seed, 20);
	struct waiter *next;

	switch (random_below(seed, 6)) {
	case 4:
		shares_hold(&m->t, m->s[peer], random_below(seed, 30));
		break;
	case 5:
		shares_let_go(&m->t, m->s[peer], random_below(seed, 3) ? m->s[peer]->unsent : m->s[peer]->unsent / 2, 2);
		break;
	case 0:
		if (m->waits[i]) {
			leave(m, i);
			break;
		}
		m->w[i] = (struct waiter){.peer = peer, .number = ++m->last};
		shares_wait(&m->t, m->s[peer], &m->w[i].node);
		m->waits[i] = true;
		break;
	case 1:
		if (m->s[peer]->in_progress)
			shares_ended(&m->t, m->s[peer]);
		break;
	default:
		next = next_waiter(&m->t, left, 2);
		judge_next(m, next, left);
		if (next) {
			leave(m, (unsigned)(next - m->w));
			shares_began(&m->t, m->s[next->peer]);
		}
		break;
	}
}

static void test_the_next_is_always_the_one_that_a_look_at_all_would_choose(void **state)
{
	static struct model m;
	uint32_t seed = 3;

	(void)state;
	memset(&m, 0, sizeof m);
	shares_init(&m.t, secret);
	m.t.most_unsent = MOST_UNSENT;
	for (unsigned i = 0; i < PEERS; i++)
		m.s[i] = shares_own(&m.t);
	for (unsigned i = 0; i < STEPS; i++)
		step(&m, &seed);
	for (unsigned i = 0; i < WAITERS; i++)
		if (m.waits[i])
			leave(&m, i);
	for (unsigned i = 0; i < PEERS; i++) {
		while (m.s[i]->in_progress)
			shares_ended(&m.t, m.s[i]);
		shares_let_go(&m.t, m.s[i], m.s[i]->unsent, 2);
		shares_give(&m.t, m.s[i]);
	}
	assert_true(m.t.occupied == 0 && m.t.unsent == 0 && list_empty(&m.t.full));
	shares_free(&m.t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_siphash_is_what_its_authors_say),
		cmocka_unit_test(test_addresses_are_read_as_written_and_nothing_else_is_one),
		cmocka_unit_test(test_a_range_holds_what_begins_like_it),
		cmocka_unit_test(test_a_range_that_is_none_says_why),
		cmocka_unit_test(test_the_client_is_the_last_that_no_trusted_proxy_is),
		cmocka_unit_test(test_what_clients_wrote_themselves_is_not_looked_at),
		cmocka_unit_test(test_who_is_hidden_or_malformed_is_nobody),
		cmocka_unit_test(test_two_fields_must_agree),
		cmocka_unit_test(test_scheme_and_host_are_those_of_the_element_that_names_the_client),
		cmocka_unit_test(test_a_host_has_a_bound),
		cmocka_unit_test(test_a_chain_of_proxies_has_an_end),
		cmocka_unit_test(test_nothing_in_front_of_it_hides_what_a_proxy_wrote),
		cmocka_unit_test(test_any_value_can_be_read),
		cmocka_unit_test(test_an_address_has_one_share_for_as_long_as_it_is_referred_to),
		cmocka_unit_test(test_a_network_of_ipv6_is_one_peer),
		cmocka_unit_test(test_many_addresses_come_and_go),
		cmocka_unit_test(test_what_peers_get_who_want_everything),
		cmocka_unit_test(test_who_has_least_in_progress_goes_first_and_equals_take_turns),
		cmocka_unit_test(test_who_has_more_than_there_are_levels_is_not_forgotten),
		cmocka_unit_test(test_who_holds_too_much_begins_nothing),
		cmocka_unit_test(test_who_has_taken_its_bytes_begins_however_many_have_not),
		cmocka_unit_test(test_the_next_is_always_the_one_that_a_look_at_all_would_choose),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
