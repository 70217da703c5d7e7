/* SPDX-License-Identifier: Apache-2.0 */
/* The limits of one peer, and which peers the table remembers: numbers and times. */
#include "peer/limits.h"

#include "peer/shares.h"
#include "support.h"

static const uint8_t secret[SHARES_SECRET] = {1, 2, 3};
static const uint64_t second = 1000000000;

/* How many of `asked` requests begin, if one comes every `step` ns from `*now` on. */
static unsigned begun(struct limits *l, struct limit_state *s, uint64_t *now, unsigned asked, uint64_t step)
{
	unsigned count = 0;

	for (unsigned i = 0; i < asked; i++, *now += step) {
		uint64_t wait;
		if (limits_begin(l, s, *now, &wait) == LIMIT_NONE) {
			limits_end(s);
			count++;
		}
	}
	return count;
}

static void test_a_burst_and_then_the_rate(void **state)
{
	struct limits l = {.on = true, .requests = limit_rate_of(10, second, 5)};
	struct limit_state s = {0};
	uint64_t now = 77 * second, wait;

	(void)state;
	assert_int_equal(begun(&l, &s, &now, 20, 0), 5);
	assert_int_equal(l.over[LIMIT_REQUESTS], 15);
	assert_int_equal(limits_begin(&l, &s, now, &wait), LIMIT_REQUESTS);
	assert_true(wait == second / 10);
	now += wait - 1;
	assert_int_equal(limits_begin(&l, &s, now, &wait), LIMIT_REQUESTS);
	assert_true(wait == 1);
	now += 1;
	assert_int_equal(begun(&l, &s, &now, 2, 0), 1);
	now += second;
	assert_int_equal(begun(&l, &s, &now, 20, 0), 5);               /* not more than a burst, however long it was silent */
	assert_int_equal(begun(&l, &s, &now, 1000, second / 1000), 9); /* and 10 a second: the first is due in 100 ms */
}

/* A minute at twenty times the rate admits exactly the rate plus the first burst. */
static void test_who_asks_too_much_gets_what_it_may_have_and_no_less(void **state)
{
	struct limits l = {.on = true, .requests = limit_rate_of(100, second, 0)};
	struct limit_state s = {0};
	uint64_t now = second;

	(void)state;
	assert_int_equal(begun(&l, &s, &now, 60 * 2000, second / 2000), 100 + 60 * 100 - 1);
}

static void test_rates_below_one_a_second(void **state)
{
	struct limits l = {.on = true, .requests = limit_rate_of(3, 60 * second, 0)};
	struct limit_state s = {0};
	uint64_t now = 0, wait;

	(void)state;
	assert_int_equal(limit_rate_window(&l.requests), 60);
	assert_int_equal(begun(&l, &s, &now, 10, 0), 3);
	limits_begin(&l, &s, now, &wait);
	assert_true(wait == 20 * second);
}

static void test_no_number_wraps_around(void **state)
{
	struct limit_rate r = limit_rate_of(1, 86400 * second, 1000000000);
	struct limits l = {.on = true, .requests = r};
	struct limit_state s = {.due = {UINT64_MAX / 2, 0}};
	uint64_t wait;

	(void)state;
	assert_true(r.each * r.burst / r.each == r.burst);
	assert_int_equal(limits_begin(&l, &s, second, &wait), LIMIT_REQUESTS);
	r = limit_rate_of(1000000000, second / 1000, 1);
	assert_true(r.each == 1);
	assert_true(limit_rate_of(0, second, 5).each == 0);
}

static void test_what_is_in_progress_is_counted_and_costs_no_rate(void **state)
{
	struct limits l = {.on = true, .concurrent = 2, .requests = limit_rate_of(3, second, 0)};
	struct limit_state s = {0};
	uint64_t wait;

	(void)state;
	assert_int_equal(limits_begin(&l, &s, second, &wait), LIMIT_NONE);
	assert_int_equal(limits_begin(&l, &s, second, &wait), LIMIT_NONE);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(limits_begin(&l, &s, second, &wait), LIMIT_CONCURRENT);
	limits_end(&s);
	assert_int_equal(limits_begin(&l, &s, second, &wait), LIMIT_NONE);
	limits_end(&s);
	assert_int_equal(limits_begin(&l, &s, second, &wait), LIMIT_REQUESTS);
	assert_int_equal(l.over[LIMIT_CONCURRENT], 10);
	assert_int_equal(l.over[LIMIT_REQUESTS], 1);
}

static void test_connections_have_a_number_and_a_rate(void **state)
{
	struct limits l = {.on = true, .connections = 2, .connection_rate = limit_rate_of(1, second, 3)};
	struct limit_state s = {0};

	(void)state;
	assert_int_equal(limits_connect(&l, &s, second), LIMIT_NONE);
	assert_int_equal(limits_connect(&l, &s, second), LIMIT_NONE);
	assert_int_equal(limits_connect(&l, &s, second), LIMIT_CONNECTIONS);
	limits_disconnect(&s);
	assert_int_equal(limits_connect(&l, &s, second), LIMIT_NONE);
	limits_disconnect(&s);
	assert_int_equal(limits_connect(&l, &s, second), LIMIT_CONNECTION_RATE);
	assert_int_equal(limits_connect(&l, &s, 2 * second), LIMIT_NONE);
}

/* Whatever is asked for in between, a minute grants the rate plus what a peer may be ahead. */
static void test_bodies_leave_at_their_rate(void **state)
{
	struct limits l = {.on = true, .out = 100000};
	struct limit_state s = {0};
	uint64_t now = second, end = now + 60 * second, sum = 0, wait;

	(void)state;
	while (now < end) {
		uint64_t bytes = limits_grant(&l, &s, now, &wait);
		sum += bytes;
		now += bytes ? 1000000 : wait;
	}
	assert_in_range(sum, 60 * 100000 - 12500, 60 * 100000 + 2 * 12500);
	assert_true(l.waits > 100);
	limits_refund(&l, &s, 50000);
	sum = 0;
	for (uint64_t bytes; (bytes = limits_grant(&l, &s, now, &wait)) > 0;)
		sum += bytes;
	assert_in_range(sum, 25000, 37500); /* at once, and no more than a peer may be ahead */
}

static void test_bodies_come_at_their_rate(void **state)
{
	struct limits l = {.on = true, .in = 100000};
	struct limit_state s = {0};
	uint64_t now = second, wait;

	(void)state;
	assert_true(limits_came(&l, &s, now, 12500) == 0);
	wait = limits_came(&l, &s, now, 100000);
	assert_true(wait == second);
	assert_true(limits_came(&l, &s, now + wait, 0) == 0);
	assert_true(limits_came(&l, &s, now + wait - 1, 0) == 1);
	assert_true(limits_came(&l, &s, now, UINT64_MAX) > second); /* no product wraps around */
}

/* ---- the table ---- */

static uint64_t now_us;

static void table(struct shares *t, uint64_t most, unsigned bits4, unsigned bits6)
{
	struct limits l = {.on = true, .requests = limit_rate_of(1, second, 0)};

	now_us = 1000000;
	shares_init(t, secret);
	shares_limit(t, &l, bits4, bits6, most, &now_us);
}

static struct ip number(uint32_t n)
{
	return ip_of((const uint8_t[]){10, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n}, 4);
}

/* One request from this address, without a lasting connection. */
static bool asks(struct shares *t, uint32_t n)
{
	struct ip ip = number(n);
	struct share *s = shares_take(t, &ip);
	uint64_t wait;
	bool well = limits_begin(&t->limits, &s->limit, now_us * 1000, &wait) == LIMIT_NONE;

	if (well)
		limits_end(&s->limit);
	shares_give(t, s);
	return well;
}

static void test_a_peer_that_has_left_is_remembered_until_all_is_paid(void **state)
{
	struct shares t;

	(void)state;
	table(&t, 100, 32, 64);
	assert_true(asks(&t, 1));
	assert_false(asks(&t, 1));
	assert_int_equal(t.peers, 0);
	assert_int_equal(t.idle_count, 1);
	now_us += 999999;
	assert_false(asks(&t, 1));
	now_us += 1;
	assert_true(asks(&t, 1));
	now_us += 1000000;
	assert_true(asks(&t, 2)); /* removes what need not be remembered */
	assert_int_equal(t.idle_count, 1);
	shares_free(&t);
}

static void test_who_has_been_idle_for_longest_is_forgotten_first(void **state)
{
	struct shares t;

	(void)state;
	table(&t, 3, 32, 64);
	for (uint32_t n = 1; n <= 3; n++)
		assert_true(asks(&t, n));
	assert_false(asks(&t, 1)); /* which is no longer the oldest */
	assert_true(asks(&t, 4));
	assert_int_equal(t.in_table, 3);
	assert_false(asks(&t, 1));
	assert_false(asks(&t, 3));
	assert_true(asks(&t, 2));
	shares_free(&t);
}

/* However many addresses come, they displace nobody who is connected; and the memory stays at its bound. */
static void test_a_million_addresses_drive_out_nobody(void **state)
{
	enum { MOST = 1000, MANY = 1000000 };
	struct shares t;
	struct ip polite = number(0);
	struct share *s;
	uint64_t wait;

	(void)state;
	table(&t, MOST, 32, 64);
	s = shares_take(&t, &polite);
	assert_int_equal(limits_begin(&t.limits, &s->limit, now_us * 1000, &wait), LIMIT_NONE);
	for (uint32_t n = 1; n <= MANY; n++) {
		assert_true(asks(&t, n));
		assert_true(t.in_table <= MOST);
	}
	assert_ptr_equal(shares_take(&t, &polite), s);
	assert_true(s->limit.due[CLOCK_REQUESTS] == 2 * second);
	shares_give(&t, s);
	limits_end(&s->limit);
	shares_give(&t, s);
	assert_int_equal(t.in_table, MOST);
	shares_free(&t);
}

/* More peers than the table remembers may be connected at once; then those that leave are forgotten. */
static void test_those_who_are_there_need_no_place(void **state)
{
	struct share *s[10];
	struct shares t;

	(void)state;
	table(&t, 5, 32, 64);
	assert_true(asks(&t, 100));
	for (uint32_t n = 0; n < 10; n++) {
		struct ip ip = number(n);
		s[n] = shares_take(&t, &ip);
		assert_non_null(s[n]);
	}
	assert_int_equal(t.idle_count, 0);
	assert_int_equal(t.in_table, 10);
	assert_true(asks(&t, 100));
	assert_int_equal(t.idle_count, 0);
	for (uint32_t n = 0; n < 10; n++)
		shares_give(&t, s[n]);
	shares_free(&t);
}

static struct share *share_of(struct shares *t, const char *text)
{
	struct ip ip;

	assert_true(ip_parse(slice_str(text), &ip));
	return shares_take(t, &ip);
}

static bool same(struct shares *t, const char *a, const char *b)
{
	struct share *one = share_of(t, a), *other = share_of(t, b);
	bool is = one == other;

	shares_give(t, one);
	shares_give(t, other);
	return is;
}

static void test_a_peer_is_an_address_up_to_its_bits(void **state)
{
	struct shares t;

	(void)state;
	table(&t, 100, 24, 56);
	assert_true(same(&t, "192.0.2.1", "192.0.2.255"));
	assert_false(same(&t, "192.0.2.1", "192.0.3.1"));
	assert_true(same(&t, "2001:db8:0:100::1", "2001:db8:0:1ff::2"));
	assert_false(same(&t, "2001:db8:0:100::1", "2001:db8:0:200::1"));
	shares_free(&t);
	table(&t, 100, 20, 128);
	assert_true(same(&t, "10.0.0.1", "10.0.15.255"));
	assert_false(same(&t, "10.0.0.1", "10.0.16.0"));
	assert_false(same(&t, "2001:db8::1", "2001:db8::2"));
	assert_true(same(&t, "2001:db8::1", "2001:db8::1"));
	shares_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_burst_and_then_the_rate),
		cmocka_unit_test(test_who_asks_too_much_gets_what_it_may_have_and_no_less),
		cmocka_unit_test(test_rates_below_one_a_second),
		cmocka_unit_test(test_no_number_wraps_around),
		cmocka_unit_test(test_what_is_in_progress_is_counted_and_costs_no_rate),
		cmocka_unit_test(test_connections_have_a_number_and_a_rate),
		cmocka_unit_test(test_bodies_leave_at_their_rate),
		cmocka_unit_test(test_bodies_come_at_their_rate),
		cmocka_unit_test(test_a_peer_that_has_left_is_remembered_until_all_is_paid),
		cmocka_unit_test(test_who_has_been_idle_for_longest_is_forgotten_first),
		cmocka_unit_test(test_a_million_addresses_drive_out_nobody),
		cmocka_unit_test(test_those_who_are_there_need_no_place),
		cmocka_unit_test(test_a_peer_is_an_address_up_to_its_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
